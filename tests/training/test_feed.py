"""What a step is fed with: no view, no permutation and no byte more than it asks for."""

import types

import numpy as np
import pytest

from shallow_jax.data import dataset
from shallow_jax.logits import rows as rows_lib
from shallow_jax.training import feed

COUNT, VIEWS, CLASSES, BATCH = 20, 3, 5, 8


def make_problem(target):
  arrays = {'id': np.zeros((COUNT, 2), np.uint32), 'input': np.arange(COUNT), 'target': target}
  entry = dict(batch_size=BATCH, steps_per_call=2, views=VIEWS)
  return types.SimpleNamespace(entry=entry, examples=arrays, seed=0)


@pytest.mark.parametrize('on_disk', [False, True])
def test_of_data_that_are_sent_each_example_has_its_views_target_alone(on_disk):
  logits = np.random.default_rng(0).normal(size=(VIEWS, COUNT, CLASSES)).astype(np.float32)
  parts = [logits[:, :7], logits[:, 7:]]
  target = rows_lib.targets([rows_lib.LogitsOnDisk((part,)) if on_disk else part for part in parts])
  problem, order = make_problem(target), dataset.Order(COUNT, BATCH, 0)
  for step in (0, 2, 4, 6):  # some batches span two epochs
    found = feed.call_inputs(problem, step, np.arange(BATCH), order=order, sent=True)
    rows, views = found['arrays']['input'], found['views']
    assert found['arrays']['target'].shape == (2, BATCH, CLASSES)
    np.testing.assert_array_equal(found['arrays']['target'], logits[views, rows])


def test_many_seeds_in_turn_draw_each_epochs_permutation_once(monkeypatch):
  drawn, draw = [], np.random.default_rng
  monkeypatch.setattr(
    dataset.np.random, 'default_rng', lambda seed: (drawn.append(tuple(seed)), draw(seed))[1]
  )
  orders = [dataset.Order(COUNT, BATCH, seed) for seed in range(40)]
  for step in range(10):  # four epochs
    for order in orders:
      order(step)
  assert sorted(drawn) == [(seed, epoch) for seed in range(40) for epoch in range(4)]
