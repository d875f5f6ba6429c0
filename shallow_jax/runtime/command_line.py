"""Between shell and command: configs by name, one line for a wrong flag, what is logged."""

from collections.abc import Sequence
import io
import logging
import os
import pathlib
import sys
import tempfile
from typing import Any

from absl import flags
from absl import logging as absl_logging

from shallow_jax.runtime import host

_KEPT_FROM_SECONDS = 0.1  # below, compiling again takes no longer than reading


def parse(argv: Sequence[str]) -> list[str]:
  """Parses flags; what a config file or an override is refused for ends with one line too."""
  try:
    # First all but the config: it is loaded as its flag is parsed, which takes JAX and seconds.
    flags.FLAGS([argument for argument in argv if not argument.startswith(('--config', '-config'))])
    arguments = flags.FLAGS([_with_shipped_config(argument) for argument in argv])
    if flags.FLAGS['verbosity'].using_default_value:
      flags.FLAGS.verbosity = absl_logging.WARNING  # Orbax says several lines a checkpoint
    return arguments
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
    sys.exit(f'shallow-jax: {_innermost(error)}')


class _Terminal(io.FileIO):
  """A standard stream whose reader may go away or whose disk may be full: the rest goes nowhere."""

  def write(self, data: Any, /) -> int:
    """Writes what can be written; a write that fails counts as done."""
    try:
      return super().write(data) or len(memoryview(data))
    except OSError:
      return len(memoryview(data))


def print_in_any_case() -> None:
  """Lets no print fail: hours of training must not end with another exit code for their last line.

  What the terminal's encoding lacks is escaped.
  """
  for name, number in (('stdout', 1), ('stderr', 2)):
    stream = getattr(sys, name)
    if stream is not None:  # as after >&-
      raw = io.BufferedWriter(_Terminal(number, 'w', closefd=False))
      at_once = stream.line_buffering or number == 2
      encoding = stream.encoding
      stream.flush()
      text = io.TextIOWrapper(raw, encoding, 'backslashreplace', line_buffering=at_once)
      setattr(sys, name, text)


def log_to_terminal() -> None:
  """Shows what the package logs as plain lines, beside the warnings of others."""
  handler = logging.StreamHandler()
  handler.setFormatter(logging.Formatter('%(message)s'))
  logger = logging.getLogger('shallow_jax')
  logger.addHandler(handler)
  logger.setLevel(logging.INFO)
  logger.propagate = False


def keep_compiled_programs() -> None:
  """Keeps what XLA compiles for the next start, in $XDG_CACHE_HOME/shallow_jax/xla or ~/.cache.

  JAX_COMPILATION_CACHE_DIR names another folder, JAX_ENABLE_COMPILATION_CACHE=false keeps nothing.
  Where there is no home folder or the folder can't be written, each start compiles anew.
  """
  import jax  # here: a typo waits for none of it
  from jax._src import compilation_cache

  folder = jax.config.values['jax_compilation_cache_dir']
  if '://' in (folder or ''):  # a bucket, which JAX reads by itself
    return
  try:
    path = pathlib.Path(folder or host.cache_folder() / 'xla')
    path.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=path).close()
  except (OSError, RuntimeError) as error:
    text = f'{error}; compiled programs are not kept (JAX_COMPILATION_CACHE_DIR)'
    logging.getLogger(__name__).warning(text)
    jax.config.update('jax_enable_compilation_cache', False)
    return
  jax.config.update('jax_compilation_cache_dir', str(path))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', _KEPT_FROM_SECONDS)
  read = compilation_cache.get_executable_and_time

  def read_or_remove(cache_key: str, *arguments: Any, **options: Any) -> Any:
    try:
      return read(cache_key, *arguments, **options)
    except Exception:  # JAX warns, compiles, and by itself would leave the damaged entry
      (path / f'{cache_key}-cache').unlink(missing_ok=True)
      raise

  compilation_cache.get_executable_and_time = read_or_remove


def configs_folder() -> pathlib.Path:
  """The config files: within an installed package, or beside a checkout's."""
  package = pathlib.Path(__file__).resolve().parents[1]
  installed = package / 'configs'
  return installed if installed.is_dir() else package.parent / 'configs'


def _with_shipped_config(argument: str) -> str:
  """Lets `--config=configs/digits.py` name the file that ships with the package, from anywhere."""
  if not argument.startswith('--config='):
    return argument
  path, *variant = argument.removeprefix('--config=').split(':')
  path = os.path.expanduser(path)  # a shell does it only at the beginning of a word
  shipped = configs_folder() / pathlib.Path(path).name
  found = path if pathlib.Path(path).exists() or not shipped.exists() else str(shipped)
  return '--config=' + ':'.join([found, *variant])


def _innermost(error: Exception) -> str:
  """What the first error says, in one line: ConfigDict wraps a KeyError in an AttributeError."""
  cause: Any = error
  while isinstance(cause, Exception):
    cause = cause.args[0] if cause.args else repr(cause)
  text = str(cause).strip()
  if 'Traceback' in text:  # config_flags quotes that of a config file
    return text.splitlines()[-1].partition(': ')[2]
  return ' '.join(text.split())
