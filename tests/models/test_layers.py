"""Layers against Flax's and XLA's own, values and gradients."""

import chex
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shallow_jax.models import layers
from shallow_jax.runtime import parallel


@pytest.fixture(autouse=True)
def no_rank_promotion():
  with jax.numpy_rank_promotion('raise'):
    yield


def values_and_gradients(function, *inputs, weight):
  """Returns function(*inputs) and the gradients of its sum, weighted by `weight`."""

  def both(*inputs):
    values, gradients = jax.vjp(function, *inputs)
    return values, gradients(weight)

  return jax.jit(both)(*inputs)


def conv_case(channels, kernel_size, batch=3):
  """Returns a Conv's params with a bias that is not zero, images of 6 x 7 pixels, weights."""
  rng = np.random.default_rng(0)
  params = {
    'kernel': rng.normal(size=(kernel_size, kernel_size, channels, 4)),
    'bias': rng.normal(size=4),
  }
  x, weight = (rng.normal(size=(batch, 6, 7, maps)) for maps in (channels, 4))
  arrays = {'params': params}, x, weight
  return jax.tree.map(lambda array: array.astype(np.float32), arrays)


@pytest.mark.parametrize(
  ('kernel_size', 'batch', 'channels'),
  [
    *((1, 1, 3), (1, 6, 16), (2, 3, 3), (2, 4, 5)),
    *((3, 1, 1), (3, 3, 3), (3, 4, 16), (3, 6, 1), (3, 8, 3)),
    *((4, 3, 16), (4, 4, 3), (4, 8, 1)),
    *((5, 1, 16), (5, 3, 4), (5, 6, 3), (5, 8, 1)),
  ],
)
def test_conv_and_its_gradients_equal_flaxs(kernel_size, batch, channels):
  """Batches that blocks of images divide and others; kernels of odd and of even size."""
  params, x, weight = conv_case(channels, kernel_size, batch)
  conv, flax_conv = layers.Conv(4, kernel_size), nn.Conv(4, (kernel_size, kernel_size))
  actual = values_and_gradients(conv.apply, params, x, weight=weight)
  expected = values_and_gradients(flax_conv.apply, params, x, weight=weight)
  chex.assert_trees_all_close(actual, expected, rtol=1e-5, atol=1e-4)


def test_conv_kernel_gradient_equals_a_loop():
  params, x, weight = conv_case(channels=3, kernel_size=3)
  _, (gradient, _) = values_and_gradients(layers.Conv(4, 3).apply, params, x, weight=weight)
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  for i, j in np.ndindex(3, 3):
    expected = np.einsum('bhwi,bhwo->io', padded[:, i : i + 6, j : j + 7], weight)
    np.testing.assert_allclose(gradient['params']['kernel'][i, j], expected, rtol=1e-4, atol=1e-4)


def test_conv_under_vmap():
  params, x, weight = conv_case(channels=3, kernel_size=3)
  several = jax.tree.map(lambda leaf: np.stack([leaf, 2 * leaf]), params)
  conv = layers.Conv(4, 3)

  def gradient(params):
    return jax.grad(lambda params: (jnp.square(conv.apply(params, x)) * weight).sum())(params)

  actual = jax.jit(jax.vmap(gradient))(several)
  expected = [jax.jit(gradient)(jax.tree.map(lambda leaf, i=i: leaf[i], several)) for i in (0, 1)]
  expected = jax.tree.map(lambda *leaves: np.stack(leaves), *expected)
  chex.assert_trees_all_close(actual, expected, rtol=1e-4, atol=1e-3)


def test_conv_starts_with_he_variance_and_no_bias():
  params = layers.Conv(64).init(jax.random.key(0), np.zeros((1, 2, 2, 16)))['params']
  chex.assert_shape(params['kernel'], (5, 5, 16, 64))
  np.testing.assert_allclose(params['kernel'].std(), np.sqrt(2 / (25 * 16)), rtol=0.02)
  np.testing.assert_array_equal(params['bias'], np.zeros(64))
  bare = layers.Conv(2, 3, use_bias=False)
  shapes = jax.eval_shape(bare.init, jax.random.key(0), np.zeros((1, 2, 2, 1)))
  assert set(shapes['params']) == {'kernel'}


@pytest.mark.parametrize('batch', [3, 8])
def test_conv_in_bfloat16(batch):
  exact = conv_case(3, 3, batch)
  params, x, weight = jax.tree.map(lambda a: a.astype(jnp.bfloat16), exact)
  values, gradients = values_and_gradients(layers.Conv(4, 3).apply, params, x, weight=weight)
  chex.assert_trees_all_equal_shapes_and_dtypes((values, gradients), (weight, (params, x)))
  params, x, weight = jax.tree.map(lambda a: a.astype(np.float32), (params, x, weight))
  _, (expected, _) = values_and_gradients(layers.Conv(4, 3).apply, params, x, weight=weight)
  kernels = [tree['params']['kernel'].astype(np.float32) for tree in (gradients[0], expected)]
  np.testing.assert_allclose(*kernels, rtol=2e-2, atol=1e-1)  # summed in float32, rounded once


def test_the_axis_of_a_divided_batch_is_pmaps():
  assert layers.BATCH_AXIS == parallel.DATA


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_a_bias_has_the_gradient_of_a_sum_over_examples(dtype):
  x, weights = (jax.random.normal(jax.random.key(i), (6, 5), dtype) for i in range(2))
  bias = jax.random.normal(jax.random.key(2), (5,), dtype)

  def weighted(x, bias):
    return jnp.sum(weights * layers.add_bias(x, bias))

  np.testing.assert_array_equal(layers.add_bias(x, bias), x + bias[None, :])
  x_gradient, bias_gradient = jax.grad(weighted, (0, 1))(x, bias)
  np.testing.assert_array_equal(x_gradient, weights)
  exact = np.asarray(weights, np.float64).sum(axis=0)
  assert bias_gradient.dtype == bias.dtype
  np.testing.assert_allclose(
    bias_gradient.astype('float32'), exact, rtol=1e-6 if dtype == 'float32' else 1e-2
  )


@pytest.mark.parametrize('rate', [0.3, 1.0])
def test_dropout_is_flaxs(rate):
  x, rngs = jnp.arange(1.0, 13.0).reshape(3, 4), {'dropout': jax.random.key(1)}

  def ours(x):
    return layers.Dropout(rate).apply({}, x, train=True, rngs=rngs)

  def theirs(x):
    return nn.Dropout(rate).apply({}, x, deterministic=False, rngs=rngs)

  np.testing.assert_array_equal(ours(x), theirs(x))
  gradients = [jax.grad(lambda x, f=f: f(x).sum())(x) for f in (ours, theirs)]
  np.testing.assert_array_equal(*gradients)


def test_dropout_leaves_evaluation_alone():
  x = jnp.ones((3, 4))
  np.testing.assert_array_equal(layers.Dropout(0.5).apply({}, x, train=False), x)


def locally_connected_case():
  """Params of an `lc` layer that are not near 0, images of 4 x 5 pixels, weights of the outputs."""
  rng = np.random.default_rng(0)
  shapes = {'kernel': (4, 5, 9 * 3, 2), 'bias': (4, 5, 2)}
  params = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
  x, weight = (rng.normal(size=(6, 4, 5, maps)).astype(np.float32) for maps in (3, 2))
  return {'params': params}, x, weight


def test_locally_connected_and_its_gradients_equal_flaxs():
  params, x, weight = locally_connected_case()
  ours, theirs = layers.LocallyConnected(2), nn.ConvLocal(2, (3, 3), padding='SAME')
  actual = values_and_gradients(ours.apply, params, x, weight=weight)
  expected = values_and_gradients(theirs.apply, params, x, weight=weight)
  chex.assert_trees_all_close(actual, expected, rtol=1e-5, atol=1e-4)


def test_locally_connected_starts_with_he_variance_of_its_9_places_times_channels():
  x = np.zeros((1, 7, 7, 64))
  params = jax.jit(layers.LocallyConnected(16).init)(jax.random.key(0), x)['params']
  chex.assert_shape(params['kernel'], (7, 7, 9 * 64, 16))
  np.testing.assert_allclose(params['kernel'].std(), np.sqrt(2 / (9 * 64)), rtol=0.01)
  np.testing.assert_array_equal(params['bias'], np.zeros((7, 7, 16)))


def test_biases_and_scales_are_no_weights_whatever_their_shape():
  params = {
    'conv': {'kernel': np.ones((3, 3, 1, 2)), 'bias': np.ones(2)},
    'local': {'kernel': np.ones((4, 4, 9, 2)), 'bias': np.ones((4, 4, 2))},
    'norm': {'scale': np.ones(2), 'bias': np.ones(2)},
    'hidden': {'v': np.ones((5, 2)), 'u': np.ones((2, 5)), 'bias': np.ones(5)},
  }
  assert layers.weights(params) == {
    'conv': {'kernel': True, 'bias': False},
    'local': {'kernel': True, 'bias': False},
    'norm': {'scale': False, 'bias': False},
    'hidden': {'v': True, 'u': True, 'bias': False},
  }


@pytest.mark.parametrize(
  ('shape', 'pools', 'found'),
  [
    ((12, 12), 1, r'\[12, 12\], .* of 3 x 3 pixels or more; grey ones are \[12, 12, 1\]'),
    ((12,), 1, r'\[12\], expected images \[height, width, channels\] of 3 x 3'),
    ((3, 12, 12), 1, r'\[3, 12, 12\], channels first by their looks, expected'),
    ((1, 28, 28), 2, r'\[1, 28, 28\], channels first by their looks, expected'),
    ((2, 8, 1), 1, r'\[2, 8, 1\], too small to be pooled 1 x, .* of 3 x 3 pixels or more'),
    ((12, 12, 3), 3, r'\[12, 12, 3\], too small to be pooled 3 x, .* of 15 x 15 pixels or more'),
    ((28, 28, 1), 4, r'\[28, 28, 1\], too small to be pooled 4 x, .* of 31 x 31 pixels or more'),
  ],
)
def test_inputs_that_do_not_fit_are_refused_with_the_shape_that_does(shape, pools, found):
  with pytest.raises(ValueError, match=f'^inputs are {found}') as caught:
    layers.check_images(np.zeros((1, *shape)), pools)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  ('shape', 'pools'), [((3, 3, 64), 1), ((7, 7, 3), 2), ((15, 15, 1), 3), ((12, 12, 12), 2)]
)
def test_the_smallest_images_that_fit_are_taken(shape, pools):
  layers.check_images(np.zeros((1, *shape)), pools)
