"""The contract of a data set: splits, ids, the order of examples; digits and a user's own data."""

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

ARRAYS = dict(
  name='arrays',
  path='',
  num_validation=10,
  split_seed=0,
  preprocessing=dict(name='standardise'),
  sets={},
)


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


def own_data(**changes):
  rng = np.random.default_rng(0)
  return {
    'train_input': rng.normal(5, 2, (50, 3)),
    'train_label': np.arange(50) % 4,
    'test_input': rng.normal(size=(20, 3)),
    'test_label': np.arange(20) % 4,
    **changes,
  }


def load_own(path, arrays, **changes):
  np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
  config = {**ARRAYS, 'path': str(path)}
  return data.load({**config, **changes})


def test_own_data_is_split_standardised_and_its_pool_cleaned(tmp_path):
  arrays = own_data()
  arrays['unlabelled_input'] = np.concatenate([arrays['test_input'][:3], np.ones((5, 3))])
  own = load_own(tmp_path / 'own.npz', arrays)
  counts = {name: len(split) for name, split in own.splits.items()}
  assert counts == {'train': 40, 'validation': 10, 'test': 20, 'unlabelled': 1}
  assert own.notes['leaks_dropped'] == {'validation': 0, 'test': 3}
  assert own.notes['duplicates_dropped'] == {'train': 0, 'unlabelled': 4}
  assert own.class_names == ('0', '1', '2', '3')
  inputs = own.inputs(own.constants, own.splits['train'].arrays, None)
  np.testing.assert_allclose(inputs.mean(axis=0), 0, atol=1e-6)
  np.testing.assert_allclose(inputs.std(axis=0), 1, atol=1e-6)


def test_own_validation_and_class_names_are_used(tmp_path):
  names = np.array(['a', 'b', 'c', 'd', 'e'])
  arrays = own_data(class_names=names)
  arrays |= {'validation_input': arrays['train_input'][:7], 'validation_label': np.zeros(7, int)}
  own = load_own(tmp_path / 'own.npz', arrays, num_validation=0)
  assert own.class_names == tuple('abcde')
  assert [len(own.splits[name]) for name in ('train', 'validation')] == [50, 7]


def test_a_constant_feature_stays_finite(tmp_path):
  arrays = own_data()
  arrays['train_input'][:, 1] = 3.0
  own = load_own(tmp_path / 'own.npz', arrays)
  assert own.constants['std'][1] == 1


with_nan = np.ones((50, 3))
with_nan[[4, 9]] = np.nan


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(train_input=None), r'own.npz lacks train_input; it has train_label'),
    (dict(train_input=with_nan), r'train_input has NaN or inf in 2 rows, first 4, 9'),
    (
      dict(test_input=np.full((20, 3), 1e39)),
      r'test_input has NaN or inf in 20 rows, first 0, 1, 2',
    ),
    (dict(test_input=np.ones((20, 4))), r'test_input is float64 \[20, 4\], .*\[examples, 3\]'),
    (dict(train_label=np.zeros(49, int)), r'train_label is int64 \[49\], expected integers \[50\]'),
    (dict(train_label=np.zeros(50)), r'train_label is float64'),
    (dict(test_label=np.full(20, 4)), r'test_label\[0\] is 4, expected 0 to 3'),
    (dict(train_input=np.array([[None]] * 50)), r'holds more than plain arrays'),
    (dict(validation_input=np.ones((5, 3))), r'lacks validation_label'),
    (dict(class_names=np.arange(4)), r'class_names is int64 \[4\]'),
  ],
)
def test_wrong_own_data_is_refused_in_one_line(tmp_path, changes, message):
  with pytest.raises(dataset.DataError, match=message) as error:
    load_own(tmp_path / 'own.npz', own_data(**changes))
  assert '\n' not in str(error.value)


def test_a_missing_or_wrong_own_file_is_refused(tmp_path):
  config = ARRAYS
  (tmp_path / 'text.npz').write_text('not arrays')
  np.save(tmp_path / 'one.npy', np.ones(3))
  for path, message in (
    (tmp_path / 'none.npz', 'is not a file'),
    ('', 'is not a file'),
    (tmp_path / 'text.npz', 'is not an .npz'),
    (tmp_path / 'one.npy', 'is not an .npz'),
  ):
    with pytest.raises(dataset.DataError, match=message):
      data.load({**config, 'path': str(path)})


@pytest.mark.parametrize('num_validation', [0, 50, -1])
def test_validation_must_be_some_of_train(tmp_path, num_validation):
  with pytest.raises(dataset.DataError, match=f'is {num_validation}, expected 1 to 49'):
    load_own(tmp_path / 'own.npz', own_data(), num_validation=num_validation)
