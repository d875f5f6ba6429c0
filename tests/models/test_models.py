"""Networks: their modes, and the bottleneck that can be merged."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shallow_jax import models
from shallow_jax.models import layers
from shallow_jax.models import size as size_lib

IMAGE = (8, 8, 3)


def small(name, **changes):
  """Returns a small module of each kind for images [8, 8, 3] and 4 classes."""
  options = dict(
    dnn=dict(hidden=(16, 12)),
    shallow=dict(hidden=24, bottleneck=5),
    cnn=dict(features=(4, 6), kernel_size=3, dense=(16,)),
    shallow_conv=dict(features=4, kernel_size=3, hidden=24, bottleneck=5),
    single_layer=dict(features=6, patch_size=3),
  )[name]
  return models.build(dict(name=name, **options | changes), 4)


def images(count=6):
  return np.random.default_rng(1).normal(size=(count, *IMAGE)).astype(np.float32)


def initialised(module):
  """Returns variables whose logits and biases are not near 0."""
  variables = models.init(module, jax.random.key(0), IMAGE)
  leaves, tree = jax.tree.flatten(variables['params'])
  rng = np.random.default_rng(2)
  leaves = [rng.normal(scale=0.5, size=leaf.shape).astype(np.float32) for leaf in leaves]
  return variables | {'params': jax.tree.unflatten(tree, leaves)}


@pytest.mark.parametrize(
  ('model', 'architecture', 'depth'),
  [
    (dict(name='shallow', hidden=8000), '8k', 1),
    (dict(name='shallow', hidden=500), '500', 1),
    (dict(name='shallow', hidden=400_000, bottleneck=250), '250L-400k', 1),
    (dict(name='dnn', hidden=(2000, 2000, 2000)), '2k-2k-2k', 3),
    (dict(name='cnn', features=[128, 128, 128]), '128c-p-128c-p-128c-p-1000fc', 4),
    (dict(name='cnn', features=(64, 32), convs_per_stage=2, dense=()), '64c-64c-p-32c-32c-p-fc', 4),
    (dict(name='shallow_conv'), '64c-p-1200L-30k', 2),
    (dict(name='shallow_conv', features=128), '128c-p-1200L-30k', 2),
    (dict(name='shallow_conv', bottleneck=0), '64c-p-30k', 2),
  ],
)
def test_architectures_read_as_in_the_paper(model, architecture, depth):
  module = models.build(model, 10)
  assert (module.architecture, module.depth) == (architecture, depth)


@pytest.mark.parametrize('name', ['shallow', 'shallow_conv'])
def test_a_merged_bottleneck_gives_the_same_logits(name):
  module, plain = small(name), small(name, bottleneck=0)
  variables = initialised(module)
  rng = np.random.default_rng(0)
  variables['batch_stats'] = jax.tree.map(
    lambda leaf: jnp.asarray(rng.uniform(0.5, 2, leaf.shape), jnp.float32), variables['batch_stats']
  )
  params = layers.merge_bottleneck(variables['params'], variables['batch_stats'])
  merged = variables | {'params': params}
  expected_shapes = models.init(plain, jax.random.key(0), IMAGE)
  chex.assert_trees_all_equal_shapes(merged['params'], expected_shapes['params'])
  expected = models.apply(module, variables, images())
  assert np.abs(expected).max() > 1
  np.testing.assert_allclose(models.apply(plain, merged, images()), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
  ('name', 'limit'), [('shallow', 24), ('shallow_conv', 24)], ids=['dense', 'conv']
)
def test_a_bottleneck_wider_than_the_layer_is_refused_in_one_line(name, limit):
  module = small(name, bottleneck=limit + 1)
  with pytest.raises(ValueError, match=f'a bottleneck of {limit + 1} is wider') as caught:
    size_lib.size(module, IMAGE)
  assert f'expected at most {limit}' in str(caught.value)
  assert '\n' not in str(caught.value)
  size_lib.size(small(name, bottleneck=limit), IMAGE)


@pytest.mark.parametrize(
  ('name', 'rate'),
  [
    ('dnn', 'dropout'),
    ('dnn', 'input_dropout'),
    ('shallow', 'dropout'),
    ('shallow', 'input_dropout'),
    ('cnn', 'dropout'),
    ('shallow_conv', 'dropout'),
    ('shallow_conv', 'input_dropout'),
  ],
)
def test_dropout_is_on_in_training_and_off_in_evaluation(name, rate):
  module, without = small(name, **{rate: 0.5}), small(name)
  variables, x = initialised(module), images()
  evaluated = models.apply(module, variables, x)
  first, second = (
    models.apply_train(module, variables, x, jax.random.key(seed))[0] for seed in (0, 1)
  )
  again, _ = models.apply_train(module, variables, x, jax.random.key(0))
  assert np.abs(first - second).max() > 0.1
  assert np.abs(first - evaluated).max() > 0.1
  np.testing.assert_array_equal(first, again)
  np.testing.assert_array_equal(evaluated, models.apply(without, variables, x))


@pytest.mark.parametrize('name', [name for name in models.MODELS if name != 'speech_cnn'])
def test_without_dropout_both_modes_agree(name):
  module = small(name, **({'batch_norm': False} if name == 'shallow_conv' else {}))
  variables = initialised(module)
  trained, batch_stats = models.apply_train(module, variables, images(), jax.random.key(0))
  np.testing.assert_array_equal(trained, models.apply(module, variables, images()))
  assert not batch_stats


def test_training_updates_the_running_statistics():
  module = small('cnn', batch_norm=True)
  variables = initialised(module)
  _, updated = models.apply_train(module, variables, images(), jax.random.key(0))
  conv = layers.Conv(4, 3, use_bias=False)
  maps = np.asarray(conv.apply({'params': variables['params']['Conv_0']}, images()), np.float64)
  expected = {
    'mean': 0.9 * 0 + 0.1 * maps.mean(axis=(0, 1, 2)),
    'var': 0.9 * 1 + 0.1 * maps.var(axis=(0, 1, 2)),
  }
  actual = updated['BatchNorm_0']
  np.testing.assert_allclose(actual['mean'], expected['mean'], rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(actual['var'], expected['var'], rtol=1e-4)
  chex.assert_trees_all_equal_shapes(updated, variables['batch_stats'])


def test_evaluation_uses_the_running_statistics():
  module = small('cnn', batch_norm=True)
  variables = initialised(module)
  trained, updated = models.apply_train(module, variables, images(), jax.random.key(0))
  before = models.apply(module, variables, images())
  after = models.apply(module, variables | {'batch_stats': updated}, images())
  assert np.abs(before - after).max() > 0.1
  assert np.abs(before - trained).max() > 0.1
  # an example's logits do not depend on the others in its batch
  alone = models.apply(module, variables, images()[:1])
  np.testing.assert_allclose(alone, before[:1], rtol=1e-5, atol=1e-5)


def test_the_output_transform_turns_normalised_logits_back():
  module = small('shallow')
  mean, std = np.float32([1, -2, 3, 0]), np.float32([2, 0.5, 1, 10])
  drawn = models.init(module, jax.random.key(3), IMAGE)
  variables = models.init(module, jax.random.key(3), IMAGE, dict(mean=mean, std=std))
  chex.assert_trees_all_equal(variables['params'], drawn['params'])
  raw = module.apply({'params': variables['params']}, images(), train=False)
  np.testing.assert_array_equal(models.apply(module, drawn, images()), raw)
  expected = np.asarray(raw, np.float64) * std + mean
  trained, _ = models.apply_train(module, variables, images(), jax.random.key(0))
  for actual in (models.apply(module, variables, images()), trained):
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)
    assert actual.dtype == jnp.float32


def test_a_wide_students_first_logits_are_small():
  x = np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32)
  module = models.build(dict(name='shallow', hidden=2000, bottleneck=32), 10)
  logits = models.apply(module, models.init(module, jax.random.key(0), (64,)), x)
  assert 0 < np.abs(logits).max() < 0.1


def test_arguments_are_those_a_config_sets():
  assert models.arguments('shallow') == dict(
    hidden=2000,
    bottleneck=0,
    batch_norm=False,
    dropout=0.0,
    input_dropout=0.0,
    output_init_scale=0.01,
  )
  for name in models.MODELS:
    assert hash(models.build(dict(models.arguments(name), name=name), 10))


@pytest.mark.parametrize('name', ['cnn', 'shallow_conv', 'single_layer'])
@pytest.mark.parametrize('shape', [(12, 12), (3, 12, 12), (2, 2, 3), (12,)])
def test_inputs_that_no_image_net_takes_are_refused_in_one_line(name, shape):
  with pytest.raises(ValueError, match=r'need images|expected images') as caught:
    size_lib.size(small(name), shape)
  assert str(list(shape))[1:-1] in str(caught.value)
  assert '\n' not in str(caught.value)


def test_a_normalised_bottleneck_needs_two_examples_to_tell_them_apart():
  module = small('shallow_conv')
  variables = initialised(module)
  for batch, differs in ((1, False), (2, True)):
    first, other = (
      models.apply_train(module, variables, x, jax.random.key(0))[0][:1]
      for x in (images()[:batch], images()[batch : 2 * batch])
    )
    assert (np.abs(first - other).max() > 1e-3) == differs
  assert models.smallest_batch(dict(models.arguments('shallow_conv'), name='shallow_conv')) == 2
  for name in ('cnn', 'shallow', 'dnn'):
    assert models.smallest_batch(dict(models.arguments(name), name=name)) == 1
