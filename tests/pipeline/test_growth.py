"""What a run reads, hashes and restores grows with seeds and members, not with their product."""

import collections

import pytest
from support import other_weights

from shallow_jax.logits import manifest as logit_manifest
from shallow_jax.logits import store as logit_store
from shallow_jax.pipeline import run as run_lib
from shallow_jax.pipeline import teacher
from shallow_jax.pipeline import trained
from shallow_jax.runtime import checkpoint
from shallow_jax.runtime import storage
from shallow_jax.settings import defaults

COUNTED = (
  (storage, 'read_json'),
  (checkpoint, 'restore_newest'),
  (storage, 'sha256_arrays'),
  (logit_store, 'verify'),
  (logit_manifest, 'damage'),  # hashes a shard; of a checkpoint's files Orbax chooses the number
)


def of_each(number, targets):
  """So many students of so many members: of their mean, or each of one."""
  small = dict(
    num_steps=1,
    evaluate_every_steps=1,
    checkpoint_every_steps=1,
    seeds=number,
    model=dict(name='dnn', hidden=(8,)),
  )
  return defaults.experiment(
    data=dict(name='digits'),
    networks=dict(
      net=small,
      teacher=dict(ensemble=('net',)),
      mimic=dict(small, targets=targets, loss=dict(name='logit_l2')),
    ),
    logits=dict(shard_rows=512, batch_size=64),
    evaluation=dict(latency_batches=()),
  )


@pytest.fixture
def counts(monkeypatch):
  found = collections.Counter()

  def watch(module, name):
    real = getattr(module, name)

    def counted(*args, **kwargs):
      found[name] += 1
      return real(*args, **kwargs)

    monkeypatch.setattr(module, name, counted)

  for module, name in COUNTED:
    watch(module, name)
  return found


@pytest.mark.parametrize('targets', ['teacher', 'net'])
def test_twice_the_seeds_and_members_cost_at_most_twice_as_much(targets, counts, tmp_path):
  by_number = {}
  for number in (4, 8):
    counts.clear()
    run_lib.run(of_each(number, targets), tmp_path / str(number))
    by_number[number] = dict(counts)
  for name, count in by_number[4].items():
    assert by_number[8][name] <= 2 * count, name


def test_what_is_kept_in_memory_hides_no_other_weights(tmp_path):
  config = defaults.plain(of_each(2, 'teacher'))
  run_lib.run(config, tmp_path)
  experiment = run_lib.prepare(config, tmp_path)
  before = teacher.source_of(experiment, experiment.networks['mimic'], 0)
  nets = trained.load_members(experiment, before.members)
  assert trained.load_members(experiment, before.members)[0] is nets[0]
  other_weights.put(experiment, 'net', 0)
  after = teacher.source_of(experiment, experiment.networks['mimic'], 0)
  assert after.weights[0] != before.weights[0] and after.weights[1] == before.weights[1]
  again = trained.load_members(experiment, after.members)
  assert again[0] is not nets[0] and again[1] is nets[1]
