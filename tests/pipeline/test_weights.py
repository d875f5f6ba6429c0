"""The weights on disk are those that a record says, and the record says where they come from."""

import shutil

import jax
import numpy as np
import pytest
from support import other_weights
from support import stop_at

from shallow_jax.pipeline import experiment as experiment_lib
from shallow_jax.pipeline import graph
from shallow_jax.pipeline import run as run_lib
from shallow_jax.pipeline import teacher
from shallow_jax.pipeline import trained
from shallow_jax.pipeline import trainings
from shallow_jax.runtime import checkpoint
from shallow_jax.runtime import run_guard
from shallow_jax.runtime import storage
from shallow_jax.settings import defaults
from shallow_jax.training import train


def config(**networks):
  """Seeds that are trained together; a network and what starts from it."""
  small = dict(
    model=dict(name='dnn', hidden=(8,)),
    num_steps=20,
    evaluate_every_steps=5,
    checkpoint_every_steps=10,
    seeds=2,
    optimizer=dict(learning_rate=0.1, warmup_steps=1),
  )
  entries = dict(
    group=dict(small, seeds=3, seeds_together=True),
    start=small,
    fine=dict(small, seeds=3, init='start', num_steps=5),
  )
  for name, changes in networks.items():
    entries[name] = entries.get(name, small) | changes
  return defaults.plain(
    defaults.experiment(
      data=dict(name='digits'),
      networks=entries,
      logits=dict(shard_rows=512, batch_size=64),
      evaluation=dict(latency_batches=()),
    )
  )


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('finished')
  return workdir, run_lib.run(config(), workdir)


@pytest.fixture
def copy(finished, tmp_path):
  return shutil.copytree(finished[0], tmp_path / 'copy')


@pytest.fixture
def fitted(monkeypatch):
  """The seeds of each program that is trained, in order."""
  found = []
  fit = train.fit

  def noted(problems, *args, **kwargs):
    found.append([problem.seed for problem in problems])
    return fit(problems, *args, **kwargs)

  monkeypatch.setattr(trainings.train, 'fit', noted)
  return found


def records(workdir, network, count):
  return [
    (workdir / network / f'seed-{seed}' / 'trained.json').read_text() for seed in range(count)
  ]


def errors(results, network):
  return results['networks'][network]['metrics']['test']['error']['values']


def test_more_seeds_together_leave_those_before_alone(finished, copy, fitted):
  results = run_lib.run(config(group=dict(seeds=5)), copy, only=['group'])
  assert fitted == [[3, 4]]
  assert records(copy, 'group', 3) == records(finished[0], 'group', 3)
  assert errors(results, 'group')[:3] == errors(finished[1], 'group')
  assert len(errors(results, 'group')) == 5


def test_seeds_together_that_were_killed_while_they_were_kept(finished, tmp_path, monkeypatch):
  save = trained.save_trained

  def killed(folder, *args, **kwargs):
    if folder.name == 'seed-0':
      raise KeyboardInterrupt
    save(folder, *args, **kwargs)

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(trained, 'save_trained', killed)
    run_lib.run(config(), tmp_path, only=['group'])
  before = (tmp_path / 'group' / 'seed-2' / 'trained.json').read_text()
  results = run_lib.run(config(group=dict(seeds=4)), tmp_path, only=['group'])
  assert errors(results, 'group')[:3] == errors(finished[1], 'group')
  assert (tmp_path / 'group' / 'seed-2' / 'trained.json').read_text() == before


def test_seeds_together_that_were_stopped_go_on_before_more_of_them(tmp_path, fitted):
  experiment = run_lib.prepare(config(), tmp_path, stop=stop_at.StopAt(12))
  with pytest.raises(run_guard.Stopped):
    trainings.train_network(experiment, 'group')
  run_lib.run(config(group=dict(seeds=4)), tmp_path, only=['group'], stage='train')
  assert fitted == [[0, 1, 2], [0, 1, 2], [3]]


def test_seeds_together_share_their_examples_and_targets(copy):
  mimic = dict(
    targets='start/0', loss=dict(name='logit_l2'), examples=('train', 'unlabelled'), seeds=3
  )
  experiment = run_lib.prepare(config(mimic=dict(mimic, seeds_together=True)), copy)
  teacher.store_targets(experiment, 'mimic')
  entry = experiment.networks['mimic']
  source = teacher.source_of(experiment, entry, 0)
  first, *others = trainings.problems(experiment, 'mimic', entry, range(3), source)
  assert len(first.examples['target']) == 400 + 297
  for problem in others:
    assert problem.examples is first.examples and problem.validation is first.validation
    assert not np.array_equal(
      problem.initial['params']['Dense_0']['kernel'], first.initial['params']['Dense_0']['kernel']
    )


def test_another_seeds_weights_are_refused_by_name(copy):
  folders = [copy / 'group' / f'seed-{seed}' / 'weights' for seed in (0, 1)]
  shutil.rmtree(folders[0])
  shutil.copytree(folders[1], folders[0])
  (copy / 'group' / 'result.json').unlink()
  with pytest.raises(
    experiment_lib.ExperimentError, match=r'group/seed-0/weights: other weights .* delete .*seed-0 '
  ):
    run_lib.run(config(), copy, only=['group'])


def test_weights_of_a_later_step_than_the_last_training_kept_are_not_loaded(finished, copy):
  """A kill between weights and trained.json, after which the best step is an earlier one."""
  folder = copy / 'start' / 'seed-0'
  experiment = run_lib.prepare(config(), copy)
  good = trained.load_member(experiment, 'start', 0).variables
  stale = jax.tree.map(lambda leaf: leaf + 1, good)
  checkpoint.save(folder / 'weights', 1000, stale, notes={}, keep=1)
  for path in (folder / 'trained.json', copy / 'start' / 'result.json'):
    path.unlink()
  results = run_lib.run(config(), copy)
  assert errors(results, 'start') == errors(finished[1], 'start')
  assert checkpoint.steps(folder / 'weights') == [trained.read_trained(folder)['step']]


def test_what_a_seed_started_from_is_in_its_record(finished):
  for seed in range(3):
    fine, start = (
      trained.read_trained(finished[0] / name / f'seed-{number}')
      for name, number in (('fine', seed), ('start', seed % 2))
    )
    assert fine['init_weights'] == [start['weights_sha256']] and start['init_weights'] == []


@pytest.mark.parametrize('is_evaluated', [True, False])
def test_a_seed_that_started_from_other_weights_is_refused(copy, is_evaluated):
  other_weights.put(run_lib.prepare(config(), copy), 'start', 1)
  if not is_evaluated:
    (copy / 'fine' / 'result.json').unlink()
  with pytest.raises(
    experiment_lib.ExperimentError,
    match=r'fine/seed-1 started from other weights of start .*; delete .*fine to train',
  ):
    run_lib.run(config(), copy)


def test_what_an_older_version_started_goes_on_but_takes_no_seed_of_todays(copy, finished, fitted):
  for seed in range(3):
    path = copy / 'fine' / f'seed-{seed}' / 'trained.json'
    record = storage.read_record(path)
    del record['init_weights']
    storage.write_sealed_json(path, record)
  (copy / 'fine' / 'result.json').unlink()
  assert errors(run_lib.run(config(), copy), 'fine') == errors(finished[1], 'fine')
  assert fitted == []
  with pytest.raises(experiment_lib.ExperimentError, match=r'fine/seed-0 .* older version'):
    run_lib.run(config(fine=dict(seeds=4)), copy)


def test_a_searched_network_finds_its_seeds_due(copy):
  searched = dict(search=dict(optimizer=dict(learning_rate=(0.1, 0.2))), seeds_together=True)
  experiment = run_lib.prepare(config(searched=dict(searched, seeds=3)), copy)
  assert graph.trials(experiment.networks['searched']) != [{}]
  assert trainings.programs(experiment, 'searched') == [[0], [1, 2]]
  assert trainings.programs(experiment, 'start') == []
