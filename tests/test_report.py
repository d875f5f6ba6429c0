"""Results are gathered, pooled and compared by arithmetic that can be done by hand."""

import json
import math
import pathlib
import re
import subprocess
import sys

from matplotlib import image as mpl_image
import numpy as np
import pytest
from scipy import stats

from shallow_jax import defaults
from shallow_jax import figures
from shallow_jax import publish
from shallow_jax import report
from shallow_jax import report_tables
from shallow_jax import results as results_lib
from shallow_jax import storage

ROOT = pathlib.Path(__file__).parents[1]
CNN = dict(name='cnn', features=(8,), kernel_size=3, dense=(16,))
SHALLOW = dict(name='shallow', hidden=2000, bottleneck=32)

# Test errors by network and seed; the mimic's 2 against 4 on labels, 6 by cross-entropy, 1.
ERRORS = {
  'cnn': [2.0, 2.0],
  'teacher': [1.0],
  'shallow': [5.0, 6.0, 7.0],
  'shallow_l2': [3.0, 4.0, 5.0],
  'mimic_labelled': [2.0, 3.0, 4.0],
  'mimic': [1.0, 2.0, 3.0],
  'hard_labels_l2': [1.0, 1.5, 2.0],
}


def make_config(splits=(), **changes):
  networks = dict(
    cnn=dict(model=CNN, seeds=2, label='CNN'),
    teacher=dict(ensemble=('cnn',), label='ensemble of 2 CNNs'),
    shallow=dict(model=SHALLOW, seeds=3, paper=dict(value=6.4, source='Table 9')),
    shallow_l2=dict(model=SHALLOW, seeds=3, loss=dict(name='label_l2'), label='labels, L2'),
    mimic_labelled=mimic(),
    mimic=mimic(examples=('train', 'unlabelled')),
    hard_labels_l2=mimic(examples=('train', 'unlabelled'), loss=dict(name='hard_l2')),
  )
  settings = dict(
    attribution=('shallow', 'shallow_l2', 'mimic_labelled', 'mimic', 'teacher'),
    headline='mimic',
    teacher='teacher',
  )
  config = dict(
    name='Toy',
    splits=splits,
    data=dict(name='digits'),
    networks=networks,
    report=settings | changes,
  )
  return defaults.plain(defaults.complete(config))


def mimic(**changes):
  entry = dict(model=SHALLOW, seeds=3, targets='teacher', loss=dict(name='logit_l2'))
  return entry | changes


def make_result(name, entry, errors, **changes):
  """A result.json as evaluate.evaluate writes it."""
  is_ensemble, is_student = bool(entry['ensemble']), entry['targets'] == 'teacher'
  finite = [error for error in errors if error is not None]
  mean = math.fsum(finite) / len(finite) if finite else None
  std = float(np.std(finite, ddof=1)) if len(finite) > 1 else None
  summary = {'mean': mean, 'std': std, 'values': errors}
  weights = 2_000 if name == 'cnn' else 4_000 if is_ensemble else 86_000
  trials = [
    {
      'settings': {'optimizer.learning_rate': rate},
      'status': 'trained',
      'collapsed': False,
      'validation': {'error': error, 'loss': 1.0},
      'step': 100,
      'wall_seconds': 2.0,
    }
    for rate, error in ((0.003, 7.0), (0.01, 4.0))
  ]
  return {
    'kind': 'ensemble' if is_ensemble else 'model',
    'label': 'as it was',
    'architecture': '8c-p-16fc' if name == 'cnn' else '2 x 8c-p-16fc' if is_ensemble else '32L-2k',
    'depth': 1 if weights == 86_000 else 2,
    'parameters': {'weights': weights, 'biases': 100},
    'hidden_units': 2032,
    'multiply_adds': weights,
    'bytes': 4 * (weights + 100),
    'targets': 'mean logits of cnn' if is_ensemble else entry['targets'],
    'loss': None if is_ensemble else entry['loss']['name'],
    'seeds': list(range(len(errors))),
    'metrics': {
      'validation': {'error': summary, 'per': None},
      'test': {'error': summary, 'per': None},
    },
    'fidelity': {'agreement': 97.0, 'logit_r2': 0.9, 'kl': 0.1} if is_student else None,
    'calibration_error': 1.5,
    'latency_ms': {'1': 0.12, '32': 0.5, '256': 2.25},
    'flags': {} if is_ensemble else {'collapsed': [], 'diverged': []},
    'search': None if is_ensemble or name == 'cnn' else {'chosen': 1, 'trials': trials},
    'paper': None,
    'provenance': {
      'device': '1 x cpu',
      'config_hash': 'ab' * 32,
      'commit': 'c' * 40,
      'command': '/somewhere/shallow_jax/main.py --config=configs/toy.py --workdir=runs/toy',
      'date': '2026-01-02',
      'wall_seconds': 10.0,
      'examples_per_second': None if is_ensemble else 5000.0,
      'versions': {'jax': '0.12.0'},
    },
    'weights': ['00' * 32 for _ in errors],
  } | changes


def write_run(config, folder, errors=ERRORS, changes=None):
  """Result files and curves of the networks in `errors`."""
  (folder / 'data').mkdir(parents=True)
  notes = {'source': 'a test', 'leaks_dropped': {'validation': 0, 'test': 2}}
  storage.write_json(folder / 'data' / 'notes.json', notes)
  splits = {'train': {'count': 400}, 'test': {'count': 1000}}
  described = {'name': 'digits', 'class_names': list('0123456789'), 'splits': splits}
  storage.write_json(folder / 'data' / 'fingerprint.json', described)
  for name, values in errors.items():
    result = make_result(name, config['networks'][name], values, **(changes or {}).get(name, {}))
    (folder / name).mkdir()
    storage.write_json(folder / name / 'result.json', result)
    for seed, value in enumerate(values if name != 'teacher' else []):
      write_curve(folder / name / f'seed-{seed}', value)


def write_curve(folder, final):
  folder.mkdir(parents=True)
  lines = [{'step': 100, 'kind': 'train', 'loss': 2.0}]
  lines += [
    {'step': step, 'kind': 'validation', 'error': None if final is None else final + 1000 / step}
    for step in (100, 200, 400)
  ]
  if final is None:
    lines[-1]['nonfinite'] = True
  (folder / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A finished run: its workdir and what write returned."""
  workdir = tmp_path_factory.mktemp('run')
  config = make_config()
  write_run(config, workdir)
  return workdir, report.write(config, workdir)


def test_a_networks_entry_is_its_result_without_weights_and_versions(run):
  workdir, results = run
  assert results['schema_version'] == 1
  assert results['versions'] == {'jax': '0.12.0'}
  assert results['order'] == list(ERRORS)
  expected = storage.read_json(workdir / 'mimic' / 'result.json')
  expected.pop('weights')
  expected['provenance'].pop('versions')
  assert results['networks']['mimic'] == expected | {'label': 'mimic'}


def test_what_write_returns_is_what_the_file_holds(run):
  workdir, results = run
  assert storage.read_json(workdir / 'report' / 'results.json') == results


def test_label_and_paper_are_those_of_the_config(run):
  _, results = run
  assert results['networks']['shallow_l2']['label'] == 'labels, L2'
  assert results['networks']['shallow']['paper'] == {'value': 6.4, 'source': 'Table 9'}


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


def test_controls_are_compared_too_and_one_that_is_ahead_is_named(run):
  workdir, results = run
  found = results['comparison']['hard_labels_l2']
  assert found['role'] == 'control'
  assert found['difference'] == pytest.approx(-0.5)
  assert found['own_gap_closed'] == pytest.approx((4 - 1.5) / (4 - 1))
  text = (workdir / 'report' / 'report.md').read_text()
  assert 'Fewer errors than mimic on average: hard_labels_l2.' in text
  assert 'cnn' not in results['comparison']  # another architecture


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


def test_a_negative_contribution_is_shown_as_such(tmp_path):
  config = make_config()
  write_run(config, tmp_path, ERRORS | {'mimic': [4.0, 5.0, 6.0]})
  results = results_lib.collect(config, tmp_path)
  assert results['attribution'][2]['change'] == pytest.approx(-2)
  assert 'the unlabelled data −2.00 (−40 %)' in report.markdown(results)
  assert '1.00 points more' in report.headline(results)


def test_the_report_has_the_table_the_data_and_the_pictures(run):
  workdir, _ = run
  text = (workdir / 'report' / 'report.md').read_text()
  (row,) = [line for line in text.splitlines() if line.startswith('| mimic  ')][:1]
  cells = [cell.strip() for cell in row.strip('|').split('|')]
  assert cells == [
    'mimic',
    '32L-2k',
    '1',
    '86k',
    '22',
    'teacher',
    'logit_l2',
    '3',
    '2.00 ± 1.00',
    '–',
    '97.0',
    '1.5',
    '0.12 / 0.50 / 2.25',
  ]
  assert 'examples: train 400, test 1,000' in text
  assert 'Leaks dropped: 2 of test, 0 of validation.' in text
  assert '| 6.4 (Table 9) |' in text
  assert 'optimizer.learning_rate | 0.003: 7.00; 0.01: 4.00' in text
  assert '`python -m shallow_jax.main --config=configs/toy.py --workdir=runs/toy`' in text
  for path in re.findall(r'!\[.*?\]\((.*?)\)', text):
    assert (workdir / 'report' / path).exists()


def test_every_picture_can_be_read_and_is_not_blank(run):
  workdir, _ = run
  paths = sorted((workdir / 'report' / 'figures').glob('*.png'))
  assert [path.name for path in paths] == [
    'attribution.png',
    'error_against_parameters.png',
    'error_by_network.png',
    'learning_curves.png',
  ]
  for path in paths:
    pixels = mpl_image.imread(path)
    assert pixels.shape[1] >= 900 and pixels[..., :3].std() > 0.05


def test_networks_without_a_result_are_left_out(tmp_path):
  config = make_config()
  write_run(config, tmp_path, {'shallow': [5.0, 6.0, 7.0]})
  results = report.write(config, tmp_path)
  assert list(results['networks']) == ['shallow']
  assert results['comparison'] == {} and results['attribution'] == []
  pictures = {path.name for path in (tmp_path / 'report' / 'figures').iterdir()}
  assert pictures == {'error_by_network.png', 'learning_curves.png'}


def test_a_collapsed_seed_does_not_hide_the_others(tmp_path):
  config = make_config()
  errors = ERRORS | {'mimic': [1.0, 90.0, 2.0], 'shallow': [89.0, 90.0, 88.0]}
  write_run(config, tmp_path, errors)
  pictures = figures.draw(results_lib.collect(config, tmp_path), [tmp_path])
  assert len(pictures) == 4  # how they look is for the eye


def test_nothing_finished_is_a_report_that_says_so(tmp_path):
  results = report.write(make_config(), tmp_path)
  assert report_tables.short_table(results) == 'No network is finished yet.'
  assert not list((tmp_path / 'report' / 'figures').iterdir())


def test_a_picture_of_an_earlier_report_goes(tmp_path):
  folder = tmp_path / 'report' / 'figures'
  folder.mkdir(parents=True)
  (folder / 'attribution.png').write_bytes(b'old')
  report.write(make_config(), tmp_path)
  assert not list(folder.iterdir())


def test_diverged_and_collapsed_seeds_are_flagged(tmp_path):
  config = make_config()
  changes = {
    'mimic': {'flags': {'collapsed': [1], 'diverged': [2]}},
    'shallow': {
      'flags': {'collapsed': [], 'diverged': [0, 1, 2]},
      'latency_ms': None,
      'calibration_error': None,
    },
  }
  errors = ERRORS | {'mimic': [1.0, 90.0, None], 'shallow': [None, None, None]}
  write_run(config, tmp_path, errors, changes)
  results = results_lib.collect(config, tmp_path)
  assert results['networks']['mimic']['metrics']['test']['error']['values'] == [1.0, 90.0, None]
  text = report_tables.short_table(results)
  assert 'collapsed: 1; diverged: 2' in text
  assert re.search(r'\| shallow .*\| diverged +\|.*\| diverged: 0, 1, 2', text)
  assert results['attribution'] == []
  steps, curves = results_lib.read_curves([tmp_path / 'mimic'])
  assert steps.tolist() == [100, 200, 400] and curves.shape == (2, 3)


def test_one_seed_has_no_spread(tmp_path):
  config = make_config()
  write_run(config, tmp_path, {name: values[:1] for name, values in ERRORS.items()})
  results = results_lib.collect(config, tmp_path)
  assert results['networks']['mimic']['metrics']['test']['error']['std'] is None
  assert results['comparison']['shallow_l2']['in_standard_errors'] is None
  assert 'standard errors' not in report.headline(results)


def test_a_seed_that_stopped_early_keeps_its_last_error(tmp_path):
  write_curve(tmp_path / 'seed-0', 1.0)
  write_curve(tmp_path / 'seed-1', 1.0)
  path = tmp_path / 'seed-1' / 'metrics.jsonl'
  path.write_text(''.join(path.read_text().splitlines(keepends=True)[:3]))
  _, curves = results_lib.read_curves([tmp_path])
  assert curves.tolist() == [[11.0, 6.0, 3.5], [11.0, 6.0, 6.0]]


def shifted(amount):
  return {name: [error + amount for error in errors] for name, errors in ERRORS.items()}


@pytest.fixture(scope='module')
def pooled(tmp_path_factory):
  """Two splits: the second a point harder for all, two for the net on labels."""
  workdir = tmp_path_factory.mktemp('splits')
  config = make_config(splits=(0, 1))
  write_run(config, workdir / 'split-0', changes={'mimic': {'flags': {'collapsed': [2]}}})
  harder = shifted(1.0) | {'shallow_l2': [5.0, 6.0, 7.0]}
  write_run(config, workdir / 'split-1', harder, {'mimic': {'flags': {'collapsed': []}}})
  return report.write(config, workdir)


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
  assert '| 2 × 3 ' in report_tables.short_table(pooled)


def test_splits_are_compared_in_pairs(pooled):
  found = pooled['comparison']['shallow_l2']
  paired = stats.ttest_rel([4.0, 6.0], [2.0, 3.0])
  assert found['difference'] == pytest.approx(2.5)
  assert found['in_standard_errors'] == pytest.approx(paired.statistic)
  assert found['degrees_of_freedom'] == paired.df
  assert 'paired by split, 2 splits' in report.headline(pooled)


def test_a_split_that_lacks_a_network_is_left_out_of_its_comparison(tmp_path):
  config = make_config(splits=(0, 1))
  write_run(config, tmp_path / 'split-0')
  write_run(config, tmp_path / 'split-1', {'shallow_l2': [9.0, 9.0, 9.0]})
  found = results_lib.collect(config, tmp_path)['comparison']['shallow_l2']
  assert found['difference'] == pytest.approx(2.0)
  assert found['paired_splits'] is None


def test_splits_of_different_networks_are_refused(tmp_path):
  config = make_config(splits=(0, 1))
  write_run(config, tmp_path / 'split-0')
  write_run(config, tmp_path / 'split-1', changes={'mimic': {'architecture': '8k'}})
  with pytest.raises(results_lib.ResultsError, match='splits differ in architecture: "32L'):
    results_lib.collect(config, tmp_path)


def test_a_baseline_of_another_architecture_is_compared(tmp_path):
  config = make_config(baseline='cnn')
  write_run(config, tmp_path)
  results = results_lib.collect(config, tmp_path)
  assert results['comparison']['cnn']['difference'] == pytest.approx(0.0)
  assert results['roles']['best_on_labels'] == 'shallow_l2'


@pytest.mark.parametrize(
  'count, text',
  [
    (950, '950'),
    (9999, '9,999'),
    (66_560, '66.6k'),
    (999_900, '1M'),
    (3_930_000, '3.93M'),
    (173_700_000, '174M'),
    (3.7e9, '3.7G'),
  ],
)
def test_counts_are_short(count, text):
  assert figures.short_count(count) == text


def test_publishing_copies_the_report_and_rewrites_the_table_alone(run, tmp_path):
  workdir, results = run
  readme = tmp_path / 'README.md'
  readme.write_text(f'before\n{publish.BEGIN}\nold\n{publish.END}\nafter\n')
  publish.publish(workdir, 'toy', tmp_path)
  assert storage.read_json(tmp_path / 'results' / 'toy' / 'results.json') == results
  assert len(list((tmp_path / 'results' / 'toy').glob('*.png'))) == 4
  lines = readme.read_text().splitlines()
  assert (lines[0], lines[-1]) == ('before', 'after') and 'old' not in lines
  assert '\n'.join(lines[2:-2]) == publish.published_table(publish.published(tmp_path))
  (row,) = [line for line in lines if line.startswith('| shallow  ')]
  cells = [cell.strip() for cell in row.strip('|').split('|')]
  assert cells == [
    'shallow',
    '[toy](results/toy/results.json)',
    '″',
    '6.4 (Table 9)',
    '6.00 ± 1.00 (3)',
    '″',
    '″',
    "the paper's, within 2 standard deviations",
  ]
  (row,) = [line for line in lines if line.startswith('| mimic  ')]
  assert '2.00 points below shallow_l2 (2.4 standard errors, over seeds)' in row


def test_publishing_without_a_place_for_the_table_changes_nothing(run, tmp_path):
  workdir, _ = run
  (tmp_path / 'README.md').write_text('no marks')
  with pytest.raises(publish.PublishError, match='expected the lines'):
    publish.publish(workdir, 'toy', tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == ['README.md']


def test_the_command_says_in_one_line_what_is_missing(tmp_path):
  command = [sys.executable, '-m', 'shallow_jax.publish', tmp_path, 'toy']
  found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
  assert found.returncode == 1
  assert found.stderr.count('\n') == 1 and 'results.json: could not be read' in found.stderr


@pytest.mark.skipif(not (publish.CONFIGS / 'README.md').exists(), reason='nothing published yet')
def test_the_published_table_is_that_of_the_published_results():
  text = (publish.CONFIGS / 'README.md').read_text()
  _, _, rest = text.partition(publish.BEGIN + '\n')
  table, _, _ = rest.partition('\n' + publish.END)
  assert table == publish.published_table(publish.published())
