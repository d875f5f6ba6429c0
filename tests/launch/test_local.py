"""launch/local.py: several processes, one terminal, one end. The processes here are tiny ones."""

import importlib.util
import pathlib
import shlex
import signal
import subprocess
import sys
import time

import pytest

PATH = pathlib.Path(__file__).parents[2] / 'launch' / 'local.py'


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


def test_what_is_printed_ends_nothing(local, monkeypatch, capfd):
  """Bytes of any encoding pass through; where nobody reads, the processes go on."""
  assert local.run([python(r"import os; os.write(1, b'gr\xf6\xc3\xb6\n')")], {}) == 0
  assert capfd.readouterr().out.encode('utf-8', 'surrogateescape')  # decoded by pytest
  with open('/dev/full', 'w') as full:
    monkeypatch.setattr(local.sys, 'stdout', full)
    assert local.run([python("print('x' * 200_000)")], {}) == 0


def test_the_failure_of_one_ends_the_others_and_is_the_exit_code(local, monkeypatch):
  monkeypatch.setattr(local, 'GRACE_SECONDS', 0.2)
  started = time.monotonic()
  sleeping = python('import time; time.sleep(60)')
  assert local.run([sleeping, python('raise SystemExit(3)')], {}) == 3
  assert time.monotonic() - started < 30


def test_a_killed_process_has_a_shells_exit_code(local):
  killed = python('import os; os.kill(os.getpid(), 9)')
  assert local.run([killed], {}) == 128 + signal.SIGKILL


@pytest.fixture
def launched(tmp_path):
  """Starts a launcher of two processes, which answer SIGTERM by what `answer` does."""

  def launch(answer, before=''):
    program = (
      'import os, sys, signal, time\n'
      f'signal.signal(signal.SIGTERM, lambda *_: {answer})\n'
      'print("ready", flush=True)\n'
      'time.sleep(60)\n'
    )
    driver = tmp_path / 'driver.py'
    driver.write_text(
      f'import signal, sys; sys.path.insert(0, {str(PATH.parent)!r}); import local\n{before}\n'
      f'sys.exit(local.run([[sys.executable, "-c", {program!r}]] * 2, {{}}))\n'
    )
    process = subprocess.Popen([sys.executable, str(driver)], stdout=subprocess.PIPE, text=True)
    lines = sorted(process.stdout.readline() for _ in range(2))
    assert lines == ['[0] ready\n', '[1] ready\n']
    return process

  return launch


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_reaches_every_process_as_sigterm(launched, number):
  with launched('sys.exit(143)') as process:
    process.send_signal(number)
    assert process.wait(timeout=60) == 143


def test_a_second_signal_ends_all_at_once(launched):
  with launched('os.write(1, b"saving\\n")') as process:
    process.send_signal(signal.SIGINT)
    assert sorted(process.stdout.readline() for _ in range(2)) == ['[0] saving\n', '[1] saving\n']
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 128 + signal.SIGKILL


def test_under_nohup_the_end_of_the_terminal_ends_nothing(launched):
  with launched('sys.exit(143)', 'signal.signal(signal.SIGHUP, signal.SIG_IGN)') as process:
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
      process.wait(timeout=1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143


def test_a_dry_run_prints_what_would_run(local, capsys, monkeypatch):
  monkeypatch.setattr(local, 'free_port', lambda: 1234)
  monkeypatch.delenv('PYTHONPATH', raising=False)
  arguments = ['--num-processes=2', '--devices-per-process=4', '--dry-run', '--']
  assert local.main([*arguments, '--config=configs/digits.py', '--workdir=runs/a']) == 0
  path, python = shlex.quote(f'PYTHONPATH={PATH.parents[1]}'), shlex.quote(sys.executable)
  assert capsys.readouterr().out.splitlines() == [
    f'env {path} JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=4 '
    f'{python} -m shallow_jax.main --config=configs/digits.py --workdir=runs/a '
    f'--coordinator_address=127.0.0.1:1234 --num_processes=2 --process_id={i}'
    for i in range(2)
  ]


def test_what_a_dry_run_prints_can_be_typed(local, capsys, monkeypatch, tmp_path):
  """With spaces in paths."""
  program = tmp_path / 'my python'
  program.write_text('#!/bin/bash\nprintf "%s\\n" "$JAX_NUM_CPU_DEVICES" "$@"\n')
  program.chmod(0o755)
  monkeypatch.setattr(local.sys, 'executable', str(program))
  local.main(['--devices-per-process=4', '--dry-run', '--', '--workdir=runs/my run'])
  for line in capsys.readouterr().out.splitlines():
    typed = subprocess.run(['bash', '-c', line], capture_output=True, text=True, check=True)
    seen = typed.stdout.splitlines()
    assert seen[0] == '4'
    assert seen[1:4] == ['-m', 'shallow_jax.main', '--workdir=runs/my run']


@pytest.mark.parametrize(
  ('flag', 'least'),
  [('--num-processes=0', 1), ('--num-processes=two', 1), ('--devices-per-process=-1', 0)],
)
def test_no_process_is_refused(local, flag, least, capsys):
  with pytest.raises(SystemExit):
    local.parse([flag])
  assert f"expected at least {least}, not '{flag.split('=')[1]}'" in capsys.readouterr().err
