"""Every key of a config is of one class, and changed by itself it does what its class promises.

A key that is new needs a class (settings/keys.py) and a value to try here.
"""

import copy
import functools
import pathlib

import pytest

from shallow_jax import data as data_lib
from shallow_jax import models
from shallow_jax.pipeline import graph
from shallow_jax.pipeline import run as run_lib
from shallow_jax.settings import defaults
from shallow_jax.settings import fingerprints
from shallow_jax.settings import key_classes
from shallow_jax.settings import keys

DIGITS = dict(
  name='digits',
  num_train=60,
  num_validation=20,
  num_unlabelled=40,
  num_test=30,
  preprocessing=dict(name='gcn_zca'),
  sets=dict(
    some=dict(of=('train',), size=50),
    munged=dict(of=('train', 'unlabelled'), munge=dict(size=20)),
  ),
)
SCHEDULED = dict(schedule='step')
NETWORKS = dict(
  net=dict(model=dict(name='cnn'), seeds=2, optimizer=SCHEDULED),
  other=dict(model=dict(name='cnn')),
  single=dict(model=dict(name='single_layer', features=10), fit=dict(num_patches=100)),
  mimic=dict(
    model=dict(name='shallow', hidden=50),
    targets='net',
    loss=dict(name='kl'),
    examples=('train', 'unlabelled', 'some', 'munged'),
    paper=dict(value=1.0),
  ),
)

# Another value of every key; of a network's for `net`, unless the place is named.
NETWORK = {
  'model': dict(name='dnn'),
  'ensemble': None,  # see below: instead of a model
  'fit': None,  # FIT, below
  'seeds': 3,
  'seeds_together': True,
  'init': 'other',
  'targets': 'net/0',
  'examples': ('train', 'unlabelled'),
  'views': 2,
  'augment': None,  # of images: tests/pipeline/test_stored_views.py
  'loss.name': 'label_l2',
  'loss.temperature': 2.0,
  'loss.normalize': False,
  'loss.label_smoothing': 0.1,
  'loss.label_weight': 0.1,
  'optimizer.learning_rate': 0.02,
  'optimizer.momentum': 0.8,
  'optimizer.nesterov': True,
  'optimizer.warmup_steps': 100,
  'optimizer.schedule': 'cosine',
  'optimizer.decay_at': (0.5,),
  'optimizer.decay_factor': 0.2,
  'optimizer.plateau_evaluations': 4,
  'optimizer.weight_decay': 0.1,
  'optimizer.clip_norm': 1.0,
  'search': dict(batch_size=(32, 64)),
  'compute_dtype': 'bfloat16',
  'batch_size': 32,
  'num_steps': 900,
  'steps_per_call': 10,
  'evaluate_every_steps': 50,
  'checkpoint_every_steps': 500,
  'stop_after_evaluations': 3,
  'select': 'loss',
  'label': 'another',
  'paper': dict(value=3.0),
}
AT_MIMIC = (
  *('targets', 'examples', 'loss.name', 'loss.temperature', 'loss.normalize', 'loss.label_weight'),
)
WITH = {  # what must change along for the value to be valid
  'loss.name': {'loss.name': 'logit_l2'},
  'loss.normalize': {'loss.name': 'logit_l2', 'loss.normalize': False},
}

EXPERIMENT = {
  'name': 'another',
  'splits': (0, 1),
  'order': ('single', 'other', 'net', 'mimic'),
  'logits.shard_rows': 1024,
  'logits.batch_size': 128,
  'logits.dtype': 'float16',
  'logits.keep_members': True,
  'parallel.compile': 'pmap',
  'parallel.model': 2,
  'evaluation.latency_batches': (2,),
  'evaluation.decoding.acoustic': (1.0,),
  'evaluation.decoding.lm': (1.0,),
  'evaluation.decoding.insertion': (1.0,),
  'report.attribution': ('net', 'mimic'),
  'report.baseline': 'net',
  'report.headline': 'mimic',
  'report.teacher': 'net',
  'report.note': 'another',
  'report.sweeps': dict(two=dict(kind='bars', series=('net', 'mimic'))),
}
OWN = ('data', 'networks')  # whose keys stand in tables of their own

DATA = {
  'split_seed': 1,
  'num_train': 59,
  'num_validation': 19,
  'num_unlabelled': 39,
  'num_test': 29,
  'preprocessing.name': 'per_image',
  'preprocessing.zca_epsilon': 0.2,
  'sets.some.of': ('unlabelled', 'train'),
  'sets.some.without_class': 3,
  'sets.some.size': 30,
  'sets.some.munge': dict(size=9),
  'sets.munged.munge.size': 19,
  'sets.munged.munge.swap_probability': 0.5,
  'sets.munged.munge.local_variance': 2.0,
  'sets.munged.munge.seed': 1,
}
# Keys of data that lie in files: what they do is seen where these are read (tests/data).
FILES = {
  'weights': (
    *('num_validation', 'split_seed', 'pool', 'near_duplicate_correlation', 'max_train'),
    *('max_pool', 'augment', 'path', 'skip_bad', 'max_utterances', 'pool_dir', 'phone_map'),
    *('split_file', 'alignment_dir'),
  ),
  'figures': ('max_test',),
  'presentation': (),
  'operation': ('data_dir', 'cache_dir', 'pool_dir'),  # the other CIFAR's is where `pool` says
}

MODELS = dict(
  hidden=7,
  dropout=0.3,
  input_dropout=0.3,
  output_init_scale=0.5,
  bottleneck=3,
  features=5,
  kernel_size=2,
  convs_per_stage=2,
  pooling='stochastic',
  local=(3,),
  dense=(5,),
  batch_norm=None,  # the other
  patch_size=4,
  pool_size=2,
  pool_stride=1,
)


@functools.cache
def described():
  """The fingerprint of the digits."""
  return load({})


def load(changes):
  config = set_all(dict(data=copy.deepcopy(DIGITS), networks=NETWORKS), changes)
  return data_lib.load(defaults.complete(config)['data'].to_dict()).fingerprint()


def set_all(config, changes):
  """The config with values at dotted places."""
  for place, value in changes.items():
    *path, last = place.split('.')
    at = config
    for part in path:
      at = at.setdefault(part, {})
    at[last] = value
  return config


def found(changes, data=None):
  """The fingerprints of all networks, with changes at dotted places of the config."""
  config = set_all(dict(data=copy.deepcopy(DIGITS), networks=copy.deepcopy(NETWORKS)), changes)
  full = defaults.plain(defaults.complete(config))
  data = described() if data is None else data
  networks, logits = full['networks'], full['logits']
  return {name: graph.fingerprint(networks, name, data, logits) for name in networks}


def differing(changes, data=None):
  """The lines in which they differ from those without."""
  before, after = found({}), found(changes, data)
  return [line for name in before for line in fingerprints.differences(before[name], after[name])]


def test_every_key_has_a_class_and_a_value_to_try():
  every = [keys.EXPERIMENT, keys.NETWORK, keys.FIT, keys.PREPROCESSING, keys.DERIVED_SET]
  every += [keys.MUNGE, keys.PAPER, *keys.DATA.values()]
  for group in every:
    assert isinstance(group, key_classes.Keys)
    assert set(group) == set(group.classes)
    assert set(group.classes.values()) <= set(key_classes.CLASSES)
  assert {name for name, _, _ in keys.NETWORK.leaves()} == set(NETWORK)
  assert {name for name, _, _ in keys.EXPERIMENT.leaves()} - set(OWN) == set(EXPERIMENT)
  sets = {f'sets.some.{key}' for key in keys.DERIVED_SET}
  munges = {f'sets.munged.munge.{key}' for key in keys.MUNGE}
  preprocessing = {f'preprocessing.{key}' for key in keys.PREPROCESSING}
  assert set(DATA) == {*keys.DATA['digits'], *sets, *munges, *preprocessing}
  assert {key for name in models.MODELS for key in models.arguments(name)} == set(MODELS)


def test_every_key_of_files_has_its_class():
  for name in keys.DATA.keys() - {'digits'}:
    for key, key_class in keys.DATA[name].classes.items():
      assert key in FILES[key_class], f'{name}.{key} is {key_class}'


@pytest.mark.parametrize(
  'key', [key for key in NETWORK if key not in ('ensemble', 'fit', 'augment')]
)
def test_a_key_of_a_network(key):
  place = f'networks.{"mimic" if key in AT_MIMIC else "net"}'
  changes = {f'{place}.{name}': value for name, value in WITH.get(key, {key: NETWORK[key]}).items()}
  lines = differing(changes)
  (key_class,) = (found for name, found, _ in keys.NETWORK.leaves() if name == key)
  if key_class == 'weights':
    assert any(f'entry.{key}' in line for line in lines), lines
  else:
    assert lines == []
    assert found(changes) == found({})


def test_an_ensembles_networks_and_their_seeds_are_in_its_fingerprint():
  def ensemble(names, **changes):
    return found({'networks.both': dict(ensemble=names)} | changes)['both']

  before = ensemble(('net', 'other'))
  assert fingerprints.differences(before, ensemble(('net',)))
  assert fingerprints.differences(before, ensemble(('net', 'other'), **{'networks.net.seeds': 3}))


@pytest.mark.parametrize('key', keys.FIT)
def test_a_key_of_a_fit(key):
  value = dict(num_patches=99, svm_c=0.1)[key]
  (line,) = differing({f'networks.single.fit.{key}': value})
  assert line.startswith(f'entry.fit.{key}')


@pytest.mark.parametrize('key', keys.PAPER)
def test_a_key_of_the_papers(key):
  value = 2.0 if key == 'value' else 'another'
  assert found({f'networks.mimic.paper.{key}': value}) == found({})


@pytest.mark.parametrize('key', EXPERIMENT)
def test_a_key_of_an_experiment(key):
  (key_class,) = (found for name, found, _ in keys.EXPERIMENT.leaves() if name == key)
  changes = {key: EXPERIMENT[key]}
  if key == 'splits':
    config = defaults.complete(dict(data=DIGITS, networks=NETWORKS, **changes))
    runs = run_lib.split_runs(defaults.plain(config), pathlib.Path())
    assert [split['data']['split_seed'] for _, split in runs] == [0, 1]
  elif key_class == 'weights':
    assert differing(changes) == ['logits_dtype: "float32", now "float16"']
  else:
    assert found(changes) == found({})


def test_the_keys_that_evaluate_again():
  parts = ('acoustic', 'insertion', 'lm')
  decoding = {f'evaluation.decoding.{part}' for part in parts}
  assert set(keys.EXPERIMENT.of_class('figures')) == {'evaluation.latency_batches'} | decoding
  assert keys.NETWORK.of_class('figures') == ('seeds',)


@pytest.mark.parametrize('key', DATA)
def test_a_key_of_the_data(key):
  data = load({f'data.{key}': DATA[key]})
  lines = differing({}, data)
  if keys.DATA['digits'].classes.get(key) == 'figures':
    assert lines == []
    assert data['splits']['test'] != described()['splits']['test']
  else:
    assert any('data.' in line for line in lines)


@pytest.mark.parametrize(
  ('name', 'key'), [(name, key) for name in models.MODELS for key in models.arguments(name)]
)
def test_an_argument_of_a_model(name, key):
  default, value = models.arguments(name)[key], MODELS[key]
  if value is None:
    value = not default
  if isinstance(default, tuple) and not isinstance(value, tuple):
    value = (value,)
  before, after = (
    graph.fingerprint(
      defaults.plain(
        defaults.complete(dict(data=DIGITS, networks=dict(net=dict(model=dict(model, name=name)))))
      )['networks'],
      'net',
      described(),
      {},
    )
    for model in ({}, {key: value})
  )
  lines = fingerprints.differences(before, after)
  assert any(line.startswith(f'entry.model.{key}') for line in lines)
