"""A report: what its tables and sentences say, and that its pictures are there."""

import re

from made_up import runs
from matplotlib import image as mpl_image
from matplotlib import text as mpl_text
import pytest
from scipy import stats

from shallow_jax.report import curves as curves_lib
from shallow_jax.report import page
from shallow_jax.report import results as results_lib
from shallow_jax.report import tables
from shallow_jax.report.figures import networks as network_figures
from shallow_jax.runtime import storage

ERRORS = runs.ERRORS


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A finished run: its workdir and what write returned."""
  workdir = tmp_path_factory.mktemp('run')
  config = runs.make_config()
  runs.write_run(config, workdir)
  return workdir, page.write(config, workdir)


def test_what_write_returns_is_what_the_file_holds(run):
  workdir, results = run
  assert storage.read_record(workdir / 'report' / 'results.json') == results


def test_controls_are_compared_too_and_one_that_is_ahead_is_named(run):
  workdir, results = run
  found = results['comparison']['hard_labels_l2']
  assert found['role'] == 'control'
  assert found['difference'] == pytest.approx(-0.5)
  assert found['own_gap_closed'] == pytest.approx((4 - 1.5) / (4 - 1))
  text = (workdir / 'report' / 'report.md').read_text()
  assert 'Fewer errors than mimic on average: hard_labels_l2.' in text
  assert 'cnn' not in results['comparison']  # another architecture


def test_a_negative_contribution_is_shown_as_such(tmp_path):
  config = runs.make_config()
  runs.write_run(config, tmp_path, ERRORS | {'mimic': [4.0, 5.0, 6.0]})
  results = results_lib.collect(config, tmp_path)
  assert results['attribution'][2]['change'] == pytest.approx(-2)
  assert 'the unlabelled data −2.00 (−40 %)' in page.markdown(results)
  assert '1.00 points more' in page.headline(results)


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


def rows_of(text, heading):
  """The cells of the table under a heading, by its first column."""
  _, _, rest = text.partition(heading)
  lines = [line for line in rest.partition('\n#')[0].splitlines() if line.startswith('|')]
  cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
  return {row[0]: dict(zip(cells[0], row, strict=True)) for row in cells[2:]}


def test_rows_of_the_paper_stand_beside_ours(run):
  workdir, _ = run
  text = (workdir / 'report' / 'report.md').read_text()
  rows = rows_of(text, '## Against the paper')
  assert set(rows) == {'shallow'}  # the others are no rows of the paper
  low, high = stats.binomtest(60, 1000).proportion_ci(method='wilson')
  assert rows['shallow'] == {
    'row': 'shallow',
    'architecture': '32L-2k',
    'paper %': '6.4 (Table 9)',
    'ours % (seeds)': '6.00 ± 1.00 (3)',
    '95 % interval': f'{100 * low:.2f} – {100 * high:.2f}',
    'weights by formula': '86k',
    'paper: parameters': '~70k',
    'hidden units': '2,032',
    'paper: hidden units': '~2k',
    'device': '1 x cpu',
    'command': '`python -m shallow_jax.main --config=configs/toy.py --workdir=runs/toy`',
    'time, all seeds': '10 s',
  }
  assert '![against the paper](figures/against_the_paper.png)' in text


def test_the_note_stands_under_the_title(tmp_path):
  config = runs.make_config(note='Smaller nets.')
  runs.write_run(config, tmp_path, {'shallow': [5.0, 6.0, 7.0]})
  results = results_lib.collect(config, tmp_path)
  assert page.markdown(results).startswith('# Toy\n\nSmaller nets.\n\nData: digits')


def test_results_of_before_have_no_section_on_the_paper_or_mcnemar(tmp_path):
  config = runs.make_config(more={'shallow': dict(model=runs.SHALLOW, seeds=3)})
  runs.write_run(config, tmp_path)
  text = page.markdown(results_lib.collect(config, tmp_path))
  assert 'Against the paper' not in text and 'McNemar' not in text and 'wrong alone' not in text


def test_every_picture_can_be_read_and_is_not_blank(run):
  workdir, _ = run
  paths = sorted((workdir / 'report' / 'figures').glob('*.png'))
  assert [path.name for path in paths] == [
    'against_the_paper.png',
    'attribution.png',
    'error_against_parameters.png',
    'error_by_network.png',
    'learning_curves.png',
  ]
  for path in paths:
    pixels = mpl_image.imread(path)
    assert pixels.shape[1] >= 900 and pixels[..., :3].std() > 0.05


def test_networks_without_a_result_are_left_out(tmp_path):
  config = runs.make_config()
  runs.write_run(config, tmp_path, {'shallow': [5.0, 6.0, 7.0]})
  results = page.write(config, tmp_path)
  assert list(results['networks']) == ['shallow']
  assert results['comparison'] == {} and results['attribution'] == []
  pictures = {path.name for path in (tmp_path / 'report' / 'figures').iterdir()}
  assert pictures == {'against_the_paper.png', 'error_by_network.png', 'learning_curves.png'}


def test_a_collapsed_seed_does_not_hide_the_others(tmp_path):
  config = runs.make_config()
  errors = ERRORS | {'mimic': [1.0, 90.0, 2.0], 'shallow': [89.0, 90.0, 88.0]}
  runs.write_run(config, tmp_path, errors)
  pictures = page.pictures(results_lib.collect(config, tmp_path), [tmp_path])
  assert len(pictures) == 5  # how they look is for the eye


@pytest.mark.parametrize('best', [4.0, 2.01, 5.99])
def test_three_points_have_names_that_hide_nothing(best, tmp_path):
  config = runs.make_config()
  runs.write_run(config, tmp_path, ERRORS | {'shallow_l2': [best] * 3})
  figure = network_figures.error_against_parameters(results_lib.collect(config, tmp_path))
  figure.draw_without_rendering()
  (axes,) = figure.axes
  names = [text for text in axes.texts if text.get_text()]
  assert {text.get_text() for text in names} == {'mimic', 'labels, L2', 'ensemble of 2 CNNs'}
  boxes = [mpl_text.Text.get_window_extent(text) for text in names]
  points = [axes.transData.transform(line.get_xydata()[0]) for line in axes.lines]
  for i, box in enumerate(boxes):
    assert box.count_overlaps(boxes[:i]) == 0
    assert not any(box.contains(*point) for point in points)
    inside = axes.get_window_extent()
    assert inside.contains(*box.min) and inside.contains(*box.max)


def test_nothing_finished_is_a_report_that_says_so(tmp_path):
  results = page.write(runs.make_config(), tmp_path)
  assert tables.short_table(results) == 'No network is finished yet.'
  assert not list((tmp_path / 'report' / 'figures').iterdir())


def test_a_picture_of_an_earlier_report_goes(tmp_path):
  folder = tmp_path / 'report' / 'figures'
  folder.mkdir(parents=True)
  (folder / 'attribution.png').write_bytes(b'old')
  page.write(runs.make_config(), tmp_path)
  assert not list(folder.iterdir())


def test_diverged_and_collapsed_seeds_are_flagged(tmp_path):
  config = runs.make_config()
  changes = {
    'mimic': {'flags': {'collapsed': [1], 'diverged': [2]}},
    'shallow': {
      'flags': {'collapsed': [], 'diverged': [0, 1, 2]},
      'latency_ms': None,
      'calibration_error': None,
    },
  }
  errors = ERRORS | {'mimic': [1.0, 90.0, None], 'shallow': [None, None, None]}
  runs.write_run(config, tmp_path, errors, changes)
  results = results_lib.collect(config, tmp_path)
  assert results['networks']['mimic']['metrics']['test']['error']['values'] == [1.0, 90.0, None]
  text = tables.short_table(results)
  assert 'collapsed: 1; diverged: 2' in text
  assert re.search(r'\| shallow .*\| diverged +\|.*\| diverged: 0, 1, 2', text)
  assert results['attribution'] == []
  steps, errors = curves_lib.read([tmp_path / 'mimic'], range(3))
  assert steps.tolist() == [100, 200, 400] and errors.shape == (2, 3)


def test_a_seed_that_stopped_early_keeps_its_last_error(tmp_path):
  runs.write_curve(tmp_path / 'seed-0', 1.0)
  runs.write_curve(tmp_path / 'seed-1', 1.0)
  path = tmp_path / 'seed-1' / 'metrics.jsonl'
  path.write_text(''.join(path.read_text().splitlines(keepends=True)[:4]))
  _, errors = curves_lib.read([tmp_path], [0, 1])
  assert errors.tolist() == [[11.0, 6.0, 3.5], [11.0, 6.0, 6.0]]


def test_a_line_that_a_power_cut_left_and_seeds_of_before_are_not_drawn(tmp_path):
  for seed, value in enumerate((1.0, 2.0, 50.0)):
    runs.write_curve(tmp_path / f'seed-{seed}', value)
  path = tmp_path / 'seed-1' / 'metrics.jsonl'
  path.write_text(path.read_text()[:-9])
  _, errors = curves_lib.read([tmp_path], [0, 1])
  assert errors.tolist() == [[11.0, 6.0, 3.5], [12.0, 7.0, 7.0]]
