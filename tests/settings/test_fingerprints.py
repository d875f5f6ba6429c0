"""Runs that began before go on where their weights would be the same, whatever wrote them."""

import copy

import pytest

from shallow_jax.pipeline import graph
from shallow_jax.settings import defaults
from shallow_jax.settings import fingerprints

DATA = dict(
  name='digits',
  class_names=['a', 'b'],
  preprocessing=dict(name='standardise', constants={}),
  splits={name: dict(count=9, ids_sha256=name) for name in ('train', 'validation', 'test')},
  views={},
)
CNN = dict(model=dict(name='cnn'), seeds=2)
STUDENT = dict(
  model=dict(name='shallow', hidden=50), targets='cnn', loss=dict(name='logit_l2'), seeds=2
)


def fingerprint(name='a', data=DATA, **entries):
  full = defaults.complete(dict(data=dict(name='digits'), networks=entries))
  return graph.fingerprint(defaults.plain(full)['networks'], name, data, dict(dtype='float32'))


def student(**changes):
  return fingerprint(**{**dict(cnn=CNN, a=STUDENT), **changes})


# The keys of an entry before 2026-11-21.
OLDEST = (
  *('model', 'ensemble', 'init', 'targets', 'examples', 'views', 'loss', 'optimizer', 'search'),
  *('batch_size', 'num_steps', 'steps_per_call', 'evaluate_every_steps'),
  *('stop_after_evaluations', 'select'),
)


def as_before(found, needs):
  """A fingerprint as it was written before 2026-12: nested, with numbers of seeds."""
  part = {key: value for key, value in found.items() if key not in ('needs', 'members')}
  entry = {key: part['entry'][key] for key in OLDEST} | dict(checkpoint_every_steps=17)
  return dict(part, entry=entry, needs=needs)


def test_a_nested_fingerprint_of_before_is_accepted_and_held_against_todays():
  today = student()
  cnn = as_before(fingerprint('cnn', cnn=CNN), {})
  before = as_before(today, dict(cnn=dict(cnn, seeds=2)))
  assert fingerprints.differences(before, today) == []
  cnn['entry']['num_steps'] = 70
  before = as_before(today, dict(cnn=dict(cnn, seeds=2)))
  expected = ['needs.cnn.entry.num_steps: 70, now 1000']
  assert fingerprints.differences(before, today) == expected


def test_a_nested_ensemble_of_before_counts_its_members():
  cnn = as_before(fingerprint('cnn', cnn=CNN), {})
  for now in (1, 2, 3):
    today = fingerprint('t', cnn=CNN | dict(seeds=now), t=dict(ensemble=('cnn',)))
    before = as_before(today, dict(cnn=dict(cnn, seeds=2)))
    assert bool(fingerprints.differences(before, today)) == (now != 2)


@pytest.mark.parametrize(
  ('teacher', 'own', 'line'),
  [
    (3, 2, None),  # seeds 0 and 1 learn from t/0 and t/1 as before
    (5, 4, None),
    (1, 2, 'members.cnn.1: 1, now 0'),
    (2, 5, None),
  ],
)
def test_more_seeds_matter_to_those_who_would_learn_from_others(teacher, own, line):
  today = student(cnn=CNN | dict(seeds=teacher), a=STUDENT | dict(seeds=own))
  assert fingerprints.differences(student(), today) == ([] if line is None else [line])


def test_a_third_seed_that_learned_from_the_first_is_refused_a_third_teacher():
  before, today = (
    student(cnn=CNN | dict(seeds=count), a=STUDENT | dict(seeds=3)) for count in (2, 3)
  )
  assert fingerprints.differences(before, today) == ['members.cnn.2: 0, now 2']


def test_what_the_data_were_not_asked_before_is_accepted_and_what_they_were_is_not():
  data = copy.deepcopy(DATA)
  data['splits']['train'].update(shape=[8, 8, 1], dtype='uint8')
  assert fingerprints.differences(student(), fingerprint(data=data, cnn=CNN, a=STUDENT)) == []
  data['splits']['train']['count'] = 8
  found = fingerprints.differences(student(), fingerprint(data=data, cnn=CNN, a=STUDENT))
  assert found == [f'{at}data.splits.train.count: 9, now 8' for at in ('', 'needs.cnn.')]


def test_a_key_younger_than_a_run_has_its_default():
  today = fingerprint('cnn', cnn=CNN)
  for part, key in (('entry', 'compute_dtype'), ('model', 'pooling'), ('loss', 'label_smoothing')):
    before = copy.deepcopy(today)
    del (before['entry'] if part == 'entry' else before['entry'][part])[key]
    assert fingerprints.differences(before, today) == []
  before = copy.deepcopy(today)
  del before['entry']['compute_dtype']
  now = fingerprint('cnn', cnn=CNN | dict(compute_dtype='bfloat16'))
  expected = ['entry.compute_dtype: "float32", now "bfloat16"']
  assert fingerprints.differences(before, now) == expected


def test_a_key_that_there_is_no_longer_is_told():
  today = fingerprint('cnn', cnn=CNN)
  before = copy.deepcopy(today)
  before['entry']['magic'] = 3
  assert fingerprints.differences(before, today) == ['entry.magic: 3, now absent']


def test_another_network_that_is_needed_is_told():
  found = fingerprints.differences(student(), student(b=CNN, a=STUDENT | dict(targets='b')))
  assert any(line.startswith('needs.b') for line in found)
  assert any(line.startswith('needs.cnn') for line in found)
  assert 'entry.targets: "cnn", now "b"' in found


def test_labels_that_nobody_learned_from_do_not_matter():
  """Until 2026-12 a set made of train had none."""
  data = copy.deepcopy(DATA)
  data['splits']['some'] = dict(count=9, ids_sha256='some', labels_sha256='hidden')
  told = copy.deepcopy(data)
  told['splits']['some']['labels_sha256'] = 'told'
  some = STUDENT | dict(examples=('some',))
  both = [fingerprint(data=each, cnn=CNN, a=some) for each in (data, told)]
  assert fingerprints.differences(*both) == []
  weighed = some | dict(loss=dict(name='logit_l2', label_weight=0.5))
  both = [fingerprint(data=each, cnn=CNN, a=weighed) for each in (data, told)]
  expected = ['data.splits.some.labels_sha256: "hidden", now "told"']
  assert fingerprints.differences(*both) == expected


def test_the_value_that_a_search_replaces_does_not_matter():
  def searched(**optimizer):
    search = dict(optimizer=dict(learning_rate=(0.1, 0.2)))
    return fingerprint('cnn', cnn=CNN | dict(search=search, optimizer=optimizer))

  assert fingerprints.differences(searched(learning_rate=0.3), searched(learning_rate=0.4)) == []
  found = fingerprints.differences(searched(momentum=0.3), searched(momentum=0.4))
  assert found == ['entry.optimizer.momentum: 0.3, now 0.4']
