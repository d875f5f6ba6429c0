"""The speech configs: sizes by the paper's formulas, fair comparisons, figures, and a smoke run."""

import math

from made_up import timit_tree
import numpy as np
import pytest
from support import shipped

from shallow_jax import models
from shallow_jax.models import size as size_lib
from shallow_jax.pipeline import run as run_lib
from shallow_jax.settings import defaults
from shallow_jax.speech.recordings import timit
from shallow_jax.training import optimizer

TIMIT = (15, 123)
SPEAKERS = [
  f'dr{region}-{sex}{"abcdefgh"[region - 1] * 3}0' for region in range(1, 9) for sex in 'fm'
]
TONES = {'h#': 150, 'iy': 700, 's': 5000, 'aa': 1800}  # Hz


def config_of(name, variant=''):
  return defaults.plain(defaults.complete(shipped.load(name).get_config(variant)))


@pytest.fixture(scope='module')
def table():
  return config_of('timit_table1')


@pytest.fixture(scope='module')
def figures():
  return config_of('timit_figures')


def weights(entry):
  return size_lib.size(models.build(entry['model'], 183), TIMIT)['parameters']['weights']


@pytest.mark.parametrize(
  ('network', 'expected'),
  [
    ('snn_8k', 16_224_000),
    ('snn_50k', 101_400_000),
    ('snn_400k', 173_661_250),
    ('dnn', 12_056_000),
    ('mimic_8k', 3_925_250),
    ('mimic_400k', 173_661_250),
  ],
)
def test_weights_are_the_papers_by_formula(table, network, expected):
  assert weights(table['networks'][network]) == expected


def test_the_ensemble_has_nine_cnns_of_about_its_size(table):
  networks = table['networks']
  members = networks['ecnn']['ensemble']
  assert sum(networks[name]['seeds'] for name in members) == 9
  assert len({networks[name]['model']['kernel_size'] for name in members}) == 3
  total = sum(networks[name]['seeds'] * weights(networks[name]) for name in members)
  assert total == pytest.approx(125e6, rel=0.15)  # Table 1: ~125M


def test_the_papers_figures_are_those_of_table_1(table):
  networks = table['networks'].items()
  found = {name: entry['paper']['value'] for name, entry in networks if entry['paper']}
  on_labels = dict(snn_8k=23.1, snn_50k=23.0, snn_400k=23.6, dnn=21.9, cnn=19.5, ecnn=18.5)
  assert found == on_labels | dict(mimic_8k=21.6, mimic_400k=20.0)


@pytest.mark.parametrize('variant', ['sample', 'arctic', 'librispeech', 'sample,smoke'])
def test_other_corpora_are_not_compared_with_the_paper(variant):
  assert all(e['paper'] is None for e in config_of('timit_table1', variant)['networks'].values())


@pytest.mark.parametrize('variant', ['', 'sample'])
def test_mimics_are_not_regularised_and_labels_nets_of_the_paper_are(variant):
  networks = config_of('timit_table1', variant)['networks']
  for name in ('snn_8k', 'snn_50k', 'snn_400k', 'dnn', 'cnn', 'cnn_5', 'cnn_11'):
    assert networks[name]['model']['dropout'] > 0
    assert networks[name]['targets'] == 'labels'
  for name in ('mimic_8k', 'mimic_400k'):
    assert networks[name]['model']['dropout'] == networks[name]['model']['input_dropout'] == 0
    assert networks[name]['optimizer']['weight_decay'] == 0
    assert networks[name]['targets'] == 'ecnn'


@pytest.mark.parametrize('variant', ['', 'sample'])
def test_a_control_differs_from_the_mimic_in_what_its_name_says(variant):
  networks = config_of('timit_table1', variant)['networks']
  mimic = networks['mimic_8k']
  allowed = {
    'control': {'targets', 'loss.name', 'search'},
    'control_dropout': {'targets', 'loss.name', 'search', 'model.dropout', 'model.input_dropout'},
    'control_smooth': {'targets', 'loss.name', 'search', 'loss.label_smoothing'},
    'control_l2': {'targets', 'loss.name'},
    'control_hard_l2': {'loss.name'},
  }
  for name, keys in allowed.items():
    assert different(mimic, networks[name]) - {'label', 'paper'} == keys


def different(a, b, prefix=''):
  """The dotted keys at which two entries differ; of a search the key alone."""
  keys = {key for key in a if a[key] != b[key]}
  deeper = {key for key in keys if key in ('model', 'loss', 'optimizer')}
  found = [different(a[key], b[key], f'{key}.') for key in deeper]
  return {prefix + key for key in keys - deeper}.union(*found)


@pytest.mark.parametrize('variant', ['', 'sample'])
@pytest.mark.parametrize('name', ['timit_table1', 'timit_figures'])
def test_each_net_tries_as_many_rates_and_wide_ones_are_slow(name, variant):
  for entry in config_of(name, variant)['networks'].values():
    if entry['search']:
      rates = entry['search']['optimizer']['learning_rate']
      assert len(set(rates)) == 2
    elif entry['model']:
      rates = [entry['optimizer']['learning_rate']]
    else:
      continue
    if entry['loss']['name'].endswith('l2'):
      assert max(rates) * entry['model']['hidden'] <= optimizer.STABLE_RATE


@pytest.mark.parametrize('name', ['timit_table1', 'timit_figures'])
def test_an_epoch_is_once_through_the_frames_of_train(name):
  module = shipped.load(name)
  for size, frames in ((module.FULL, 1_124_823), (module.SAMPLE, 28_784)):
    assert size.recipe.epoch * size.recipe.batch_size == pytest.approx(frames, rel=0.01)


@pytest.mark.parametrize('name', ['timit_table1', 'timit_figures'])
def test_the_sample_is_run_in_all_its_rotations(name):
  assert tuple(config_of(name, 'sample')['splits']) == tuple(range(timit.NUM_ROTATIONS))
  assert not config_of(name, 'sample,smoke')['splits']
  assert not config_of(name)['splits']


def test_the_papers_points_lie_at_the_parameters_of_our_nets(figures):
  sweep = figures['report']['sweeps'][0]
  ours = {
    label: [weights(figures['networks'][name]) for name in names]
    for label, names in sweep['series']
  }
  papers = {label: [x for x, _ in points] for label, points in sweep['paper_points']}
  assert papers == ours
  assert [len(points) for points in papers.values()] == [8, 9, 14]


def test_no_paper_points_beside_smaller_nets():
  assert all(
    not s['paper_points'] for s in config_of('timit_figures', 'sample')['report']['sweeps']
  )


def test_figure_2_is_at_a_constant_rate_without_selection(figures):
  names = [name for name in figures['networks'] if name.startswith('long_')]
  assert len(names) == 4
  for name in names:
    entry = figures['networks'][name]
    assert entry['optimizer']['schedule'] == 'constant'
    assert (entry['select'], entry['search']) == ('last', {})
    assert entry['num_steps'] == 14 * 2200
    assert entry['model']['hidden'] == 8000


@pytest.mark.parametrize('variant', ['', 'sample'])
def test_figure_3_has_five_teachers_and_two_widths(variant):
  config = config_of('timit_figures', variant)
  sweep = config['report']['sweeps'][2]
  assert len(sweep['series']) == 2
  for _, names in sweep['series']:
    followers = [config['networks'][name] for name in names]
    assert len({entry['targets'] for entry in followers}) == 5
    assert len({entry['model']['hidden'] for entry in followers}) == 1


@pytest.fixture(scope='module')
def sample_folder(tmp_path_factory):
  """The sample's layout: 16 speakers who say tones, each phone its own."""
  folder = tmp_path_factory.mktemp('sample')
  rng = np.random.default_rng(0)
  for speaker in SPEAKERS:
    (folder / speaker).mkdir()
    for sentence in range(8):
      phones = ['h#', *rng.permutation(list(TONES)[1:]), 'h#']
      write_tones(folder / speaker / f'sx{sentence}', phones, rng)
  return folder


def write_tones(path, phones, rng, length=1600):
  time = np.arange(length) / 16_000
  tones = [np.sin(2 * math.pi * TONES[phone] * time) for phone in phones]
  sound = 8000 * np.concatenate(tones) + rng.normal(0, 300, length * len(phones))
  path.with_suffix('.wav').write_bytes(timit_tree.riff(sound.astype(np.int16)))
  rows = [f'{i * length} {(i + 1) * length} {phone}\n' for i, phone in enumerate(phones)]
  path.with_suffix('.phn').write_text(''.join(rows))


@pytest.mark.slow
@pytest.mark.parametrize('name', ['timit_table1', 'timit_figures'])
def test_the_smoke_variant_learns(name, tmp_path, sample_folder):
  """In 60 steps each network beats the commonest state, 2 of 15 of the frames."""
  config = shipped.load(name).get_config('sample,smoke')
  config.data.update(data_dir=str(sample_folder), cache_dir=str(tmp_path / 'cache'))
  results = run_lib.run(config, tmp_path / 'run')
  for network, entry in results['networks'].items():
    if not network.startswith('teacher_') and not network.startswith('follows_'):
      assert entry['metrics']['test']['error']['mean'] < 75, network
      assert entry['metrics']['test']['per']['mean'] < 100, network
