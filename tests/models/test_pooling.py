"""Pooling against Flax's own and against loops, values and gradients."""

import chex
from flax import linen as nn
import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from shallow_jax.models import pooling


@pytest.fixture(autouse=True)
def no_rank_promotion():
  with jax.numpy_rank_promotion('raise'):
    yield


def flax_pool(x):
  return nn.max_pool(x, (3, 3), strides=(2, 2))


def values_and_gradients(function, *inputs, weight):
  """Returns function(*inputs) and the gradients of its sum, weighted by `weight`."""

  def both(*inputs):
    values, gradients = jax.vjp(function, *inputs)
    return values, gradients(weight)

  return jax.jit(both)(*inputs)


def pool_case(size, dtype=np.float32):
  """Returns images [4, *size, 5], half of them full of ties, and weights for the pool's values."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(4, *size, 5))
  x[2:] = np.round(x[2:])
  # powers of two: sums of four are exact in bfloat16 too, so that nothing needs a tolerance
  shape = (4, (size[0] - 3) // 2 + 1, (size[1] - 3) // 2 + 1, 5)
  weight = 2.0 ** rng.integers(-1, 3, size=shape)
  return x.astype(dtype), weight.astype(dtype)


@pytest.mark.parametrize('size', [(3, 4), (8, 5), (15, 15), (32, 32)])
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_max_pool_and_its_gradient_equal_flax(size, dtype):
  x, weight = pool_case(size, dtype)
  actual = values_and_gradients(pooling.max_pool, x, weight=weight)
  expected = values_and_gradients(flax_pool, x, weight=weight)
  chex.assert_trees_all_equal_shapes_and_dtypes(actual, expected)
  chex.assert_trees_all_equal(actual, expected)


@pytest.mark.parametrize('size', [(9, 8), (4, 7)])
def test_max_pool_gradient_equals_a_loop(size):
  x, weight = pool_case(size)
  values, (gradient,) = values_and_gradients(pooling.max_pool, x, weight=weight)
  expected = np.zeros(x.shape)
  for b, p, q, c in np.ndindex(*weight.shape):
    window = x[b, 2 * p : 2 * p + 3, 2 * q : 2 * q + 3, c]
    i, j = np.unravel_index(np.argmax(window), (3, 3))  # the first of equals, row by row
    assert values[b, p, q, c] == window.max()
    expected[b, 2 * p + i, 2 * q + j, c] += weight[b, p, q, c]
  np.testing.assert_array_equal(gradient, expected)


def test_max_pool_gradient_equals_a_difference_quotient():
  x = np.random.default_rng(0).permutation(5 * 6 * 2).reshape(1, 5, 6, 2) / 10
  jax.test_util.check_grads(
    jax.jit(pooling.max_pool), (x.astype(np.float32),), order=1, modes=['rev'], rtol=1e-2
  )


def test_max_pool_under_vmap():
  x, weight = pool_case((8, 8))

  def gradient(pool):  # each image a batch of its own
    return lambda x, weight: jax.grad(lambda x: (pool(x[None]) * weight[None]).sum())(x)

  actual = jax.jit(jax.vmap(gradient(pooling.max_pool)))(x, weight)
  chex.assert_trees_all_equal(actual, jax.jit(jax.vmap(gradient(flax_pool)))(x, weight))


def test_max_pool_lets_nan_through_in_training_too():
  x = np.zeros((1, 3, 3, 1), np.float32)
  x[0, 1, 1, 0] = np.nan
  values, _ = values_and_gradients(pooling.max_pool, x, weight=np.ones((1, 1, 1, 1), np.float32))
  assert np.isnan(values).all()


@pytest.mark.parametrize('shape', [(3, 3, 1), (1, 2, 8, 1)])
def test_max_pool_refuses_what_holds_no_window(shape):
  with pytest.raises(ValueError, match='pooling needs'):
    pooling.max_pool(np.zeros(shape))


def activations(shape=(6, 9, 8, 3)):
  """ReLU's outputs: half of them 0, some windows all 0."""
  x = np.maximum(np.random.default_rng(0).normal(size=shape), 0)
  x[0, :4] = 0
  return x.astype(np.float32)


def windows(x):
  """[batch, rows, columns, 9, channels]: what stands in each 3x3 window, stride 2."""
  view = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2]
  return np.moveaxis(view, 3, -1).reshape(*view.shape[:3], 9, x.shape[3])


def test_windows_of_the_oracle_are_those_of_max_pool():
  x = activations()
  np.testing.assert_array_equal(windows(x).max(axis=3), flax_pool(x))


def test_weighted_pool_is_the_mean_by_the_activations_own_probabilities():
  x = activations()
  expected = np.zeros_like(windows(x)[:, :, :, 0])
  for place in np.ndindex(*expected.shape):
    values = windows(x)[place[0], place[1], place[2], :, place[3]]
    if values.sum() > 0:
      expected[place] = (values / values.sum() * values).sum()
  np.testing.assert_allclose(jax.jit(pooling.weighted_pool)(x), expected, rtol=1e-6)


def test_sampled_pool_draws_each_place_as_often_as_its_activation_says():
  window = np.array([0, 3, 1, 0, 2, 0, 0.5, 3.5, 0], np.float32)
  x = jnp.tile(window.reshape(1, 3, 3, 1), (20_000, 1, 1, 1))
  drawn = np.asarray(jax.jit(pooling.sampled_pool)(x, jax.random.key(0))).reshape(-1)
  for value, probability in zip(window[window > 0], window[window > 0] / window.sum(), strict=True):
    share = np.mean(drawn == value)
    assert abs(share - probability) < 4 * np.sqrt(probability * (1 - probability) / len(drawn))
  assert np.isin(drawn, window[window > 0]).all()


def test_sampled_pools_gradient_goes_to_the_place_that_was_drawn():
  x = activations()
  weight = np.random.default_rng(1).normal(size=windows(x)[:, :, :, 0].shape).astype(np.float32)
  values, (gradient,) = values_and_gradients(
    lambda x: pooling.sampled_pool(x, jax.random.key(3)), x, weight=weight
  )
  expected = np.zeros(x.shape)
  for b, p, q, c in np.ndindex(*weight.shape):
    window = x[b, 2 * p : 2 * p + 3, 2 * q : 2 * q + 3, c]
    if values[b, p, q, c] > 0:
      i, j = np.argwhere(window == values[b, p, q, c])[0]
      expected[b, 2 * p + i, 2 * q + j, c] += weight[b, p, q, c]
  np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_a_window_of_zeros_gives_zero_and_no_gradient_that_is_not_a_number():
  x = np.zeros((2, 5, 5, 1), np.float32)
  weight = np.ones((2, 2, 2, 1), np.float32)
  pools = (lambda x: pooling.sampled_pool(x, jax.random.key(0)), pooling.weighted_pool)
  for pool in pools:
    values, (gradient,) = values_and_gradients(pool, x, weight=weight)
    np.testing.assert_array_equal(values, 0)
    assert np.isfinite(gradient).all()


def test_pool_draws_in_training_and_averages_in_evaluation():
  x = activations()
  pool = pooling.Pool('stochastic')
  key = jax.random.key(0)
  drawn = pool.apply({}, x, train=True, rngs={'dropout': key})
  other = pool.apply({}, x, train=True, rngs={'dropout': jax.random.key(1)})
  average = pool.apply({}, x, train=False)
  assert (np.asarray(drawn) != np.asarray(other)).any()
  np.testing.assert_array_equal(average, pooling.weighted_pool(x))
  assert np.all(np.asarray(drawn) <= flax_pool(x))
  np.testing.assert_array_equal(pooling.Pool().apply({}, x, train=True), flax_pool(x))


def test_an_unknown_pooling_is_refused():
  with pytest.raises(ValueError, match="unknown pooling 'mean'; expected 'max' or 'stochastic'"):
    pooling.Pool('mean').apply({}, activations(), train=False)
