"""A seed that diverged stops what needs it, and nothing else."""

import shutil

import pytest

from shallow_jax.pipeline import experiment as experiment_lib
from shallow_jax.pipeline import run as run_lib
from shallow_jax.pipeline import trainings
from shallow_jax.settings import defaults


def config(rate, splits=()):
  """`wild` diverges at a high rate; two networks need it, one needs one of these, two don't."""
  small = dict(
    model=dict(name='dnn', hidden=(8,)),
    num_steps=10,
    evaluate_every_steps=5,
    optimizer=dict(learning_rate=0.1, warmup_steps=1),
  )
  mimic = dict(small, loss=dict(name='logit_l2'))
  return defaults.plain(
    defaults.experiment(
      data=dict(name='digits'),
      splits=splits,
      networks=dict(
        wild=dict(small, seeds=2, optimizer=dict(learning_rate=rate, warmup_steps=1)),
        calm=small,
        teacher=dict(ensemble=('calm', 'wild')),
        mimic=dict(mimic, targets='teacher'),
        longer=dict(small, init='wild'),
        of_calm=dict(mimic, targets='calm'),
        last=small,
      ),
      logits=dict(shard_rows=512, batch_size=64),
      evaluation=dict(latency_batches=()),
    )
  )


def test_all_that_does_not_need_a_diverged_seed_is_done(tmp_path, monkeypatch):
  with pytest.raises(experiment_lib.ExperimentError) as caught:
    run_lib.run(config(1e30), tmp_path)
  message = str(caught.value)
  for part in (
    r'not done: ',
    f'{tmp_path}/teacher needs wild/0, which diverged at step ',
    f'{tmp_path}/mimic needs teacher; ',
    f'{tmp_path}/longer needs wild/0, which diverged at step ',
    'lower optimizer.learning_rate',
    'delete its folder to train it anew',
    f'{tmp_path}/report',
  ):
    assert part in message
  assert '\n' not in message
  results = run_lib.report_again(tmp_path)['networks']
  assert list(results) == ['wild', 'calm', 'of_calm', 'last']
  assert results['wild']['flags']['diverged'] == [0, 1]
  for name in ('teacher', 'mimic', 'longer'):
    assert not (tmp_path / name).exists()  # nothing stands in the way of another config

  with monkeypatch.context() as patch, pytest.raises(experiment_lib.ExperimentError) as again:
    patch.setattr(trainings.train, 'fit', None)
    run_lib.run(config(1e30), tmp_path)
  assert str(again.value) == message

  shutil.rmtree(tmp_path / 'wild')  # as the message says
  assert len(run_lib.run(config(0.1), tmp_path)['networks']) == 7


def test_every_split_is_run_and_names_what_is_not_done(tmp_path):
  with pytest.raises(experiment_lib.ExperimentError, match=r'split-0/longer.*split-1/longer'):
    run_lib.run(config(1e30, splits=(0, 1)), tmp_path, only=['longer', 'last'], stage='train')
  for split in (0, 1):
    assert (tmp_path / f'split-{split}' / 'last' / 'seed-0' / 'trained.json').exists()
