"""Sweeps: what a config may ask for, which numbers are drawn, and that they are drawn."""

import io
import json

from made_up import runs
from matplotlib import image as mpl_image
import pytest

from shallow_jax.report import curves as curves_lib
from shallow_jax.report import page
from shallow_jax.report import results as results_lib
from shallow_jax.report.figures import style
from shallow_jax.report.figures import sweeps as sweep_figures
from shallow_jax.runtime import storage
from shallow_jax.settings import defaults
from shallow_jax.settings import sweep_settings

WIDTHS = (500, 1000, 4000)


def networks():
  """Mimics and nets on labels of three widths, and two teachers of theirs."""
  found = {}
  for width in WIDTHS:
    model = dict(name='shallow', hidden=width, bottleneck=32)
    found[f'labels_{width}'] = dict(model=model, seeds=3)
    found[f'mimic_{width}'] = runs.mimic(model=model, examples=('train', 'unlabelled'))
  found['taught_by_one'] = runs.mimic(targets='cnn/1')
  return found


ERRORS = {
  'cnn': [2.0, 4.0],
  'teacher': [1.0],
  **{f'labels_{width}': [error, error + 2] for width, error in zip(WIDTHS, (7, 6, 5), strict=True)},
  **{f'mimic_{width}': [error, error + 2] for width, error in zip(WIDTHS, (7, 5, 2), strict=True)},
  'taught_by_one': [5.0],
}


def series():
  return {
    'mimic': [f'mimic_{width}' for width in WIDTHS],
    'on labels': [f'labels_{width}' for width in WIDTHS],
  }


def config_of(**sweep):
  return runs.make_config(more=networks(), attribution=(), headline='', sweeps=dict(some=sweep))


def completed(**sweep):
  (found,) = config_of(**sweep)['report']['sweeps']
  return found


def collected(workdir, errors=ERRORS, **sweep):
  """The collected results of a run with one sweep."""
  config = config_of(**sweep)
  if not (workdir / 'data').exists():
    changes = {f'{kind}_{width}': sized(width) for kind in ('mimic', 'labels') for width in WIDTHS}
    runs.write_run(config, workdir, errors, changes)
  return results_lib.collect(config, workdir)


def sized(width):
  return {'parameters': {'weights': 100 * width, 'biases': 1}}


def points_of(results):
  (sweep,) = results['sweeps']
  return {
    each['label']: [(point['x'], point['mean']) for point in each['points']]
    for each in sweep['series']
  }


def test_defaults_are_filled_in():
  found = completed(x='model.hidden', series=series())
  assert set(found) == set(sweep_settings.SWEEP)
  assert (found['kind'], found['title'], found['y']) == ('points', 'some', 'error')


def test_order_survives_a_config_file_and_json():
  """ConfigDict and JSON sort keys; the report draws in the order that was written."""
  sweeps = {
    name: dict(x='model.hidden', series={'b': ['mimic_500'], 'a': ['labels_500']})
    for name in ('second', 'first')
  }
  config = runs.make_config(more=networks(), attribution=(), headline='', sweeps=sweeps)
  again = json.loads(json.dumps(config, sort_keys=True))
  for found in (config, defaults.plain(defaults.complete(again))):
    assert [sweep['name'] for sweep in found['report']['sweeps']] == ['second', 'first']
    for sweep in found['report']['sweeps']:
      assert [label for label, _ in sweep['series']] == ['b', 'a']


def test_networks_and_points_may_stand_without_labels():
  found = completed(x='model.hidden', series=('mimic_500',), paper_points=((1, 2), (3, 4)))
  assert found['series'] == (('', ('mimic_500',)),)
  assert found['paper_points'] == (('', ((1, 2), (3, 4))),)


POINTS = dict(x='model.hidden', series=('mimic_500', 'mimic_1000'))


@pytest.mark.parametrize(
  'sweep, message',
  [
    (dict(POINTS, titel='x'), "sweeps.some: unknown key 'titel'; did you mean 'title'?"),
    (dict(POINTS, kind='point'), "some.kind: unknown 'point'; did you mean 'points'?"),
    (dict(POINTS, series=('mimic_501',)), "some.series: unknown 'mimic_501'; did you mean"),
    (dict(POINTS, series={'a': 'mimic_500'}), "some.series.a: expected a tuple, not 'mimic_500'"),
    (dict(POINTS, series=()), 'some.series: expected 1 to 7 lines, not 0'),
    (
      dict(POINTS, series={str(i): ('mimic_500',) for i in range(8)}),
      'some.series: expected 1 to 7 lines, not 8',
    ),
    (dict(POINTS, references=('tutor',)), "some.references: unknown 'tutor'"),
    (dict(POINTS, x='model.width'), "some.x: mimic_500's model.width is None; expected a number"),
    (dict(POINTS, x='targets'), "some.x: mimic_500's targets is 'teacher'; expected a number"),
    (
      dict(POINTS, x='model.dropout', log_x=True),
      'is 0.0, which has no place on a logarithmic axis; expected it in `references`',
    ),
    (dict(POINTS, y='loss'), "some.y: unknown 'loss'"),
    (
      dict(POINTS, x='teacher_accuracy', series=('labels_500',)),
      "some.x: labels_500's teacher_accuracy: it learns from no network",
    ),
    (
      dict(POINTS, x='transfer_size', series=('teacher',)),
      "some.x: teacher's transfer_size: an ensemble is not trained",
    ),
    (dict(kind='curves', x='minutes', series=('cnn',)), "some.x: unknown 'minutes'"),
    (
      dict(kind='curves', x='steps', series=('teacher',)),
      "some.series: 'teacher' is not trained, it has no curve",
    ),
    (
      dict(kind='curves', x='steps', y='loss', series=('cnn',), references=('teacher',)),
      'some.references: expected none where y is loss',
    ),
    (dict(POINTS, paper_points=(1, 2)), 'some.paper_points: expected (x, y), not 1'),
    (dict(POINTS, factor=dict(of='a')), "some.factor: unknown 'a'"),
    (
      dict(kind='bars', series=('cnn',), factor=dict(of='')),
      'some.factor: expected kind points and y error',
    ),
  ],
)
def test_what_can_not_be_drawn_is_refused_in_a_line(sweep, message):
  with pytest.raises(defaults.ConfigError) as caught:
    config_of(**sweep)
  assert message in str(caught.value) and '\n' not in str(caught.value)
  assert str(caught.value).startswith('config.report.sweeps.some')


@pytest.mark.parametrize('name', ['', 'a/b', 'a b'])
def test_a_name_that_is_no_file_name_is_refused(name):
  with pytest.raises(defaults.ConfigError, match='is no name for a figure'):
    runs.make_config(sweeps={name: POINTS})


def test_a_name_that_is_there_twice_is_refused():
  with pytest.raises(defaults.ConfigError, match="'some' is there twice"):
    runs.make_config(more=networks(), sweeps=2 * [dict(POINTS, name='some')])


def test_x_is_a_number_of_the_entry_and_y_the_mean_error(tmp_path):
  results = collected(tmp_path, x='model.hidden', series=series())
  assert points_of(results) == {
    'mimic': [(500, 8.0), (1000, 6.0), (4000, 3.0)],
    'on labels': [(500, 8.0), (1000, 7.0), (4000, 6.0)],
  }
  (sweep,) = results['sweeps']
  assert sweep['series'][0]['points'][0]['std'] == pytest.approx(2**0.5)
  assert sweep['x_label'] == 'hidden'


@pytest.mark.parametrize(
  'x, expected',
  [
    ('parameters', 50_000),
    ('hidden_units', 2032),
    ('latency_ms.256', 2.25),
    ('transfer_size', 400 + 297),
    ('teacher_accuracy', 99.0),
    ('optimizer.learning_rate', 10 / max(500, 32_000 / 32)),
  ],
)
def test_x_is_measured(tmp_path, x, expected):
  results = collected(tmp_path, x=x, series=('mimic_500', 'mimic_1000'))
  assert points_of(results)[''][0] == (pytest.approx(expected), 8.0)


def test_a_student_of_one_seed_stands_over_that_seeds_accuracy(tmp_path):
  sweep = dict(x='teacher_accuracy', y='accuracy', series=('mimic_500', 'taught_by_one'))
  assert points_of(collected(tmp_path, **sweep)) == {'': [(99.0, 92.0), (96.0, 95.0)]}


def test_what_has_no_result_is_left_out_and_one_point_is_no_figure(tmp_path):
  sweep = dict(x='model.hidden', series=series(), references=('teacher',))
  few = {name: ERRORS[name] for name in ('mimic_500', 'labels_4000')}
  results = collected(tmp_path / 'few', few | {'mimic_1000': [None, None]}, **sweep)
  assert points_of(results) == {'mimic': [(500, 8.0)], 'on labels': [(4000, 6.0)]}
  assert results['sweeps'][0]['references'] == []
  assert collected(tmp_path / 'one', {'mimic_500': [5.0]}, **sweep)['sweeps'] == []


def test_the_factor_in_size_by_hand(tmp_path):
  """On labels 6 at 4000: the mimic has that at 1000. 8 at 500: so has the mimic's smallest."""
  sweep = dict(x='parameters', log_x=True, series=series())
  sweep['factor'] = dict(of='mimic', against=('on labels',))
  results = collected(tmp_path, **sweep)
  found = {each['network']: each for each in results['sweeps'][0]['factors']}
  assert found['labels_4000']['factor'] == pytest.approx(1000 / 4000)
  assert found['labels_4000']['bound'] == ''
  assert found['labels_500']['factor'] == 1.0 and found['labels_500']['bound'] == 'at most'
  assert found['labels_1000']['factor'] == pytest.approx(0.5 * 2**0.5)  # 7 lies between 8 and 6
  text = page.markdown(results)
  (row,) = [line for line in text.splitlines() if line.startswith('| on labels | labels_4000')]
  assert '| 400k ' in row and '| 6.00 ' in row and '| 0.25 ' in row
  other = collected(tmp_path, **(sweep | {'factor': dict(of='on labels', against=('mimic',))}))
  assert '> 1 (not reached within the measured sizes)' in page.markdown(other)


def drawn(results, workdir):
  (sweep,) = results['sweeps']
  data = style.png(sweep_figures.figure(results, sweep, [workdir]))
  return mpl_image.imread(io.BytesIO(data))[..., :3]


@pytest.mark.parametrize(
  'sweep',
  [
    dict(x='model.hidden', log_x=True, series=series(), references=('teacher', 'cnn')),
    dict(x='teacher_accuracy', y='accuracy', diagonal=True, series=('mimic_500', 'taught_by_one')),
    dict(kind='bars', series=series(), references=('teacher',)),
    dict(kind='curves', x='epochs', series=('mimic_500', 'labels_500'), references=('teacher',)),
    dict(kind='curves', x='steps', y='loss', series=('mimic_500', 'labels_500')),
  ],
)
def test_each_kind_is_drawn(sweep, tmp_path):
  pixels = drawn(collected(tmp_path, **sweep), tmp_path)
  assert pixels.shape[1] >= 900 and pixels.std() > 0.05


def test_the_papers_points_are_drawn_in_grey(tmp_path):
  sweep = dict(x='model.hidden', series=('mimic_500', 'mimic_1000'))
  without = drawn(collected(tmp_path, **sweep), tmp_path)
  results = collected(tmp_path, paper_points=((600, 4.0), (900, 4.5)), **sweep)
  pixels = drawn(results, tmp_path)
  level = int(style.PAPER[1:3], 16) / 255
  count = [(abs(each - level) < 0.004).all(axis=-1).sum() for each in (without, pixels)]
  assert count[1] > count[0] + 100


def test_a_collapsed_seed_does_not_press_the_others_together(tmp_path):
  errors = ERRORS | {'mimic_1000': [5.0, 90.0]}
  sweep = dict(x='model.hidden', series=series())
  assert drawn(collected(tmp_path, errors, **sweep), tmp_path).std() > 0.05


def test_curves_over_seconds_need_to_know_how_long_a_step_took(tmp_path):
  """write_curve's last step is 400."""
  sweep = dict(kind='curves', x='seconds', series=('mimic_500', 'labels_500'))
  results = collected(tmp_path, **sweep)
  assert sweep_figures.figure(results, results['sweeps'][0], [tmp_path]) is None
  for name in ('mimic_500', 'labels_500'):
    for seed, seconds in ((0, 100.0), (1, 300.0)):
      path = tmp_path / name / f'seed-{seed}' / 'trained.json'
      storage.write_json(path, {'wall_seconds': seconds, 'step': 100})
  assert curves_lib.seconds_per_step([tmp_path / 'mimic_500'], [0, 1]) == pytest.approx(200 / 400)
  assert drawn(results, tmp_path).std() > 0.05


def test_an_epoch_is_a_pass_over_its_own_training_set(tmp_path):
  sweep = dict(kind='curves', x='epochs', series=('mimic_500', 'labels_500'))
  (found,) = collected(tmp_path, **sweep)['sweeps']
  (points,) = [each['points'] for each in found['series']]
  assert [point['x'] for point in points] == pytest.approx([64 / 697, 64 / 400])


def test_a_report_shows_a_sweep_once_under_its_title(tmp_path):
  config = config_of(kind='bars', title='Losses', series=series())
  runs.write_run(config, tmp_path, {name: ERRORS[name] for name in ('mimic_500', 'cnn')})
  results = results_lib.collect(config, tmp_path)
  assert 'Losses' not in page.markdown(results)  # one network is no figure
  (tmp_path / 'labels_500').mkdir()
  entry = config['networks']['labels_500']
  result = runs.make_result('labels_500', entry, [7.0, 9.0])
  storage.write_json(tmp_path / 'labels_500' / 'result.json', result)
  page.write(config, tmp_path)
  text = (tmp_path / 'report' / 'report.md').read_text()
  assert text.count('sweep_some.png') == 1
  assert '### Losses\n\n![sweep some](figures/sweep_some.png)' in text


def test_each_series_has_a_colour_of_its_own_and_kinds_keep_theirs():
  kinds = ['on labels', 'on labels', 'taught by a network', '', 'ensemble', 'on labels', '']
  found = style.styles(kinds)
  assert len(set(found)) == len({color for color, _ in found}) == len(kinds)
  assert found[0] == style.KINDS['on labels']
  assert found[2] == style.KINDS['taught by a network']
  assert len(style.SERIES) == sweep_settings.MAX_LINES
