"""Runs an experiment, writes its report anew, or verifies stores of logits.

  shallow-jax run --config=configs/digits.py --workdir=runs/digits
  shallow-jax report --workdir=runs/digits
  shallow-jax verify runs/digits/teacher/logits/train

Without a command it is `run`. python -m shallow_jax.main is the same.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
import logging
import pathlib
import sys
import traceback
from typing import Any

from absl import app
from absl import flags
import ml_collections
from ml_collections import config_flags

import shallow_jax
from shallow_jax.runtime import command_line
from shallow_jax.runtime import errors
from shallow_jax.runtime import host
from shallow_jax.runtime import workdir as workdir_lib
from shallow_jax.settings import keys
from shallow_jax.settings import values

# What a command needs is imported when it runs: a typo and --help wait for no JAX.

_CLUSTER = ('coordinator_address', 'num_processes', 'process_id', 'distributed')
# The flags that each command takes.
COMMANDS = {
  'run': ('config', 'workdir', 'only', 'stage', *_CLUSTER),
  'report': ('workdir',),
  'verify': (),
}

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'An experiment, such as configs/digits.py:smoke'
)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Where the run lies or goes')
_ONLY = flags.DEFINE_list('only', [], 'These networks and what they need; all, if left out')
_STAGE = flags.DEFINE_enum('stage', 'all', keys.STAGES, 'One arrow of the chain alone')
_ADDRESS = flags.DEFINE_string('coordinator_address', '', 'Of several processes: HOST:PORT of 0')
_NUM_PROCESSES = flags.DEFINE_integer('num_processes', 1, 'How many run this same command')
_PROCESS_ID = flags.DEFINE_integer('process_id', 0, 'Which of them this one is')
_DISTRIBUTED = flags.DEFINE_bool(
  'distributed', False, 'Find the other processes by what Slurm, Cloud TPU or Kubernetes says'
)


def main(argv: list[str]) -> None:
  """Runs a command; what is wrong with its input is one line and exit code 1."""
  try:
    command = _command(argv[1:])
  except errors.ExpectedError as error:
    sys.exit(f'shallow-jax: {error}')
  try:
    from shallow_jax.runtime import processes
    from shallow_jax.runtime import run_guard
  except ValueError as error:  # JAX reads its JAX_... variables as it is imported
    sys.exit(f'shallow-jax: {" ".join(str(error).split())}')

  try:
    command()
  except errors.ExpectedError as error:
    processes.end(f'shallow-jax: {error}')
  except run_guard.Stopped as stopped:
    print(f'shallow-jax: {stopped}; the same command goes on from there', file=sys.stderr)
    sys.exit(stopped.exit_code)
  except Exception:
    if not processes.are_several():
      raise
    processes.end(traceback.format_exc())


def entry_point() -> None:
  """The console script; its --help is this module's, flags included."""
  sys.modules['__main__'].__doc__ = __doc__
  for flag in flags.FLAGS.get_key_flags_for_module(__name__):
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
  command_line.print_in_any_case()
  command_line.log_to_terminal()
  app.run(main, flags_parser=_parse)


def _parse(argv: Sequence[str]) -> list[str]:
  """Parses flags; none beside an unknown command, for to load a config file takes seconds."""
  is_unknown = argv[1:] and not argv[1].startswith('-') and argv[1] not in COMMANDS
  return command_line.parse(argv[:2] if is_unknown else argv)


def _command(words: list[str]) -> Callable[[], None]:
  """What the words ask for, ready to be called; raises ConfigError for what is wrong with them."""
  name, *rest = words or ['run']
  values.choice(name, list(COMMANDS), 'command')
  if name == 'verify':
    _check_flags(name)
    if not rest or not all(folder.strip() for folder in rest):
      raise values.ConfigError('verify: expected a folder of stored logits, or several')
    return functools.partial(_verify, [values.local_path(folder, name) for folder in rest])
  if rest:
    raise values.ConfigError(f'{name}: {rest[0]!r} belongs to no flag; expected --FLAG=VALUE')
  if name == 'report':
    workdir = values.local_path(_given(_WORKDIR.value, '--workdir=FOLDER'), 'workdir')
    _check_flags(name)
    return functools.partial(_report, workdir)
  config = _given(_CONFIG.value, '--config=FILE.py')
  workdir = values.local_path(_given(_WORKDIR.value, '--workdir=FOLDER'), 'workdir')
  _check_flags(name)
  if not isinstance(config, ml_collections.ConfigDict):  # ml_collections' stand-in: no such file
    path = config_flags.get_config_filename(flags.FLAGS['config'])
    raise values.ConfigError(f'--config={path}: no such file')
  return functools.partial(_run, config, workdir)


def _given(value: Any, flag: str) -> Any:
  if value is None or (isinstance(value, str) and not value.strip()):
    raise values.ConfigError(f'expected {flag}')
  return value


def _check_flags(command: str) -> None:
  """Raises ConfigError for a flag that the command would not read, and for an empty one."""
  given = [name for names in COMMANDS.values() for name in names if flags.FLAGS[name].present]
  for name in given:
    if name not in COMMANDS[command]:
      known = ', '.join(f'--{flag}' for flag in COMMANDS[command]) or 'folders alone'
      raise values.ConfigError(f'--{name}: not of {command}, which takes {known}')
  if _ONLY.present and not all(name.strip() for name in _ONLY.value or ['']):
    raise values.ConfigError(f'--only={",".join(_ONLY.value)}: expected NETWORK or NETWORK,NETWORK')
  if _ADDRESS.present and not _ADDRESS.value.strip():
    raise values.ConfigError('--coordinator_address=: expected HOST:PORT of process 0')
  alone = _ADDRESS.value == ''
  for name in ('num_processes', 'process_id'):
    if alone and flags.FLAGS[name].present and flags.FLAGS[name].value != flags.FLAGS[name].default:
      raise values.ConfigError(f'--{name}: expected --coordinator_address=HOST:PORT too')
  if _DISTRIBUTED.value and not alone:
    raise values.ConfigError('--distributed and --coordinator_address: expected one of them')


def _run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
  from shallow_jax.runtime import processes

  if _DISTRIBUTED.value:
    processes.start_in_cluster()
  elif _ADDRESS.value:
    processes.start(_ADDRESS.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
  if not processes.is_first():  # which speaks for all
    logging.getLogger('shallow_jax').setLevel(logging.WARNING)
  host.find_devices()
  command_line.keep_compiled_programs()
  results = shallow_jax.run(config, workdir, only=_ONLY.value, stage=_STAGE.value)
  if processes.is_first():
    _show(results, workdir)


def _report(workdir: pathlib.Path) -> None:
  from shallow_jax.pipeline import run

  _show(run.report_again(workdir), workdir)


def _show(results: Mapping[str, Any], workdir: pathlib.Path) -> None:
  from shallow_jax.report import page
  from shallow_jax.report import tables

  folder = workdir / workdir_lib.REPORT
  lines = ('', tables.short_table(results), page.headline(results), f'Report and figures: {folder}')
  print(*lines, sep='\n')


def _verify(folders: list[pathlib.Path]) -> None:
  from shallow_jax.logits import store

  for folder in folders:
    spec = store.verify(folder).spec
    print(f'{folder}: {spec.views} x {spec.num_examples} x {len(spec.class_names)} logits, whole')


if __name__ == '__main__':
  entry_point()
