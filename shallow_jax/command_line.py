"""What the shell gives to the command: configs by name, and one line for a flag that is wrong."""

from collections.abc import Sequence
import pathlib
import sys
from typing import Any

from absl import flags


def parse(argv: Sequence[str]) -> list[str]:
  """Parses flags; what a config file or an override is refused for ends with one line too."""
  try:
    return flags.FLAGS([_with_shipped_config(argument) for argument in argv])
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
    sys.exit(f'shallow-jax: {_innermost(error)}')


def configs_folder() -> pathlib.Path:
  """The config files: within an installed package, or beside a checkout's."""
  package = pathlib.Path(__file__).resolve().parent
  installed = package / 'configs'
  return installed if installed.is_dir() else package.parent / 'configs'


def _with_shipped_config(argument: str) -> str:
  """Lets `--config=configs/digits.py` name the file that ships with the package, from anywhere."""
  if not argument.startswith('--config='):
    return argument
  path, *variant = argument.removeprefix('--config=').split(':')
  shipped = configs_folder() / pathlib.Path(path).name
  if pathlib.Path(path).exists() or not shipped.exists():
    return argument
  return '--config=' + ':'.join([str(shipped), *variant])


def _innermost(error: Exception) -> str:
  """The last line of the first error: ConfigDict wraps a KeyError in an AttributeError."""
  cause: Any = error
  while isinstance(cause, Exception):
    cause = cause.args[0] if cause.args else repr(cause)
  return str(cause).strip().splitlines()[-1].strip()
