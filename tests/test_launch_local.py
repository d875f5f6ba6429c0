"""launch/local.py: several processes, one terminal, one end. The processes here are tiny ones."""

import importlib.util
import pathlib
import shlex
import signal
import subprocess
import sys
import time

import pytest

PATH = pathlib.Path(__file__).parents[1] / 'launch' / 'local.py'


@pytest.fixture(scope='module')
def local():
  spec = importlib.util.spec_from_file_location('launch_local', PATH)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def python(program):
  return [sys.executable, '-c', program]


def test_lines_are_prefixed_by_their_process(local, capfd):
  assert local.run([python("print('one')"), python("print('two')")], {}) == 0
  assert sorted(capfd.readouterr().out.splitlines()) == ['[0] one', '[1] two']


def test_the_failure_of_one_ends_the_others_and_is_the_exit_code(local, monkeypatch):
  monkeypatch.setattr(local, 'GRACE_SECONDS', 0.2)
  started = time.monotonic()
  sleeping = python('import time; time.sleep(60)')
  assert local.run([sleeping, python('raise SystemExit(3)')], {}) == 3
  assert time.monotonic() - started < 30


def test_a_killed_process_has_a_shells_exit_code(local):
  killed = python('import os; os.kill(os.getpid(), 9)')
  assert local.run([killed], {}) == 128 + signal.SIGKILL


def test_sigterm_reaches_every_process(tmp_path):
  program = (
    'import sys, signal, time\n'
    'signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n'
    'print("ready", flush=True)\n'
    'time.sleep(60)\n'
  )
  driver = tmp_path / 'driver.py'
  driver.write_text(
    f'import sys; sys.path.insert(0, {str(PATH.parent)!r}); import local\n'
    f'sys.exit(local.run([[sys.executable, "-c", {program!r}]] * 2, {{}}))\n'
  )
  with subprocess.Popen(
    [sys.executable, str(driver)], stdout=subprocess.PIPE, text=True
  ) as process:
    lines = sorted(process.stdout.readline() for _ in range(2))
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
  assert lines == ['[0] ready\n', '[1] ready\n']


def test_a_dry_run_prints_what_would_run(local, capsys, monkeypatch):
  monkeypatch.setattr(local, 'free_port', lambda: 1234)
  monkeypatch.delenv('XLA_FLAGS', raising=False)
  monkeypatch.delenv('PYTHONPATH', raising=False)
  arguments = ['--num-processes=2', '--devices-per-process=4', '--dry-run', '--']
  assert local.main([*arguments, '--config=configs/digits.py', '--workdir=runs/a']) == 0
  path, python = shlex.quote(f'PYTHONPATH={PATH.parents[1]}'), shlex.quote(sys.executable)
  assert capsys.readouterr().out.splitlines() == [
    f'env {path} JAX_PLATFORMS=cpu '
    'XLA_FLAGS=--xla_force_host_platform_device_count=4 '
    f'{python} -m shallow_jax.main --config=configs/digits.py --workdir=runs/a '
    f'--coordinator_address=127.0.0.1:1234 --num_processes=2 --process_id={i}'
    for i in range(2)
  ]


def test_what_a_dry_run_prints_can_be_typed(local, capsys, monkeypatch, tmp_path):
  """With spaces in paths and in the flags for XLA that were there before."""
  program = tmp_path / 'my python'
  program.write_text('#!/bin/bash\nprintf "%s\\n" "$XLA_FLAGS" "$@"\n')
  program.chmod(0o755)
  monkeypatch.setenv('XLA_FLAGS', '--one --two')
  monkeypatch.setattr(local.sys, 'executable', str(program))
  local.main(['--devices-per-process=4', '--dry-run', '--', '--workdir=runs/my run'])
  for line in capsys.readouterr().out.splitlines():
    typed = subprocess.run(['bash', '-c', line], capture_output=True, text=True, check=True)
    seen = typed.stdout.splitlines()
    assert seen[0] == '--one --two --xla_force_host_platform_device_count=4'
    assert seen[1:4] == ['-m', 'shallow_jax.main', '--workdir=runs/my run']


@pytest.mark.parametrize('count', ['0', 'two'])
def test_no_process_is_refused(local, count, capsys):
  with pytest.raises(SystemExit):
    local.parse([f'--num-processes={count}'])
  assert f"expected at least 1, not '{count}'" in capsys.readouterr().err
