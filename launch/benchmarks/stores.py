"""The logit store beside its floor, raw files, and beside a store of top-k records.

A unit of work is a whole store of `num_examples` rows written or verified, or READS batches of
READ_ROWS rows read at random places.
"""

from collections.abc import Callable
import hashlib
import os
import pathlib
import shutil
from typing import Any

import numpy as np

from shallow_jax.logits import manifest as logit_manifest
from shallow_jax.logits import store as logit_store

Calls = dict[str, Callable[[int], None]]
READS, READ_ROWS = 100, 128
_CLASSES = 10


def store(parent: str, num_examples: int) -> tuple[dict[str, Any], Calls]:
  """Write, verify and random reads of float32 logits [1, num_examples, 10], in a folder."""
  folder = pathlib.Path(parent)
  logits = np.random.default_rng(0).standard_normal((1, num_examples, _CLASSES), np.float32)
  spec = _spec(num_examples)
  raw, records = _RawFiles(folder / 'raw', spec), _TopK(folder / 'records')
  _write_store(folder / 'store', spec, logits)
  raw.write(logits)
  records.write(logits[0])
  loaded = logit_store.load(folder / 'store').logits
  mapped = logit_store.load(folder / 'store', memory_limit_bytes=0).logits
  one_file = np.load(raw.path, mmap_mode='r')
  notes = {
    'num_examples': num_examples,
    'reads': READS * READ_ROWS,
    'bytes': num_examples * _CLASSES * 4,
    'bytes_a_record': {
      'store': _bytes(folder / 'store') / num_examples,
      'raw': _bytes(folder / 'raw') / num_examples,
      'top-k records': _bytes(folder / 'records') / num_examples,
    },
  }
  calls = {
    'write': lambda: _write_store(folder / 'store', spec, logits),
    'write raw': lambda: raw.write(logits),
    'write records': lambda: records.write(logits[0]),
    'verify': lambda: logit_store.verify(folder / 'store'),
    'sha256': lambda: _hash_files(folder / 'store'),
    'read': lambda: _read_at_random(loaded, num_examples),
    'read mapped': lambda: _read_at_random(mapped, num_examples),
    'read memmap': lambda: _read_at_random(one_file, num_examples),
    'read records': lambda: records.read_at_random(),
  }
  return notes, {name.replace(' ', '-'): _repeated(call) for name, call in calls.items()}


def _repeated(call: Callable[[], Any]) -> Callable[[int], None]:
  def repeated(count: int) -> None:
    for _ in range(count):
      call()

  return repeated


def _spec(num_examples: int) -> logit_manifest.Spec:
  return logit_manifest.Spec(
    views=1,
    num_examples=num_examples,
    class_names=tuple(map(str, range(_CLASSES))),
    ids_sha256='0' * 64,
    dtype='float32',
    shard_rows=65_536,
    provenance={},
  )


def _write_store(folder: pathlib.Path, spec: logit_manifest.Spec, logits: np.ndarray) -> None:
  shutil.rmtree(folder, ignore_errors=True)
  for shard in logit_store.missing_shards(folder, spec):
    logit_store.write_shard(folder, spec, shard, logits[:, shard.start : shard.stop])
  logit_store.finish(folder, spec)


def _hash_files(folder: pathlib.Path) -> None:
  for path in sorted(folder.glob('*.npy')):
    with open(path, 'rb') as file:
      hashlib.file_digest(file, 'sha256')


def _read_at_random(logits: Any, num_examples: int) -> None:
  rng = np.random.default_rng(0)
  for _ in range(READS):
    logits[0, rng.integers(num_examples, size=READ_ROWS)]


class _RawFiles:
  """One .npy file and the hope that it is whole."""

  def __init__(self, folder: pathlib.Path, spec: logit_manifest.Spec) -> None:
    folder.mkdir()
    self.path = folder / 'logits.npy'
    self._spec = spec

  def write(self, logits: np.ndarray) -> None:
    with open(self.path, 'wb') as file:
      np.save(file, logits)
      file.flush()
      os.fsync(file.fileno())


class _TopK:
  """A file of keys and one of records: a seed, the classes and their values in half precision."""

  _RECORD = np.dtype([('seed', '<i4'), ('classes', '<i2', _CLASSES), ('values', '<f2', _CLASSES)])

  def __init__(self, folder: pathlib.Path) -> None:
    folder.mkdir()
    self._keys, self._values = folder / 'keys.txt', folder / 'values.bin'
    self._places: dict[str, int] = {}

  def write(self, logits: np.ndarray) -> None:
    """Record by record, as the loop over a teacher's batches comes to them."""
    with open(self._keys, 'w') as keys, open(self._values, 'wb') as values:
      for i, row in enumerate(logits):
        classes = np.argsort(-row).astype('<i2')
        record = np.array((i, classes, row[classes]), self._RECORD)
        keys.write(f'{i:010d}\n')
        values.write(record.tobytes())
      values.flush()
      os.fsync(values.fileno())

  def read_at_random(self) -> None:
    """By key, one after the other."""
    if not self._places:
      keys = self._keys.read_text().split()
      self._places = {key: i for i, key in enumerate(keys)}
    rng = np.random.default_rng(0)
    with open(self._values, 'rb') as file:
      for i in rng.integers(len(self._places), size=READS * READ_ROWS):
        file.seek(self._places[f'{i:010d}'] * self._RECORD.itemsize)
        np.frombuffer(file.read(self._RECORD.itemsize), self._RECORD)


def _bytes(folder: pathlib.Path) -> int:
  return sum(path.stat().st_size for path in folder.iterdir())
