"""One run in a workdir at a time, and an orderly end when somebody asks for it.

Exit codes: 143 after SIGTERM, 130 after SIGINT (Ctrl-C); the same for a first signal, which saves,
and a second one, which ends at once.
"""

from collections.abc import Iterator, Sequence
import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import shlex
import signal
import socket
import sys
import threading
from typing import BinaryIO

from shallow_jax.runtime import errors
from shallow_jax.runtime import storage
from shallow_jax.runtime import workdir as workdir_lib

_END = b'\0'  # no signal has this number
_STDERR = 2


class RunGuardError(errors.ExpectedError, RuntimeError):
  """The workdir is in use or can't be used; the message is one line."""


@contextlib.contextmanager
def lock(workdir: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
  """Hold `workdir` (made if need be) for this process; a dead owner's lock is free.

  Raises:
    RunGuardError: another run holds it (which one, since when), or it can't be written.
  """
  workdir = pathlib.Path(workdir)
  file = _opened_lock(workdir)
  with file:
    _take(file, workdir)
    try:
      _write_owner(file, workdir)
      yield workdir
    finally:
      with contextlib.suppress(OSError):
        file.truncate(0)
      # By hand: a process forked meanwhile shares the lock and would keep it.
      fcntl.flock(file, fcntl.LOCK_UN)


def _opened_lock(workdir: pathlib.Path) -> BinaryIO:
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    # 'a': a lost race must not wipe the owner's line. No buffer: on a full disk, closing would
    # try to write it again.
    return open(workdir / workdir_lib.LOCK, 'a+b', buffering=0)
  except OSError as error:
    raise RunGuardError(f'workdir {workdir} can not be written: {error.strerror}') from error


def _take(file: BinaryIO, workdir: pathlib.Path) -> None:
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as error:
    raise RunGuardError(f'workdir {workdir} is in use by {_owner(file)}') from error
  except OSError as error:
    raise RunGuardError(f'workdir {workdir} can not be locked: {error.strerror}') from error


def _owner(file: BinaryIO) -> str:
  try:
    file.seek(0)
    owner = json.loads(file.read())
    return f'pid {owner["pid"]} on {owner["host"]} since {owner["since"]}: {owner["command"]}'
  except (ValueError, KeyError, TypeError):  # it has the lock and is about to write its line
    return 'another process that has just started'


def _write_owner(file: BinaryIO, workdir: pathlib.Path) -> None:
  owner = dict(
    pid=os.getpid(),
    host=socket.gethostname(),
    since=datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    command=shlex.join(sys.argv),
  )
  try:
    file.truncate(0)
    file.write(storage.canonical_json(owner).encode() + b'\n')
  except OSError as error:
    raise RunGuardError(f'workdir {workdir} can not be written: {error.strerror}') from error


class Stopped(Exception):  # noqa: N818 (an orderly end, not an error)
  """The run saved its state and ends because it was asked to; exit with `exit_code`."""

  def __init__(self, signum: int, where: str = '') -> None:
    """Name the signal and, in a few words, where the run stopped ('cnn/0 at step 1200')."""
    self.exit_code = exit_code(signum)
    super().__init__(f'stopped by {signal.Signals(signum).name}' + (f': {where}' if where else ''))


def exit_code(signum: int) -> int:
  """Return the shell's exit code for an end by signal `signum`."""
  return 128 + signum


class StopRequest:
  """Whether somebody asked this run to stop. Poll `requested` between steps."""

  def __init__(self) -> None:
    """Begin without a request."""
    self.signum: int | None = None

  @property
  def requested(self) -> bool:
    """Whether to save and stop."""
    return self.signum is not None

  @property
  def name(self) -> str:
    """The signal's name, empty while there was none."""
    return '' if self.signum is None else signal.Signals(self.signum).name

  def request(self, signum: int = signal.SIGTERM) -> None:
    """Ask for a stop, as the first signal does (or another process of the same run)."""
    if self.signum is None:
      self.signum = int(signum)

  def stopped(self, where: str = '') -> Stopped:
    """Return the exception to raise once all is saved."""
    return Stopped(self.signum or signal.SIGTERM, where)


@contextlib.contextmanager
def handle_signals(
  signals: Sequence[int] = (signal.SIGTERM, signal.SIGINT),
) -> Iterator[StopRequest]:
  """Turn the first of `signals` into a StopRequest; the second ends the process at once.

  Only the main thread can do this: elsewhere the request is a flag that no signal sets. Leave
  SIGTERM out under jax.distributed, whose notifier takes it (poll that and call `request`).
  """
  request = StopRequest()
  if threading.current_thread() is not threading.main_thread():
    yield request
    return
  previous = {number: signal.getsignal(number) for number in signals}
  with _watched(request, signals):
    try:
      for number in signals:
        signal.signal(number, lambda number, _: request.request(number))
      yield request
    finally:
      for number, handler in previous.items():
        # None: the handler was not set by Python and can't be put back.
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextlib.contextmanager
def _watched(request: StopRequest, signals: Sequence[int]) -> Iterator[None]:
  """Let a thread see each signal at once.

  A Python handler waits until the main thread is back from a long call such as a compilation, and
  two signals that wait are handled as one: the second would not end the process.
  """
  reader, writer = os.pipe()
  os.set_blocking(writer, False)
  previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
  watcher = threading.Thread(target=_watch, args=(reader, request, signals), daemon=True)
  watcher.start()
  try:
    yield
  finally:
    signal.set_wakeup_fd(previous)
    os.write(writer, _END)  # not by closing it: a process forked meanwhile has it open
    watcher.join()
    os.close(writer)
    os.close(reader)


def _watch(reader: int, request: StopRequest, signals: Sequence[int]) -> None:
  seen = 0
  while (byte := os.read(reader, 1)) != _END:
    number = byte[0]
    if number not in signals:
      continue
    seen += 1
    if seen > 1:
      os._exit(exit_code(number))
    request.request(number)
    _say(f'{request.name}: saving and stopping; a second signal ends at once')


def _say(line: str) -> None:
  with contextlib.suppress(OSError):  # a closed terminal must not keep the run from saving
    start = '\n' if os.isatty(_STDERR) else ''  # off the progress bar's line
    os.write(_STDERR, f'{start}{line}\n'.encode())
