"""Transfer sets: no leak, no label, a class left out, MUNGE."""

import numpy as np
import pytest

from shallow_jax import data
from shallow_jax.data import dataset
from shallow_jax.data import transfer

MUNGE = dict(size=1000, swap_probability=0.5, local_variance=2.0, seed=0)


def entry(**changes):
  return dict(of=('train', 'unlabelled'), without_class=-1, size=0, munge=None) | changes


def made(values, labels=None):
  return dataset.make_split(np.asarray(values, np.uint8)[:, None], labels)


@pytest.fixture
def splits():
  return {
    'train': made([1, 2, 3, 4], np.array([0, 1, 2, 2])),
    'validation': made([10, 11], np.array([0, 1])),
    'test': made([20, 21, 22], np.array([0, 1, 2])),
    'unlabelled': made([30, 31, 32], np.array([1, 2, 1])),
  }


def values(split):
  return sorted(split.arrays['input'][:, 0].tolist())


def test_a_pool_loses_what_is_held_out_in_train_or_twice(splits):
  pool, notes = transfer.clean_pool(made([50, 20, 1, 20, 11, 51, 50]), splits)
  assert values(pool) == [50, 51]
  assert notes == {
    'leaks_dropped': {'validation': 1, 'test': 2},
    'duplicates_dropped': {'train': 1, 'unlabelled': 1},
  }


def test_leaks_are_counted_by_split(splits):
  held_out = {'validation': splits['validation'], 'test': splits['test']}
  pool, leaks = transfer.without_leaks(made([10, 11, 22, 99]), held_out)
  assert values(pool) == [99]
  assert leaks == {'validation': 2, 'test': 1}


def photographs(count, seed):
  return np.random.default_rng(seed).integers(0, 200, (count, 32, 32, 3)).astype(np.uint8)


def test_near_duplicates_of_what_is_held_out_are_dropped_and_counted_by_themselves():
  train, validation, test, new = (photographs(4, seed) for seed in range(4))
  splits = {
    name: dataset.make_split(images, np.zeros(4))
    for name, images in (('train', train), ('validation', validation), ('test', test))
  }
  pool = [
    *(test[0], validation[0], train[0]),
    *(test[1, :, ::-1], validation[1] + 40, validation[2] // 2, train[1] + 40),
    *(new[0], new[0], new[1]),
  ]
  cleaned, notes = transfer.clean_pool(dataset.make_split(np.stack(pool), None), splits)
  kept = dataset.make_split(np.stack([train[1] + 40, new[0], new[1]]), None)
  assert cleaned.ids_sha256 == kept.ids_sha256
  assert notes == {
    'leaks_dropped': {'validation': 1, 'test': 1},
    'near_duplicates_dropped': {'validation': 2, 'test': 1},
    'duplicates_dropped': {'train': 1, 'unlabelled': 1},
  }


def test_a_pool_that_holds_nothing_new_is_refused(splits):
  with pytest.raises(dataset.DataError, match=r'has 3 examples and all stand in train, valid'):
    transfer.clean_pool(made([1, 11, 20]), splits)


def test_derived_sets_and_the_pool_show_no_label(splits):
  everything = transfer.derive({'both': entry(), 'again': entry(of=('train',))}, splits)
  assert list(everything) == [*splits, 'both', 'again']
  assert values(everything['both']) == [1, 2, 3, 4, 30, 31, 32]
  for name in ('unlabelled', 'both'):
    assert set(everything[name].arrays['label']) == {-1}
  for name in ('train', 'validation', 'test'):
    assert everything[name] is splits[name]


def test_a_set_made_of_train_alone_has_its_labels(splits):
  """Its examples' classes were known anyway: a student may learn from them by label_weight."""
  again = transfer.derive({'again': entry(of=('train',))}, splits)['again']
  np.testing.assert_array_equal(again.arrays['label'], splits['train'].arrays['label'])


def test_derived_sets_are_sorted_by_id(splits):
  both = transfer.derive({'both': entry()}, splits)['both']
  assert both.ids_sha256 == dataset.sort(both).ids_sha256
  np.testing.assert_array_equal(both.arrays['id'], dataset.ids(both.arrays['input']))


def test_a_class_is_left_out_by_its_true_label(splits):
  without = transfer.derive({'no_2': entry(without_class=2)}, splits)['no_2']
  assert values(without) == [1, 2, 30, 32]


def test_a_smaller_set_lies_in_a_larger_one(splits):
  sets = transfer.derive({f'first_{n}': entry(size=n) for n in (2, 4)}, splits)
  assert len(sets['first_2']) == 2
  np.testing.assert_array_equal(
    sets['first_2'].arrays['id'], sets['first_4'].select(np.arange(2)).arrays['id']
  )
  assert sets['first_4'].ids_sha256 == dataset.sort(sets['first_4']).ids_sha256


@pytest.mark.parametrize(
  ('name', 'changes', 'message'),
  [
    ('no', dict(of=('train', 'test')), r"\('train', 'test'\), expected .* train, unlabelled"),
    ('no', dict(of=()), r'data.sets.no.of is \(\)'),
    ('no', dict(of='train'), r"data.sets.no.of is 'train', expected a tuple"),
    ('no', dict(without_class=7), r'leaves out class 7, expected one of 0 to 2'),
    ('test', {}, r'data.sets.test: the name is taken'),
    ('no', dict(size=100), r'data.sets.no.size is 100, expected 1 to [0-9]+, or 0'),
    ('no', dict(munge=MUNGE | dict(size=0)), r'size=0'),
    ('no', dict(munge=MUNGE | dict(swap_probability=1.5)), r'swap_probability=1.5'),
    ('no', dict(munge=MUNGE | dict(local_variance=0)), r'local_variance=0'),
  ],
)
def test_a_wrong_set_is_refused(splits, name, changes, message):
  with pytest.raises(dataset.DataError, match=message):
    transfer.derive({name: entry(**changes)}, splits)


def test_a_class_that_is_not_known_cannot_be_left_out(splits):
  splits['unlabelled'] = transfer.hide_labels(splits['unlabelled'])
  with pytest.raises(dataset.DataError, match=r'the class of 3 of its examples is not known'):
    transfer.derive({'no_2': entry(without_class=2)}, splits)


def test_munge_of_a_pair_draws_around_the_neighbour():
  # one turn at p = 1: all attributes trade places, with the deviation |difference| / s
  pair = np.zeros((2, 20_000), np.float32)
  pair[1] = 10.0
  split = dataset.make_split(pair, None)
  first = transfer._munge_pass(
    split.arrays['input'], np.array([1]), 1.0, 4.0, np.random.default_rng(0)
  )
  here, there = split.arrays['input']
  for row, centre in ((first[0], there), (first[1], here)):
    assert abs((row - centre).mean()) < 0.1
    assert abs((row - centre).std() - 10 / 4) < 0.05


def test_munge_changes_about_p_of_the_attributes():
  rows = np.random.default_rng(0).normal(size=(2, 20_000)).astype(np.float32)
  once = transfer._munge_pass(rows, np.array([1]), 0.3, 1.0, np.random.default_rng(0))
  assert abs((once != rows).mean() - 0.3) < 0.01


def test_munge_of_digits_is_seeded_and_stays_digits():
  config = dict(
    name='digits',
    split_seed=0,
    num_train=400,
    num_validation=100,
    num_unlabelled=297,
    num_test=1000,
    preprocessing=dict(name='standardise'),
    sets={'munge': entry(munge=MUNGE)},
  )
  first, again = data.load(config), data.load(config)
  synthetic = first.splits['munge'].arrays['input']
  assert (synthetic.shape, synthetic.dtype) == ((1000, 8, 8, 1), np.uint8)
  assert synthetic.max() <= 16
  real = np.concatenate([first.splits[name].arrays['input'] for name in ('train', 'unlabelled')])
  # trading places leaves the mean image as it is, up to the draws
  assert abs(synthetic.mean(axis=0) - real.mean(axis=0)).max() < 1
  assert first.fingerprint() == again.fingerprint()
  config['sets']['munge']['munge'] = MUNGE | dict(seed=1)
  assert data.load(config).splits['munge'].ids_sha256 != first.splits['munge'].ids_sha256


def test_munge_with_no_swap_gives_the_examples_back():
  split = made(range(50))
  same = transfer.munge(split, **MUNGE | dict(size=50, swap_probability=0.0))
  assert same.ids_sha256 == split.ids_sha256
