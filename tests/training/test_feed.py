"""What a step is fed with: no view, no permutation and no byte more than it asks for."""

import tracemalloc
import types

import numpy as np
import pytest

from shallow_jax.data import dataset
from shallow_jax.logits import rows as rows_lib
from shallow_jax.logits import store as logit_store
from shallow_jax.training import feed
from shallow_jax.training import problem as problem_lib

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
  problem = make_problem(target)
  order = feed.order_of(problem)
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


def stays(monkeypatch, examples, parts=1, **stats):
  devices = [types.SimpleNamespace(memory_stats=lambda: stats or None)]
  monkeypatch.setattr(feed.jax, 'local_devices', lambda: devices)
  return feed._stays_on_devices(examples, parts)


def test_data_stay_on_a_device_that_has_room_for_them(monkeypatch):
  examples = {'input': np.zeros(1000, np.uint8)}
  assert stays(monkeypatch, examples)  # a CPU does not tell
  assert stays(monkeypatch, examples, bytes_limit=2000)
  assert not stays(monkeypatch, examples, bytes_limit=1998)
  assert stays(monkeypatch, examples, parts=2, bytes_limit=1998)
  monkeypatch.setattr(feed, 'RESIDENT_BYTES', 999)
  assert not stays(monkeypatch, examples, bytes_limit=1 << 40)


def test_targets_that_were_left_on_disk_stay_there(monkeypatch):
  logits = np.zeros((VIEWS, COUNT, CLASSES), np.float32)
  examples = make_problem(rows_lib.targets([rows_lib.LogitsOnDisk((logits,))])).examples
  monkeypatch.setattr(logit_store, 'MEMORY_LIMIT_BYTES', logits.nbytes)
  assert stays(monkeypatch, examples)
  monkeypatch.setattr(logit_store, 'MEMORY_LIMIT_BYTES', logits.nbytes - 1)
  assert not stays(monkeypatch, examples)
  assert stays(monkeypatch, examples, parts=2)  # each device's half is read by itself


def output(name, **examples):
  entry = dict(loss=dict(name=name, normalize=True))
  tracemalloc.start()
  found = problem_lib.output_transform(entry, examples, 183)
  taken = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  return found, taken


def test_statistics_of_labels_take_no_memory_of_all_classes():
  labels = np.random.default_rng(0).integers(0, 180, 20_000).astype(np.int32)
  found, taken = output('label_l2', label=labels)
  assert taken < 7e6  # one-hot they are 29 MB
  one_hot = np.eye(183)[labels]
  np.testing.assert_array_equal(found['mean'], one_hot.mean(axis=0).astype(np.float32))
  std = one_hot.std(axis=0).astype(np.float32)
  np.testing.assert_allclose(found['std'], np.where(std > 0, std, 1), rtol=2e-7)


@pytest.mark.parametrize('on_disk', [False, True])
def test_statistics_of_hard_targets_read_one_view_block_by_block(on_disk):
  logits = np.random.default_rng(0).normal(size=(2, 20_000, 183)).astype(np.float32)
  target = rows_lib.targets([rows_lib.LogitsOnDisk((logits,)) if on_disk else logits])
  found, taken = output('hard_l2', target=target, label=np.full(20_000, -1))
  assert taken < logits.nbytes / 3
  expected, _ = output('label_l2', label=logits[0].argmax(axis=-1))
  np.testing.assert_array_equal(found['mean'], expected['mean'])
  np.testing.assert_array_equal(found['std'], expected['std'])


def test_targets_come_into_memory_once():
  logits = np.random.default_rng(0).normal(size=(4, 9000, 10)).astype(np.float32)
  parts = tuple(np.split(logits, 3, axis=1))
  on_disk = rows_lib.targets([rows_lib.LogitsOnDisk(parts)])
  tracemalloc.start()
  found = np.asarray(on_disk)
  taken = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert taken < 1.1 * logits.nbytes
  np.testing.assert_array_equal(found, logits.swapaxes(0, 1))
