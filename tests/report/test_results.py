"""Results are gathered, pooled and compared by arithmetic that can be done by hand."""

import math

from made_up import runs
import pytest
from scipy import stats

from shallow_jax.report import page
from shallow_jax.report import results as results_lib
from shallow_jax.report import tables
from shallow_jax.runtime import storage

ERRORS = runs.ERRORS


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A finished run: its workdir and its results."""
  workdir = tmp_path_factory.mktemp('run')
  config = runs.make_config()
  runs.write_run(config, workdir)
  return workdir, results_lib.collect(config, workdir)


def test_a_networks_entry_is_its_result_without_weights_and_versions(run):
  workdir, results = run
  assert results['schema_version'] == 1
  assert results['versions'] == {'jax': '0.12.0'}
  assert results['order'] == list(ERRORS)
  expected = storage.read_json(workdir / 'mimic' / 'result.json')
  expected.pop('weights')
  expected['provenance'].pop('versions')
  interval = results['networks']['mimic']['test_interval']
  assert results['networks']['mimic'] == expected | {'label': 'mimic', 'test_interval': interval}


def test_label_and_paper_are_those_of_the_config(run):
  _, results = run
  assert results['networks']['shallow_l2']['label'] == 'labels, L2'
  assert results['networks']['shallow']['paper'] == runs.PAPER


def test_the_interval_is_that_of_the_mean_error_on_one_test_set(run):
  _, results = run
  expected = stats.binomtest(60, 1000).proportion_ci(method='wilson')
  low, high = results['networks']['shallow']['test_interval']
  assert (low, high) == pytest.approx((100 * expected.low, 100 * expected.high))


def test_seeds_and_splits_make_no_larger_test_set(pooled):
  entry = pooled['networks']['mimic']
  assert entry['metrics']['test']['error']['mean'] == 2.5
  expected = stats.binomtest(25, 1000).proportion_ci(method='wilson')
  assert entry['test_interval'] == pytest.approx([100 * expected.low, 100 * expected.high])


def test_nothing_finite_has_no_interval(tmp_path):
  config = runs.make_config()
  runs.write_run(config, tmp_path, {'mimic': [None, None, None]})
  results = results_lib.collect(config, tmp_path)
  assert results['networks']['mimic']['test_interval'] is None


def test_comparison_by_hand_and_by_scipy(run):
  _, results = run
  assert results['roles'] == {
    'headline': 'mimic',
    'teacher': 'teacher',
    'baseline': '',
    'best_on_labels': 'shallow_l2',
  }
  found = results['comparison']['shallow_l2']
  assert found['is_best_on_labels'] and found['role'] == 'labels'
  assert found['ratio'] == pytest.approx(2 / 4)
  assert found['difference'] == pytest.approx(4 - 2)
  assert found['standard_error'] == pytest.approx(math.sqrt(1 / 3 + 1 / 3))
  assert found['gap_closed'] == pytest.approx((4 - 2) / (4 - 1))
  welch = stats.ttest_ind(ERRORS['shallow_l2'], ERRORS['mimic'], equal_var=False)
  assert found['in_standard_errors'] == pytest.approx(welch.statistic)
  assert found['degrees_of_freedom'] == pytest.approx(welch.df)
  assert found['interval'] == pytest.approx(list(welch.confidence_interval(0.95)))


def test_attribution_telescopes_and_names_what_changed(run):
  _, results = run
  steps = results['attribution']
  assert [step['cause'] for step in steps] == [
    'the loss',
    'the targets',
    'the unlabelled data',
    'left to the teacher',
  ]
  assert [step['change'] for step in steps] == pytest.approx([2, 1, 1, 1])
  assert [step['share'] for step in steps] == pytest.approx([0.4, 0.2, 0.2, 0.2])
  assert steps[0]['standard_error'] == pytest.approx(math.sqrt(2 / 3))
  assert steps[-1]['standard_error'] is None  # an ensemble is one value


def test_one_seed_has_no_spread(tmp_path):
  config = runs.make_config()
  runs.write_run(config, tmp_path, {name: values[:1] for name, values in ERRORS.items()})
  results = results_lib.collect(config, tmp_path)
  assert results['networks']['mimic']['metrics']['test']['error']['std'] is None
  assert results['comparison']['shallow_l2']['in_standard_errors'] is None
  assert 'standard errors' not in page.headline(results)


def shifted(amount):
  return {name: [error + amount for error in errors] for name, errors in ERRORS.items()}


@pytest.fixture(scope='module')
def pooled(tmp_path_factory):
  """Two splits: the second a point harder for all, two for the net on labels."""
  workdir = tmp_path_factory.mktemp('splits')
  config = runs.make_config(splits=(0, 1))
  runs.write_run(config, workdir / 'split-0', changes={'mimic': {'flags': {'collapsed': [2]}}})
  harder = shifted(1.0) | {'shallow_l2': [5.0, 6.0, 7.0]}
  runs.write_run(config, workdir / 'split-1', harder, {'mimic': {'flags': {'collapsed': []}}})
  return results_lib.collect(config, workdir)


def test_splits_are_pooled(pooled):
  entry = pooled['networks']['mimic']
  error = entry['metrics']['test']['error']
  assert error['values'] == [1.0, 2.0, 3.0, 2.0, 3.0, 4.0]
  assert error['values_by_split'] == {'0': [1.0, 2.0, 3.0], '1': [2.0, 3.0, 4.0]}
  assert error['mean'] == pytest.approx(2.5)
  assert error['std'] == pytest.approx(stats.tstd(error['values']))
  assert entry['flags'] == {'collapsed': ['split-0/seed-2']}
  assert entry['provenance']['wall_seconds'] == 20.0
  assert entry['splits'] == ['0', '1'] and pooled['data']['splits'] == ['0', '1']
  assert '| 2 × 3 ' in tables.short_table(pooled)


def test_splits_are_compared_in_pairs(pooled):
  found = pooled['comparison']['shallow_l2']
  paired = stats.ttest_rel([4.0, 6.0], [2.0, 3.0])
  assert found['difference'] == pytest.approx(2.5)
  assert found['in_standard_errors'] == pytest.approx(paired.statistic)
  assert found['degrees_of_freedom'] == paired.df
  assert found['interval'] == pytest.approx(list(paired.confidence_interval(0.95)))


def test_there_is_no_ranking_where_the_interval_spans_0(pooled, run):
  assert pooled['comparison']['shallow_l2']['interval'][0] < 0
  told = '(5.0 standard errors, paired by split, 2 splits; the 95 % interval spans 0: no ranking)'
  assert told in page.headline(pooled)
  smooth = run[1]['comparison']['shallow']
  assert smooth['interval'][0] > 0
  assert 'no ranking' not in page.significance(smooth)


def test_a_split_that_lacks_a_network_is_left_out_of_its_comparison(tmp_path):
  config = runs.make_config(splits=(0, 1))
  runs.write_run(config, tmp_path / 'split-0')
  runs.write_run(config, tmp_path / 'split-1', {'shallow_l2': [9.0, 9.0, 9.0]})
  found = results_lib.collect(config, tmp_path)['comparison']['shallow_l2']
  assert found['difference'] == pytest.approx(2.0)
  assert found['paired_splits'] is None


def test_splits_of_different_networks_are_refused(tmp_path):
  config = runs.make_config(splits=(0, 1))
  runs.write_run(config, tmp_path / 'split-0')
  runs.write_run(config, tmp_path / 'split-1', changes={'mimic': {'architecture': '8k'}})
  with pytest.raises(results_lib.ResultsError, match='splits differ in architecture: "32L'):
    results_lib.collect(config, tmp_path)


def test_a_baseline_of_another_architecture_is_compared(tmp_path):
  config = runs.make_config(baseline='cnn')
  runs.write_run(config, tmp_path)
  results = results_lib.collect(config, tmp_path)
  assert results['comparison']['cnn']['difference'] == pytest.approx(0.0)
  assert results['roles']['best_on_labels'] == 'shallow_l2'


def test_the_means_of_what_splits_differ_in_are_shown(tmp_path):
  config = runs.make_config(splits=(0, 1))
  first = {'error_by_class': {'0': 1.0, '3': 20.0, '9': None}, 'alignment': changed(by=24.0)}
  second = {'error_by_class': {'0': 2.0, '3': 30.0, '9': 4.0}, 'alignment': changed(by=26.0)}
  runs.write_run(config, tmp_path / 'split-0', changes={'mimic': first})
  runs.write_run(config, tmp_path / 'split-1', changes={'mimic': second})
  entry = results_lib.collect(config, tmp_path)['networks']['mimic']
  assert entry['error_by_class'] == {'0': 1.5, '3': 25.0, '9': 4.0}
  assert entry['alignment'] == changed(by=25.0)


def changed(by):
  return {
    'by': 'cnn',
    'changed': by,
    'kept': {'train': 0},
    'shares': [by, 100 - by],
    'shares_by_label': {'aa': [by, 100 - by]},
    'shift': by / 10,
  }


def test_what_there_is_no_rule_for_is_not_pooled(tmp_path):
  config = runs.make_config(splits=(0, 1))
  runs.write_run(config, tmp_path / 'split-0', changes={'mimic': {'perplexity': 2.0}})
  runs.write_run(config, tmp_path / 'split-1')
  with pytest.raises(results_lib.ResultsError, match=r'mimic: no rule how .* for perplexity$'):
    results_lib.collect(config, tmp_path)


def test_the_winner_of_a_search_does_not_speak_for_its_net_on_validation(tmp_path):
  """`shallow` is the better one but for seed 0, which its search chose by validation."""
  config = runs.make_config()
  errors = ERRORS | {'shallow': [9.0, 4.0, 4.0], 'shallow_l2': [1.0, 5.0, 5.0]}
  runs.write_run(config, tmp_path, errors)
  assert results_lib.collect(config, tmp_path)['roles']['best_on_labels'] == 'shallow'


def test_the_interval_is_of_the_test_set_that_the_result_was_read_off(tmp_path):
  config = runs.make_config()
  sets = {name: {'count': 100, 'ids_sha256': '', 'labels_sha256': ''} for name in ('test',)}
  runs.write_run(config, tmp_path, changes={'shallow': {'evaluated_on': {'sets': sets}}})
  found = results_lib.collect(config, tmp_path)['networks']['shallow']['test_interval']
  expected = stats.binomtest(6, 100).proportion_ci(method='wilson')
  assert found == pytest.approx([100 * expected.low, 100 * expected.high])
