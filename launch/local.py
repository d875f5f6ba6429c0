#!/usr/bin/env python3
"""Several processes on this machine, the way a cluster runs them.

  python launch/local.py --num-processes=2 --devices-per-process=4 -- \
      --config=configs/digits.py:smoke --workdir=runs/digits

Starts `python -m shallow_jax.main` with what stands behind `--`, once for each process. The
processes find each other on 127.0.0.1; each has so many virtual CPU devices (0: the machine's own).
Lines are prefixed by the process. When one fails, the others end too; SIGTERM, Ctrl-C and the end
of the terminal let all save and stop, a second one ends them at once. `--dry-run` prints the
commands instead.
"""

import argparse
from collections.abc import Callable, Sequence
import contextlib
import itertools
import os
import pathlib
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
GRACE_SECONDS = 20.0  # for the others to end by themselves once one has failed


def main(argv: Sequence[str]) -> int:
  """Runs all processes; returns the exit code of the first that failed, else 0."""
  arguments = parse(argv)
  port = free_port()
  commands = [command(arguments, i, port) for i in range(arguments.num_processes)]
  environment = environment_of(arguments.devices_per_process)
  if arguments.dry_run:
    for each in commands:
      variables = [f'{key}={value}' for key, value in environment.items()]
      print(shlex.join(['env', *variables, *each]))
    return 0
  return run(commands, {**os.environ, **environment})


def parse(argv: Sequence[str]) -> argparse.Namespace:
  """The options before `--`, and `rest` behind it."""
  parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
  parser.add_argument('--num-processes', type=_at_least(1), default=2)
  parser.add_argument('--devices-per-process', type=_at_least(0), default=0)
  parser.add_argument('--dry-run', action='store_true')
  parser.add_argument('rest', nargs='*', help='of shallow_jax.main, behind --')
  return parser.parse_args(argv)


def command(arguments: argparse.Namespace, process_id: int, port: int) -> list[str]:
  """The command of one process."""
  return [
    *(sys.executable, '-m', 'shallow_jax.main', *arguments.rest),
    f'--coordinator_address=127.0.0.1:{port}',
    f'--num_processes={arguments.num_processes}',
    f'--process_id={process_id}',
  ]


def environment_of(devices: int) -> dict[str, str]:
  """What each process sees besides this one's environment."""
  path = os.environ.get('PYTHONPATH')
  found = {'PYTHONPATH': str(REPOSITORY) + (os.pathsep + path if path else '')}
  if devices:
    found |= {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': str(devices)}
  return found


def free_port() -> int:
  """A port of 127.0.0.1 that nobody listens on."""
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    return listener.getsockname()[1]


def run(commands: Sequence[Sequence[str]], environment: dict[str, str]) -> int:
  """Runs commands side by side until all have ended, at the latest soon after one has failed."""
  started: list[subprocess.Popen[bytes]] = []
  numbers = itertools.chain([signal.SIGTERM], itertools.repeat(signal.SIGKILL))
  previous = {
    number: signal.signal(number, lambda *_: _signal_all(started, next(numbers)))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    if signal.getsignal(number) != signal.SIG_IGN  # as nohup has it
  }
  try:
    for each in commands:
      started.append(_start(each, environment))
    echoes = [threading.Thread(target=_echo, args=each) for each in enumerate(started)]
    for echo in echoes:
      echo.start()
    code = _wait(started)
    for echo in echoes:
      echo.join()
  finally:
    _signal_all(started, signal.SIGKILL)
    for number, handler in previous.items():
      signal.signal(number, handler)
  return code


def _start(command: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
  return subprocess.Popen(
    command,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    start_new_session=True,  # Ctrl-C comes to them through us, once
  )


def _echo(index: int, process: subprocess.Popen[bytes]) -> None:
  assert process.stdout is not None
  with process.stdout as lines:
    for line in lines:
      with contextlib.suppress(OSError):  # a closed terminal must not keep them from going on
        os.write(sys.stdout.fileno(), f'[{index}] '.encode() + line)


def _wait(started: Sequence[subprocess.Popen[bytes]]) -> int:
  failed, deadline = 0, float('inf')
  while any(process.poll() is None for process in started):
    codes = [process.poll() for process in started]
    if not failed and any(codes):
      failed = next(code for code in codes if code)
      deadline = time.monotonic() + GRACE_SECONDS
    if time.monotonic() > deadline:
      _signal_all(started, signal.SIGKILL)
    time.sleep(0.05)
  return _exit_code(failed or next((p.returncode for p in started if p.returncode), 0))


def _exit_code(code: int) -> int:
  return 128 - code if code < 0 else code  # as a shell does for a signal


def _signal_all(started: Sequence[subprocess.Popen[bytes]], number: int) -> None:
  for process in started:
    if process.poll() is None:
      process.send_signal(number)


def _at_least(least: int) -> Callable[[str], int]:
  def count(text: str) -> int:
    if not text.isdigit() or int(text) < least:
      raise argparse.ArgumentTypeError(f'expected at least {least}, not {text!r}')
    return int(text)

  return count


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
