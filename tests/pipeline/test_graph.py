"""Order and refusals of the graph of networks, and what a network's fingerprint depends on."""

import copy
import json

import numpy as np
import pytest

from shallow_jax.data import dataset as dataset_lib
from shallow_jax.pipeline import graph
from shallow_jax.settings import defaults
from shallow_jax.settings import targets as targets_lib
from shallow_jax.training import losses

CNN = dict(model=dict(name='cnn'), seeds=2)
STUDENT = dict(
  model=dict(name='shallow', hidden=50),
  targets='teacher',
  loss=dict(name='logit_l2'),
  examples=('train', 'unlabelled'),
)
TEACHER = dict(ensemble=('cnn',))


def networks(**entries):
  """Returns complete entries, in the order given."""
  config = defaults.complete(dict(data=dict(name='digits'), networks=entries))
  return defaults.plain(config)['networks']


def chain(**changes):
  """A mimic of a student of an ensemble of CNNs, given last to first; `changes` by network."""
  entries = dict(mimic=STUDENT | dict(targets='student'), student=STUDENT, teacher=TEACHER, cnn=CNN)
  return networks(**{name: entry | changes.get(name, {}) for name, entry in entries.items()})


def refused(entries):
  with pytest.raises(defaults.ConfigError) as caught:
    graph.check_names(entries)
  assert '\n' not in str(caught.value)
  return str(caught.value)


def test_order_has_dependencies_first():
  assert graph.order(chain()) == ['cnn', 'teacher', 'student', 'mimic']
  graph.check_names(chain())


def test_order_is_the_given_one_where_nothing_depends():
  assert graph.order(networks(b=CNN, c=CNN, a=CNN)) == ['b', 'c', 'a']


def test_only_has_what_it_names_and_what_that_needs():
  assert graph.order(chain(), ['teacher']) == ['cnn', 'teacher']
  assert graph.order(chain(), ['cnn', 'student']) == ['cnn', 'teacher', 'student']
  with pytest.raises(defaults.ConfigError, match="unknown 'techer'; did you mean 'teacher'"):
    graph.order(chain(), ['techer'])


@pytest.mark.parametrize(
  ('entry', 'target', 'needs'),
  [
    (CNN, None, []),
    (TEACHER, None, ['cnn']),
    (STUDENT, targets_lib.Target('teacher', None), ['teacher']),
    (STUDENT | dict(targets='cnn/1', init='other'), targets_lib.Target('cnn', 1), ['cnn', 'other']),
  ],
)
def test_target_and_dependencies(entry, target, needs):
  entry = networks(net=entry)['net']
  assert targets_lib.target(entry) == target
  assert graph.dependencies(entry) == needs


def test_nets_fitted_to_one_hot_labels_by_l2_give_posteriors_and_so_does_their_ensemble():
  l2 = CNN | dict(loss=dict(name='label_l2'))
  ensembles = dict(both=dict(ensemble=('l2', 'other')), l2s=dict(ensemble=('l2',)))
  entries = networks(l2=l2, other=CNN, **ensembles)
  found = {name: graph.estimates_posteriors(entries, name) for name in entries}
  assert found == dict(l2=True, other=False, both=False, l2s=True)


def test_a_cycle_is_spelled_out():
  def student_of(name):
    return STUDENT | dict(targets=name)

  entries = networks(free=CNN, a=student_of('b'), b=student_of('c'), c=student_of('a'))
  assert refused(entries) == 'config.networks: a cycle, a -> b -> c -> a'
  assert refused(networks(a=student_of('a'))) == 'config.networks: a cycle, a -> a'
  # where the walk comes in from outside, only the cycle itself is told
  entries = networks(outside=student_of('a'), a=student_of('b'), b=student_of('a'))
  assert refused(entries) == 'config.networks: a cycle, a -> b -> a'


def test_init_and_ensemble_are_arrows_of_a_cycle_too():
  entries = networks(a=CNN | dict(init='b'), b=CNN | dict(init='a'))
  assert refused(entries) == 'config.networks: a cycle, a -> b -> a'
  entries = networks(both=dict(ensemble=('a',)), a=STUDENT | dict(targets='both'))
  assert refused(entries) == 'config.networks: a cycle, both -> a -> both'


UNKNOWN = [
  (dict(cnn=CNN, a=STUDENT | dict(targets='cn')), "config.networks.a.targets: unknown 'cn'", 'cnn'),
  (dict(cnn=CNN, a=STUDENT | dict(targets='cn/0')), "a.targets: unknown 'cn'", 'cnn'),
  (dict(cnn=CNN | dict(targets='label')), "config.networks.cnn.targets: unknown 'label'", 'labels'),
  (dict(cnn=CNN, a=dict(ensemble=('cnnn',))), "config.networks.a.ensemble: unknown 'cnnn'", 'cnn'),
  (dict(cnn=CNN, a=CNN | dict(init='cnnn')), "config.networks.a.init: unknown 'cnnn'", 'cnn'),
]


@pytest.mark.parametrize(('entries', 'message', 'meant'), UNKNOWN)
def test_an_unknown_network_is_refused_with_the_one_that_was_meant(entries, message, meant):
  assert refused(networks(**entries)).endswith(f'{message}; did you mean {meant!r}?')


@pytest.mark.parametrize('targets', ['cnn/x', 'cnn/-1', 'cnn/', 'cnn/0/1', 'labels/0', 'cnn/2'])
def test_a_target_that_is_no_seed_of_a_network_is_refused(targets):
  entries = networks(cnn=CNN, a=STUDENT | dict(targets=targets))
  message = refused(entries)
  assert message.startswith('config.networks.a.targets: ')
  assert repr(targets) in message or "unknown 'labels'" in message


def test_a_seed_that_is_not_trained_is_refused_with_the_number_that_is():
  message = refused(networks(cnn=CNN, a=STUDENT | dict(targets='cnn/2')))
  assert message == "config.networks.a.targets: 'cnn/2', but cnn has 2 seeds"


def test_an_ensemble_has_no_seeds_to_learn_from():
  message = refused(networks(cnn=CNN, teacher=TEACHER, a=STUDENT | dict(targets='teacher/0')))
  assert message.startswith("config.networks.a.targets: 'teacher/0'")


def test_an_ensemble_of_an_ensemble_is_refused():
  message = refused(networks(cnn=CNN, teacher=TEACHER, all=dict(ensemble=('cnn', 'teacher'))))
  assert message == "config.networks.all.ensemble: 'teacher' is an ensemble itself"


def test_init_from_another_model_is_refused():
  entries = networks(cnn=CNN, a=dict(model=dict(name='cnn', dense=(7,)), init='cnn'))
  assert refused(entries) == "config.networks.a.init: 'cnn' has another model"
  graph.check_names(networks(cnn=CNN, a=CNN | dict(init='cnn')))


@pytest.mark.parametrize(
  ('loss', 'targets'),
  [
    *((loss, 'labels') for loss in losses.ON_LOGITS),
    *((loss, 'cnn') for loss in losses.ON_LABELS),
  ],
)
def test_a_loss_that_does_not_fit_the_targets_is_refused(loss, targets):
  entries = networks(cnn=CNN, a=STUDENT | dict(targets=targets, loss=dict(name=loss)))
  assert refused(entries) == f'config.networks.a: loss {loss!r} does not fit targets {targets!r}'


def dataset(train=100, unlabelled=50, validation=20):
  """Returns a data set of random numbers, with all that the checks look at."""
  rng = np.random.default_rng(0)

  def split(count, labels):
    return dataset_lib.make_split(rng.normal(size=(count, 4)).astype(np.float32), labels)

  splits = {
    name: split(count, rng.integers(3, size=count))
    for name, count in dict(train=train, validation=validation, test=30).items()
  }
  return dataset_lib.Dataset(
    name='numbers',
    class_names=('a', 'b', 'c'),
    splits=splits | dict(unlabelled=split(unlabelled, None)),
    preprocessing=dict(name='standardise'),
    constants=dict(mean=np.zeros(4, np.float32)),
    inputs=lambda constants, raw, view: raw['input'],
    input_shape=(4,),
    notes={},
  )


def refused_on_data(**entry):
  with pytest.raises(defaults.ConfigError) as caught:
    graph.check_examples(networks(cnn=CNN, teacher=TEACHER, a=entry), dataset())
  assert '\n' not in str(caught.value)
  return str(caught.value)


def test_networks_that_fit_the_data_pass():
  graph.check_examples(chain(), dataset())
  largest = dict(cnn=CNN | dict(batch_size=100), a=STUDENT | dict(batch_size=150))
  entries = networks(teacher=TEACHER, **largest)
  graph.check_examples(entries, dataset())


def test_a_batch_larger_than_the_data_is_refused():
  message = refused_on_data(**CNN | dict(batch_size=101))
  assert message == 'config.networks.a.batch_size: 101 is larger than the data, 100 examples'
  message = refused_on_data(**STUDENT | dict(batch_size=151))
  assert message == 'config.networks.a.batch_size: 151 is larger than the data, 150 examples'


def test_a_batch_of_one_is_refused_where_it_is_normalised_by_itself():
  model = dict(name='shallow_conv', features=4, hidden=8, bottleneck=2)
  one = CNN | dict(model=model, batch_size=1)
  expected = 'config.networks.a.batch_size: 1, expected 2 or more: batch_norm makes one'
  assert refused_on_data(**one).startswith(expected)
  searched = CNN | dict(model=model, search=dict(batch_size=(8, 1)))
  assert refused_on_data(**searched).startswith(expected.replace('a.batch', 'a.search.batch'))
  for change in (dict(batch_norm=False), dict(bottleneck=0)):
    graph.check_examples(networks(a=one | dict(model=model | change)), dataset())


def test_examples_without_labels_cannot_be_learned_from_labels():
  message = refused_on_data(**CNN | dict(examples=('train', 'unlabelled')))
  assert message == "config.networks.a.examples: 'unlabelled' has examples without a label"


def test_unknown_examples_are_refused():
  message = refused_on_data(**STUDENT | dict(examples=('train', 'unlabeled')))
  assert message.endswith("a.examples: unknown 'unlabeled'; did you mean 'unlabelled'?")


@pytest.mark.parametrize('name', ['validation', 'test'])
def test_validation_and_test_are_never_trained_on(name):
  message = refused_on_data(**STUDENT | dict(examples=('train', name)))
  assert message == f'config.networks.a.examples: {name!r} is never trained on'


def test_a_student_learns_from_its_views_and_is_selected_by_validation():
  entry = networks(a=STUDENT | dict(views=3))['a']
  expected = [('train', 3, ()), ('unlabelled', 3, ()), ('validation', 1, ())]
  assert graph.student_sets(entry) == expected


@pytest.mark.parametrize(
  ('search', 'message'),
  [
    (dict(loss=dict(name=('logit_l2', 'klx'))), "loss.name: unknown 'klx'; did you mean 'kl'?"),
    (dict(num_steps=(1000, 0)), 'num_steps: expected at least 1, not 0'),
    (dict(num_steps=(1000, 50), steps_per_call=(1, 20)), '50 is not a multiple of steps_per_call'),
    (dict(optimizer=dict(learning_rate=(0.1, -1))), 'learning_rate: expected 0 or more, not -1.0'),
  ],
)
def test_a_trial_that_cannot_be_run_is_refused(search, message):
  with pytest.raises(defaults.ConfigError) as caught:
    graph.check_names(networks(cnn=CNN, teacher=TEACHER, a=STUDENT | dict(search=search)))
  assert str(caught.value).startswith('config.networks.a.search')
  assert message in str(caught.value)


@pytest.mark.parametrize(
  ('search', 'message'),
  [
    (dict(targets=('teacher', 'techer')), "targets: unknown 'techer'; did you mean 'teacher'?"),
    (dict(loss=dict(name=('kl', 'cross_entropy'))), "'cross_entropy' does not fit targets"),
    (dict(init=('', 'cnn')), "init: 'cnn' has another model"),
  ],
)
def test_what_a_trial_names_is_there(search, message):
  entries = networks(cnn=CNN, teacher=TEACHER, a=STUDENT | dict(search=search))
  assert refused(entries).startswith('config.networks.a.search')
  assert message in refused(entries)


def test_what_a_trial_needs_comes_before_it_and_is_in_its_fingerprint():
  search = dict(targets=('teacher', 'cnn'), examples=(('train',), ('train', 'unlabelled')))
  entries = networks(a=STUDENT | dict(search=search, seeds=3), teacher=TEACHER, cnn=CNN)
  assert graph.order(entries) == ['cnn', 'teacher', 'a']
  found = fingerprints(entries)['a']
  assert found['members'] == dict(teacher=[], cnn=[0, 1, 0])
  assert set(found['data']['splits']) == {'train', 'unlabelled', 'validation'}


@pytest.mark.parametrize(
  ('search', 'message'),
  [
    (dict(batch_size=(16, 151)), 'batch_size: 151 is larger than the data, 150 examples'),
    (dict(examples=(('train',), ('tain',))), "examples: unknown 'tain'; did you mean 'train'?"),
    (dict(views=(1, 4)), 'views: nothing is augmented, 4 views would be equal; expected 1'),
  ],
)
def test_each_trial_must_fit_the_data(search, message):
  found = refused_on_data(**STUDENT | dict(search=search))
  assert found == f'config.networks.a.search.{message}'


def test_views_of_what_is_not_augmented_are_refused():
  message = refused_on_data(**STUDENT | dict(views=3))
  expected = 'views: nothing is augmented, 3 views would be equal; expected 1'
  assert message == f'config.networks.a.{expected}'


def test_a_share_of_the_labels_needs_labels():
  weighed = STUDENT | dict(loss=dict(name='logit_l2', label_weight=0.5))
  message = refused_on_data(**weighed | dict(examples=('unlabelled',)))
  expected = 'loss.label_weight: no example of unlabelled has a label; expected 0'
  assert message == f'config.networks.a.{expected}'
  graph.check_examples(networks(cnn=CNN, teacher=TEACHER, a=weighed), dataset())


def test_examples_of_one_class_are_refused_for_labels():
  data = dataset()
  data.splits['train'].arrays['label'][:] = 2
  with pytest.raises(defaults.ConfigError, match=r'net.examples: all are of one class; expected'):
    graph.check_examples(networks(net=CNN), data)


@pytest.mark.parametrize(
  ('search', 'rates'),
  [
    (dict(model=dict(hidden=(1000, 4000))), [0.01, 0.0025]),
    (dict(optimizer=dict(learning_rate=(0.0, 0.1))), [0.02, 0.1]),
  ],
)
def test_each_trial_has_its_own_models_default_rate(search, rates):
  entry = networks(a=STUDENT | dict(model=dict(name='shallow', hidden=500), search=search))['a']
  tried = [graph.with_trial(entry, trial) for trial in graph.trials(entry)]
  assert [each['optimizer']['learning_rate'] for each in tried] == rates


SEARCH = dict(
  search=dict(
    batch_size=(16, 32),
    optimizer=dict(learning_rate=(0.1, 0.2, 0.3)),
    model=dict(hidden=(10,)),
  )
)


def test_trials_are_the_product_of_the_values():
  found = graph.trials(networks(a=STUDENT | SEARCH)['a'])
  expected = [
    {'batch_size': batch_size, 'optimizer.learning_rate': rate, 'model.hidden': 10}
    for batch_size in (16, 32)
    for rate in (0.1, 0.2, 0.3)
  ]
  assert len(found) == 6
  assert all(trial in found for trial in expected)
  assert graph.trials(networks(a=STUDENT)['a']) == [{}]


def test_with_trial_changes_its_settings_in_a_copy():
  entry = networks(a=STUDENT | SEARCH)['a']
  before = copy.deepcopy(entry)
  trial = {'batch_size': 16, 'optimizer.learning_rate': 0.2, 'model.hidden': 10}
  changed = graph.with_trial(entry, trial)
  assert entry == before
  assert changed == before | dict(
    batch_size=16,
    optimizer=before['optimizer'] | dict(learning_rate=0.2),
    model=before['model'] | dict(hidden=10),
  )
  assert graph.with_trial(entry, {}) == entry


def fingerprints(entries, data=None, dtype='float32'):
  described = (data or dataset()).fingerprint()
  return {
    name: graph.fingerprint(entries, name, described, dict(dtype=dtype, shard_rows=8))
    for name in entries
  }


def changed(entries, **others):
  """Returns the networks whose fingerprints differ from those of the chain on the data."""
  before, after = fingerprints(chain()), fingerprints(entries, **others)
  return {name for name in before if after[name] != before[name]}


def test_fingerprints_are_the_same_twice_and_go_into_json():
  found = fingerprints(chain())
  assert found == fingerprints(chain())
  assert json.loads(json.dumps(found)).keys() == found.keys()


@pytest.mark.parametrize(
  'change', [dict(label='another'), dict(paper=dict(value=1.0)), dict(seeds=7)]
)
def test_what_is_for_show_and_more_seeds_leave_a_networks_own_fingerprint(change):
  assert 'student' not in changed(chain(student=change))


def test_locally_connected_nets_of_before_are_refused_by_name():
  """They started with smaller weights; the others' fingerprints are as they were."""
  model = dict(name='cnn', features=(4,), local=(2,), dense=())
  entries = networks(a=CNN | dict(model=model), b=CNN)
  found = {
    name: graph.fingerprint(entries, name, dataset().fingerprint(), dict(dtype='float32'))
    for name in entries
  }
  assert 'locally_connected' in found['a']
  assert 'locally_connected' not in found['b']


def test_what_is_for_show_changes_nobodys_fingerprint():
  show = dict(label='another', paper=dict(value=1.0))
  assert changed(chain(cnn=show, teacher=show, student=show, mimic=show)) == set()


def test_more_seeds_of_a_teacher_change_those_who_learn_from_them():
  assert changed(chain(cnn=dict(seeds=5))) == {'teacher', 'student', 'mimic'}


def test_more_seeds_of_a_teacher_leave_who_learns_from_one_of_them():
  before, after = (
    fingerprints(networks(cnn=CNN | dict(seeds=seeds), a=STUDENT | dict(targets='cnn/0')))
    for seeds in (2, 5)
  )
  assert before['a'] == after['a']


@pytest.mark.parametrize(
  ('network', 'expected'),
  [
    ('cnn', {'cnn', 'teacher', 'student', 'mimic'}),
    ('student', {'student', 'mimic'}),
    ('mimic', {'mimic'}),
  ],
)
def test_a_learning_rate_changes_a_network_and_its_students_not_its_teacher(network, expected):
  assert changed(chain(**{network: dict(optimizer=dict(learning_rate=0.123))})) == expected


def test_another_network_changes_nobodys_fingerprint():
  assert changed(chain() | networks(other=CNN | dict(seeds=9))) == set()


def test_another_data_set_changes_nobodys_fingerprint():
  data = dataset()
  more = dataset_lib.make_split(np.ones((5, 4), np.float32), None)
  data.splits['munged'] = more
  assert changed(chain(), data=data) == set()


def test_other_examples_change_those_who_see_them():
  assert changed(chain(), data=dataset(unlabelled=49)) == {'student', 'mimic'}
  assert changed(chain(), data=dataset(train=99)) == {'cnn', 'teacher', 'student', 'mimic'}


def test_the_stores_dtype_changes_students_alone():
  assert changed(chain(), dtype='float16') == {'student', 'mimic'}


def test_a_fingerprint_has_each_ancestor_once_however_many_ways_lead_to_it():
  """Each way a part of its own would be 2 ** 40 of them."""
  entries = dict(net0=CNN)
  for i in range(1, 41):
    loss = dict(name='logit_l2')
    entries[f'net{i}'] = CNN | dict(targets=f'net{i - 1}', init=f'net{i - 1}', loss=loss)
  found = fingerprints(networks(**entries))['net40']
  assert list(found['needs']) == [f'net{i}' for i in range(40)]
  assert len(json.dumps(found)) < 41 * len(json.dumps(found['needs']['net1'])) + 2000


def test_a_student_depends_on_the_seeds_it_learns_from():
  student = STUDENT | dict(targets='cnn', seeds=3)
  members = fingerprints(networks(cnn=CNN, a=student))['a']['members']
  assert members == dict(cnn=[0, 1, 0])
  assert fingerprints(networks(cnn=CNN, t=TEACHER))['t']['members'] == dict(cnn=[0, 1])
  assert fingerprints(chain())['student']['members'] == dict(teacher=[])
