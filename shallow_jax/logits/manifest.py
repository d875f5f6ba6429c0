"""What a logit store says of itself: its plan, its manifest and, until then, its sidecars.

Spec and Shard are the plan, known before the first logit; a Record is what was noted of a shard
when it was written, a Manifest all of them. store.py writes them, and the logits.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import dataclasses
import functools
import math
import os
import pathlib
import re
import stat
from typing import Any

import numpy as np

from shallow_jax.runtime import errors
from shallow_jax.runtime import storage

FORMAT_VERSION = 1
FILE_NAME = 'manifest.json'
HEADER_BYTES = 128  # of a shard's file, before its logits
SHARD_BYTES = 256 << 20  # of a shard's logits at most: one is held in memory until it is written
BLOCK_ROWS = 4096  # rows in float64 at once

_DTYPES = {'float32': '<f4', 'float16': '<f2'}


class LogitStoreError(errors.ExpectedError, ValueError):
  """A store is damaged, unfinished or not the one expected; the message is one line."""


def check(holds: object, message: str) -> None:
  """Raise LogitStoreError with this message unless it holds."""
  if not holds:
    raise LogitStoreError(message)


@dataclasses.dataclass(frozen=True)
class Shard:
  """The examples start to stop (exclusive), file number `index` of a store."""

  index: int
  start: int
  stop: int


@dataclasses.dataclass(frozen=True)
class Spec:
  """All that is known of a store before its first logit.

  Attributes:
    views: augmented views of each example, at least 1.
    num_examples: rows of the transfer set.
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
      check(type(value) is int and value > 0, f'{name} {value!r} is not a count of at least 1')
    check(self.dtype in _DTYPES, f'dtype {self.dtype!r} is none of {", ".join(_DTYPES)}')
    check(self.class_names, 'class_names is empty')
    twice = len(set(self.class_names)) < len(self.class_names)
    check(not twice, 'class_names has a name twice')

  def within(self, num_bytes: int, multiple_of: int) -> 'Spec':
    """Return this plan, or where its largest shard has more bytes than that one of fewer rows.

    These are a multiple of `multiple_of`, the batch that they are computed in; at least one batch.
    """
    shard = self.shards()[0]
    if self.num_bytes(shard) <= num_bytes:
      return self
    fitting = num_bytes * (shard.stop - shard.start) // self.num_bytes(shard)
    rows = max(1, fitting // multiple_of) * multiple_of
    return dataclasses.replace(self, shard_rows=min(rows, self.shard_rows))

  @property
  def num_shards(self) -> int:
    """Files that the rows are in."""
    return -(-self.num_examples // self.shard_rows)

  def shards(self) -> list[Shard]:
    """Return all shards in the order of the examples."""
    starts = range(0, self.num_examples, self.shard_rows)
    stops = [min(start + self.shard_rows, self.num_examples) for start in starts]
    return [Shard(i, *ends) for i, ends in enumerate(zip(starts, stops, strict=True))]

  @property
  def file_dtype(self) -> np.dtype:
    """Of each logit in a file, little-endian on every machine."""
    return np.dtype(_DTYPES[self.dtype])

  def shape(self, shard: Shard) -> tuple[int, int, int]:
    """Return [views, rows, classes] of a shard."""
    return self.views, shard.stop - shard.start, len(self.class_names)

  def file_name(self, shard: Shard) -> str:
    """Return the name of a shard's file in the store's folder."""
    return f'shard-{shard.index:05d}-of-{self.num_shards:05d}.npy'

  def num_bytes(self, shard: Shard) -> int:
    """Return the bytes of a shard's logits; its file has HEADER_BYTES more."""
    return math.prod(self.shape(shard)) * self.file_dtype.itemsize

  def header(self, shard: Shard) -> bytes:
    """Return the .npy header: NumPy's differs between its versions, the bytes here must not."""
    descr = _DTYPES[self.dtype]
    text = str({'descr': descr, 'fortran_order': False, 'shape': self.shape(shard)})
    length = HEADER_BYTES - 10  # after magic, version and length itself
    return b'\x93NUMPY\x01\x00' + length.to_bytes(2, 'little') + f'{text:<{length - 1}}\n'.encode()


@dataclasses.dataclass(frozen=True)
class Moments:
  """Count, mean and sum of squared deviations (m2) of each class's logits, in float64."""

  count: int
  mean: tuple[float, ...]
  m2: tuple[float, ...]


def moments_of(logits: np.ndarray) -> Moments:
  """Return the moments of [views, rows, classes] over views and rows."""
  flat = logits.reshape(-1, logits.shape[-1])
  blocks = [flat[start : start + BLOCK_ROWS] for start in range(0, len(flat), BLOCK_ROWS)]
  return combined([_of_block(block.astype(np.float64)) for block in blocks])


def _of_block(logits: np.ndarray) -> Moments:
  mean = logits.mean(axis=0)
  m2 = np.square(logits - mean).sum(axis=0)
  return Moments(len(logits), tuple(mean.tolist()), tuple(m2.tolist()))


def combined(parts: Sequence[Moments]) -> Moments:
  """Return the moments of all parts together (Chan, Golub and LeVeque 1983, equation 2.1)."""
  return functools.reduce(_pair, parts)


def _pair(a: Moments, b: Moments) -> Moments:
  count = a.count + b.count
  delta = np.subtract(b.mean, a.mean)
  mean = np.asarray(a.mean) + delta * (b.count / count)
  m2 = np.asarray(a.m2) + b.m2 + np.square(delta) * (a.count * b.count / count)
  return Moments(count, tuple(mean.tolist()), tuple(m2.tolist()))


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
    check(version == FORMAT_VERSION, f'format_version {version!r}, {FORMAT_VERSION} is read here')
    manifest = storage.typed_json(cls, fields)
    _check_contents(manifest)
    return manifest


def _check_contents(manifest: Manifest) -> None:
  """Refuse shards that don't hold each example exactly once, and sums that don't add up."""
  spec, records = manifest.spec, manifest.shards
  # Before spec.shards(): the list it makes must not grow with a number that somebody typed in.
  count = len(records)
  check(count == spec.num_shards, f'shards: {count} are listed, {spec.num_shards} hold the rows')
  for record, shard in zip(records, spec.shards(), strict=True):
    _check_record(record, spec, shard)
  total = combined([record.moments for record in records])
  check(manifest.moments == total, 'moments: not those of the shards together')
  accuracy = manifest.accuracy or Accuracy(0, 0)
  ordered = 0 <= accuracy.correct <= accuracy.labelled <= spec.num_examples
  check(ordered, 'accuracy: more are correct than labelled, or more labelled than stored')


def _check_record(record: Record, spec: Spec, shard: Shard) -> None:
  moments, (views, rows, num_classes) = record.moments, spec.shape(shard)
  # The file's name is the one it must have, so that a path out of the folder is never opened.
  expected = dict(file=spec.file_name(shard), rows=rows, count=views * rows)
  found = dict(file=record.file, rows=record.rows, count=moments.count)
  wrong = storage.differences(expected, found)
  where = f'shards.{shard.index}'
  check(not wrong, f'{where}: expected {"; ".join(wrong)}')
  one_a_class = len(moments.mean) == len(moments.m2) == num_classes
  check(one_a_class, f'{where}.moments: not one mean and m2 for each of {num_classes} classes')
  check(re.fullmatch('[0-9a-f]{64}', record.sha256), f'{where}.sha256 is not a hash')
  check(min(record.round_trip_error, *moments.m2) >= 0, f'{where}: a negative error or m2')


def read(folder: pathlib.Path) -> Manifest:
  """Return the manifest of a finished store, its contents and its seal checked.

  Raises:
    LogitStoreError: naming the file and, where there is one, the field that is wrong.
  """
  path = folder / FILE_NAME
  check(not path.is_symlink(), f'{path} is a link')
  try:
    value = storage.read_json(path)
    check(isinstance(value, dict), 'not a JSON object')
    # Before the seal: where somebody edited it, the field is the better message.
    manifest = Manifest.from_json({name: value[name] for name in value if name != storage.SEAL})
    storage.check_seal(path, value)
  except (storage.StorageError, LogitStoreError) as error:
    where = '' if str(path) in str(error) else f'{path}: '
    raise LogitStoreError(f'{where}{error}') from error
  return manifest


@dataclasses.dataclass(frozen=True)
class Sidecar:
  """A shard's record before there is a manifest, and what it was written under."""

  spec: Spec
  record: Record


def spec_there(folder: pathlib.Path) -> Spec | None:
  """Return what a store, finished or not, was planned as; None where nothing sound tells it."""
  with contextlib.suppress(storage.StorageError, LogitStoreError):
    return read(folder).spec
  for path in sorted(folder.glob('shard-*.json')):
    with contextlib.suppress(storage.StorageError, LogitStoreError):
      return storage.typed_json(Sidecar, storage.read_sealed_json(path)).spec
  return None


def read_sidecars(folder: pathlib.Path, spec: Spec) -> dict[str, list[Record]]:
  """Return what writers noted beside the shards; a broken note counts as none."""
  records = {}
  for path in sorted(folder.glob('shard-*.json')):
    try:
      sidecar = storage.typed_json(Sidecar, storage.read_sealed_json(path))
    except (storage.StorageError, LogitStoreError):
      continue  # its shard is computed again
    check_spec(sidecar.spec, spec, folder)
    records[sidecar.record.file] = [sidecar.record]
  return records


def check_spec(found: Spec, wanted: Spec, folder: pathlib.Path) -> None:
  """Refuse the logits of another run: every differing field is named."""
  lines = storage.differences(dataclasses.asdict(found), dataclasses.asdict(wanted))
  check(not lines, f'{folder}: the logits of another run: {"; ".join(lines)}')


def damage(
  folder: pathlib.Path,
  spec: Spec,
  shard: Shard,
  record: Record,
  look: Callable[[memoryview], object] = lambda block: None,
) -> str:
  """Return what is wrong with a shard's file, empty if it is the one that was noted.

  `look` is shown the file's blocks, the header among them, as they are hashed.
  """
  path = folder / spec.file_name(shard)
  if not os.path.lexists(path):
    return f'{path.name} is missing'
  found, size = path.lstat(), len(spec.header(shard)) + spec.num_bytes(shard)
  if not stat.S_ISREG(found.st_mode):
    return f'{path.name} is not a regular file (a link or a folder)'
  if found.st_size != size:
    return f'{path.name} has {found.st_size:,} bytes instead of {size:,}'
  if storage.sha256_file(path, look) != record.sha256:
    return f'{path.name} has another sha256 than when it was written'
  return ''
