"""SGD and its schedules against NumPy, written out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from shallow_jax.settings import keys
from shallow_jax.training import optimizer

PLAIN = dict(
  keys.NETWORK['optimizer'],
  learning_rate=0.1,
  momentum=0.0,
  warmup_steps=0,
  schedule='constant',
)


def params_and_gradients(num_steps=3):
  """Returns a tree with a matrix, a filter and a vector, and a gradient of it for each step."""
  rng = np.random.default_rng(0)
  shapes = dict(matrix=(2, 3), filter=(3, 3, 1, 2), vector=(3,))
  trees = [
    {name: rng.normal(size=shape) for name, shape in shapes.items()} for _ in range(num_steps + 1)
  ]
  return trees[0], trees[1:]


def updated(settings, params, gradients, num_steps=10):
  """Returns the params after the gradients, by the optimizer under test."""
  params, *gradients = jax.tree.map(jnp.float32, [params, *gradients])
  transformation = optimizer.build(settings, num_steps)
  state = transformation.init(params)
  for gradient in gradients:
    updates, state = transformation.update(gradient, state, params)
    params = optax.apply_updates(params, updates)
  return params


def numpy_updated(params, gradients, *, momentum=0.0, nesterov=False, decay=0.0, clip=0.0):
  """The same at rate 0.1, in float64."""
  params = {name: value.copy() for name, value in params.items()}
  velocity = {name: np.zeros_like(value) for name, value in params.items()}
  for gradient in gradients:
    norm = np.sqrt(sum(np.sum(value**2) for value in gradient.values()))
    scale = min(1.0, clip / norm) if clip else 1.0
    for name, value in params.items():
      step = scale * gradient[name]
      if value.ndim > 1:
        step = step + decay * value
      velocity[name] = momentum * velocity[name] + step
      params[name] = value - 0.1 * (
        step + momentum * velocity[name] if nesterov else velocity[name]
      )
  return params


@pytest.mark.parametrize(
  ('settings', 'expected'),
  [
    ({}, {}),
    (dict(momentum=0.9), dict(momentum=0.9)),
    (dict(momentum=0.9, nesterov=True), dict(momentum=0.9, nesterov=True)),
    (dict(weight_decay=0.5), dict(decay=0.5)),
    (dict(momentum=0.9, weight_decay=0.5), dict(momentum=0.9, decay=0.5)),
    (dict(clip_norm=0.3), dict(clip=0.3)),
    (dict(clip_norm=1e6), {}),
    (
      dict(momentum=0.9, nesterov=True, weight_decay=0.5, clip_norm=0.3),
      dict(momentum=0.9, nesterov=True, decay=0.5, clip=0.3),
    ),
  ],
)
def test_three_steps_equal_numpy(settings, expected):
  params, gradients = params_and_gradients()
  actual = updated(PLAIN | settings, params, gradients)
  for name, value in numpy_updated(params, gradients, **expected).items():
    np.testing.assert_allclose(actual[name], value, rtol=1e-5, atol=1e-6)


def test_weight_decay_leaves_vectors_alone():
  params, _ = params_and_gradients()
  zeros = jax.tree.map(np.zeros_like, params)
  actual = updated(PLAIN | dict(weight_decay=0.5), params, [zeros])
  np.testing.assert_array_equal(actual['vector'], np.float32(params['vector']))
  for name in ('matrix', 'filter'):
    np.testing.assert_allclose(actual[name], 0.95 * params[name], rtol=1e-6)


def test_weight_decay_leaves_the_biases_of_a_locally_connected_layer_alone():
  params = {'ConvLocal_0': {'kernel': np.ones((2, 2, 9, 3)), 'bias': np.ones((2, 2, 3))}}
  zeros = jax.tree.map(np.zeros_like, params)
  actual = updated(PLAIN | dict(weight_decay=0.5), params, [zeros])['ConvLocal_0']
  np.testing.assert_array_equal(actual['bias'], np.ones((2, 2, 3), np.float32))
  np.testing.assert_allclose(actual['kernel'], np.full((2, 2, 9, 3), 0.95), rtol=1e-6)


def test_the_defaults_decay_and_clip_nothing():
  params, gradients = params_and_gradients()
  gradients = [{name: 100 * value for name, value in tree.items()} for tree in gradients]
  settings = keys.NETWORK['optimizer'] | dict(
    learning_rate=0.1, warmup_steps=0, schedule='constant'
  )
  actual = updated(settings, params, gradients)
  for name, value in numpy_updated(params, gradients, momentum=0.9).items():
    np.testing.assert_allclose(actual[name], value, rtol=1e-5)


def test_the_schedule_sets_the_rate_of_each_step():
  params, gradients = params_and_gradients()
  settings = PLAIN | dict(schedule='step', decay_at=(0.5,), decay_factor=0.1)
  actual = updated(settings, params, gradients, num_steps=4)
  expected = params['vector'].copy()
  for rate, gradient in zip((0.1, 0.1, 0.01), gradients, strict=True):
    expected = expected - rate * gradient['vector']
  np.testing.assert_allclose(actual['vector'], expected, rtol=1e-5)


def rates(num_steps=100, **settings):
  """Returns the learning rate of every step."""
  schedule = optimizer.schedule(PLAIN | settings, num_steps)
  return np.asarray(jax.vmap(schedule)(jnp.arange(num_steps)))


@pytest.mark.parametrize('name', ['constant', 'plateau'])
def test_constant_and_plateau_stay(name):
  np.testing.assert_allclose(rates(schedule=name), 0.1, rtol=1e-6)


@pytest.mark.parametrize('name', optimizer.SCHEDULES)
def test_warmup_rises_linearly_to_the_whole_rate(name):
  found = rates(schedule=name, warmup_steps=4)
  np.testing.assert_allclose(found[:5], [0.02, 0.04, 0.06, 0.08, 0.1], rtol=1e-5)


def test_cosine_falls_from_the_whole_rate_to_nearly_0():
  found = rates(schedule='cosine', warmup_steps=20)
  steps = np.arange(80)
  np.testing.assert_allclose(
    found[20:], 0.05 * (1 + np.cos(np.pi * steps / 80)), rtol=1e-4, atol=1e-7
  )
  assert 0 < found[-1] < 1e-4
  assert np.all(np.diff(found[20:]) < 0)


@pytest.mark.parametrize('warmup_steps', [0, 10])
def test_step_falls_at_its_fractions_of_all_steps(warmup_steps):
  found = rates(schedule='step', decay_at=(0.5, 0.75), decay_factor=0.1, warmup_steps=warmup_steps)
  np.testing.assert_allclose(found[[10, 49]], 0.1, rtol=1e-6)
  np.testing.assert_allclose(found[[50, 74]], 0.01, rtol=1e-5)
  np.testing.assert_allclose(found[[75, 99]], 0.001, rtol=1e-5)


@pytest.mark.parametrize('name', optimizer.SCHEDULES)
@pytest.mark.parametrize('num_steps', [1, 3])
def test_a_warmup_longer_than_the_run_ends_with_the_whole_rate(name, num_steps):
  found = rates(num_steps, schedule=name, warmup_steps=200, decay_at=())
  np.testing.assert_allclose(found, 0.1 * np.arange(1, num_steps + 1) / num_steps, rtol=1e-5)


def test_step_falls_once_for_each_fraction_that_falls_on_a_step():
  found = rates(schedule='step', decay_at=(0.5, 0.5), decay_factor=0.1)
  np.testing.assert_allclose(found[[49, 50]], [0.1, 0.001], rtol=1e-5)
  found = rates(3, schedule='step', decay_at=(0.4, 0.5), decay_factor=0.1)  # 1.2 and 1.5 steps
  np.testing.assert_allclose(found, [0.1, 0.001, 0.001], rtol=1e-5)


@pytest.mark.parametrize(('fraction', 'step'), [(0.29, 29), (0.57, 57), (0.755, 75), (1.0, 100)])
def test_step_falls_where_the_decimals_say(fraction, step):
  """0.29 * 100 is 28.999999999999996."""
  found = rates(schedule='step', decay_at=(fraction,), decay_factor=0.1)
  np.testing.assert_allclose(found, np.where(np.arange(100) < step, 0.1, 0.01), rtol=1e-5)


def test_step_falls_within_the_warmup_too():
  found = rates(schedule='step', decay_at=(0.2, 0.75), decay_factor=0.1, warmup_steps=49)
  ramp = 0.1 * np.minimum(np.arange(1, 101), 50) / 50
  factor = np.where(np.arange(100) < 20, 1, np.where(np.arange(100) < 75, 0.1, 0.01))
  np.testing.assert_allclose(found, ramp * factor, rtol=1e-5)


def test_an_unknown_schedule_is_refused_by_name():
  with pytest.raises(ValueError, match="unknown schedule 'linear'; expected one of constant"):
    optimizer.schedule(PLAIN | dict(schedule='linear'), 10)
