"""Where a figure comes from: the command, the code, the machine and the day."""

import datetime
import importlib.metadata
import os
import pathlib
import shlex
import subprocess
import sys
from typing import Any

import jax

import shallow_jax

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')


def of_this_process() -> dict[str, Any]:
  """Device, commit, command, date and versions, for JSON."""
  return {
    'device': _device(),
    'commit': _commit(),
    'command': shlex.join(sys.argv),
    'date': datetime.datetime.now(datetime.UTC).date().isoformat(),
    'versions': {
      'shallow_jax': shallow_jax.__version__,
      **{name: importlib.metadata.version(name) for name in PACKAGES},
    },
  }


def _device() -> str:
  if jax.default_backend() == 'cpu':
    return f'CPU, {os.cpu_count()} cores'
  return f'{jax.device_count()} x {jax.devices()[0].device_kind}'


def _commit() -> str | None:
  """The commit of the checkout that this code lies in, None where there is none."""
  folder = pathlib.Path(__file__).parents[1]
  try:
    found = subprocess.run(
      ['git', '-C', str(folder), 'rev-parse', 'HEAD'], capture_output=True, text=True, check=False
    )
  except OSError:
    return None
  return found.stdout.strip() or None
