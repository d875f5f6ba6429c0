"""Predictions on the test set: kept, verified when read, and compared in pairs."""

from made_up import runs
import numpy as np
import pytest
from scipy import stats

from shallow_jax.report import page
from shallow_jax.report import predictions
from shallow_jax.report import results as results_lib
from shallow_jax.runtime import storage

COUNT = 1000
LABELS = np.arange(COUNT) % 10


def predict(wrong):
  """Predictions that are wrong just at these examples."""
  predicted = LABELS.copy()
  predicted[wrong] = (predicted[wrong] + 1) % 10
  return predicted


def save(workdir, network, *wrong):
  (workdir / network).mkdir(parents=True, exist_ok=True)
  (workdir / 'data').mkdir(exist_ok=True)
  rows = [None if each is None else predict(each) for each in wrong]
  predictions.save(workdir, network, rows, LABELS)


def test_what_is_wrong_is_read_back(tmp_path):
  save(tmp_path, 'net', [0, 7], None, np.arange(50))
  first, second, third = predictions.wrong(tmp_path, 'net', [0.2, None, 5.0])
  assert np.flatnonzero(first).tolist() == [0, 7]
  assert second is None
  assert np.flatnonzero(third).tolist() == list(range(50))
  assert np.load(tmp_path / 'net' / 'predictions.npy').dtype == np.int16


def test_a_network_of_before_has_none(tmp_path):
  assert predictions.wrong(tmp_path, 'net', [1.0]) is None


def test_predictions_of_another_result_are_refused(tmp_path):
  save(tmp_path, 'net', [0, 7])
  with pytest.raises(storage.StorageError, match=r'net/predictions\.npy: seed 0 makes 0\.2000 %'):
    predictions.wrong(tmp_path, 'net', [0.3])
  with pytest.raises(storage.StorageError, match=r'shape \(1, 1000\) instead of \(2, 1000\)'):
    predictions.wrong(tmp_path, 'net', [0.2, 0.2])


@pytest.mark.parametrize('name', ['net/predictions.npy', 'data/test_labels.npy'])
def test_a_file_cut_short_is_named(name, tmp_path):
  save(tmp_path, 'net', [0, 7])
  path = tmp_path / name
  path.write_bytes(path.read_bytes()[:-100])
  with pytest.raises(storage.StorageError, match=name):
    predictions.wrong(tmp_path, 'net', [0.2])


def test_labels_of_another_test_set_are_noticed(tmp_path):
  """As when the archive's order has changed between two evaluations."""
  save(tmp_path, 'net', [0, 7])
  np.save(tmp_path / 'data' / 'test_labels.npy', LABELS[::-1].astype(np.int16))
  with pytest.raises(storage.StorageError, match='to evaluate it again'):
    predictions.wrong(tmp_path, 'net', [0.2])


def masks(*wrong):
  return [None if each is None else np.isin(np.arange(COUNT), each) for each in wrong]


def test_one_pair_is_mcnemars_test_of_who_is_wrong_alone():
  """20 wrong in both, 30 only in the first, 10 only in the second."""
  first, second = masks(range(50)), masks([*range(20), *range(50, 60)])
  found = predictions.mcnemar({'': first}, {'': second})
  assert (found['only_first'], found['only_second']) == (30, 10)
  assert found['p_value'] == pytest.approx(stats.binomtest(10, 40).pvalue)
  assert (found['pairs'], found['significant_pairs']) == (1, 1)


def test_seeds_are_paired_and_never_pooled():
  """A tenfold copy of one pair is as significant as the pair."""
  first, second = masks(range(8)), masks(range(20, 22))
  one = predictions.mcnemar({'': first}, {'': second})
  ten = predictions.mcnemar({'': 10 * first}, {'': 10 * second})
  assert one['p_value'] > 0.05
  assert ten == one | {'pairs': 10}


def test_the_median_pair_is_shown():
  """Against nothing wrong: p falls with the number of errors. Two pairs: the larger p."""
  counts = (3, 20, 8)
  first = {'': masks(*(range(count) for count in counts))}
  second = {'': masks((), (), ())}
  assert predictions.mcnemar(first, second)['only_first'] == 8
  assert predictions.mcnemar(first, second)['significant_pairs'] == 2
  two = {'': first[''][:2]}
  assert predictions.mcnemar(two, second)['only_first'] == 3


def test_splits_are_paired_by_name_and_diverged_seeds_left_out():
  first = {'0': masks(range(9), None), '1': masks(range(9), range(9))}
  second = {'1': masks((), None), '0': masks((), ()), '2': masks(())}
  assert predictions.mcnemar(first, second)['pairs'] == 2
  assert predictions.mcnemar({'0': masks(None)}, {'0': masks(())}) is None
  assert predictions.mcnemar({'0': masks(())}, {'1': masks(())}) is None


def test_the_report_has_the_test_where_both_were_kept(tmp_path):
  config = runs.make_config()
  runs.write_run(config, tmp_path)
  save(tmp_path, 'mimic', range(10), range(20), range(30))
  save(tmp_path, 'shallow_l2', range(30), range(40), range(50))
  results = results_lib.collect(config, tmp_path)
  found = results['comparison']
  assert found['shallow']['mcnemar'] is None
  assert found['shallow_l2']['mcnemar'] == {
    'only_first': 20,
    'only_second': 0,
    'p_value': pytest.approx(2 / 2**20),
    'pairs': 3,
    'significant_pairs': 3,
  }
  text = page.markdown(results)
  (row,) = [line for line in text.splitlines() if line.startswith('| shallow_l2 (best on labels)')]
  assert '| 20 / 0 ' in row and '| < 0.0001 (3 of 3 < 0.05) |' in row
  assert 'Seeds are not pooled' in text
