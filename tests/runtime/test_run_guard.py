"""The lock and the signals, with processes that hold, die and are killed."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from shallow_jax.runtime import run_guard

ROOT = pathlib.Path(__file__).parents[2]

HOLD = """if True:
  import sys
  from shallow_jax.runtime import run_guard
  with run_guard.lock(sys.argv[1]):
    print('held', flush=True)
    sys.stdin.read()
"""

# Stands for a training: says where it is, works until it is asked to stop, "saves" and stops.
TRAIN = """if True:
  import sys, time
  from shallow_jax.runtime import run_guard
  work, save = sys.argv[1:]
  try:
    with run_guard.handle_signals() as stop:
      print('started', flush=True)
      while not stop.requested:
        exec(work)
      exec(save)
      print('saved', flush=True)
      raise stop.stopped('cnn/0 at step 7')
  except run_guard.Stopped as error:
    print(error, flush=True)
    sys.exit(error.exit_code)
"""
# A C call that lets other threads run but no Python handler, as a compilation does.
LONG_CALL = 'import hashlib; hashlib.pbkdf2_hmac("sha256", b"", b"", 200_000_000)'


def start(code, *arguments):
  process = subprocess.Popen(
    [sys.executable, '-c', code, *map(str, arguments)],
    cwd=ROOT,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  process.stdout.readline()  # 'held' or 'started'
  return process


def test_a_second_run_is_told_who_holds_the_workdir(tmp_path):
  workdir = tmp_path / 'runs' / 'größer digits'
  owner = start(HOLD, workdir)
  with pytest.raises(run_guard.RunGuardError) as caught, run_guard.lock(workdir):
    pass
  since = r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00'
  message = rf'workdir {re.escape(str(workdir))} is in use by pid {owner.pid} on \S+ since {since}'
  assert re.match(message, str(caught.value))
  assert '\n' not in str(caught.value)
  assert owner.communicate('')[1] == ''  # the attempt did not disturb it
  with run_guard.lock(workdir):
    pass


def test_a_dead_owners_workdir_is_free(tmp_path):
  owner = start(HOLD, tmp_path)
  owner.kill()
  owner.communicate()
  assert f'"pid":{owner.pid}' in (tmp_path / 'lock').read_text()
  with run_guard.lock(tmp_path):
    assert f'"pid":{os.getpid()}' in (tmp_path / 'lock').read_text()
    assert (tmp_path / 'lock').read_text().count('\n') == 1
  assert (tmp_path / 'lock').read_text() == ''


def test_the_lock_holds_within_a_process_too(tmp_path):
  with (
    run_guard.lock(tmp_path),
    pytest.raises(run_guard.RunGuardError, match=f'pid {os.getpid()} '),
    run_guard.lock(tmp_path),
  ):
    pass


def test_an_owner_that_has_not_yet_said_who_it_is(tmp_path):
  with run_guard.lock(tmp_path):
    (tmp_path / 'lock').write_text('{"pid"')
    with (
      pytest.raises(run_guard.RunGuardError, match='another process that has just started'),
      run_guard.lock(tmp_path),
    ):
      pass


def test_an_error_inside_frees_the_lock_and_passes_through(tmp_path):
  for _ in range(2):
    with pytest.raises(KeyError), run_guard.lock(tmp_path):
      raise KeyError


@pytest.mark.parametrize('name', ['file/below', 'file', 'folder'])
def test_a_workdir_that_can_not_be_written(tmp_path, name):
  (tmp_path / 'file').write_text('')
  (tmp_path / 'folder' / 'lock').mkdir(parents=True)
  message = f'workdir {tmp_path / name} can not be written: '
  with pytest.raises(run_guard.RunGuardError, match=message), run_guard.lock(tmp_path / name):
    pass


def test_a_full_disk(tmp_path):
  words = ['bash', '-c', 'ulimit -f 0; exec "$@"', 'bash', sys.executable, '-c', HOLD, tmp_path]
  done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
  assert done.stdout == ''
  message = f'RunGuardError: workdir {tmp_path} can not be written: File too large'
  assert done.stderr.splitlines()[-1].endswith(message)


@pytest.mark.parametrize(('number', 'code'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_first_signal_saves_and_stops(number, code):
  process = start(TRAIN, 'time.sleep(0.01)', 'time.sleep(0.05)')
  process.send_signal(number)
  out, err = process.communicate(timeout=20)
  assert out.splitlines() == ['saved', f'stopped by {number.name}: cnn/0 at step 7']
  assert err == f'{number.name}: saving and stopping; a second signal ends at once\n'
  assert process.returncode == code


@pytest.mark.parametrize(('number', 'code'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize(
  ('work', 'save'),
  [
    ('time.sleep(0.01)', 'time.sleep(60)'),
    (LONG_CALL, 'time.sleep(60)'),
    ('time.sleep(0.01)', LONG_CALL),
  ],
  ids=['while saving', 'while compiling', 'while compiling the evaluation'],
)
def test_the_second_signal_ends_at_once(number, code, work, save):
  process = start(TRAIN, work, save)
  process.send_signal(signal.SIGTERM)
  assert process.stderr.readline().startswith('SIGTERM: saving and stopping')
  started = time.monotonic()
  process.send_signal(number)
  out, err = process.communicate(timeout=20)
  assert time.monotonic() - started < 5
  assert (out, err, process.returncode) == ('', '', code)


def test_handlers_are_restored():
  before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
  threads = threading.active_count()
  wakeup = signal.set_wakeup_fd(-1)
  signal.set_wakeup_fd(wakeup)
  with pytest.raises(KeyError), run_guard.handle_signals() as stop:
    assert signal.getsignal(signal.SIGTERM) != before[signal.SIGTERM]
    raise KeyError
  assert not stop.requested
  assert {number: signal.getsignal(number) for number in before} == before
  assert threading.active_count() == threads
  assert signal.set_wakeup_fd(wakeup) == wakeup


def test_a_request_is_seen_in_the_next_line(capfd):
  with run_guard.handle_signals() as stop:
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.requested
    assert (stop.name, stop.signum) == ('SIGINT', signal.SIGINT)
  assert capfd.readouterr().err.strip().startswith('SIGINT: saving and stopping')


def test_only_the_signals_asked_for_are_taken():
  before = signal.getsignal(signal.SIGTERM)
  with run_guard.handle_signals([signal.SIGINT]):
    assert signal.getsignal(signal.SIGTERM) == before


def test_elsewhere_than_in_the_main_thread_it_is_a_flag():
  seen = []

  def run():
    before = signal.getsignal(signal.SIGTERM)
    with run_guard.handle_signals() as stop:
      seen.append((stop.requested, signal.getsignal(signal.SIGTERM) is before))
      stop.request()
      seen.append((stop.requested, stop.stopped().exit_code))

  thread = threading.Thread(target=run)
  thread.start()
  thread.join()
  assert seen == [(False, True), (True, 143)]


def test_the_first_request_counts():
  stop = run_guard.StopRequest()
  assert (stop.requested, stop.name) == (False, '')
  stop.request(signal.SIGINT)
  stop.request(signal.SIGTERM)
  assert str(stop.stopped()) == 'stopped by SIGINT'
  assert stop.stopped().exit_code == 130
