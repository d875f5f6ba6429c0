"""This machine: where a figure of it comes from, and memory that it keeps for the next step."""

import ctypes
import datetime
import importlib.metadata
import os
import pathlib
import shlex
import subprocess
import sys
from typing import Any

import shallow_jax
from shallow_jax.runtime import errors

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')

# glibc's malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8

_KEPT_BYTES = 2**31 - 1
_GROWN_BY_BYTES = 2**28


class DeviceError(errors.ExpectedError, RuntimeError):
  """JAX has no device of the kind that is asked for; the message is one line."""


def provenance() -> dict[str, Any]:
  """Where a figure of this process comes from: device, commit, command, date, versions; JSON."""
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


def find_devices() -> None:
  """Lets JAX find its devices, before any work.

  Raises:
    DeviceError: there are none of the kind that JAX_PLATFORMS asks for.
  """
  import jax

  try:
    jax.devices()
  except (AssertionError, RuntimeError) as error:  # of cuda where there is none: the bare assertion
    asked = os.environ.get('JAX_PLATFORMS', '')
    reason = ' '.join(str(error).split()) or 'JAX finds no such device'
    raise DeviceError(
      f'JAX_PLATFORMS={asked}: {reason}; expected what this machine and its jaxlib have'
    ) from error


def cache_folder() -> pathlib.Path:
  """Where to keep what can be made again: $XDG_CACHE_HOME/shallow_jax or ~/.cache/shallow_jax."""
  caches = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  return pathlib.Path(caches).expanduser() / 'shallow_jax'


def keep_freed_memory() -> bool:
  """Makes glibc keep freed memory in this process, up to 2 GiB; returns whether it did.

  XLA's CPU backend allocates each step's temporaries anew. glibc maps and unmaps blocks of their
  size, so that the kernel has to zero every page of them again, step for step: always those of a
  large block, and in other threads than the first all above 64 MB, which do not fit into a thread's
  own arena. How much that costs, `launch/benchmark_experiment.py --keep_memory=false` tells beside
  a run without the flag. Elsewhere than on Linux with glibc nothing happens.
  """
  if not sys.platform.startswith('linux'):
    return False
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
  if mallopt is None:
    return False
  settings = {
    _ARENA_MAX: 1,
    _MMAP_MAX: 0,
    _TRIM_THRESHOLD: _KEPT_BYTES,
    _TOP_PAD: _GROWN_BY_BYTES,
  }
  return all(mallopt(name, value) for name, value in settings.items())


def _device() -> str:
  import jax  # here: the benchmark's peers keep memory by this file and run without JAX

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
