"""What a config may say: defaults filled in, everything else refused in one line."""

import copy
import pathlib

import numpy as np
import pytest

from shallow_jax import models
from shallow_jax.pipeline import run as run_lib
from shallow_jax.settings import defaults
from shallow_jax.settings import keys
from shallow_jax.settings import ranges
from shallow_jax.training import optimizer

CNN = dict(model=dict(name='cnn'))


def config(*, experiment=(), data=(), **network):
  """Returns a config of one network, `net`, with changes to each level."""
  return dict(
    data=dict(name='digits') | dict(data), networks=dict(net=CNN | network), **dict(experiment)
  )


def completed(**changes):
  return defaults.plain(defaults.complete(config(**changes)))


def refused(given):
  """Returns the line with which a config is refused."""
  with pytest.raises(defaults.ConfigError) as caught:
    defaults.complete(given)
  assert '\n' not in str(caught.value)
  return str(caught.value)


def test_every_key_has_its_default():
  found = completed()
  assert set(found) == set(keys.EXPERIMENT)
  assert set(found['networks']['net']) == set(keys.NETWORK)
  assert set(found['data']) == {*keys.DATA['digits'], 'name', 'preprocessing', 'sets'}
  assert found['logits'] == keys.EXPERIMENT['logits']
  assert found['networks']['net']['model']['dense'] == (1000,)


def test_changes_lie_over_the_defaults_at_each_level():
  sets = dict(some=dict(of=('train',), munge=dict(size=7)))
  found = completed(
    experiment=dict(logits=dict(shard_rows=128)),
    data=dict(num_train=300, sets=sets),
    optimizer=dict(momentum=0.5),
    model=dict(name='shallow', hidden=50),
    paper=dict(value=15),
  )
  assert found['logits'] == keys.EXPERIMENT['logits'] | dict(shard_rows=128)
  assert found['data']['num_train'] == 300
  assert found['data']['num_validation'] == 100
  assert found['data']['sets']['some']['munge'] == keys.MUNGE | dict(size=7)
  network = found['networks']['net']
  assert network['optimizer']['momentum'] == 0.5
  assert network['optimizer']['schedule'] == 'cosine'
  assert (network['model']['hidden'], network['model']['bottleneck']) == (50, 0)
  assert network['paper'] == keys.PAPER | dict(value=15.0)


def test_completing_changes_nothing_of_what_was_given():
  given = config(search=dict(optimizer=dict(learning_rate=[0.1, 0.2])))
  before = copy.deepcopy(given)
  completed_config = defaults.complete(given)
  completed_config.networks.net.seeds = 7
  assert given == before
  assert keys.NETWORK['seeds'] == 1


UNKNOWN_KEYS = [
  (config(experiment=dict(logit=1)), 'config', 'logit', 'logits'),
  (config(experiment=dict(logits=dict(shard_row=1))), 'config.logits', 'shard_row', 'shard_rows'),
  (config(experiment=dict(report=dict(headlin=''))), 'config.report', 'headlin', 'headline'),
  (
    config(experiment=dict(evaluation=dict(latency_batch=(1,)))),
    'config.evaluation',
    'latency_batch',
    'latency_batches',
  ),
  (config(data=dict(num_trane=1)), 'config.data', 'num_trane', 'num_train'),
  (
    config(data=dict(sets=dict(a=dict(without_clas=1)))),
    'config.data.sets.a',
    'without_clas',
    'without_class',
  ),
  (
    config(data=dict(sets=dict(a=dict(munge=dict(sise=1))))),
    'config.data.sets.a.munge',
    'sise',
    'size',
  ),
  (config(target='labels'), 'config.networks.net', 'target', 'targets'),
  (
    config(model=dict(name='shallow', bottlenek=1)),
    'config.networks.net.model',
    'bottlenek',
    'bottleneck',
  ),
  (config(loss=dict(temprature=1.0)), 'config.networks.net.loss', 'temprature', 'temperature'),
  (
    config(optimizer=dict(learning_rat=0.1)),
    'config.networks.net.optimizer',
    'learning_rat',
    'learning_rate',
  ),
  (config(search=dict(optimiser={})), 'config.networks.net.search', 'optimiser', 'optimizer'),
  (
    config(search=dict(optimizer=dict(momentun=(0.9,)))),
    'config.networks.net.search.optimizer',
    'momentun',
    'momentum',
  ),
  (config(paper=dict(valu=1.0)), 'config.networks.net.paper', 'valu', 'value'),
]


@pytest.mark.parametrize(
  ('given', 'where', 'key', 'meant'), UNKNOWN_KEYS, ids=[row[1] for row in UNKNOWN_KEYS]
)
def test_an_unknown_key_is_refused_with_the_one_that_was_meant(given, where, key, meant):
  assert refused(given) == f'{where}: unknown key {key!r}; did you mean {meant!r}?'


def test_an_unknown_key_unlike_any_is_refused_with_those_there_are():
  message = refused(config(experiment=dict(logits=dict(zzz=1))))
  assert message.endswith("'zzz'; expected one of shard_rows, batch_size, dtype, keep_members")


FOLDERS = [
  ('cifar10', 'data_dir'),
  ('cifar10', 'pool_dir'),
  ('arrays', 'path'),
  ('speech', 'data_dir'),
  ('speech', 'cache_dir'),
  ('speech', 'pool_dir'),
  ('speech', 'phone_map'),
  ('speech', 'split_file'),
  ('speech', 'alignment_dir'),
]


@pytest.mark.parametrize('address', ['gs://bucket/data', 's3://bucket', 'file:///data'])
@pytest.mark.parametrize(('name', 'key'), FOLDERS)
def test_data_at_an_address_is_refused(name, key, address):
  assert refused(config(data={'name': name, key: address})) == (
    f'config.data.{key}: expected a folder or file of this machine, not {address!r}; '
    'a bucket must be mounted as a folder first (launch/README.md)'
  )


@pytest.mark.parametrize('path', ['', '.', '/mnt/a b', 'runs/digits:full/a', 'a:b'])
def test_a_path_with_a_colon_is_no_address(path):
  assert defaults.local_path(path, 'workdir') == pathlib.Path(path)


@pytest.mark.parametrize('address', ['gs://b/run', pathlib.Path('gs://b/run'), 'file:///run'])
def test_a_run_at_an_address_is_refused_before_anything_is_written(address, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(defaults.ConfigError, match=f'workdir: expected a folder.*{str(address)!r}'):
    run_lib.run(config(), address)
  assert list(tmp_path.iterdir()) == []


WRONG_NAMES = [
  (config(data=dict(name='digit')), "config.data.name: unknown 'digit'; did you mean 'digits'?"),
  (dict(networks={}), "config.data.name: unknown ''; expected one of digits, cifar10, arrays, "),
  (config(model=dict(name='shalow')), "net.model.name: unknown 'shalow'; did you mean 'shallow'?"),
  (config(model=dict(hidden=3)), "net.model.name: unknown ''; expected one of dnn, shallow, cnn"),
  (config(model=dict(name=3)), 'net.model.name: unknown 3; expected one of dnn, shallow, cnn'),
  (
    config(loss=dict(name='logits_l2')),
    "net.loss.name: unknown 'logits_l2'; did you mean 'logit_l2'",
  ),
  (
    config(optimizer=dict(schedule='cosin')),
    "net.optimizer.schedule: unknown 'cosin'; did you mean 'cosine'?",
  ),
  (config(select='eror'), "net.select: unknown 'eror'; did you mean 'error'?"),
]


@pytest.mark.parametrize(('given', 'message'), WRONG_NAMES, ids=[row[1] for row in WRONG_NAMES])
def test_an_unknown_name_is_refused(given, message):
  assert message in refused(given)


WRONG_TYPES = [
  (config(experiment=dict(name=3)), 'config.name: expected str, not 3'),
  (config(experiment=dict(logits=3)), 'config.logits: expected a dict, not 3'),
  (config(experiment=dict(splits=3)), 'config.splits: expected tuple, not 3'),
  (config() | dict(data='digits'), "config.data: expected a dict, not 'digits'"),
  (config(data=dict(sets=['a'])), "config.data.sets: expected a dict, not ['a']"),
  (config(data=dict(sets=dict(a='train'))), "config.data.sets.a: expected a dict, not 'train'"),
  (config(data=dict(num_train='4')), "config.data.num_train: expected int, not '4'"),
  (config() | dict(networks=['net']), "config.networks: expected a dict, not ['net']"),
  (config() | dict(networks=dict(net=None)), 'config.networks.net: expected a dict, not None'),
  (config(model='cnn'), "config.networks.net.model: expected a dict, not 'cnn'"),
  (config(model=dict(name='cnn', features=3)), 'net.model.features: expected tuple, not 3'),
  (config(model=dict(name='cnn', batch_norm=1)), 'net.model.batch_norm: expected bool, not 1'),
  (config(seeds=2.0), 'config.networks.net.seeds: expected int, not 2.0'),
  (config(seeds=True), 'config.networks.net.seeds: expected int, not True'),
  (config(examples='train'), "config.networks.net.examples: expected tuple, not 'train'"),
  (config(loss='kl'), "config.networks.net.loss: expected a dict, not 'kl'"),
  (config(optimizer=dict(nesterov=1)), 'net.optimizer.nesterov: expected bool, not 1'),
  (
    config(optimizer=dict(learning_rate='0.1')),
    "net.optimizer.learning_rate: expected float, not '0.1'",
  ),
  (config(optimizer=dict(momentum=None)), 'net.optimizer.momentum: expected float, not None'),
  (config(paper=15.1), 'config.networks.net.paper: expected a dict, not 15.1'),
  (config(search=0.1), 'config.networks.net.search: expected a dict, not 0.1'),
]


@pytest.mark.parametrize(('given', 'message'), WRONG_TYPES, ids=[row[1] for row in WRONG_TYPES])
def test_a_wrong_type_is_refused(given, message):
  assert refused(given).endswith(message)


def test_whole_numbers_are_good_for_real_ones_and_lists_for_tuples():
  network = completed(
    optimizer=dict(learning_rate=1, momentum=np.float64(0.5)),
    model=dict(name='cnn', features=[3, 4]),
  )['networks']['net']
  for key, value in (('learning_rate', 1.0), ('momentum', 0.5)):
    assert network['optimizer'][key] == value
    assert type(network['optimizer'][key]) is float
  assert network['model']['features'] == (3, 4)


@pytest.mark.parametrize('entry', [{}, CNN | dict(ensemble=('a',))])
def test_a_network_is_a_model_or_an_ensemble(entry):
  message = refused(dict(data=dict(name='digits'), networks=dict(a=CNN, net=entry)))
  assert message == 'config.networks.net: expected exactly one of model and ensemble'


@pytest.mark.parametrize(
  'key',
  [
    'seeds',
    'views',
    'batch_size',
    'num_steps',
    'steps_per_call',
    'evaluate_every_steps',
    'checkpoint_every_steps',
  ],
)
def test_counts_are_at_least_1(key):
  assert refused(config(**{key: 0})) == f'config.networks.net.{key}: expected at least 1, not 0'


@pytest.mark.parametrize('key', ['num_steps', 'evaluate_every_steps', 'checkpoint_every_steps'])
def test_steps_are_multiples_of_those_of_a_call(key):
  steps = dict(num_steps=40, evaluate_every_steps=20, checkpoint_every_steps=20, steps_per_call=20)
  completed(**steps)
  message = refused(config(**steps | {key: 50}))
  assert message == f'config.networks.net.{key}: 50 is not a multiple of steps_per_call, 20'


@pytest.mark.parametrize(
  ('changes', 'where'),
  [
    (dict(loss=dict(temperature=0.0)), 'loss.temperature'),
    (dict(loss=dict(label_smoothing=-0.1)), 'loss.label_smoothing'),
    (dict(loss=dict(label_weight=1.5)), 'loss.label_weight'),
    (dict(optimizer=dict(learning_rate=-0.1)), 'optimizer.learning_rate'),
    (dict(optimizer=dict(warmup_steps=-1)), 'optimizer.warmup_steps'),
    (dict(model=dict(name='shallow', hidden=0)), 'model.hidden'),
    (dict(model=dict(name='shallow', hidden=-5)), 'model.hidden'),
    (dict(model=dict(name='shallow', dropout=1.5)), 'model.dropout'),
  ],
)
def test_numbers_out_of_range_are_refused(changes, where):
  assert refused(config(**changes)).startswith(f'config.networks.net.{where}: expected')


OUT_OF_RANGE = [
  (dict(stop_after_evaluations=-1), 'stop_after_evaluations: expected 0 or more, not -1'),
  (
    dict(optimizer=dict(plateau_evaluations=0)),
    'optimizer.plateau_evaluations: expected at least 1, not 0',
  ),
  (dict(optimizer=dict(momentum=1.0)), 'optimizer.momentum: expected 0 to less than 1, not 1.0'),
  (dict(optimizer=dict(decay_at=(0.5, 1.5))), 'optimizer.decay_at: expected 0 to 1, not 1.5'),
  (dict(optimizer=dict(decay_at=('a',))), "optimizer.decay_at: expected a number, not 'a'"),
  (
    dict(optimizer=dict(learning_rate=float('nan'))),
    'optimizer.learning_rate: expected 0 or more, not nan',
  ),
  (dict(optimizer=dict(clip_norm=1e999)), 'optimizer.clip_norm: expected 0 or more, not inf'),
  (dict(model=dict(name='cnn', dense=(10, 0))), 'model.dense: expected at least 1, not 0'),
  (dict(model=dict(name='dnn', hidden=(5.5,))), 'model.hidden: expected at least 1, not 5.5'),
]


@pytest.mark.parametrize(('changes', 'message'), OUT_OF_RANGE)
def test_a_networks_numbers_out_of_range_are_refused(changes, message):
  assert refused(config(**changes)) == f'config.networks.net.{message}'


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    (dict(logits=dict(shard_rows=0)), 'logits.shard_rows: expected at least 1, not 0'),
    (dict(logits=dict(batch_size=-1)), 'logits.batch_size: expected at least 1, not -1'),
    (dict(logits=dict(dtype='bfloat16')), "logits.dtype: unknown 'bfloat16'; did you mean 'float"),
    (
      dict(evaluation=dict(latency_batches=(1, 0))),
      'evaluation.latency_batches: expected at least 1, not 0',
    ),
    (dict(splits=(0, -1)), 'splits: expected 0 or more, not -1'),
  ],
)
def test_an_experiments_numbers_and_names_out_of_range_are_refused(given, message):
  assert refused(config(experiment=given)).startswith(f'config.{message}')


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    (dict(num_test=0), 'num_test: expected at least 1, not 0'),
    (dict(split_seed=-1), 'split_seed: expected 0 or more, not -1'),
    (dict(preprocessing=dict(zca_epsilon=0.0)), 'zca_epsilon: expected more than 0, not 0.0'),
    (dict(sets=dict(a=dict(size=-5))), 'sets.a.size: expected 0 or more, not -5'),
    (
      dict(sets=dict(a=dict(munge=dict(swap_probability=2.0)))),
      'sets.a.munge.swap_probability: expected 0 to 1, not 2.0',
    ),
  ],
)
def test_the_datas_numbers_out_of_range_are_refused(given, message):
  assert refused(config(data=given)).endswith(message)


def test_every_number_has_a_range():
  """A key is in the table, or its value is a name, a truth or a dict."""
  everything = [keys.EXPERIMENT, keys.NETWORK, keys.FIT, keys.PREPROCESSING, keys.DERIVED_SET]
  everything += [keys.MUNGE, *keys.DATA.values()]
  leaves = [(name, default) for each in everything for name, _, default in each.leaves()]
  for name in models.MODELS:
    leaves += models.arguments(name).items()
  numbers = {
    name.rpartition('.')[2]
    for name, default in leaves
    if type(default) in (int, float)
    or (isinstance(default, tuple) and default and type(default[0]) in (int, float))
  }
  assert numbers - set(ranges.RANGES) == set()
  assert {'shard_rows', 'crop_padding', 'decay_at', 'features', 'without_class'} < numbers


@pytest.mark.parametrize(
  ('loss', 'message'),
  [
    (
      dict(name='hard_cross_entropy', label_smoothing=0.3),
      "label_smoothing: 0.3 does nothing in 'hard_cross_entropy', it is of cross_entropy; "
      'expected 0.0',
    ),
    (dict(name='logit_l2', temperature=4.0), "temperature: 4.0 does nothing in 'logit_l2', it is"),
    (dict(name='kl', normalize=False), "normalize: False does nothing in 'kl', it is of logit_l2"),
  ],
)
def test_a_setting_that_its_loss_does_not_use_is_refused(loss, message):
  assert refused(config(loss=loss)).startswith(f'config.networks.net.loss.{message}')


@pytest.mark.parametrize(
  ('changes', 'key'),
  [
    (dict(search=dict(loss=dict(temperature=(1.0, 4.0)))), 'loss'),
    (dict(search=dict(loss=dict(name=('kl', 'logit_l2')))), 'loss'),
    (dict(search=dict(targets=('a', 'b'))), 'targets'),
    (dict(search=dict(examples=(('train',), ('more',))), loss=dict(name='logit_l2')), 'examples'),
  ],
)
def test_losses_of_different_scales_are_not_selected_by(changes, key):
  assert refused(config(select='loss', **changes)) == (
    f"config.networks.net.search.{key}: select='loss' would compare losses of different scales; "
    "expected select='error'"
  )
  completed(**changes)


@pytest.mark.parametrize(
  ('key', 'values'),
  [('seeds', (1, 2)), ('select', ('error', 'loss')), ('label', ('a',)), ('ensemble', (('a',),))],
)
def test_what_trials_have_in_common_is_not_searched(key, values):
  assert refused(config(search={key: values})) == (
    f'config.networks.net.search.{key}: it is not searched over, all trials have one'
  )


@pytest.mark.parametrize('name', ['labels', 'a/0', 'a.b', ''])
def test_a_networks_name_can_be_a_target_and_a_folder(name):
  """`labels` means the labels, `a/0` a seed of a network, and a dot is a step into the config."""
  assert 'config.networks' in refused(dict(data=dict(name='digits'), networks={name: CNN}))


@pytest.mark.parametrize(
  'role', [dict(headline='nett'), dict(attribution=('net', 'nett')), dict(teacher='nett')]
)
def test_the_report_names_networks_that_there_are(role):
  message = refused(config(experiment=dict(report=role)))
  assert "unknown 'nett'; did you mean 'net'?" in message
  assert message.startswith('config.report')


def test_networks_keep_the_order_they_were_given_in():
  networks = dict(b=CNN, a=CNN, c=CNN)
  full = defaults.complete(dict(data=dict(name='digits'), networks=networks))
  assert list(defaults.plain(full)['networks']) == ['b', 'a', 'c']
  again = defaults.complete(full)
  assert list(defaults.plain(again)['networks']) == ['b', 'a', 'c']


@pytest.mark.parametrize('order', [('a',), ('a', 'a'), ('a', 'b', 'c')])
def test_order_names_every_network_once(order):
  networks = dict(b=CNN, a=CNN)
  message = refused(dict(data=dict(name='digits'), networks=networks, order=order))
  assert message.startswith('config.order: expected every network once')


def test_completing_twice_changes_nothing():
  once = defaults.experiment(
    splits=(0, 1),
    data=dict(name='digits', sets=dict(munged=dict(of=('train',), munge=dict(size=10)))),
    networks=dict(
      net=CNN | dict(seeds=2, paper=dict(value=1)),
      both=dict(ensemble=('net',)),
      mimic=dict(
        model=dict(name='shallow', hidden=100, bottleneck=4),
        targets='both',
        loss=dict(name='logit_l2'),
        search=dict(optimizer=dict(learning_rate=(0.1, 1))),
      ),
    ),
  )
  twice = defaults.complete(once)
  assert twice == once
  assert defaults.plain(twice) == defaults.plain(once)
  assert defaults.plain(defaults.complete(defaults.plain(once))) == defaults.plain(once)


def test_a_nested_override_is_kept():
  full = defaults.complete(config())
  full.networks.net.optimizer.learning_rate = 0.25
  full.data.num_train = 300
  found = defaults.plain(defaults.complete(full))
  assert found['networks']['net']['optimizer']['learning_rate'] == 0.25
  assert found['data']['num_train'] == 300


def test_an_override_of_another_type_or_key_is_refused():
  full = defaults.complete(config())
  with pytest.raises(TypeError):
    full.networks.net.batch_size = 'many'
  full.networks.net.optimizer.learning_rat = 0.1
  assert refused(full).endswith("unknown key 'learning_rat'; did you mean 'learning_rate'?")


@pytest.mark.parametrize(
  ('model', 'rate'),
  [
    (dict(name='shallow', hidden=2000), 0.005),
    (dict(name='shallow', hidden=8000, bottleneck=250), 0.00125),
    (dict(name='shallow_conv', hidden=30_000), optimizer.STABLE_RATE / 60_000),
    (dict(name='shallow', hidden=10), 0.02),  # as 500 units
    (dict(name='shallow', hidden=1000, bottleneck=16), 0.005),  # as 2,000
    (dict(name='shallow', hidden=50, bottleneck=2), 10 / 16_000),
    (dict(name='dnn', hidden=(50, 50)), 0.01),
    (dict(name='cnn'), 0.01),
  ],
)
def test_the_default_rate_of_a_shallow_net_falls_with_width_and_small_ranks(model, rate):
  found = completed(model=model)['networks']['net']['optimizer']['learning_rate']
  assert found == pytest.approx(rate)
  given = completed(model=model, optimizer=dict(learning_rate=0.5))
  assert given['networks']['net']['optimizer']['learning_rate'] == 0.5


def test_the_default_rate_follows_an_override_of_the_width():
  """Or --config.networks.net.model.hidden=8000 would train a wide net at a narrow one's rate."""
  full = defaults.complete(config(model=dict(name='shallow', hidden=2000)))
  full.networks.net.model.hidden = 8000
  found = defaults.plain(defaults.complete(full))
  rate = found['networks']['net']['optimizer']['learning_rate']
  assert rate == pytest.approx(optimizer.STABLE_RATE / 16_000)


@pytest.mark.parametrize(
  ('search', 'message'),
  [
    (dict(optimizer=dict(momentum=0.1)), 'optimizer.momentum: expected a tuple of values to try'),
    (dict(optimizer=dict(momentum=())), 'optimizer.momentum: expected a tuple of values to try'),
    (dict(optimizer=dict(momentum='0.1')), 'momentum: expected a tuple of values to try'),
    (dict(optimizer=dict(learning_rate=('a',))), "learning_rate: expected float, not 'a'"),
    (dict(optimizer=(0.1, 0.2)), 'search.optimizer: expected a dict, not (0.1, 0.2)'),
    (dict(batch_size=dict(a=(1,))), 'search.batch_size: expected a tuple of values'),
  ],
)
def test_a_search_that_cannot_be_run_is_refused(search, message):
  assert message in refused(config(search=search))


def test_search_takes_tuples_and_lists():
  network = completed(search=dict(batch_size=(32, 64), optimizer=dict(learning_rate=[0.1, 1])))
  search = network['networks']['net']['search']
  assert list(search['batch_size']) == [32, 64]
  assert list(search['optimizer']['learning_rate']) == [0.1, 1.0]


def test_variants():
  assert defaults.variants('', ('full', 'smoke')) == []
  assert defaults.variants('full,smoke', ('full', 'smoke')) == ['full', 'smoke']
  with pytest.raises(defaults.ConfigError, match="variant: unknown 'smok'; did you mean 'smoke'"):
    defaults.variants('smok', ('full', 'smoke'))
