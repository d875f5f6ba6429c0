"""What a seed begins as: drawn weights, or the very function that another network is."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shallow_jax import models
from shallow_jax.data import dataset as dataset_lib
from shallow_jax.settings import defaults
from shallow_jax.training import problem as problem_lib

NUM_CLASSES = 3
IMAGES = (8, 8, 3)
# Every model in a small size, and the shape of its inputs. A single layer is fitted, not begun.
SMALL = {
  'dnn': (dict(hidden=(8,)), (6,)),
  'shallow': (dict(hidden=16, bottleneck=4), (6,)),
  'cnn': (dict(features=(4,), dense=(8,), batch_norm=True), IMAGES),
  'shallow_conv': (dict(features=4, hidden=16, bottleneck=4), IMAGES),
  'speech_cnn': (dict(features=4, kernel_size=2, pool_size=2, hidden=(8,)), (3, 18)),
}
LOSSES = ('cross_entropy', 'label_l2', 'hard_l2', 'logit_l2')


def make_dataset(shape):
  """What a problem needs of a data set."""
  return dataset_lib.Dataset(
    name='made up',
    class_names=('a', 'b', 'c'),
    splits={},
    preprocessing={},
    constants={},
    inputs=lambda constants, raw, view: raw['input'],
    input_shape=shape,
    notes={},
  )


def make_problem(model, loss, start=None):
  """A problem whose targets have other means and deviations for every loss that normalises."""
  options, shape = SMALL[model]
  targets = 'labels' if loss in ('cross_entropy', 'label_l2') else 'teacher'
  config = defaults.experiment(
    data=dict(name='digits'),
    networks=dict(
      teacher=dict(model=dict(name='dnn', hidden=(8,))),
      net=dict(model=dict(options, name=model), targets=targets, loss=dict(name=loss), num_steps=1),
    ),
  )
  rng = np.random.default_rng(0)
  arrays = {
    'input': rng.normal(size=(12, *shape)).astype(np.float32),
    'label': np.arange(12, dtype=np.int32) // 5,  # 5, 5 and 2 of a class
    'id': np.zeros((12, 2), np.uint32),
  }
  if targets != 'labels':
    arrays['target'] = rng.normal((3, 1, -4), (2, 5, 9), (12, 1, NUM_CLASSES)).astype(np.float32)
  return problem_lib.build(
    defaults.plain(config)['networks']['net'],
    make_dataset(shape),
    arrays,
    arrays,
    target_statistics=(np.array([3.0, 1, -4]), np.array([2.0, 5, 9])),
    start=start,
  )


def logits(problem, variables):
  apply = jax.jit(models.apply, static_argnums=0)
  return np.asarray(apply(problem.module, variables, problem.examples['input']))


def trained_variables(problem):
  """Variables of a problem as they are after training: everything differs from where it began."""
  leaves, tree = jax.tree.flatten(dict(problem.initial))
  rng = np.random.default_rng(1)
  moved = [
    leaf * jnp.asarray(rng.uniform(0.5, 2, leaf.shape), leaf.dtype) + 0.1 * (leaf.ndim == 1)
    for leaf in leaves
  ]
  return dict(jax.tree.unflatten(tree, moved), output=problem.initial['output'])


def assert_close(found, expected):
  np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_every_model_is_tried():
  assert SMALL.keys() == models.MODELS.keys() - {'single_layer'}


@pytest.mark.parametrize('model', SMALL)
def test_a_net_starts_as_the_function_that_it_is_told_to_start_from(model):
  first = make_problem(model, 'logit_l2')
  start = trained_variables(first)
  expected = logits(first, start)
  found = make_problem(model, 'cross_entropy', start)
  assert_close(logits(found, found.initial), expected)


@pytest.mark.parametrize(('before', 'after'), [*itertools.product(LOSSES, LOSSES)])
def test_whatever_both_were_trained_by(before, after):
  first = make_problem('shallow', before)
  start = trained_variables(first)
  expected = logits(first, start)
  found = make_problem('shallow', after, start)
  assert_close(logits(found, found.initial), expected)
  # It learns in the units of its own targets, not of those before.
  fresh = make_problem('shallow', after).initial['output']
  for name in ('mean', 'std'):
    np.testing.assert_array_equal(found.initial['output'][name], fresh[name])


@pytest.mark.parametrize('loss', LOSSES)
def test_in_the_same_units_not_a_bit_changes(loss):
  start = trained_variables(make_problem('cnn', loss))
  found = make_problem('cnn', loss, start).initial
  for a, b in zip(jax.tree.leaves(start), jax.tree.leaves(dict(found)), strict=True):
    np.testing.assert_array_equal(a, b)
