"""Launchers run as their users do, beside stand-ins for the programs of a cluster."""

import configparser
import os
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = ROOT / 'tests' / 'launch' / 'golden'
TELLS_LAUNCHERS = 'VENV|PYTHON|JAX_LOCAL_DEVICE_IDS|(SLURM|SRUN|TPU_POD)_.*'


def repository(root=ROOT):
  """The address of the package's repository, from where all others are compared with it."""
  setup = configparser.ConfigParser()
  setup.read(root / 'setup.cfg')
  label, _, address = setup['metadata']['project_urls'].strip().partition(' = ')
  assert label == 'Source'
  return address


def stand_in(folder, name, then=''):
  """A program that appends its command line to folder/calls, then does what `then` says."""
  path = folder / name
  path.write_text(f'#!/bin/bash\n(printf "%q " {name} "$@"; echo) >> "{folder}/calls"\n{then}\n')
  path.chmod(0o755)


def calls(folder):
  """The command lines that stand-ins have seen since the last question."""
  path = folder / 'calls'
  text = path.read_text() if path.exists() else ''
  path.write_text('')
  return text


def bash(*arguments, folder=None, **environment):
  """Runs bash, with the stand-ins of `folder` first on its path."""
  return subprocess.run(
    ['bash', *arguments],
    cwd=ROOT,
    env=shell(folder) | environment,
    capture_output=True,
    text=True,
    check=False,
    timeout=60,
  )


def shell(folder=None):
  """The environment of whoever runs the tests, less what tells the launchers anything."""
  names = [name for name in os.environ if not re.fullmatch(TELLS_LAUNCHERS, name)]
  path = os.environ['PATH'] if folder is None else f'{folder}:{os.environ["PATH"]}'
  return {name: os.environ[name] for name in names} | {'PATH': path}


def golden(name):
  """What a dry run is to print."""
  return (GOLDEN / name).read_text()
