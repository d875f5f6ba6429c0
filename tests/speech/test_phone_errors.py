"""Phone errors by utterance: kept, verified when read, compared in pairs; their intervals."""

import numpy as np
import pytest
from scipy import stats

from shallow_jax.runtime import errors
from shallow_jax.runtime import storage
from shallow_jax.speech import phone_errors


def seed_of(wrong, length=10):
  """The arrays of a seed with so many substitutions in each utterance."""
  counts = np.zeros((3, len(wrong), 4), np.int32)
  counts[..., 0], counts[..., 3] = wrong, length
  return {'validation': counts, 'test': counts, 'confusion': np.eye(3, dtype=np.int64)}


def save(workdir, network, *seeds):
  (workdir / network).mkdir()
  rows = [None if wrong is None else seed_of(wrong) for wrong in seeds]
  phone_errors.save(workdir, network, rows, {'classes': ('aa', 'sil')})


def read(workdir, network):
  return {'': phone_errors.read(workdir, network)}


def test_what_is_kept_is_read_back(tmp_path):
  save(tmp_path, 'net', [1, 2], None, [0, 1])
  found = phone_errors.read(tmp_path, 'net', [15.0, None, 5.0])
  assert found['test'].shape == (3, 3, 2, 4)
  assert (found['test'][1] == phone_errors.DIVERGED).all()
  assert phone_errors.known(found['test']).tolist() == [True, False, True]
  assert found['classes'].tolist() == ['aa', 'sil']


def test_a_network_of_before_has_none(tmp_path):
  assert phone_errors.read(tmp_path, 'net') is None


def test_those_of_another_result_are_refused(tmp_path):
  save(tmp_path, 'net', [1, 2])
  with pytest.raises(storage.StorageError, match=r'npz: seed 0 has a phone error rate of 15\.0000'):
    phone_errors.read(tmp_path, 'net', [14.0])
  with pytest.raises(storage.StorageError, match='1 seeds instead of 2'):
    phone_errors.read(tmp_path, 'net', [15.0, 15.0])


def test_a_file_cut_short_is_named(tmp_path):
  save(tmp_path, 'net', [1, 2])
  path = tmp_path / 'net' / 'phone_errors.npz'
  path.write_bytes(path.read_bytes()[:-40])
  with pytest.raises(storage.StorageError, match=r'net/phone_errors\.npz: could not be read'):
    phone_errors.read(tmp_path, 'net')


def test_two_networks_are_compared_seed_by_seed(tmp_path):
  save(tmp_path, 'worse', [3, 4, 5], [3, 4, 6], [9, 9, 9])
  save(tmp_path, 'better', [1, 2, 3], None, [9, 9, 9], [0, 0, 0])
  found = phone_errors.difference(read(tmp_path, 'worse'), read(tmp_path, 'better'))
  assert found['pairs'] == 2  # seeds 0 and 2
  assert found['value'] == pytest.approx(100 * 6 / 60)
  assert found['low'] == found['high'] == found['value']  # 2 more in each utterance of 20 phones
  assert found['share_better'] == 1.0
  back = phone_errors.difference(read(tmp_path, 'better'), read(tmp_path, 'worse'))
  assert back['value'] == -found['value']
  assert back['share_better'] == 0.0


def test_nobody_in_common_is_no_comparison(tmp_path):
  save(tmp_path, 'a', [1, 2], None)
  save(tmp_path, 'b', None, [1, 2])
  assert phone_errors.difference(read(tmp_path, 'a'), read(tmp_path, 'b')) is None


def test_runs_are_pooled(tmp_path):
  save(tmp_path, 'net', [2, 2])
  save(tmp_path, 'other', [2])
  runs = [phone_errors.read(tmp_path, name) for name in ('net', 'other')]
  assert phone_errors.interval_of_runs(runs, 'test') == [20.0, 20.0]


def counts_of(wrong, lengths):
  """Counts [conventions, utterances, kinds] of so many insertions, of no convention but strict."""
  counts = np.full((3, len(wrong), 4), 99, np.int32)
  counts[phone_errors.STRICT] = np.stack([0 * wrong, 0 * wrong, wrong, lengths], axis=1)
  return counts


def systems():
  """Errors of two systems on 60 utterances, the second a little better, and their lengths."""
  rng = np.random.default_rng(0)
  lengths = rng.integers(15, 60, 60)
  first = rng.binomial(lengths, 0.25)
  return first, rng.binomial(first, 0.9) + rng.binomial(lengths, 0.02), lengths


def compared(first, second):
  """`difference` of the counts of single seeds."""
  return phone_errors.difference(*({'': {'test': counts[None]}} for counts in (first, second)))


def drawn(values, lengths):
  """The bootstrap written out: 250 samples at once of units drawn with replacement."""
  rng = np.random.default_rng(0)
  rates = []
  for _ in range(40):
    units = rng.integers(len(values), size=(250, len(values)))
    rates += (100.0 * values[units].sum(axis=1) / lengths[units].sum(axis=1)).tolist()
  return np.array(rates)


def scipys(statistic, *columns):
  found = stats.bootstrap(
    columns, statistic, paired=True, vectorized=True, method='percentile', rng=1, n_resamples=9999
  )
  return found.confidence_interval.low, found.confidence_interval.high


def test_the_interval_is_of_10000_draws():
  first, second, lengths = systems()
  found = phone_errors.interval([counts_of(first, lengths)])
  assert found == np.percentile(drawn(first, lengths), (2.5, 97.5)).tolist()
  assert found == [23.921226670160877, 27.241571391663896]  # of before SciPy drew them
  twice = phone_errors.interval([counts_of(first, lengths), counts_of(second, lengths)])
  assert twice == np.percentile(drawn(first + second, 2 * lengths), (2.5, 97.5)).tolist()
  expected = scipys(
    lambda wrong, length, axis: 100 * wrong.sum(axis) / length.sum(axis), first, lengths
  )
  assert found == pytest.approx(expected, abs=0.1)
  assert expected[1] - expected[0] > 2


def test_the_interval_of_a_difference_is_narrower_than_of_two_sets():
  first, second, lengths = systems()
  found = compared(counts_of(first, lengths), counts_of(second, lengths))
  samples = drawn(first - second, lengths)
  assert [found['low'], found['high']] == np.percentile(samples, (2.5, 97.5)).tolist()
  assert found['share_better'] == pytest.approx(np.mean(samples > 0) + np.mean(samples == 0) / 2)
  assert 0.9 < found['share_better'] < 1
  assert found['value'] == pytest.approx(100 * (first - second).sum() / lengths.sum())
  expected = scipys(
    lambda a, b, length, axis: 100 * (a.sum(axis) - b.sum(axis)) / length.sum(axis),
    first,
    second,
    lengths,
  )
  assert (found['low'], found['high']) == pytest.approx(expected, abs=0.1)
  low, high = phone_errors.interval([counts_of(first, lengths)])
  assert found['high'] - found['low'] < high - low
  turned = compared(counts_of(second, lengths), counts_of(first, lengths))
  assert turned['share_better'] == pytest.approx(1 - found['share_better'])
  assert turned['value'] == -found['value']


def test_a_system_is_as_good_as_itself():
  first, _, lengths = systems()
  found = compared(counts_of(first, lengths), counts_of(first, lengths))
  assert found == {'value': 0.0, 'low': 0.0, 'high': 0.0, 'share_better': 0.5, 'pairs': 1}


def test_draws_without_a_phone_have_no_errors():
  counts = counts_of(np.array([0, 1]), np.array([0, 2]))
  assert phone_errors.interval([counts]) == [0.0, 50.0]


def test_one_utterance_is_every_draw():
  one, other = (counts_of(np.array([wrong]), np.array([8])) for wrong in (2, 1))
  assert phone_errors.interval([one]) == [25.0, 25.0]
  found = compared(one, other)
  assert (found['low'], found['high'], found['share_better']) == (12.5, 12.5, 1.0)


def test_rates_need_phones_and_comparisons_the_same_ones():
  nothing = counts_of(np.array([1, 0]), np.array([0, 0]))
  for call in (phone_errors.interval, lambda seeds: phone_errors.rate(seeds[0][0])):
    with pytest.raises(errors.DataError, match='0 phones has no error rate'):
      call([nothing])
  first, second, lengths = systems()
  with pytest.raises(errors.DataError, match='expected the same utterances in the same order'):
    compared(counts_of(first, lengths), counts_of(second, lengths[::-1]))


def test_speakers_are_pooled_by_themselves():
  counts = np.zeros((3, 3, 4), np.int32)
  counts[phone_errors.STRICT] = [(1, 2, 3, 10), (0, 1, 0, 4), (5, 0, 0, 6)]
  found = phone_errors.by_speaker([counts, counts], ['mabc0', 'fxyz0', 'mabc0'])
  assert list(found.items()) == [('fxyz0', 100 * 1 / 4), ('mabc0', 100 * 11 / 16)]
  strict = counts[phone_errors.STRICT]
  assert phone_errors.rate(strict) == 100 * 12 / 20
  assert [phone_errors.share(strict, kind) for kind in phone_errors.ERRORS] == [30.0, 15.0, 15.0]
