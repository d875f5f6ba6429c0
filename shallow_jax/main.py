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
from shallow_jax.runtime import workdir as workdir_lib
from shallow_jax.settings import keys
from shallow_jax.settings import values

# What a command needs is imported when it runs: a typo and --help wait for no JAX.

COMMANDS = ('run', 'report', 'verify')

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
  from shallow_jax.runtime import processes
  from shallow_jax.runtime import run_guard

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
  command_line.log_to_terminal()
  app.run(main, flags_parser=_parse)


def _parse(argv: Sequence[str]) -> list[str]:
  """Parses flags; none beside an unknown command, for to load a config file takes seconds."""
  is_unknown = argv[1:] and not argv[1].startswith('-') and argv[1] not in COMMANDS
  return command_line.parse(argv[:2] if is_unknown else argv)


def _command(words: list[str]) -> Callable[[], None]:
  """What the words ask for, ready to be called; raises ConfigError for what is wrong with them."""
  name, *others = words or ['run']
  values.choice(name, COMMANDS, 'command')
  _refuse_flags_of_others(name)
  if name == 'verify':
    if not others:
      raise values.ConfigError('verify: expected folders of logits, WORKDIR/NETWORK/logits/SET')
    return functools.partial(_verify, others)
  if others:
    raise values.ConfigError(f'{name}: expected flags alone, not {" ".join(others)}')
  if name == 'report':
    return functools.partial(_report, _workdir())
  config = _given(_CONFIG.value, '--config=FILE.py')
  workdir = _workdir()
  if flags.FLAGS['only'].present and not all(_ONLY.value or ['']):
    raise values.ConfigError(f'--only={",".join(_ONLY.value)}: expected names of networks')
  if not isinstance(config, ml_collections.ConfigDict):  # ml_collections' stand-in: no such file
    path = config_flags.get_config_filename(flags.FLAGS['config'])
    raise values.ConfigError(f'--config={path}: no such file')
  return functools.partial(_run, config, workdir)


def _refuse_flags_of_others(command: str) -> None:
  """Refuses flags that the command would not obey."""
  obeyed = {'run': None, 'report': {'workdir'}, 'verify': set()}[command]
  for flag in flags.FLAGS.get_key_flags_for_module(__name__):
    if flag.present and obeyed is not None and flag.name not in obeyed:
      raise values.ConfigError(f'{command}: does not take --{flag.name}')


def _workdir() -> pathlib.Path:
  return values.local_path(_given(_WORKDIR.value, '--workdir=FOLDER'), '--workdir')


def _given(value: Any, flag: str) -> Any:
  if value is None:
    raise values.ConfigError(f'expected {flag}')
  return value


def _run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
  from shallow_jax.runtime import processes

  if _DISTRIBUTED.value:
    processes.start_in_cluster()
  elif _ADDRESS.value:
    processes.start(_ADDRESS.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
  elif _NUM_PROCESSES.value > 1:
    raise processes.ProcessesError('--num_processes: expected --coordinator_address=HOST:PORT too')
  if not processes.is_first():  # which speaks for all
    logging.getLogger('shallow_jax').setLevel(logging.WARNING)
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


def _verify(folders: list[str]) -> None:
  from shallow_jax.logits import store

  for folder in folders:
    spec = store.verify(folder).spec
    print(f'{folder}: {spec.views} x {spec.num_examples} x {len(spec.class_names)} logits, whole')


if __name__ == '__main__':
  entry_point()
