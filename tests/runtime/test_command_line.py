"""Printing never fails, and a cache that can't be kept is no reason to end."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]

PRINTS = """if True:
  import sys
  from shallow_jax.runtime import command_line
  command_line.print_in_any_case()
  for stream in (sys.stdout, sys.stderr):
    for _ in range(3):
      print('größer \\udcff ' * 9000, file=stream, flush=True)
"""
TERMINALS = {
  'ASCII': '"$@"',
  'a reader that goes away': '"$@" 2>&1 | true; exit ${PIPESTATUS[0]}',
  'a full disk': '"$@" > /dev/full 2>&1',
  'none': '"$@" >&- 2>&-',
}


@pytest.mark.parametrize('shell', TERMINALS.values(), ids=TERMINALS.keys())
@pytest.mark.parametrize('encoding', ['ascii', 'utf-8'])
def test_no_print_fails(shell, encoding):
  done = subprocess.run(
    ['bash', '-c', shell, 'bash', sys.executable, '-c', PRINTS],
    cwd=ROOT,
    env=os.environ | {'PYTHONIOENCODING': encoding, 'PYTHONPATH': str(ROOT)},
    capture_output=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-500:]
  if shell == '"$@"':
    assert done.stdout.decode(encoding).startswith(
      'gr\\xf6\\xdfer \\udcff ' if encoding == 'ascii' else 'größer \\udcff '
    )


COMPILES = """if True:
  import logging
  logging.basicConfig(format='%(message)s')
  from shallow_jax.runtime import command_line
  command_line._KEPT_FROM_SECONDS = 0
  command_line.keep_compiled_programs()
  import jax
  print(jax.jit(lambda x: x @ x.T + 1)(jax.numpy.ones((2, 3)))[0, 0])
"""


def compiles(**environment):
  return subprocess.run(
    [sys.executable, '-c', COMPILES],
    cwd=ROOT,
    env=os.environ | {'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'} | environment,
    capture_output=True,
    text=True,
    check=False,
  )


@pytest.mark.parametrize('name', ['HOME', 'XDG_CACHE_HOME', 'JAX_COMPILATION_CACHE_DIR'])
def test_a_cache_that_can_not_be_written_ends_nothing(name, tmp_path):
  (tmp_path / 'file').write_text('')
  unset = {'XDG_CACHE_HOME': '', name: str(tmp_path / 'file')}
  done = compiles(**unset)
  assert (done.returncode, done.stdout) == (0, '4.0\n')
  assert str(tmp_path / 'file') in done.stderr
  assert 'compiled programs are not kept' in done.stderr


@pytest.mark.parametrize('damaged', [b'', b'!'])
def test_a_damaged_entry_of_the_cache_is_replaced(tmp_path, damaged):
  for _ in range(2):
    assert compiles(XDG_CACHE_HOME=str(tmp_path)).stderr == ''
  entries = sorted(tmp_path.rglob('*-cache'))
  whole = [path.read_bytes() for path in entries]
  assert whole
  for path, data in zip(entries, whole, strict=True):
    path.write_bytes(damaged and damaged + data[: len(data) // 2])
  assert 'Error reading persistent' in compiles(XDG_CACHE_HOME=str(tmp_path)).stderr
  done = compiles(XDG_CACHE_HOME=str(tmp_path))
  assert (done.stdout, done.stderr) == ('4.0\n', '')
