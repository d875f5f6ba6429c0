"""The speech CNN against a NumPy loop, its size beside the paper's, and what it refuses."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shallow_jax import models
from shallow_jax.models import notation
from shallow_jax.models import size as size_lib
from shallow_jax.models import speech_conv

FRAMES, BANDS, CLASSES = 3, 9, 5
SMALL = dict(
  name='speech_cnn', features=4, kernel_size=3, pool_size=3, pool_stride=2, hidden=(7, 6)
)
INPUT_SHAPE = (FRAMES, 3 * (BANDS + 1))
TIMIT = (15, 123)


def frames(count=5, seed=1):
  return np.random.default_rng(seed).normal(size=(count, *INPUT_SHAPE)).astype(np.float32)


def initialised(module):
  """Returns variables whose biases are not 0."""
  variables = models.init(module, jax.random.key(0), INPUT_SHAPE)
  rng = np.random.default_rng(2)
  draw = lambda leaf: rng.normal(scale=0.5, size=leaf.shape).astype(np.float32)  # noqa: E731
  return variables | {'params': jax.tree.map(draw, variables['params'])}


def expected_logits(params, x, *, pool_size, pool_stride):
  """Example by example, band by band, in float64."""
  params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
  kernel, bias = params['BandConv_0']['kernel'], params['BandConv_0']['bias']
  found = []
  for example in np.asarray(x, np.float64):
    static, delta, delta_delta = np.split(example, 3, axis=1)
    # the maps of a band: frame by frame its static feature, Δ and ΔΔ
    maps = np.stack([static, delta, delta_delta], axis=1).reshape(3 * FRAMES, BANDS + 1)
    conv = np.array(
      [
        [
          bias[m] + sum(kernel[k, :, m] @ maps[:, start + k] for k in range(len(kernel)))
          for m in range(len(bias))
        ]
        for start in range(BANDS - len(kernel) + 1)
      ]
    ).clip(min=0)
    pools = [
      conv[start : start + pool_size].max(axis=0)
      for start in range(0, len(conv) - pool_size + 1, pool_stride)
    ]
    units = np.concatenate([*pools, maps[:, BANDS]])
    for layer in ('Dense_0', 'Dense_1'):
      units = (units @ params[layer]['kernel'] + params[layer]['bias']).clip(min=0)
    output = params['Output_0']['output']
    found.append(units @ output['kernel'] + output['bias'])
  return np.array(found)


@pytest.mark.parametrize(('pool_size', 'pool_stride'), [(3, 2), (1, 1), (2, 5), (7, 1)])
def test_logits_equal_a_loop(pool_size, pool_stride):
  pool = dict(pool_size=pool_size, pool_stride=pool_stride)
  module = models.build(SMALL | pool, CLASSES)
  variables = initialised(module)
  expected = expected_logits(variables['params'], frames(), **pool)
  assert np.abs(expected).max() > 1
  np.testing.assert_allclose(
    models.apply(module, variables, frames()), expected, rtol=1e-4, atol=1e-4
  )


@pytest.mark.parametrize('kernel_size', [1, 4])
def test_the_convolution_and_its_gradient_equal_xlas(kernel_size):
  conv = speech_conv.BandConv(features=3, kernel_size=kernel_size)
  x = jax.random.normal(jax.random.key(0), (4, 9, 5))
  params = conv.init(jax.random.key(1), x)['params']

  def reference(params, x):
    y = jax.lax.conv_general_dilated(
      x, params['kernel'], (1,), 'VALID', dimension_numbers=('NWC', 'WIO', 'NWC')
    )
    return y + params['bias'].reshape(1, 1, -1)

  def value_and_gradients(function):
    return jax.value_and_grad(lambda *args: jnp.sum(jnp.sin(function(*args))), (0, 1))(params, x)

  actual = value_and_gradients(lambda params, x: conv.apply({'params': params}, x))
  chex.assert_trees_all_close(actual, value_and_gradients(reference), rtol=1e-4, atol=1e-4)


def test_initial_maps_have_hes_variance():
  x = jax.random.normal(jax.random.key(0), (64, 40, 45))
  conv = speech_conv.BandConv(features=32, kernel_size=8)
  maps = conv.apply(conv.init(jax.random.key(1), x), x)
  assert np.var(maps) == pytest.approx(2.0, rel=0.05)


def test_weights_and_hidden_units_are_near_the_papers():
  found = size_lib.size(models.build(notation.parse('c-p-2k-2k-2k'), 183), TIMIT)
  pooled = 16 * 128
  assert found['parameters'] == {
    'weights': 8 * 45 * 128 + (pooled + 45) * 2000 + 2 * 2000**2 + 2000 * 183,
    'biases': 128 + 3 * 2000 + 183,
  }
  assert found['hidden_units'] == 33 * 128 + pooled + 6000
  assert found['multiply_adds'] == found['parameters']['weights'] + 32 * 8 * 45 * 128
  assert round(found['parameters']['weights'] / 1e6) == 13  # Table 1: ~13M
  assert round((found['hidden_units'] - pooled) / 1e3) == 10  # ~10k, without the pool's


def test_dropout_is_on_in_training_and_off_in_evaluation():
  module, without = (models.build(SMALL | dict(dropout=rate), CLASSES) for rate in (0.5, 0.0))
  variables = initialised(module)

  def trained(module, seed):
    return models.apply_train(module, variables, frames(), jax.random.key(seed))[0]

  evaluated = models.apply(module, variables, frames())
  assert np.abs(trained(module, 0) - trained(module, 1)).max() > 0.1
  np.testing.assert_array_equal(trained(module, 0), trained(module, 0))
  np.testing.assert_array_equal(evaluated, models.apply(without, variables, frames()))
  np.testing.assert_array_equal(evaluated, trained(without, 0))


@pytest.mark.parametrize(
  ('architecture', 'model'),
  [
    ('c-p-2k-2k-2k', dict(hidden=(2000, 2000, 2000))),
    ('32c-p-200-100', dict(features=32, hidden=(200, 100))),
    ('1kc-p-2k-2k', dict(features=1000, hidden=(2000, 2000))),
  ],
)
def test_the_papers_notation_is_read(architecture, model):
  assert notation.parse(architecture) == dict(name='speech_cnn', **model)


def test_the_architecture_is_that_of_the_net():
  module = models.build(dict(SMALL, hidden=[2000, 500]), CLASSES)
  assert (module.architecture, module.depth) == ('4c-p-2k-500', 3)
  assert models.build(notation.parse('64c-p-2k-2k'), CLASSES).architecture == '64c-p-2k-2k'


@pytest.mark.parametrize(
  ('changes', 'shape', 'message'),
  [
    ({}, (45 * 41,), r'needs \[batch, frames, 3 x \(bands and energy\)\], got \(1, 1845\)'),
    ({}, (15, 122), r'got \(1, 15, 122\)'),
    (dict(kernel_size=8), INPUT_SHAPE, '9 bands are too few .* expected at least 10'),
    (dict(pool_size=8), INPUT_SHAPE, '9 bands are too few .* expected at least 10'),
  ],
  ids=['flat', 'not static, Δ and ΔΔ', 'wide filter', 'wide pool'],
)
def test_what_it_can_not_take_is_refused_in_one_line(changes, shape, message):
  with pytest.raises(ValueError, match=message) as caught:
    size_lib.size(models.build(SMALL | changes, CLASSES), shape)
  assert '\n' not in str(caught.value)


def test_the_largest_filter_and_pool_fit():
  module = models.build(SMALL | dict(kernel_size=7), CLASSES)
  assert size_lib.size(module, INPUT_SHAPE)['hidden_units'] == 3 * 4 + 4 + 7 + 6
