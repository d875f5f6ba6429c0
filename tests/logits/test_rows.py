"""Targets that stay on disk: the rows that are asked for, and no others are read."""

from made_up import two_networks
import numpy as np
import pytest

from shallow_jax.logits import manifest as logit_manifest
from shallow_jax.logits import rows as rows_lib
from shallow_jax.logits import store as logit_store
from shallow_jax.pipeline import run as run_lib
from shallow_jax.runtime import parallel

VIEWS, CLASSES, SIZES = 2, 3, (11, 7)


def written(folder, count, dtype='float32'):
  """A store of drawn logits in shards of 4, and the logits."""
  spec = logit_manifest.Spec(
    views=VIEWS,
    num_examples=count,
    class_names=tuple('abc'),
    ids_sha256='0' * 64,
    dtype=dtype,
    shard_rows=4,
    provenance={},
  )
  logits = np.random.default_rng(count).normal(size=(VIEWS, count, CLASSES)).astype(dtype)
  for shard in logit_store.missing_shards(folder, spec):
    logit_store.write_shard(folder, spec, shard, logits[:, shard.start : shard.stop])
  logit_store.finish(folder, spec)
  return logits


@pytest.fixture(params=['float32', 'float16'])
def stored(tmp_path, request):
  """Two stores' targets left on disk, and what they are by NumPy [examples, views, classes]."""
  logits = [written(tmp_path / str(size), size, request.param) for size in SIZES]
  stores = [logit_store.load(tmp_path / str(size), memory_limit_bytes=0) for size in SIZES]
  return rows_lib.targets([store.logits for store in stores]), np.concatenate(
    logits, axis=1
  ).swapaxes(0, 1)


@pytest.mark.parametrize(
  'rows', [slice(9, 14), slice(0, 0), np.array([17, 0, 11, 10, 10]), np.array([], int)]
)
def test_rows_of_several_stores_are_those_of_all_in_memory(stored, rows):
  found, expected = stored
  assert isinstance(found, rows_lib.TargetsOnDisk)
  assert found[rows].dtype == np.float32
  np.testing.assert_array_equal(found[rows], expected[rows].astype(np.float32))


def test_one_view_of_each_row_is_read_alone(stored):
  found, expected = stored
  rows, views = np.array([17, 0, 11, 10, 10]), np.array([1, 0, 0, 1, 0])
  assert found[rows, views].dtype == np.float32
  np.testing.assert_array_equal(found[rows, views], expected[rows, views].astype(np.float32))
  assert found[rows[:0], views[:0]].shape == (0, CLASSES)


def test_they_measure_what_they_take_in_memory(stored):
  found, expected = stored
  assert (len(found), found.shape) == (sum(SIZES), expected.shape)
  assert found.nbytes == np.asarray(found).nbytes
  np.testing.assert_array_equal(np.asarray(found), expected.astype(np.float32))


def test_stores_in_memory_give_an_array(tmp_path):
  logits = written(tmp_path, 5)
  found = rows_lib.targets([logit_store.load(tmp_path).logits])
  assert isinstance(found, np.ndarray)
  np.testing.assert_array_equal(found, logits.swapaxes(0, 1))


def test_each_part_of_the_devices_reads_its_own_rows(stored, monkeypatch):
  """As parallel reads them: device by device, of those that a process has."""
  found, _ = stored
  read = []
  rows_of = rows_lib.TargetsOnDisk.__getitem__

  def noted(self, rows):
    read.append(rows)
    return rows_of(self, rows)

  def of_two_devices(shape, sharding, part):
    del sharding
    half = shape[0] // 2
    return [part((slice(half, shape[0]), slice(None), slice(None)))]  # this process has the second

  monkeypatch.setattr(rows_lib.TargetsOnDisk, '__getitem__', noted)
  monkeypatch.setattr(parallel.jax, 'make_array_from_callback', of_two_devices)
  monkeypatch.setattr(parallel.Layout, 'parts', 2)
  layout = parallel.layout(batch_size=4)
  (part,) = layout.spread({'target': found})['target']
  assert [(rows.start, rows.stop) for rows in read] == [(9, 18)]
  assert part.shape == (9, VIEWS, CLASSES)


def test_a_student_learns_the_same_from_a_store_on_disk(tmp_path, monkeypatch):
  config = two_networks.get_config()
  config.networks.cnn.num_steps = config.networks.mimic.num_steps = 15
  in_memory = run_lib.run(config, tmp_path / 'memory')
  seen = []
  targets = rows_lib.targets

  def noted(stores):
    seen.append(type(targets(stores)))
    return targets(stores)

  monkeypatch.setattr(logit_store, 'MEMORY_LIMIT_BYTES', 0)
  monkeypatch.setattr(rows_lib, 'targets', noted)
  on_disk = run_lib.run(config, tmp_path / 'disk')
  assert set(seen) == {rows_lib.TargetsOnDisk}
  metrics = [found['networks']['mimic']['metrics'] for found in (in_memory, on_disk)]
  assert metrics[0] == metrics[1]
