"""The features of many recordings, computed once and kept on disk.

A folder holds features.npy and manifest.json. The manifest is written last; it has the sha256 of
the values and a key, which tells the recordings and the settings. Values of another key, or damaged
ones, are computed anew.
"""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import hashlib
import logging
import os
import pathlib
from typing import Any, TypeVar

import numpy as np

from shallow_jax.runtime import errors
from shallow_jax.runtime import storage
from shallow_jax.speech.recordings import features

_VALUES = 'features.npy'
_MANIFEST = 'manifest.json'

_log = logging.getLogger(__name__)
_Utterance = TypeVar('_Utterance')


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
  """The features of utterances, one after the other.

  Attributes:
    values: float32 [frames of all utterances, 123].
    offsets: int64 [utterances + 1]: utterance i has the rows from offsets[i] up to, and without,
      offsets[i + 1].
    sha256: of each utterance's samples as little-endian float64: the same for a recording in any
      file format. '' and no rows: its samples can't be used.
  """

  values: np.ndarray
  offsets: np.ndarray
  sha256: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Manifest:
  key: dict[str, Any]
  offsets: tuple[int, ...]
  sha256_of_samples: tuple[str, ...]
  sha256_of_values: str


def extract(
  utterances: Iterable[_Utterance], read: Callable[[_Utterance], np.ndarray | None]
) -> Features:
  """Compute the features of utterances.

  Args:
    utterances: for instance a `tqdm` over them, which shows a bar.
    read: gives an utterance's samples at 16 kHz on the scale of int16; None to go on without it.
  Raises:
    DataError: no utterance.
  """
  values = bytearray()  # grows in place: a list of arrays to concatenate takes twice the memory
  counts, digests = [0], []
  for utterance in utterances:
    samples = read(utterance)
    if samples is None:
      counts.append(0)
      digests.append('')
    else:
      rows = features.deltas(features.filterbank(samples))
      values += rows.tobytes()
      counts.append(len(rows))
      digests.append(hashlib.sha256(samples.astype('<f8').tobytes()).hexdigest())
  if not digests:
    raise errors.DataError('0 utterances to compute features of, expected 1 or more')
  array = np.frombuffer(values, np.float32).reshape(-1, features.DIMENSION)
  return Features(array, np.cumsum(counts, dtype=np.int64), tuple(digests))


def key(recordings: Mapping[str, str | os.PathLike[str]]) -> dict[str, Any]:
  """What the features of recordings depend on: their bytes, their order and the settings.

  Args:
    recordings: from an utterance's name to its audio file, in the order of the utterances.
  Raises:
    StorageError: a file can't be read.
  """
  return {
    'settings': features.SETTINGS,
    'order': storage.sha256_json(list(recordings)),
    'audio': {name: storage.sha256_file(path) for name, path in recordings.items()},
  }


def cached(
  folder: str | os.PathLike[str], wanted: Mapping[str, Any], compute: Callable[[], Features]
) -> Features:
  """Read features from a folder, or compute them and write them there.

  What is there of another key, or damaged, is replaced; one line in the log says why.

  Args:
    folder: made if it is not there.
    wanted: what `key` gives, and what else `compute` depends on.
    compute: called where the folder does not hold just these features.
  Raises:
    StorageError: the features can't be written.
  """
  folder = pathlib.Path(folder)
  if (folder / _MANIFEST).exists():
    try:
      return _read(folder, wanted)
    except storage.StorageError as error:
      _log.warning('%s; computed anew', error)
  computed = compute()
  _write(folder, wanted, computed)
  return computed


def _read(folder: pathlib.Path, wanted: Mapping[str, Any]) -> Features:
  path = folder / _MANIFEST
  manifest = storage.typed_json(_Manifest, storage.read_sealed_json(path), str(path))
  changes = storage.differences(manifest.key, wanted)
  if changes:
    others = f' and {len(changes) - 1} more' if len(changes) > 1 else ''
    raise storage.StorageError(f'{folder}: features of something else: {changes[0]}{others}')
  if storage.sha256_file(folder / _VALUES) != manifest.sha256_of_values:
    raise storage.StorageError(f'{folder / _VALUES}: damaged: not the sha256 of its manifest')
  offsets = np.array(manifest.offsets, np.int64)
  return Features(np.load(folder / _VALUES), offsets, manifest.sha256_of_samples)


def _write(folder: pathlib.Path, wanted: Mapping[str, Any], computed: Features) -> None:
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise storage.StorageError(f'{folder}: could not be made: {error.strerror}') from error
  storage.write_array(folder / _VALUES, computed.values)
  manifest = _Manifest(
    key=dict(wanted),
    offsets=tuple(computed.offsets.tolist()),
    sha256_of_samples=computed.sha256,
    sha256_of_values=storage.sha256_file(folder / _VALUES),
  )
  storage.write_sealed_json(folder / _MANIFEST, dataclasses.asdict(manifest))
