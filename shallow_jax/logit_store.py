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
import dataclasses
import functools
import hashlib
import math
import os
import pathlib
import re
import stat
from typing import TYPE_CHECKING, Any

import numpy as np

from shallow_jax import storage

if TYPE_CHECKING:
  import jax

FORMAT_VERSION = 1
MEMORY_LIMIT_BYTES = 4 << 30  # larger stores stay on disk, mapped

_DTYPES = {'float32': '<f4', 'float16': '<f2'}
_HEADER_BYTES = 128
_BLOCK_ROWS = 65_536  # rows looked at in one go
_MANIFEST = 'manifest.json'
_NUM_NAMED = 8  # shards, rows or classes that a message names at most


class LogitStoreError(ValueError):
  """A store is damaged, unfinished or not the one expected; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Spec:
  """All that is known of a store before its first logit.

  Attributes:
    views: augmented views of each example, at least 1.
    num_examples: rows of the transfer set.
    class_names: one name for each logit.
    ids_sha256: hash of the examples' ids in their order.
    dtype: 'float32' or 'float16'.
    shard_rows: examples in a shard; the last one has the rest.
    provenance: JSON: the teacher's fingerprint, checkpoint hashes and members, the fingerprints of
      data and views; whatever differs makes another store.
  """

  views: int
  num_examples: int
  class_names: tuple[str, ...]
  ids_sha256: str
  dtype: str
  shard_rows: int
  provenance: dict[str, Any]

  def __post_init__(self) -> None:
    """Refuse what can't be a store, by field."""
    for name in ('views', 'num_examples', 'shard_rows'):
      value = getattr(self, name)
      _check(type(value) is int and value > 0, f'{name} {value!r} is not a count of at least 1')
    _check(self.dtype in _DTYPES, f'dtype {self.dtype!r} is none of {", ".join(_DTYPES)}')
    _check(self.class_names, 'class_names is empty')
    twice = len(set(self.class_names)) < len(self.class_names)
    _check(not twice, 'class_names has a name twice')

  @property
  def num_shards(self) -> int:
    """Files that the rows are in."""
    return -(-self.num_examples // self.shard_rows)


def _check(holds: object, message: str) -> None:
  if not holds:
    raise LogitStoreError(message)


@dataclasses.dataclass(frozen=True)
class Shard:
  """The examples start to stop (exclusive), file number `index` of a store."""

  index: int
  start: int
  stop: int


def shards(spec: Spec) -> list[Shard]:
  """Return all shards of a store in the order of the examples."""
  starts = range(0, spec.num_examples, spec.shard_rows)
  ends = [min(start + spec.shard_rows, spec.num_examples) for start in starts]
  return [Shard(i, start, end) for i, (start, end) in enumerate(zip(starts, ends, strict=True))]


@dataclasses.dataclass(frozen=True)
class Moments:
  """Count, mean and sum of squared deviations (m2) of each class's logits, in float64."""

  count: int
  mean: tuple[float, ...]
  m2: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Record:
  """What was noted when a shard was written."""

  file: str
  rows: int
  sha256: str
  round_trip_error: float  # the largest |stored - given| logit
  moments: Moments


@dataclasses.dataclass(frozen=True)
class Accuracy:
  """Of the examples with a known label, how many the first view's largest logit gets right."""

  labelled: int
  correct: int


@dataclasses.dataclass(frozen=True)
class Manifest:
  """What a finished store says of itself."""

  spec: Spec
  shards: tuple[Record, ...]
  moments: Moments
  accuracy: Accuracy | None

  def to_json(self) -> dict[str, Any]:
    """Return the JSON object of manifest.json, without its seal."""
    return {'format_version': FORMAT_VERSION, **dataclasses.asdict(self)}

  @classmethod
  def from_json(cls, value: Mapping[str, Any]) -> 'Manifest':
    """Return the manifest of a JSON object.

    Raises:
      LogitStoreError: a field is out of its range or contradicts another one; it is named.
      storage.StorageError: a field is missing, unknown or of another type; it is named.
    """
    fields = dict(value)
    version = fields.pop('format_version', None)
    _check(version == FORMAT_VERSION, f'format_version {version!r}, {FORMAT_VERSION} is read here')
    manifest = storage.typed_json(cls, fields)
    _check_contents(manifest)
    return manifest


def _check_contents(manifest: Manifest) -> None:
  """Refuse shards that don't hold each example exactly once, and sums that don't add up."""
  spec, records = manifest.spec, manifest.shards
  # Before shards(spec): the list it makes must not grow with a number that somebody typed in.
  count = len(records)
  _check(count == spec.num_shards, f'shards: {count} are listed, {spec.num_shards} hold the rows')
  for record, shard in zip(records, shards(spec), strict=True):
    _check_record(record, spec, shard)
  total = _combined([record.moments for record in records])
  _check(manifest.moments == total, 'moments: not those of the shards together')
  accuracy = manifest.accuracy or Accuracy(0, 0)
  ordered = 0 <= accuracy.correct <= accuracy.labelled <= spec.num_examples
  _check(ordered, 'accuracy: more are correct than labelled, or more labelled than stored')


def _check_record(record: Record, spec: Spec, shard: Shard) -> None:
  moments, (views, rows, num_classes) = record.moments, _shape(spec, shard)
  # The file's name is the one it must have, so that a path out of the folder is never opened.
  expected = dict(file=_file_name(spec, shard), rows=rows, count=views * rows)
  found = dict(file=record.file, rows=record.rows, count=moments.count)
  wrong = storage.differences(expected, found)
  where = f'shards.{shard.index}'
  _check(not wrong, f'{where}: expected {"; ".join(wrong)}')
  one_a_class = len(moments.mean) == len(moments.m2) == num_classes
  _check(one_a_class, f'{where}.moments: not one mean and m2 for each of {num_classes} classes')
  _check(re.fullmatch('[0-9a-f]{64}', record.sha256), f'{where}.sha256 is not a hash')
  _check(min(record.round_trip_error, *moments.m2) >= 0, f'{where}: a negative error or m2')


def _shape(spec: Spec, shard: Shard) -> tuple[int, int, int]:
  return spec.views, shard.stop - shard.start, len(spec.class_names)


def _file_name(spec: Spec, shard: Shard) -> str:
  return f'shard-{shard.index:05d}-of-{spec.num_shards:05d}.npy'


def is_finished(folder: str | os.PathLike[str]) -> bool:
  """Return whether a store has its manifest; one that was stopped after its last shard has not."""
  return os.path.lexists(pathlib.Path(folder) / _MANIFEST)


def missing_shards(
  folder: str | os.PathLike[str], spec: Spec, *, repair: bool = False
) -> list[Shard]:
  """Return the shards still to be computed; make the folder, remove what killed writers left.

  A shard is there when its file has the hash that was noted for it.

  Args:
    folder: of this store alone.
    spec: what is to be in it.
    repair: of a finished store, return the damaged shards for another go, instead of refusing it;
      a damaged manifest is thrown away, and with it goes the proof of every shard.

  Raises:
    LogitStoreError: the folder holds another store (the differing fields are named), or it is
      finished and damaged.
  """
  folder = pathlib.Path(folder)
  _make(folder)
  if repair:
    _remove_broken_manifest(folder)
  done = _done(folder, spec)
  if len(done) < spec.num_shards and is_finished(folder) and not repair:
    raise LogitStoreError(f'{folder}: damaged: {_undone(spec, done)}; repair computes them again')
  return [shard for shard in shards(spec) if shard.index not in done]


def _make(folder: pathlib.Path) -> None:
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise storage.StorageError(f'{folder}: could not be made: {error.strerror}') from error
  storage.remove_temporary(folder)


def _remove_broken_manifest(folder: pathlib.Path) -> None:
  try:
    if is_finished(folder):
      _read_manifest(folder)
  except LogitStoreError:
    (folder / _MANIFEST).unlink()


def _undone(spec: Spec, done: Mapping[int, Record]) -> str:
  names = [_file_name(spec, shard) for shard in shards(spec) if shard.index not in done]
  rest = f' and {len(names) - _NUM_NAMED} more' if len(names) > _NUM_NAMED else ''
  return ', '.join(names[:_NUM_NAMED]) + rest


def _done(folder: pathlib.Path, spec: Spec) -> dict[int, Record]:
  """Return the records of the shards whose file is the one that was noted."""
  # The order matters: a writer that finishes meanwhile removes the sidecars after the manifest.
  sidecars = _read_sidecars(folder, spec)
  manifest = _read_manifest(folder) if is_finished(folder) else None
  if manifest is not None:
    _check_spec(manifest.spec, spec, folder)
  done = {}
  for shard in shards(spec):
    listed = [] if manifest is None else [manifest.shards[shard.index]]
    for record in [*sidecars.get(_file_name(spec, shard), []), *listed]:
      if not _damage(folder, spec, shard, record):
        done[shard.index] = record
  return done


def _read_sidecars(folder: pathlib.Path, spec: Spec) -> dict[str, list[Record]]:
  """Return what writers noted beside the shards; a broken note counts as none."""
  records = {}
  for path in sorted(folder.glob('shard-*.json')):
    try:
      sidecar = storage.typed_json(_Sidecar, storage.read_sealed_json(path))
    except (storage.StorageError, LogitStoreError):
      continue  # its shard is computed again
    _check_spec(sidecar.spec, spec, folder)
    records[sidecar.record.file] = [sidecar.record]
  return records


@dataclasses.dataclass(frozen=True)
class _Sidecar:
  spec: Spec
  record: Record


def _check_spec(found: Spec, wanted: Spec, folder: pathlib.Path) -> None:
  lines = storage.differences(dataclasses.asdict(found), dataclasses.asdict(wanted))
  _check(not lines, f'{folder}: the logits of another run: {"; ".join(lines)}')


def _damage(folder: pathlib.Path, spec: Spec, shard: Shard, record: Record) -> str:
  """Return what is wrong with a shard's file, empty if it is the one that was noted."""
  path = folder / _file_name(spec, shard)
  if not os.path.lexists(path):
    return f'{path.name} is missing'
  found, size = path.lstat(), len(_header(spec, shard)) + _num_bytes(spec, shard)
  if not stat.S_ISREG(found.st_mode):
    return f'{path.name} is not a regular file (a link or a folder)'
  if found.st_size != size:
    return f'{path.name} has {found.st_size:,} bytes instead of {size:,}'
  if storage.sha256_file(path) != record.sha256:
    return f'{path.name} has another sha256 than when it was written'
  return ''


def _num_bytes(spec: Spec, shard: Shard) -> int:
  return math.prod(_shape(spec, shard)) * np.dtype(_DTYPES[spec.dtype]).itemsize


def write_shard(
  folder: str | os.PathLike[str], spec: Spec, shard: Shard, logits: np.ndarray
) -> Record:
  """Write the raw logits [views, rows, classes] of one shard: whole or not at all.

  Raises:
    LogitStoreError: another shape, a logit that is not finite (the first examples are named), or
      one that float16 can't hold.
    storage.StorageError: the disk is full or read-only.
  """
  path = pathlib.Path(folder) / _file_name(spec, shard)
  _check(shard in shards(spec), f'{path}: {shard} is not a shard of this store')
  exact, shape = np.asarray(logits).astype(np.float64), _shape(spec, shard)
  _check(exact.shape == shape, f'{path}: logits {exact.shape} instead of {shape}')
  _check_finite(exact, shard.start, path)
  stored = _cast(exact, spec, path)
  data = _header(spec, shard) + stored.tobytes()
  digest, error = hashlib.sha256(data).hexdigest(), float(np.abs(stored - exact).max())
  record = Record(path.name, shape[1], digest, error, _moments(stored))
  # The order matters: a shard without its sidecar is computed again, the reverse is a false claim.
  storage.write_bytes(path, data)
  sidecar = dataclasses.asdict(_Sidecar(spec, record))
  storage.write_sealed_json(path.with_suffix('.json'), sidecar)
  return record


def _check_finite(logits: np.ndarray, start: int, path: pathlib.Path) -> None:
  if np.isfinite(logits).all():
    return
  rows = np.flatnonzero(~np.isfinite(logits).all(axis=(0, 2))) + start
  first = ', '.join(map(str, rows[:_NUM_NAMED]))
  raise LogitStoreError(f'{path}: NaN or infinite logits of {rows.size} examples, first {first}')


def _cast(exact: np.ndarray, spec: Spec, path: pathlib.Path) -> np.ndarray:
  with np.errstate(over='ignore', under='ignore'):
    stored = exact.astype(_DTYPES[spec.dtype])
  largest, limit = np.abs(exact).max(), float(np.finfo(stored.dtype).max)
  advice = '; use float32' if spec.dtype == 'float16' else ''
  message = f'{path}: a logit of {largest:.6g} is beyond {limit:.6g} of {spec.dtype}{advice}'
  _check(np.isfinite(stored).all(), message)
  return stored


def _header(spec: Spec, shard: Shard) -> bytes:
  """Return the .npy header: NumPy's differs between its versions, the store's bytes must not."""
  text = str({'descr': _DTYPES[spec.dtype], 'fortran_order': False, 'shape': _shape(spec, shard)})
  length = _HEADER_BYTES - 10  # after magic, version and length itself
  return b'\x93NUMPY\x01\x00' + length.to_bytes(2, 'little') + f'{text:<{length - 1}}\n'.encode()


def _moments(logits: np.ndarray) -> Moments:
  """Return the moments of [views, rows, classes] over views and rows."""
  flat = logits.reshape(-1, logits.shape[-1]).astype(np.float64)
  mean = flat.mean(axis=0)
  m2 = np.square(flat - mean).sum(axis=0)
  return Moments(len(flat), tuple(mean.tolist()), tuple(m2.tolist()))


def _combined(parts: Sequence[Moments]) -> Moments:
  """Return the moments of all parts together (Chan, Golub and LeVeque 1983, equation 2.1)."""
  return functools.reduce(_pair, parts)


def _pair(a: Moments, b: Moments) -> Moments:
  count = a.count + b.count
  delta = np.subtract(b.mean, a.mean)
  mean = np.asarray(a.mean) + delta * (b.count / count)
  m2 = np.asarray(a.m2) + b.m2 + np.square(delta) * (a.count * b.count / count)
  return Moments(count, tuple(mean.tolist()), tuple(m2.tolist()))


def finish(
  folder: str | os.PathLike[str], spec: Spec, *, labels: np.ndarray | None = None
) -> Manifest:
  """Write the manifest once all shards are there, then remove the sidecars.

  Call it whenever missing_shards is empty: it changes nothing on a finished store.

  Args:
    folder: of the store.
    spec: what it was written under.
    labels: [examples] integers, -1 where unknown; the teacher's accuracy on them goes into the
      manifest, for check_alignment.

  Raises:
    LogitStoreError: shards are missing (which ones), or the folder holds another store.
  """
  folder = pathlib.Path(folder)
  done = _done(folder, spec)
  missing = spec.num_shards - len(done)
  _check(not missing, f'{folder}: {missing} shards are missing: {_undone(spec, done)}')
  old = _read_manifest(folder) if is_finished(folder) else None
  records = tuple(done[i] for i in range(spec.num_shards))
  if labels is not None:
    accuracy = _measured_accuracy(_mapped(folder, spec), labels)
  else:
    accuracy = old.accuracy if old is not None and old.shards == records else None
  moments = _combined([record.moments for record in records])
  manifest = Manifest(spec, records, moments, accuracy)
  if old is None or storage.differences(old.to_json(), manifest.to_json()):
    storage.write_sealed_json(folder / _MANIFEST, manifest.to_json())
  for shard in shards(spec):
    (folder / _file_name(spec, shard)).with_suffix('.json').unlink(missing_ok=True)
  return _read_manifest(folder)


def _read_manifest(folder: pathlib.Path) -> Manifest:
  path = folder / _MANIFEST
  _check(not path.is_symlink(), f'{path} is a link')
  try:
    value = storage.read_json(path)
    _check(isinstance(value, dict), 'not a JSON object')
    # Before the seal: where somebody edited it, the field is the better message.
    manifest = Manifest.from_json({name: value[name] for name in value if name != storage.SEAL})
    storage.check_seal(path, value)
  except (storage.StorageError, LogitStoreError) as error:
    where = '' if str(path) in str(error) else f'{path}: '
    raise LogitStoreError(f'{where}{error}') from error
  return manifest


@dataclasses.dataclass(frozen=True)
class MappedLogits:
  """Logits [views, examples, classes] left on disk: `logits[views, rows]` reads those rows.

  views is an integer or a slice, rows an integer, a slice or an array of integers.
  """

  parts: tuple[np.ndarray, ...]
  shard_rows: int

  @property
  def shape(self) -> tuple[int, int, int]:
    """[views, examples, classes]."""
    views, _, num_classes = self.parts[0].shape
    return views, sum(part.shape[1] for part in self.parts), num_classes

  @property
  def dtype(self) -> np.dtype:
    """Of each logit."""
    return self.parts[0].dtype

  def __getitem__(self, key: tuple[Any, Any]) -> np.ndarray:
    """Return a copy of these views and rows, in the shape NumPy would give."""
    views, rows = key
    index = _row_index(rows, self.shape[1])
    numbers, local = np.divmod(index.ravel(), self.shard_rows)
    kept = self.parts[0][views, :0].shape[:-2]
    logits = np.empty((*kept, local.size, self.shape[2]), self.dtype)
    for number in np.unique(numbers):
      here = numbers == number
      logits[..., here, :] = self.parts[number][views][..., local[here], :]
    return logits.reshape(*kept, *index.shape, self.shape[2])

  def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
    """Return all of them in memory; always a copy."""
    return np.concatenate(self.parts, axis=1).astype(dtype or self.dtype, copy=False)


def _row_index(rows: Any, num_rows: int) -> np.ndarray:
  if isinstance(rows, slice):
    return np.arange(*rows.indices(num_rows))
  index = np.asarray(rows)
  if index.dtype.kind not in 'iu' or ((index < -num_rows) | (index >= num_rows)).any():
    raise IndexError(f'rows are integers from {-num_rows} to {num_rows - 1}')
  return np.where(index < 0, index + num_rows, index)


@dataclasses.dataclass(frozen=True)
class Store:
  """A verified store: what it says of itself and its logits [views, examples, classes]."""

  manifest: Manifest
  logits: np.ndarray | MappedLogits


def load(
  folder: str | os.PathLike[str],
  *,
  expect: Spec | None = None,
  memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> Store:
  """Verify a store and return it: in memory (read-only) up to the limit, else mapped.

  Raises:
    LogitStoreError: as verify does, or the store is not the one that `expect` describes (every
      differing field is named).
  """
  folder = pathlib.Path(folder)
  if expect is not None and is_finished(folder):
    _check_spec(_read_manifest(folder).spec, expect, folder)
  manifest = verify(folder)
  spec = manifest.spec
  mapped = _mapped(folder, spec)
  if sum(_num_bytes(spec, shard) for shard in shards(spec)) > memory_limit_bytes:
    return Store(manifest, mapped)
  logits = np.asarray(mapped)
  logits.setflags(write=False)
  return Store(manifest, logits)


def verify(folder: str | os.PathLike[str]) -> Manifest:
  """Return the manifest after every file was found to be the one that was written.

  Raises:
    LogitStoreError: naming the first damaged file, or the field of the manifest that is wrong.
  """
  folder = pathlib.Path(folder)
  _check(is_finished(folder), f'{folder}: no {_MANIFEST}: the store is missing or not finished')
  manifest = _read_manifest(folder)
  spec = manifest.spec
  for record, shard in zip(manifest.shards, shards(spec), strict=True):
    damage = _damage(folder, spec, shard, record)
    _check(not damage, f'{folder}: {damage}')
    _check_array(folder / record.file, spec, shard)
  return manifest


def _check_array(path: pathlib.Path, spec: Spec, shard: Shard) -> None:
  """Refuse a file that is not a finite array, whatever its hash: somebody may have written both."""
  with open(path, 'rb') as file:
    header = file.read(_HEADER_BYTES)
  # Compared, not interpreted: no header makes NumPy unpickle an object.
  same = header == _header(spec, shard)
  _check(same, f'{path} is not a .npy file of {spec.dtype} {list(_shape(spec, shard))}')
  _check_finite(_mapped_shard(path, spec, shard), shard.start, path)


def _mapped(folder: pathlib.Path, spec: Spec) -> MappedLogits:
  parts = [_mapped_shard(folder / _file_name(spec, shard), spec, shard) for shard in shards(spec)]
  return MappedLogits(tuple(parts), spec.shard_rows)


def _mapped_shard(path: pathlib.Path, spec: Spec, shard: Shard) -> np.ndarray:
  shape, dtype = _shape(spec, shard), _DTYPES[spec.dtype]
  return np.memmap(path, dtype, mode='r', offset=_HEADER_BYTES, shape=shape)


def statistics(manifests: Sequence[Manifest]) -> tuple[np.ndarray, np.ndarray]:
  """Return mean and standard deviation [classes] (float64) over all logits of several stores.

  Raises:
    LogitStoreError: the stores have other classes, or a class has the same logit everywhere, so
      that dividing by its deviation would make NaN.
  """
  _check(manifests, 'no store has no statistics')
  names = manifests[0].spec.class_names
  same = all(manifest.spec.class_names == names for manifest in manifests)
  _check(same, 'stores with other class names do not make one transfer set')
  total = _combined([manifest.moments for manifest in manifests])
  std = np.sqrt(np.asarray(total.m2) / total.count)
  constant = [name for name, value in zip(names, std, strict=True) if value == 0]
  _check(not constant, f'the same logit everywhere for class {", ".join(constant[:_NUM_NAMED])}')
  return np.asarray(total.mean), std


def check_alignment(
  logits: np.ndarray | MappedLogits, labels: np.ndarray, accuracy: Accuracy | None
) -> bool:
  """Refuse logits [views, examples, classes] that belong to other examples than the labels.

  Their accuracy lies within 4 binomial standard errors of the manifest's `accuracy`; the rate in
  the standard error is (correct + 1) / (labelled + 2), so that it isn't 0 for a perfect teacher.

  Args:
    logits: of a store.
    labels: [examples] integers, -1 where unknown.
    accuracy: the manifest's.

  Returns:
    False where nothing could be checked: no label is known, here or when the store was written.

  Raises:
    LogitStoreError: with both accuracies.
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
  _check(abs(found - expected) <= 4 * error, message)
  return True


def _measured_accuracy(logits: np.ndarray | MappedLogits, labels: np.ndarray) -> Accuracy:
  labels = np.asarray(labels)
  num_examples, num_classes = logits.shape[1:]
  _check(labels.shape == (num_examples,), f'labels {labels.shape} for {num_examples} examples')
  valid = labels.dtype.kind in 'iu' and ((labels >= -1) & (labels < num_classes)).all()
  _check(valid, f'labels are integers from -1 (unknown) to {num_classes - 1}')
  starts = range(0, num_examples, _BLOCK_ROWS)
  blocks = [slice(start, start + _BLOCK_ROWS) for start in starts]
  correct = sum(int((logits[0, b].argmax(axis=-1) == labels[b]).sum()) for b in blocks)
  return Accuracy(int((labels >= 0).sum()), correct)


def as_jax_array(store: Store, mesh: 'jax.sharding.Mesh') -> 'jax.Array':
  """Return the logits [views, examples, classes], each device of axis 'data' holding its examples.

  Raises:
    LogitStoreError: the examples don't divide by the devices; nothing is padded, as a padded row
      would be trained on.
  """
  import jax  # here alone: verifying a store needs no accelerator

  num_examples, devices = store.logits.shape[1], mesh.shape['data']
  divides = num_examples % devices == 0
  _check(divides, f'{num_examples} examples do not divide by the {devices} devices of axis data')
  sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, 'data', None))
  read = lambda index: store.logits[index[:2]]  # noqa: E731 (classes are never split)
  return jax.make_array_from_callback(store.logits.shape, sharding, read)
