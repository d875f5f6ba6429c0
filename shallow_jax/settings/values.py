"""Changes laid over defaults: unknown keys, wrong types and unknown names are refused in a line."""

from collections.abc import Iterable, Mapping, Sequence
import difflib
import os
import pathlib
import re
from typing import Any

from shallow_jax.runtime import errors


class ConfigError(errors.ExpectedError, ValueError):
  """A config that can't be run; its message is one line that names the key."""


def merge(
  defaults: Mapping[str, Any], changes: Mapping[str, Any], where: str, free: Sequence[str] = ()
) -> dict[str, Any]:
  """`defaults` with `changes` laid over it; keys in `free` are taken as they come."""
  for key in mapping(changes, where):
    if key not in defaults:
      raise ConfigError(f'{where}: unknown key {key!r}{suggestion(key, defaults)}')
  return {
    key: changes.get(key, default)
    if key in free
    else typed(default, changes.get(key, default), f'{where}.{key}')
    for key, default in defaults.items()
  }


def mapping(value: Any, where: str) -> Mapping[str, Any]:
  """`value`, which must be a dict."""
  if not isinstance(value, Mapping):
    raise ConfigError(f'{where}: expected a dict, not {value!r}')
  return value


def typed(default: Any, value: Any, where: str) -> Any:
  """`value` as the type of `default`; a number may stand for a float, a list for a tuple."""
  if isinstance(default, Mapping):
    return merge(default, value, where)
  if isinstance(default, tuple) and isinstance(value, (tuple, list)):
    return tuple(value)
  if isinstance(default, float) and isinstance(value, (int, float)) and type(value) is not bool:
    return float(value)  # NumPy's float64 is a float too
  if type(value) is not type(default):
    raise ConfigError(f'{where}: expected {type(default).__name__}, not {value!r}')
  return value


def choice(value: str, known: Sequence[str], where: str) -> None:
  """Raises ConfigError unless `value` is one of the known names."""
  if value not in known:
    raise ConfigError(f'{where}: unknown {value!r}{suggestion(value, known)}')


def local_path(path: str | os.PathLike[str], where: str) -> pathlib.Path:
  """`path` with a home folder for ~.

  Raises:
    ConfigError: an address such as gs://bucket, for which a folder `gs:` would be made here, or the
      home folder of nobody.
  """
  if re.match(r'[A-Za-z][A-Za-z0-9+.-]*:/', str(path)):  # a Path has one slash of gs://
    raise ConfigError(
      f'{where}: expected a folder or file of this machine, not {str(path)!r}; a bucket must be '
      'mounted as a folder first (launch/README.md)'
    )
  try:
    return pathlib.Path(path).expanduser()
  except RuntimeError as error:
    raise ConfigError(f'{where}: {str(path)!r}, but there is no such home folder') from error


def suggestion(name: str, known: Iterable[str]) -> str:
  """`; did you mean 'x'?` with the nearest known name, or the names that there are."""
  known = list(known)
  near = difflib.get_close_matches(str(name), known, n=1)
  return f'; did you mean {near[0]!r}?' if near else f'; expected one of {", ".join(known)}'
