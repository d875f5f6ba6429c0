"""The contract of a data set: splits, ids, the order of examples; digits."""

import json

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from shallow_jax import data
from shallow_jax.data import dataset

DIGITS = dict(
  name='digits',
  split_seed=0,
  num_train=400,
  num_validation=100,
  num_unlabelled=297,
  num_test=1000,
  preprocessing=dict(name='standardise'),
  sets={},
)

PUBLISHED = {  # by name the beginning of the sha256 of its ids
  'train': '9253e82dfc55',
  'validation': '42011417c86b',
  'unlabelled': 'ca068ed0ffcd',
  'test': '4e8436f35716',
}


@pytest.fixture(scope='module')
def digits():
  return data.load(DIGITS)


def rows(split):
  return {row.tobytes() for row in split.arrays['input']}


def test_every_example_comes_once_an_epoch_in_batches_of_one_shape():
  num_examples, batch_size, num_steps = 10, 4, 15
  batches = [dataset.Order(num_examples, batch_size, 0)(step) for step in range(num_steps)]
  stream = np.concatenate([indices for indices, _ in batches]).reshape(-1, num_examples)
  epochs = np.concatenate([epochs for _, epochs in batches]).reshape(-1, num_examples)
  np.testing.assert_array_equal(np.sort(stream, axis=1), np.tile(np.arange(10), (6, 1)))
  np.testing.assert_array_equal(epochs, np.arange(6).repeat(10).reshape(6, 10))
  assert not np.array_equal(stream[0], stream[1])
  assert {indices.shape for indices, _ in batches} == {(batch_size,)}


def test_order_depends_on_the_step_not_on_the_steps_before():
  order = dataset.Order(97, 32, 3)
  forward = [order(step)[0] for step in range(50)]
  for step in (49, 0, 25):
    np.testing.assert_array_equal(order(step)[0], forward[step])
    np.testing.assert_array_equal(dataset.Order(97, 32, 3)(step)[0], forward[step])
  assert not np.array_equal(dataset.Order(97, 32, 4)(0)[0], forward[0])


def test_a_batch_of_all_examples_is_an_epoch():
  indices, epochs = dataset.Order(5, 5, 0)(2)
  assert sorted(indices) == [0, 1, 2, 3, 4]
  assert set(epochs) == {2}
  assert indices.dtype == epochs.dtype == np.int32


def test_a_batch_larger_than_the_data_is_refused():
  with pytest.raises(dataset.DataError, match=r'batch size 6 .* 5 examples'):
    dataset.Order(5, 6, 0)


def test_take_is_the_same_on_the_host_and_on_the_device(digits):
  arrays, indices = digits.splits['train'].arrays, np.array([3, 0, 3])
  host = dataset.take(arrays, indices)
  device = jax.jit(dataset.take)(jax.device_put(arrays), jnp.asarray(indices))
  for name in arrays:
    np.testing.assert_array_equal(host[name], arrays[name][indices])
    np.testing.assert_array_equal(device[name], host[name])
    assert device[name].dtype == host[name].dtype


def test_splits_do_not_depend_on_the_order_of_the_source():
  rng = np.random.default_rng(0)
  inputs = rng.integers(0, 3, (60, 2, 1)).astype(np.uint8)  # many equal, with other labels
  labels, shuffled = rng.integers(0, 5, 60), rng.permutation(60)
  counts = {'train': 20, 'test': 30}
  here, there = (
    dataset.carve(dataset.make_split(inputs[order], labels[order]), counts, seed=1, source='x')
    for order in (np.arange(60), shuffled)
  )
  for name, count in counts.items():
    assert len(here[name]) == count
    for key, array in here[name].arrays.items():
      np.testing.assert_array_equal(array, there[name].arrays[key])


def copied(times=(1, 1, 1, 2, 3, 7), of_each=10):
  """Examples that occur so often, `of_each` of them: 150."""
  distinct = np.random.default_rng(0).normal(size=(len(times) * of_each, 4)).astype(np.float32)
  inputs = np.repeat(distinct, np.tile(times, of_each), axis=0)
  return dataset.make_split(inputs, np.arange(len(inputs)) % 3)


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('counts', [dict(a=20, b=50, c=60), dict(a=100), dict(a=1, b=1, c=1)])
def test_copies_stay_on_one_side_and_the_counts_are_those_asked_for(counts, seed):
  parts = dataset.carve(copied(), counts, seed=seed, source='x')
  assert {name: len(part) for name, part in parts.items()} == counts
  kinds = [set(dataset.hashes(part).tolist()) for part in parts.values()]
  assert sum(map(len, kinds)) == len(set.union(*kinds))


@pytest.mark.parametrize('num_validation', [5, 20, 75, 149])
def test_validation_has_nothing_of_train(num_validation):
  """All else is in train, unless the last example of validation had more copies than there fit."""
  everything = copied()
  splits, notes = dataset.carve_validation(everything, num_validation, seed=0)
  train, validation = splits['train'], splits['validation']
  assert not np.isin(dataset.hashes(train), dataset.hashes(validation)).any()
  assert len(validation) == num_validation
  missing = len(everything) - len(train) - len(validation)
  assert notes == ({'copies_left_out': {'validation': missing}} if missing else {})
  assert missing < 7


def test_without_copies_membership_is_that_of_a_permutation_of_the_rows():
  """Results were published on it; digits' and CIFAR-10's splits are below and in test_cifar."""
  split = dataset.make_split(np.arange(900).reshape(300, 3), np.zeros(300, int))
  rows = np.random.default_rng(7).permutation(300)
  counts = {'train': 100, 'test': 150}
  parts = dataset.carve(split, counts, seed=7, source='x')
  for name, expected in (('train', rows[:100]), ('test', rows[100:250])):
    np.testing.assert_array_equal(parts[name].arrays['id'], split.arrays['id'][np.sort(expected)])
  splits, notes = dataset.carve_validation(split, 60, seed=7)
  for name, expected in (('validation', rows[:60]), ('train', rows[60:])):
    np.testing.assert_array_equal(splits[name].arrays['id'], split.arrays['id'][np.sort(expected)])
  assert notes == {}


def test_a_few_copies_change_the_membership_of_a_few():
  distinct = np.random.default_rng(0).normal(size=(300, 3))
  inputs = np.concatenate([distinct, distinct[:5]])
  split = dataset.make_split(inputs, np.zeros(305, int))
  rows = np.random.default_rng(7).permutation(305)[:60]
  found = dataset.carve_validation(split, 60, seed=7)[0]['validation']
  assert np.isin(dataset.hashes(split)[rows], dataset.hashes(found)).sum() >= 55


def test_digits_splits_are_those_of_the_published_results(digits):
  found = {name: split.ids_sha256[:12] for name, split in digits.splits.items()}
  assert found == PUBLISHED


def test_too_few_distinct_examples_are_refused():
  same = dataset.make_split(np.repeat([[1.0], [2.0]], 20, axis=0), np.arange(40) % 2)
  with pytest.raises(
    dataset.DataError, match=r'x holds 2 distinct examples \(40 with their copies'
  ):
    dataset.carve(same, {'a': 10, 'b': 10, 'c': 10}, seed=0, source='x')
  with pytest.raises(
    dataset.DataError, match=r'is 21, which leaves nothing of train: of its 40 .* 2'
  ):
    dataset.carve_validation(same, 21, seed=0)


def test_ids_are_those_of_the_bytes():
  inputs = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
  ids = dataset.ids(inputs)
  assert (ids.dtype, ids.shape) == (np.uint32, (3, 2))
  np.testing.assert_array_equal(ids[1:], dataset.ids(inputs[1:]))
  # a change here would move every split: sha256(bytes([0, 1, 2, 3])) begins with these bytes
  assert ids[0].astype('<u4').tobytes().hex() == '054edec1d0211f62'


def test_digits_have_the_counts_shapes_and_disjoint_splits(digits):
  counts = {'train': 400, 'validation': 100, 'unlabelled': 297, 'test': 1000}
  assert {name: len(split) for name, split in digits.splits.items()} == counts
  assert len(set.union(*(rows(split) for split in digits.splits.values()))) == 1797
  train = digits.splits['train'].arrays
  assert (train['input'].shape, train['input'].dtype) == ((400, 8, 8, 1), np.uint8)
  assert (train['label'].dtype, set(train['label'])) == (np.int32, set(range(10)))
  assert set(digits.splits['unlabelled'].arrays['label']) == {-1}


def test_another_split_seed_gives_another_split(digits):
  other = data.load({**DIGITS, 'split_seed': 1})
  assert rows(other.splits['train']) != rows(digits.splits['train'])
  assert other.fingerprint() != digits.fingerprint()


def test_inputs_are_standardised_on_train(digits):
  raw = jax.device_put(digits.splits['train'].arrays)
  with jax.numpy_rank_promotion('raise'):
    inputs = jax.jit(digits.inputs)(digits.constants, raw, None)
  assert inputs.shape == (400, *digits.input_shape)
  assert inputs.dtype == jnp.float32
  np.testing.assert_allclose([inputs.mean(), inputs.std()], [0, 1], atol=1e-5)


def test_a_config_dict_loads_the_same_and_the_fingerprint_is_json(digits):
  again = data.load(ml_collections.ConfigDict(DIGITS))
  fingerprint = json.loads(json.dumps(digits.fingerprint()))
  assert again.fingerprint() == fingerprint
  assert fingerprint['splits']['train']['count'] == 400
  json.dumps(digits.notes)


def test_more_digits_than_there_are_is_refused():
  with pytest.raises(dataset.DataError, match=r'holds 1797 examples, train 400 .* test 1001'):
    data.load({**DIGITS, 'num_test': 1001})


def test_an_unknown_name_is_refused_with_the_known_ones():
  with pytest.raises(dataset.DataError, match=r"'digit'.* digits, cifar10, cifar100, arrays"):
    data.load({**DIGITS, 'name': 'digit'})
