"""The stored logits: a teacher's raw outputs on the transfer set, the targets of section 2.2.

A store is a folder of .npy shards [views, rows, classes] and a manifest.json, written last, that
says where they come from and what each file hashes to. Until then each finished shard has a sidecar
of its own, so that several writers share the work and one that is killed loses only the shard it
was at.

  for shard in logit_store.missing_shards(folder, spec):
    logit_store.write_shard(folder, spec, shard, teacher_logits(shard.start, shard.stop))
  logit_store.finish(folder, spec, labels=labels)
  store = logit_store.load(folder, expect=spec)
"""

from collections.abc import Mapping, Sequence
import concurrent.futures
import dataclasses
import hashlib
import math
import os
import pathlib

import numpy as np

from shallow_jax.logits import manifest as logit_manifest
from shallow_jax.logits import rows as rows_lib
from shallow_jax.runtime import storage

MEMORY_LIMIT_BYTES = 4 << 30  # what is larger, all sets of a training together, stays on disk

_BLOCK_ROWS = 65_536  # rows looked at in one go
_NUM_NAMED = 8  # shards, rows or classes that a message names at most


def is_finished(folder: str | os.PathLike[str]) -> bool:
  """Return whether a store has its manifest; one that was stopped after its last shard has not."""
  return os.path.lexists(pathlib.Path(folder) / logit_manifest.FILE_NAME)


def missing_shards(
  folder: str | os.PathLike[str], spec: logit_manifest.Spec, *, repair: bool = False
) -> list[logit_manifest.Shard]:
  """Return the shards still to be computed; make the folder, remove what killed writers left.

  A shard is there when its file has the hash that was noted for it.

  Args:
    repair: of a finished store, return the damaged shards for another go, instead of refusing it;
      a damaged manifest is thrown away, and with it goes the proof of every shard.

  Raises:
    logit_manifest.LogitStoreError: the folder holds another store (the differing fields are
      named), or it is finished and damaged.
  """
  folder = pathlib.Path(folder)
  _make(folder)
  if repair:
    _remove_broken_manifest(folder)
  done = _done(folder, spec)
  if len(done) < spec.num_shards and is_finished(folder) and not repair:
    message = f'{folder}: damaged: {_undone(spec, done)}; repair computes them again'
    raise logit_manifest.LogitStoreError(message)
  return [shard for shard in spec.shards() if shard.index not in done]


def _make(folder: pathlib.Path) -> None:
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise storage.StorageError(f'{folder}: could not be made: {error.strerror}') from error
  storage.remove_temporary(folder)


def _remove_broken_manifest(folder: pathlib.Path) -> None:
  try:
    if is_finished(folder):
      logit_manifest.read(folder)
  except logit_manifest.LogitStoreError:
    (folder / logit_manifest.FILE_NAME).unlink()


def _undone(spec: logit_manifest.Spec, done: Mapping[int, logit_manifest.Record]) -> str:
  names = [spec.file_name(shard) for shard in spec.shards() if shard.index not in done]
  rest = f' and {len(names) - _NUM_NAMED} more' if len(names) > _NUM_NAMED else ''
  return ', '.join(names[:_NUM_NAMED]) + rest


def _done(folder: pathlib.Path, spec: logit_manifest.Spec) -> dict[int, logit_manifest.Record]:
  """Return the records of the shards whose file is the one that was noted."""
  # The order matters: a writer that finishes meanwhile removes the sidecars after the manifest.
  sidecars = logit_manifest.read_sidecars(folder, spec)
  manifest = logit_manifest.read(folder) if is_finished(folder) else None
  if manifest is not None:
    logit_manifest.check_spec(manifest.spec, spec, folder)
  done = {}
  for shard in spec.shards():
    listed = [] if manifest is None else [manifest.shards[shard.index]]
    for record in [*sidecars.get(spec.file_name(shard), []), *listed]:
      if not logit_manifest.damage(folder, spec, shard, record):
        done[shard.index] = record
  return done


def write_shard(
  folder: str | os.PathLike[str],
  spec: logit_manifest.Spec,
  shard: logit_manifest.Shard,
  logits: np.ndarray,
) -> logit_manifest.Record:
  """Write the raw logits [views, rows, classes] of one shard: whole or not at all.

  Raises:
    logit_manifest.LogitStoreError: another shape, a logit that is not finite (the first
      examples are named), or one that float16 can't hold.
    storage.StorageError: the disk is full or read-only.
  """
  path = pathlib.Path(folder) / spec.file_name(shard)
  logit_manifest.check(shard in spec.shards(), f'{path}: {shard} is not a shard of this store')
  given, shape = np.asarray(logits), spec.shape(shard)
  logit_manifest.check(given.shape == shape, f'{path}: logits {given.shape} instead of {shape}')
  _check_finite(given, shard.start, path)
  stored = _cast(given, spec, path)
  header, data = spec.header(shard), stored.reshape(-1).view(np.uint8).data
  digest = hashlib.sha256(header)
  digest.update(data)
  error, moments = _largest_error(stored, given), logit_manifest.moments_of(stored)
  record = logit_manifest.Record(path.name, shape[1], digest.hexdigest(), error, moments)
  # The order matters: a shard without its sidecar is computed again, the reverse is a false claim.
  storage.write_bytes(path, header, data)
  sidecar = dataclasses.asdict(logit_manifest.Sidecar(spec, record))
  storage.write_sealed_json(path.with_suffix('.json'), sidecar)
  return record


def _check_finite(logits: np.ndarray, start: int, path: pathlib.Path) -> None:
  if np.isfinite(logits).all():
    return
  rows = np.flatnonzero(~np.isfinite(logits).all(axis=(0, 2))) + start
  first = ', '.join(map(str, rows[:_NUM_NAMED]))
  message = f'{path}: NaN or infinite logits of {rows.size} examples, first {first}'
  raise logit_manifest.LogitStoreError(message)


def _cast(given: np.ndarray, spec: logit_manifest.Spec, path: pathlib.Path) -> np.ndarray:
  """The logits as in the file: the given array itself where it has its form."""
  with np.errstate(over='ignore', under='ignore'):
    stored = np.ascontiguousarray(given, spec.file_dtype)
  largest, limit = max(-float(given.min()), float(given.max())), float(np.finfo(stored.dtype).max)
  advice = '; use float32' if spec.dtype == 'float16' else ''
  message = f'{path}: a logit of {largest:.6g} is beyond {limit:.6g} of {spec.dtype}{advice}'
  logit_manifest.check(np.isfinite(stored).all(), message)
  return stored


def _largest_error(stored: np.ndarray, given: np.ndarray) -> float:
  if stored.dtype == given.dtype:
    return 0.0
  step = logit_manifest.BLOCK_ROWS
  return max(
    float(np.abs(stored_view[i : i + step] - view[i : i + step].astype(np.float64)).max())
    for stored_view, view in zip(stored, given, strict=True)
    for i in range(0, len(view), step)
  )


def finish(
  folder: str | os.PathLike[str], spec: logit_manifest.Spec, *, labels: np.ndarray | None = None
) -> logit_manifest.Manifest:
  """Write the manifest once all shards are there, then remove the sidecars.

  Call it whenever missing_shards is empty: it changes nothing on a finished store.

  `labels` are [examples] integers, -1 where unknown; the teacher's accuracy on them goes into the
  manifest, for check_rows_belong.

  Raises:
    logit_manifest.LogitStoreError: shards are missing (which ones), or the folder holds another
      store.
  """
  folder = pathlib.Path(folder)
  done = _done(folder, spec)
  missing, names = spec.num_shards - len(done), _undone(spec, done)
  logit_manifest.check(not missing, f'{folder}: {missing} shards are missing: {names}')
  old = logit_manifest.read(folder) if is_finished(folder) else None
  records = tuple(done[i] for i in range(spec.num_shards))
  if labels is not None:
    accuracy = _measured_accuracy(_on_disk(folder, spec), labels)
  else:
    accuracy = old.accuracy if old is not None and old.shards == records else None
  moments = logit_manifest.combined([record.moments for record in records])
  manifest = logit_manifest.Manifest(spec, records, moments, accuracy)
  if old is None or storage.differences(old.to_json(), manifest.to_json()):
    storage.write_sealed_json(folder / logit_manifest.FILE_NAME, manifest.to_json())
  for shard in spec.shards():
    (folder / spec.file_name(shard)).with_suffix('.json').unlink(missing_ok=True)
  return logit_manifest.read(folder)


@dataclasses.dataclass(frozen=True)
class Store:
  """A verified store: what it says of itself and its logits [views, examples, classes]."""

  manifest: logit_manifest.Manifest
  logits: np.ndarray | rows_lib.LogitsOnDisk


def load(
  folder: str | os.PathLike[str],
  *,
  expect: logit_manifest.Spec | None = None,
  memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> Store:
  """Verify a store and return it: in memory (read-only) up to the limit, else on disk.

  Raises:
    logit_manifest.LogitStoreError: as verify does.
  """
  verify(folder, expect=expect)
  return opened(folder, memory_limit_bytes=memory_limit_bytes)


def opened(
  folder: str | os.PathLike[str], *, memory_limit_bytes: int = MEMORY_LIMIT_BYTES
) -> Store:
  """Return a store that was verified, by this process or by several together."""
  folder = pathlib.Path(folder)
  manifest = logit_manifest.read(folder)
  spec = manifest.spec
  logits = _on_disk(folder, spec)
  if sum(spec.num_bytes(shard) for shard in spec.shards()) > memory_limit_bytes:
    return Store(manifest, logits)
  in_memory = np.asarray(logits)
  in_memory.setflags(write=False)
  return Store(manifest, in_memory)


def verify(
  folder: str | os.PathLike[str],
  *,
  expect: logit_manifest.Spec | None = None,
  share: tuple[int, int] = (0, 1),
) -> logit_manifest.Manifest:
  """Return the manifest after every file was found to be the one that was written.

  `share` (i, n): this is reader i of n that verify the store together, each an n-th of its files.

  Raises:
    logit_manifest.LogitStoreError: naming the first damaged file, or the manifest's wrong field; or
      the store is not the one that `expect` describes (every differing field is named).
  """
  folder = pathlib.Path(folder)
  message = f'{folder}: no {logit_manifest.FILE_NAME}: the store is missing or not finished'
  logit_manifest.check(is_finished(folder), message)
  manifest = logit_manifest.read(folder)
  spec = manifest.spec
  if expect is not None:
    logit_manifest.check_spec(spec, expect, folder)

  def check(record: logit_manifest.Record, shard: logit_manifest.Shard) -> None:
    soundness = _Soundness(spec)
    damage = logit_manifest.damage(folder, spec, shard, record, soundness)
    logit_manifest.check(not damage, f'{folder}: {damage}')
    # Whatever its hash: somebody may have written both. The header is compared, not interpreted:
    # none makes NumPy unpickle an object.
    path = folder / record.file
    logit_manifest.check(
      soundness.header == spec.header(shard),
      f'{path} is not a .npy file of {spec.dtype} {list(spec.shape(shard))}',
    )
    if not soundness.all_finite:
      _check_finite(_shard_on_disk(path, spec, shard), shard.start, path)

  first, step = share
  records, shards = manifest.shards[first::step], spec.shards()[first::step]
  with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:  # hashing frees the lock
    for _ in threads.map(check, records, shards):
      pass  # the first damaged file raises
  return manifest


class _Soundness:
  """Looks at a file's blocks while they are in the cache: are its header and all logits sound?"""

  def __init__(self, spec: logit_manifest.Spec) -> None:
    self._dtype = spec.file_dtype
    self.header = b''
    self.all_finite = True

  def __call__(self, block: memoryview) -> None:
    if not self.header:
      self.header = bytes(block[: logit_manifest.HEADER_BYTES])
      block = block[logit_manifest.HEADER_BYTES :]
    self.all_finite &= bool(np.isfinite(np.frombuffer(block, self._dtype)).all())


def _on_disk(folder: pathlib.Path, spec: logit_manifest.Spec) -> rows_lib.LogitsOnDisk:
  parts = [_shard_on_disk(folder / spec.file_name(shard), spec, shard) for shard in spec.shards()]
  return rows_lib.LogitsOnDisk(tuple(parts))


def _shard_on_disk(
  path: pathlib.Path, spec: logit_manifest.Spec, shard: logit_manifest.Shard
) -> np.ndarray:
  shape, dtype = spec.shape(shard), spec.file_dtype
  pages = np.memmap(path, dtype, mode='r', offset=logit_manifest.HEADER_BYTES, shape=shape)
  return np.asarray(pages)  # a plain array over the same pages, whose parts are sooner made


def statistics(manifests: Sequence[logit_manifest.Manifest]) -> tuple[np.ndarray, np.ndarray]:
  """Return mean and standard deviation [classes] (float64) over all logits of several stores.

  Raises:
    logit_manifest.LogitStoreError: the stores have other classes, or a class has the same logit
      everywhere, so that dividing by its deviation would make NaN.
  """
  logit_manifest.check(manifests, 'no store has no statistics')
  names = manifests[0].spec.class_names
  same = all(manifest.spec.class_names == names for manifest in manifests)
  logit_manifest.check(same, 'stores with other class names do not make one transfer set')
  total = logit_manifest.combined([manifest.moments for manifest in manifests])
  std = np.sqrt(np.asarray(total.m2) / total.count)
  constant = [name for name, value in zip(names, std, strict=True) if value == 0]
  first = ', '.join(constant[:_NUM_NAMED])
  logit_manifest.check(not constant, f'the same logit everywhere for class {first}')
  return np.asarray(total.mean), std


def check_rows_belong(
  logits: np.ndarray | rows_lib.LogitsOnDisk,
  labels: np.ndarray,
  accuracy: logit_manifest.Accuracy | None,
) -> bool:
  """Refuse logits [views, examples, classes] that belong to other examples than the labels.

  Their accuracy lies within 4 binomial standard errors of the manifest's `accuracy`; the rate in
  the standard error is (correct + 1) / (labelled + 2), so that it isn't 0 for a perfect teacher.

  Labels are [examples] integers, -1 where unknown. False where nothing could be checked: no label
  is known, here or when the store was written.

  Raises:
    logit_manifest.LogitStoreError: with both accuracies.
  """
  here = _measured_accuracy(logits, labels)
  if accuracy is None or not accuracy.labelled or not here.labelled:
    return False
  rate = (accuracy.correct + 1) / (accuracy.labelled + 2)
  error = math.sqrt(rate * (1 - rate) / here.labelled)
  found, expected = here.correct / here.labelled, accuracy.correct / accuracy.labelled
  message = (
    f'the logits are right for {found:.1%} of {here.labelled} labels and were for '
    f'{expected:.1%} when written: these are other examples, or in another order'
  )
  logit_manifest.check(abs(found - expected) <= 4 * error, message)
  return True


def _measured_accuracy(
  logits: np.ndarray | rows_lib.LogitsOnDisk, labels: np.ndarray
) -> logit_manifest.Accuracy:
  labels = np.asarray(labels)
  num_examples, num_classes = logits.shape[1:]
  message = f'labels {labels.shape} for {num_examples} examples'
  logit_manifest.check(labels.shape == (num_examples,), message)
  valid = labels.dtype.kind in 'iu' and ((labels >= -1) & (labels < num_classes)).all()
  logit_manifest.check(valid, f'labels are integers from -1 (unknown) to {num_classes - 1}')
  starts = range(0, num_examples, _BLOCK_ROWS)
  blocks = [slice(start, start + _BLOCK_ROWS) for start in starts]
  correct = sum(int((logits[0, b].argmax(axis=-1) == labels[b]).sum()) for b in blocks)
  return logit_manifest.Accuracy(int((labels >= 0).sum()), correct)
