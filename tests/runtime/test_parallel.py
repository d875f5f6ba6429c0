"""Four devices compute what one does, on virtual CPU devices in a process of their own."""

import os
import pathlib
import pickle
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from support import parallel_runs

from shallow_jax import models
from shallow_jax.data import dataset as dataset_lib
from shallow_jax.runtime import parallel
from shallow_jax.training import feed as feed_lib

TOLERANCE = 1e-5  # relative to the largest value of an array; measured: 2.2e-7
REPOSITORY = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope='module')
def digits():
  return parallel_runs.digits()


@pytest.fixture(scope='module')
def on_one(digits):
  """What one device finds, by case."""
  settings = parallel_runs.LAYOUTS['jit']
  return {case: parallel_runs.found(digits, case, settings) for case in parallel_runs.CASES}


@pytest.fixture(scope='module')
def on_four(tmp_path_factory):
  """What parallel_runs finds on four virtual devices."""
  path = tmp_path_factory.mktemp('four') / 'found'
  flags = {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': '--xla_force_host_platform_device_count=4'}
  path_of_modules = os.pathsep.join([str(REPOSITORY), os.environ.get('PYTHONPATH', '')])
  subprocess.run(
    [sys.executable, str(REPOSITORY / 'tests' / 'support' / 'parallel_runs.py'), str(path)],
    env={**os.environ, **flags, 'PYTHONPATH': path_of_modules},
    check=True,
    timeout=600,  # it takes 30 on two idle cores
  )
  return pickle.loads(path.read_bytes())


def largest_difference(a, b):
  """The largest over arrays of |a - b| / max |a|."""
  pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  return max(np.abs(x - y).max() / max(np.abs(x).max(), 1e-30) for x, y in pairs)


@pytest.mark.parametrize(('case', 'name'), parallel_runs.RUNS)
def test_four_devices_train_what_one_trains(on_one, on_four, case, name):
  one, four = on_one[case], on_four['runs'][case, name]
  assert largest_difference(one['variables'], four['variables']) < TOLERANCE
  assert four['loss'] == pytest.approx(one['loss'], rel=TOLERANCE)


def test_the_same_devices_give_the_same_bits(on_four):
  first, again = on_four['runs']['dense', 'jit'], on_four['again']
  jax.tree.map(np.testing.assert_array_equal, first['variables'], again['variables'])


def test_batches_that_are_sent_give_the_same_bits_as_resident_data(on_four):
  resident, sent = on_four['runs']['dense', 'jit'], on_four['sent']
  jax.tree.map(np.testing.assert_array_equal, resident['variables'], sent['variables'])


def test_logits_have_the_same_bits_on_any_number_of_devices(digits, on_four):
  for one, four in zip(parallel_runs.logits(digits), on_four['logits'], strict=True):
    np.testing.assert_array_equal(one, four)


@pytest.mark.parametrize('devices', [2, 4])
def test_a_convolution_has_the_same_gradients_where_devices_divide_the_images(on_four, devices):
  one, several = (on_four['convolution'][count] for count in (1, devices))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4), one, several)


def test_a_state_is_restored_onto_another_mesh(on_four):
  assert on_four['moved'] == [True] * 4


@pytest.mark.parametrize('count', [2, 4])  # on 2 and 4 of the devices, with half and whole batches
def test_seeds_that_devices_train_together_are_those_of_one_device(digits, on_four, count):
  for one, four in zip(
    parallel_runs.together(digits, count), on_four['together'][count], strict=True
  ):
    assert largest_difference(one, four) < TOLERANCE


@pytest.mark.parametrize('count', [2, 4])
def test_each_device_holds_one_of_the_seeds(on_one, on_four, count):
  one = on_one['dense']['bytes'][0]
  for found in on_four['bytes together'][count]:
    assert found == dict.fromkeys(range(4), one)


def wide_bytes(problem):
  """The bytes of a shallow net's parameters that have a hidden-units axis, by NumPy."""
  inputs, classes = 64, 10
  model = problem.entry['model']
  first = model['bottleneck'] or inputs
  return 4 * model['hidden'] * (first + 1 + classes)


@pytest.mark.parametrize('case', ['dense', 'full matrix'])
def test_devices_share_the_wide_layer_and_its_momentum(digits, on_one, on_four, case):
  problem = parallel_runs.make_problem(digits, **parallel_runs.CASES[case])
  whole = on_one[case]['bytes'][0]
  shared = 2 * wide_bytes(problem)  # and the momentum
  for each in on_four['runs'][case, 'model']['bytes'].values():
    assert each == whole - shared + shared // 2
  hidden = problem.entry['model']['hidden']
  for shape, part in on_four['runs'][case, 'model']['shapes']:
    assert part == tuple(size // 2 if size == hidden else size for size in shape)
  for each in on_four['runs']['batch statistics', 'jit']['bytes'].values():
    assert each == on_one['batch statistics']['bytes'][0]


def test_devices_share_the_resident_examples(digits, on_one, on_four):
  """Each holds a quarter of the rows, or half of them where two share the wide layer."""
  whole = sum(array.nbytes for array in digits.splits['train'].arrays.values())
  assert on_one['dense']['resident'] == {0: whole}
  for name, parts in (('jit', 4), ('model', 2), ('pmap', 1)):
    assert on_four['runs']['dense', name]['resident'] == dict.fromkeys(range(4), whole // parts)


def test_examples_stay_on_the_devices_up_to_a_limit_on_each(on_four):
  assert on_four['stay'] == [True, False]


@pytest.mark.parametrize('kind', parallel_runs.EXAMPLES)
@pytest.mark.parametrize(('name', 'parts'), parallel_runs.PARTS.items())
def test_batches_of_divided_examples_are_those_of_whole_ones(on_four, kind, name, parts):
  examples, found = parallel_runs.examples_of(kind), on_four['gathered'][kind, name]
  padded = -(-len(examples['id']) // parts)
  each = sum(padded * array[0].nbytes for array in examples.values())
  assert found['bytes'] == dict.fromkeys(range(4), each)
  for i, (indices, views) in enumerate(zip(*found['rows'].values(), strict=True)):
    expected = dataset_lib.take_views(examples, indices, views)
    if 'target' in expected:
      expected['target'] = expected['target'][np.arange(len(views)), views]
    assert set(expected) == set(found['batches'])
    for key, array in expected.items():
      assert found['batches'][key].dtype == array.dtype
      np.testing.assert_array_equal(found['batches'][key][i], array)


@pytest.mark.parametrize('kind', parallel_runs.EXAMPLES)
@pytest.mark.parametrize('name', parallel_runs.PARTS)
def test_no_device_collects_the_examples(on_four, kind, name):
  """In XLA's program nothing but the examples' own parts has their parts' shape."""
  examples, found = parallel_runs.examples_of(kind), on_four['gathered'][kind, name]
  wide = examples['input'].shape[1:]
  sent = re.findall(
    r'= \(?(\w+\[[\d,]*\]).* (?:all-gather|all-to-all|collective-permute)\(', found['program']
  )
  assert sent  # the indices
  assert not [shape for shape in sent if shape.endswith(f',{",".join(map(str, wide))}]')]
  whole = [f'[{rows},{",".join(map(str, wide))}]' for rows in (50, 52)]
  assert not [shape for shape in whole if shape in found['program']]


def test_a_net_without_a_wide_layer_shares_the_batch_alone(digits):
  problem = parallel_runs.make_problem(digits, model=parallel_runs.CNN)
  assert models.hidden_axes(problem.module) == ()


def refused(monkeypatch, devices=4, **arguments):
  monkeypatch.setattr(parallel.jax, 'device_count', lambda: devices)
  with pytest.raises(parallel.ParallelError) as error:
    parallel.layout(**({'batch_size': 64} | arguments))
  return str(error.value)


def test_what_does_not_divide_is_refused_by_its_key(monkeypatch):
  axes = (('hidden/u', 1),)
  shared = dict(hidden_axes=axes, hidden=100)
  assert 'network.batch_size: 30 ' in refused(monkeypatch, batch_size=30)
  message = refused(monkeypatch, settings=dict(compile='jit', model=3), **shared)
  assert message == 'config.parallel.model: 4 devices do not divide by 3'
  message = refused(monkeypatch, settings=dict(compile='jit', model=8), devices=8, **shared)
  assert message == 'network.model.hidden: 100 does not divide by config.parallel.model, 8'
  assert 'expected 1' in refused(monkeypatch, settings=dict(compile='pmap', model=2))


def test_pmap_is_refused_where_its_mean_is_another_one(digits):
  problem = parallel_runs.make_problem(digits, model=parallel_runs.WIDE)
  entry = dict(problem.entry, loss=dict(problem.entry['loss'], label_weight=0.5))
  settings = parallel_runs.LAYOUTS['pmap']
  with pytest.raises(parallel.ParallelError, match=r'networks\.net\.loss\.label_weight'):
    feed_lib.lay_out(entry, problem.module, settings, where='networks.net')
