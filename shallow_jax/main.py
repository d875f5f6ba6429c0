"""The command: `shallow-jax run`, `report`, `verify` (python -m shallow_jax.main is `run`).

Kept short so that everything below can be imported and tested without flags.
"""

from collections.abc import Mapping
import logging
import pathlib
import sys
import traceback
from typing import Any

from absl import app
from absl import flags
import ml_collections
from ml_collections import config_flags

from shallow_jax.data import dataset
from shallow_jax.logits import manifest as logit_manifest
from shallow_jax.logits import store as logit_store
from shallow_jax.pipeline import experiment as experiment_lib
from shallow_jax.pipeline import run as run_lib
from shallow_jax.report import page
from shallow_jax.report import results
from shallow_jax.report import tables
from shallow_jax.runtime import checkpoint
from shallow_jax.runtime import command_line
from shallow_jax.runtime import metric_writer
from shallow_jax.runtime import parallel
from shallow_jax.runtime import processes
from shallow_jax.runtime import run_guard
from shallow_jax.runtime import storage
from shallow_jax.runtime import workdir as workdir_lib
from shallow_jax.settings import defaults

COMMANDS = ('run', 'report', 'verify')
EXPECTED_ERRORS = (
  checkpoint.CheckpointError,
  defaults.ConfigError,
  experiment_lib.ExperimentError,
  logit_manifest.LogitStoreError,
  metric_writer.MetricWriterError,
  parallel.ParallelError,
  processes.ProcessesError,
  results.ResultsError,
  run_guard.RunGuardError,
  storage.StorageError,
  dataset.DataError,
)

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'An experiment, such as configs/digits.py:smoke'
)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Where the run lies or goes')
_ONLY = flags.DEFINE_list('only', [], 'These networks and what they need; all, if left out')
_STAGE = flags.DEFINE_enum('stage', 'all', run_lib.STAGES, 'One arrow of the chain alone')
_ADDRESS = flags.DEFINE_string('coordinator_address', '', 'Of several processes: HOST:PORT of 0')
_NUM_PROCESSES = flags.DEFINE_integer('num_processes', 1, 'How many run this same command')
_PROCESS_ID = flags.DEFINE_integer('process_id', 0, 'Which of them this one is')
_DISTRIBUTED = flags.DEFINE_bool(
  'distributed', False, 'Find the other processes by what Slurm, Cloud TPU or Kubernetes says'
)


def main(argv: list[str]) -> None:
  """Runs a command; what is wrong with its input is one line and exit code 1."""
  command, *arguments = argv[1:] or ['run']
  try:
    defaults.choice(command, COMMANDS, 'command')
    if command == 'verify':
      _verify(arguments)
    elif command == 'report':
      _show(run_lib.report_again(_given(_WORKDIR.value, '--workdir=FOLDER')))
    else:
      _run()
  except EXPECTED_ERRORS as error:
    processes.end(f'shallow-jax: {error}')
  except run_guard.Stopped as stopped:
    print(f'shallow-jax: {stopped}; the same command goes on from there', file=sys.stderr)
    sys.exit(stopped.exit_code)
  except Exception:
    if not processes.are_several():
      raise
    processes.end(traceback.format_exc())


def entry_point() -> None:
  """The console script."""
  command_line.log_to_terminal()
  app.run(main, flags_parser=command_line.parse)


def _run() -> None:
  config = _given(_CONFIG.value, '--config=FILE.py')
  workdir = _given(_WORKDIR.value, '--workdir=FOLDER')
  if not isinstance(config, ml_collections.ConfigDict):  # ml_collections' stand-in: no such file
    path = config_flags.get_config_filename(flags.FLAGS['config'])
    raise defaults.ConfigError(f'--config={path}: no such file')
  _join_processes()
  command_line.keep_compiled_programs()
  found = run_lib.run(config, workdir, only=_ONLY.value, stage=_STAGE.value)
  if processes.is_first():
    _show(found)


def _join_processes() -> None:
  """Starts together with the other processes, of which the first one speaks for all."""
  if _DISTRIBUTED.value:
    processes.start_in_cluster()
  elif _ADDRESS.value:
    processes.start(_ADDRESS.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
  elif _NUM_PROCESSES.value > 1:
    raise processes.ProcessesError('--num_processes: expected --coordinator_address=HOST:PORT too')
  if not processes.is_first():
    logging.getLogger('shallow_jax').setLevel(logging.WARNING)


def _show(found: Mapping[str, Any]) -> None:
  folder = pathlib.Path(_WORKDIR.value or '') / workdir_lib.REPORT
  print(
    '',
    tables.short_table(found),
    page.headline(found),
    f'Report and figures: {folder}',
    sep='\n',
  )


def _given(value: Any, flag: str) -> Any:
  if value is None:
    raise defaults.ConfigError(f'expected {flag}')
  return value


def _verify(folders: list[str]) -> None:
  for folder in folders:
    spec = logit_store.verify(folder).spec
    print(f'{folder}: {spec.views} x {spec.num_examples} x {len(spec.class_names)} logits, whole')


if __name__ == '__main__':
  entry_point()
