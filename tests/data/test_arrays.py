"""A user's own arrays: what is read, what is told about it, what is refused."""

import os

import numpy as np
import pytest

from shallow_jax import data
from shallow_jax.data import dataset

ARRAYS = dict(
  name='arrays',
  path='',
  num_validation=10,
  split_seed=0,
  preprocessing=dict(name='standardise'),
  sets={},
)


def rows(split):
  return {row.tobytes() for row in split.arrays['input']}


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


def test_oversampled_rows_never_stand_on_both_sides(tmp_path):
  arrays = own_data()
  arrays |= {name: np.repeat(arrays[name], 3, axis=0) for name in ('train_input', 'train_label')}
  own = load_own(tmp_path / 'own.npz', arrays, num_validation=30)
  assert len(own.splits['validation']) == 30 and len(own.splits['train']) == 120
  assert not rows(own.splits['train']) & rows(own.splits['validation'])
  assert own.notes == {'source': 'own.npz'}
  odd = load_own(tmp_path / 'own.npz', arrays, num_validation=31)
  assert odd.notes['copies_left_out'] == '2 of validation'


def test_what_splits_share_is_counted_noted_and_said(tmp_path, caplog):
  arrays = own_data()
  test = np.concatenate([arrays['train_input'][:7], arrays['test_input'][7:]])
  validation = np.concatenate([arrays['train_input'][:2], test[:1], np.ones((9, 3))])
  own = load_own(
    tmp_path / 'own.npz',
    dict(arrays, test_input=test, validation_input=validation, validation_label=np.arange(12) % 4),
  )
  expected = '3 of validation in train, 7 of test in train, 2 of test in validation'
  assert own.notes['shared_examples'] == expected
  assert f'arrays: shared examples: {expected}' in caplog.text
  assert 'shared_examples' not in load_own(tmp_path / 'own.npz', arrays).notes


def labelled(labels, **changes):
  return own_data(train_label=np.asarray(labels), test_label=np.arange(20) % 2, **changes)


@pytest.mark.parametrize(
  ('labels', 'found'),
  [
    (
      20_190_115 + np.arange(50),
      r'50 different labels, 20,190,115 to 20,190,164: of the 20,190,165',
    ),
    (2**63 - 1 - np.arange(50) % 2, r'2 different labels, 9,223,372,036,854,775,806 to'),
    (np.uint64(2**64 - 1) - np.arange(50, dtype=np.uint64), r'50 different labels'),
    (np.arange(50) % 2 * 255, r'2 different labels, 0 to 255: of the 256 classes from 0 on most'),
    (np.full(50, 3), r'has the class 3 alone, expected two classes or more'),
    (np.zeros(50, int), r'has the class 0 alone'),
    (np.arange(50) % 4 - 1, r'train_label\[0\] is -1, expected 0 to 2'),
  ],
)
def test_labels_that_number_no_classes_are_refused(tmp_path, labels, found):
  with pytest.raises(dataset.DataError, match=found) as error:
    load_own(tmp_path / 'own.npz', labelled(labels))
  assert '\n' not in str(error.value)


def test_class_names_that_most_have_no_example_are_refused(tmp_path):
  names = np.array(list('abcdefg'))
  with pytest.raises(dataset.DataError, match=r'3 different labels, 0 to 2: of the 7 classes'):
    load_own(tmp_path / 'own.npz', labelled(np.arange(50) % 3, class_names=names))


def test_the_log_says_which_classes_have_no_example(tmp_path, caplog):
  own = load_own(tmp_path / 'own.npz', labelled(1 + np.arange(50) % 3))
  assert own.notes['classes_without_examples_in_train'] == '1 of 4 (0)'
  assert own.notes['of_classes_that_train_lacks'] == '10 of test'
  assert 'arrays: classes without examples in train: 1 of 4 (0)' in caplog.text
  names = np.array(list('abcde'))
  named = load_own(tmp_path / 'own.npz', labelled(np.arange(50) % 3, class_names=names))
  assert named.notes['classes_without_examples_in_train'] == '2 of 5 (d, e)'
  assert 'of_classes_that_train_lacks' not in named.notes


def test_a_split_of_a_single_class_is_told(tmp_path):
  arrays = dict(own_data(), test_label=np.full(20, 2))
  assert load_own(tmp_path / 'own.npz', arrays).notes['of_a_single_class'] == 'test (2)'
  assert 'of_a_single_class' not in load_own(tmp_path / 'own.npz', own_data()).notes


def test_constant_features_are_counted_and_noted(tmp_path, caplog):
  arrays = own_data()
  arrays['train_input'][:, 1] = 3e-9
  own = load_own(tmp_path / 'own.npz', arrays)
  assert own.notes['constant_features'] == '1 of 3 (1)'
  assert 'arrays: constant features: 1 of 3 (1)' in caplog.text


def images_of(count, seed):
  images = np.random.default_rng(seed).uniform(0, 255, (count, 4, 4, 1)).astype(np.float32)
  images[:, 0, 0], images[:, 0, 1] = 0, 255
  return images


@pytest.mark.parametrize(
  ('train_scale', 'test_scale', 'found'),
  [
    (1, 1 / 255, 'test holds 0 to 1 where train holds 0 to 255 (channel 0)'),
    (1 / 255, 1, 'test holds 0 to 255 where train holds 0 to 1 (channel 0)'),
    (1, 1, None),
    (1, 0.5, None),
  ],
)
def test_a_split_on_another_scale_is_told(tmp_path, caplog, train_scale, test_scale, found):
  own = load_own(
    tmp_path / 'own.npz',
    own_data(
      train_input=images_of(50, 0) * np.float32(train_scale),
      test_input=images_of(20, 1) * np.float32(test_scale),
    ),
  )
  assert own.notes.get('another_scale') == found
  assert ('another scale: test holds' in caplog.text) == (found is not None)


def test_a_feature_in_another_unit_and_rare_ones_are_told_apart(tmp_path):
  rng = np.random.default_rng(0)
  sparse = [(rng.random((count, 40)) < 0.02).astype(np.float32) for count in (50, 20)]
  arrays = dict(own_data(), train_input=sparse[0], test_input=sparse[1])
  assert 'another_scale' not in load_own(tmp_path / 'own.npz', arrays).notes
  arrays = own_data()
  arrays['test_input'][:, 2] *= 1000
  text = load_own(tmp_path / 'own.npz', arrays).notes['another_scale']
  assert text.startswith('test holds') and text.endswith('(channel 2)')


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
    (
      dict(test_label=np.full(20, 4)),
      r'test_label\[0\] is 4, expected 0 to 3, the classes of train_label$',
    ),
    (dict(train_input=np.array([[None]] * 50)), r'holds more than plain arrays'),
    (dict(validation_input=np.ones((5, 3))), r'lacks validation_label'),
    (dict(class_names=np.arange(4)), r'class_names is int64 \[4\]'),
    (dict(class_names=np.array(list('abca'))), r'class_names has a name twice: a, b, c, a'),
    (dict(validation_label=np.zeros(5, int)), r'own.npz lacks validation_input'),
    (dict(train_input=np.ones((50, 0))), r'train_input is float64 \[50, 0\], expected numbers'),
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


def test_arrays_that_nobody_reads_are_told(tmp_path, caplog):
  own = load_own(tmp_path / 'own.npz', own_data(unlabeled_input=np.ones((3, 3)), note=np.ones(2)))
  assert own.notes['arrays_not_read'] == 'note, unlabeled_input'
  assert 'arrays: arrays not read: note, unlabeled_input' in caplog.text


def test_a_file_name_that_is_no_utf_8_gives_a_note_that_is(tmp_path):
  path = os.fsdecode(bytes(tmp_path) + b'/caf\xe9.npz')
  note = load_own(path, own_data()).notes['source']
  assert note.encode() == rb'caf\xe9.npz'
