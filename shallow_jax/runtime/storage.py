"""Files that are whole or absent, and hashes that say what is in them.

A file is written under another name, synced, renamed, and its folder synced: whoever reads it after
a crash, a kill or a full disk sees the old content or the new one, never a part.
"""

from collections.abc import Callable, Mapping
import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import io
import json
import math
import os
import pathlib
import re
import secrets
import types
import typing
from typing import IO, Any
import zipfile
import zlib

import numpy as np

from shallow_jax.runtime import errors
from shallow_jax.runtime import workdir

SEAL = 'sha256'  # the key of a sealed JSON file that holds the hash of all its others

_KEY = 'fitted_to'  # among kept arrays: what they belong to
_PARTIAL = re.compile(r'\..*\.[0-9a-f]{16}\.partial')
_LONGEST_SHOWN = 80  # characters of a value in a message; a sha256 in quotes has 66
_ABSENT = object()
_BLOCK_BYTES = 1 << 18  # of a file that is hashed: they stay in the cache


class StorageError(errors.ExpectedError, RuntimeError):
  """A file could not be written or read; the message is one line and names it."""


def write_bytes(path: str | os.PathLike[str], *parts: bytes | memoryview) -> None:
  """Replace the file at `path` by `parts` in one step that survives a kill and a power cut.

  Raises:
    StorageError: with path and size, after the temporary file was removed; what was there stays.
  """
  size = sum(memoryview(part).nbytes for part in parts)
  _replace(path, lambda file: file.writelines(parts), size)


def write_array(path: str | os.PathLike[str], array: np.ndarray) -> None:
  """Replace the .npy file at `path` as `write_bytes` does, without a copy of the array in memory.

  Raises:
    StorageError: as `write_bytes` does.
  """
  _replace(path, lambda file: np.save(file, array, allow_pickle=False), array.nbytes)


def read_array(path: str | os.PathLike[str], sha256: str | None = None) -> np.ndarray:
  """Return the array in the .npy file at `path`.

  Raises:
    StorageError: the file can't be read, is damaged or (where one is given) has another hash.
  """
  if sha256 is not None and sha256_file(path) != sha256:
    raise StorageError(f'{path}: changed since it was written: it has another sha256')
  try:
    return np.load(path, allow_pickle=False)
  except (OSError, ValueError, EOFError) as error:
    raise StorageError(f'{path}: could not be read: {error}') from error


def keep_arrays(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], key: str) -> None:
  """Replace the .npz file at `path` by arrays and what they belong to, for `kept_arrays`."""
  file = io.BytesIO()
  np.savez(file, allow_pickle=False, **arrays, **{_KEY: np.array(key)})
  write_bytes(path, file.getvalue())


def kept_arrays(path: str | os.PathLike[str], key: str) -> dict[str, np.ndarray] | None:
  """Return the arrays that were kept at `path`; None if there are none, or those of another key.

  Raises:
    StorageError: the file is damaged; an .npz holds a checksum of each array.
  """
  if not os.path.exists(path):
    return None
  try:
    # read whole: np.load leaves a damaged file open
    with np.load(io.BytesIO(_read_bytes(path)), allow_pickle=False) as file:
      found = {name: file[name] for name in file}
  except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
    raise StorageError(f'{path}: damaged ({error})') from error
  return found if str(found.pop(_KEY, '')) == key else None


def _replace(path: str | os.PathLike[str], write: Callable[[IO[bytes]], object], size: int) -> None:
  path = pathlib.Path(path)
  partial = path.with_name(f'.{path.name}.{secrets.token_hex(8)}.partial')
  try:
    with _opened_partial(partial) as file:
      write(file)
      file.flush()
      os.fsync(file.fileno())
      # The order matters: renamed before it is synced, the file may be empty after a power cut.
      os.replace(partial, path)
    _sync_folder(path.parent)
  except OSError as error:
    reason = error.strerror or error  # np.save's has no strerror
    raise StorageError(f'{path}: {size:,} bytes could not be written: {reason}') from error
  finally:
    _remove_if_there(partial)


def _opened_partial(path: pathlib.Path) -> IO[bytes]:
  """Return a new file, locked for as long as it is open: remove_temporary leaves it alone."""
  while True:
    file = open(path, 'xb')  # noqa: SIM115 (closed by the caller's `with`)
    with contextlib.suppress(OSError):  # a file system without locks
      fcntl.flock(file, fcntl.LOCK_EX)
    if os.fstat(file.fileno()).st_nlink:
      return file
    file.close()  # removed as a leftover before it was locked


def _sync_folder(folder: pathlib.Path) -> None:
  descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
  try:
    os.fsync(descriptor)
  except OSError as error:
    if error.errno != errno.EINVAL:  # some network file systems can't sync a folder
      raise
  finally:
    os.close(descriptor)


def _remove_if_there(path: pathlib.Path) -> None:
  with contextlib.suppress(OSError):
    path.unlink(missing_ok=True)


def remove_temporary(folder: str | os.PathLike[str]) -> list[pathlib.Path]:
  """Remove what killed writers left in `folder` and below; return what was removed.

  A temporary file that some process is still writing is locked, and stays.
  """
  leftovers = sorted(pathlib.Path(folder).rglob('.*.partial'))
  return [path for path in leftovers if _PARTIAL.fullmatch(path.name) and _removed(path)]


def _removed(path: pathlib.Path) -> bool:
  try:
    with open(path, 'rb') as file:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      path.unlink()
  except OSError:  # being written by another process, or just gone
    return False
  return True


def write_json(path: str | os.PathLike[str], value: Any) -> None:
  """Write `value` as indented JSON with sorted keys; NaN and infinity are refused."""
  write_bytes(path, _json_text(path, value).encode())


def read_json(path: str | os.PathLike[str]) -> Any:
  """Return the JSON value in the file at `path`.

  Raises:
    StorageError: naming the file, and the line and column where it is broken. A key that is there
      twice, NaN and infinity count as broken.
  """
  data = _read_bytes(path)
  try:
    return json.loads(
      data.decode(), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant
    )
  except (ValueError, RecursionError) as error:
    raise StorageError(f'{path}: broken JSON: {error}') from error


def _read_bytes(path: str | os.PathLike[str]) -> bytes:
  try:
    return pathlib.Path(path).read_bytes()
  except OSError as error:
    raise StorageError(f'{path}: could not be read: {error.strerror}') from error


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  value = dict(pairs)
  if len(value) < len(pairs):
    keys = [key for key, _ in pairs]
    raise ValueError(f'key {next(key for key in keys if keys.count(key) > 1)!r} is there twice')
  return value


def _refuse_constant(name: str) -> None:
  raise ValueError(f'{name} is not a number of JSON')


def write_sealed_json(path: str | os.PathLike[str], value: Mapping[str, Any]) -> None:
  """Write a JSON object together with the hash of itself, under the key 'sha256'."""
  write_json(path, {**value, SEAL: sha256_json(value)})


def read_sealed_json(
  path: str | os.PathLike[str], *, or_never_sealed: bool = False
) -> dict[str, Any]:
  """Return what write_sealed_json wrote, without its hash.

  Args:
    path: of a JSON object.
    or_never_sealed: whether one of write_json, which has no hash, is taken as it is.

  Raises:
    StorageError: a single byte of the file differs from what was written.
  """
  value = read_json(path)
  if not isinstance(value, dict):
    raise StorageError(f'{path}: a JSON object was expected')
  if not (or_never_sealed and _was_never_sealed(value)):
    check_seal(path, value)
  return _without(value, SEAL)


def _was_never_sealed(value: Mapping[str, Any]) -> bool:
  """Whether no key holds the hash of all the others, not even one whose name was damaged."""
  hashes = [key for key, item in value.items() if isinstance(item, str) and len(item) == 64]
  return SEAL not in value and all(sha256_json(_without(value, k)) != value[k] for k in hashes)


def _without(value: Mapping[str, Any], key: str) -> dict[str, Any]:
  return {name: item for name, item in value.items() if name != key}


def read_record(path: pathlib.Path) -> dict[str, Any]:
  """Return a workdir's record, of an older version without a seal; an error says what to do."""
  try:
    return read_sealed_json(path, or_never_sealed=True)
  except StorageError as error:
    if not path.exists():
      raise
    remedy = workdir.REMEDIES[path.name].format(folder=path.parent)
    raise StorageError(f'{error}; {remedy}') from error


def check_seal(path: str | os.PathLike[str], value: Mapping[str, Any]) -> None:
  """Raise StorageError unless `value`, as read from `path`, is what write_sealed_json wrote.

  Apart from read_sealed_json for those who can name the field that was edited.
  """
  # Some changes keep the value (1e-05 and 1E-05), so the text counts too.
  same_text = _read_bytes(path) == _json_text(path, value).encode()
  if value.get(SEAL) != sha256_json(_without(value, SEAL)) or not same_text:
    raise StorageError(f'{path}: changed since it was written: its content has another sha256')


def typed_json(kind: Any, value: Any, where: str = '') -> Any:
  """Return a JSON value as the `kind` it must have, a frozen dataclass of types for instance.

  Args:
    kind: a dataclass, tuple[<kind>, ...], <kind> | None, dict[str, Any] or a JSON type.
    value: what read_json returned.
    where: dotted key of the value, for messages.

  Raises:
    StorageError: naming the key that is missing, unknown, of another type or not finite.
  """
  if isinstance(kind, types.UnionType):
    return None if value is None else typed_json(typing.get_args(kind)[0], value, where)
  if dataclasses.is_dataclass(kind):
    return _dataclass_of(kind, value, where)
  outer = typing.get_origin(kind) or kind
  json_type = list if outer is tuple else outer
  if type(value) is not json_type or (type(value) is float and not math.isfinite(value)):
    raise StorageError(f'{where or "value"}: {value!r:.80} instead of {json_type.__name__}')
  if outer is not tuple:
    return value
  item = typing.get_args(kind)[0]
  return tuple(typed_json(item, row, _joined(where, str(i))) for i, row in enumerate(value))


def _dataclass_of(kind: Any, value: Any, where: str) -> Any:
  hints = typing.get_type_hints(kind)
  odd = sorted(hints.keys() ^ value.keys()) if isinstance(value, dict) else ['all']
  if odd:
    raise StorageError(f'{where or "value"}: fields missing or unknown: {", ".join(odd)}')
  return kind(
    **{name: typed_json(hint, value[name], _joined(where, name)) for name, hint in hints.items()}
  )


def _joined(where: str, key: str) -> str:
  return f'{where}.{key}' if where else key


def _json_text(path: str | os.PathLike[str], value: Any) -> str:
  try:
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False, default=_plain) + '\n'
  except (TypeError, ValueError) as error:
    raise StorageError(f'{path}: not a JSON value: {error}') from error


def canonical_json(value: Any) -> str:
  """Return the one compact JSON text of `value`: keys sorted, NaN and infinity refused."""
  try:
    return json.dumps(value, sort_keys=True, separators=(',', ':'), allow_nan=False, default=_plain)
  except (TypeError, ValueError) as error:
    raise StorageError(f'not a JSON value: {error}') from error


def _plain(value: Any) -> Any:
  """Return a NumPy scalar or array as numbers and lists."""
  if isinstance(value, np.generic | np.ndarray):
    return value.tolist()
  raise TypeError(f'{type(value).__name__} {value!r:.60}')


def sha256_json(value: Any) -> str:
  """Return the hash of a JSON value, the same for every order of keys."""
  return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def sha256_file(
  path: str | os.PathLike[str], look: Callable[[memoryview], object] = lambda block: None
) -> str:
  """Return the hash of a file, read as a stream; `look` is shown every block of it, in order."""
  digest, block = hashlib.sha256(), memoryview(bytearray(_BLOCK_BYTES))
  try:
    with open(path, 'rb', buffering=0) as file:
      while size := file.readinto(block):
        digest.update(block[:size])
        look(block[:size])
  except OSError as error:
    raise StorageError(f'{path}: could not be read: {error.strerror}') from error
  return digest.hexdigest()


def sha256_arrays(arrays: Mapping[str, Any]) -> str:
  """Return the hash of nested dicts of arrays: of their names, dtypes, shapes and bytes.

  Raises:
    StorageError: an array of Python objects, whose bytes are addresses.
  """
  digest = hashlib.sha256()
  for name, leaf in _leaves(arrays, ()):
    array = np.asarray(leaf)
    if array.dtype.hasobject:
      raise StorageError(f'{".".join(name)}: an array of Python objects has no hash')
    header = [list(name), array.dtype.name, array.dtype.byteorder == '>', list(array.shape)]
    digest.update(canonical_json(header).encode() + b'\n')
    digest.update(np.ascontiguousarray(array).tobytes())
  return digest.hexdigest()


def _leaves(tree: Mapping[str, Any], name: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
  rows: list[tuple[tuple[str, ...], Any]] = []
  for key in sorted(tree):
    leaf = tree[key]
    below = _leaves(leaf, (*name, key)) if isinstance(leaf, Mapping) else [((*name, key), leaf)]
    rows.extend(below)
  return rows


def differences(old: Any, new: Any) -> list[str]:
  """Return a line for each dotted key whose values differ: 'optimizer.momentum: 0.9, now 0.5'.

  Empty exactly when both have the same sha256_json: 1 and 1.0 differ, a tuple and a list don't.
  """
  return _differences(json.loads(canonical_json(old)), json.loads(canonical_json(new)), '')


def _differences(old: Any, new: Any, name: str) -> list[str]:
  if isinstance(old, dict) and isinstance(new, dict):
    keys = sorted(old.keys() | new.keys())
    pairs = [(key, old.get(key, _ABSENT), new.get(key, _ABSENT)) for key in keys]
  elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
    pairs = [(str(i), a, b) for i, (a, b) in enumerate(zip(old, new, strict=True))]
  elif _shown(old, None) != _shown(new, None):
    return [f'{name or "value"}: {_shown(old)}, now {_shown(new)}']
  else:
    return []
  return [line for key, a, b in pairs for line in _differences(a, b, _joined(name, key))]


def _shown(value: Any, longest: int | None = _LONGEST_SHOWN) -> str:
  text = 'absent' if value is _ABSENT else json.dumps(value, sort_keys=True)
  return text if longest is None or len(text) <= longest else f'{text[: longest - 1]}…'
