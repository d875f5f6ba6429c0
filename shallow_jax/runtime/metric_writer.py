"""What a run reports of itself: metrics.jsonl, TensorBoard events, and the progress on screen."""

from collections.abc import Callable, Mapping
import importlib
import importlib.util
import json
import logging
import math
import os
import pathlib
import struct
import sys
import time
from typing import Any, BinaryIO, TextIO

import tqdm

from shallow_jax.runtime import errors
from shallow_jax.runtime import workdir as workdir_lib

_SECONDS_BETWEEN_LINES = 10.0


class MetricWriterError(errors.ExpectedError, RuntimeError):
  """Metrics could not be written or are damaged; the message is one line and names the file."""


class MetricWriter:
  """Appends the metrics of one run to its folder, a JSON object a line.

  A line has 'step', 'kind' ('train' or 'validation') and the values; one that is not finite is
  null, and the line then has 'nonfinite': true.
  """

  def __init__(
    self, folder: str | os.PathLike[str], *, initial_step: int = 0, tensorboard: bool = True
  ) -> None:
    """Continue after `initial_step`: later lines are dropped, and all of them when it is 0.

    Args:
      initial_step: of the checkpoint that the run continues from.
      tensorboard: whether to write events too; without tensorboardX none are written.

    Raises:
      MetricWriterError: the folder can't be written, or a line of metrics.jsonl is not JSON.
    """
    self._folder = pathlib.Path(folder)
    self._path = self._folder / workdir_lib.METRICS
    self._initial_step = initial_step
    self._tensorboard = tensorboard and importlib.util.find_spec('tensorboardX') is not None
    self._events: BinaryIO | None = None
    try:
      self._folder.mkdir(parents=True, exist_ok=True)
      _drop_lines_after(self._path, initial_step)
    except OSError as error:
      raise MetricWriterError(f'{self._path}: can not be written: {error.strerror}') from error
    self._lines = _opened(self._path)

  def write(self, step: int, kind: str, values: Mapping[str, float]) -> None:
    """Append one line; it is with the operating system when this returns.

    Raises:
      MetricWriterError: with path and bytes, when the disk is full.
    """
    numbers = {name: float(value) for name, value in values.items()}
    finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
    line: dict[str, Any] = {'step': int(step), 'kind': kind, **dict.fromkeys(numbers), **finite}
    if len(finite) < len(numbers):
      line['nonfinite'] = True
    _append(self._lines, json.dumps(line, allow_nan=False).encode() + b'\n')
    if self._tensorboard:
      if self._events is None:  # with the first values: hundreds of short runs have none to show
        self._events = _new_events(self._folder, self._initial_step)
      tagged = {f'{kind}/{name}': value for name, value in finite.items()}
      _append(self._events, _event(int(step), tagged))

  def flush(self) -> None:
    """Put the lines on the disk; call it before the checkpoint that makes them final."""
    try:
      os.fsync(self._lines.fileno())
    except OSError as error:
      raise MetricWriterError(f'{self._path}: can not be written: {error.strerror}') from error

  def close(self) -> None:
    """Close the files."""
    self._lines.close()
    if self._events is not None:
      self._events.close()

  def __enter__(self) -> 'MetricWriter':
    return self

  def __exit__(self, *_: object) -> None:
    self.close()


class Silent:
  """In the place of a MetricWriter or Progress: says nothing, as another process does."""

  def write(self, step: int, kind: str, values: Mapping[str, float]) -> None:
    """Write nothing."""

  def flush(self) -> None:
    """Write nothing."""

  def update(self, step: int, text: str = '') -> None:
    """Show nothing."""

  def __enter__(self) -> 'Silent':
    return self

  def __exit__(self, *_: object) -> None:
    pass


def _drop_lines_after(path: pathlib.Path, last_step: int) -> None:
  """Leave the lines up to `last_step` in one step: a kill leaves the old lines or the new ones."""
  if not last_step:
    path.unlink(missing_ok=True)
    return
  # A kill or a full disk cuts the last line short, and only that one.
  lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
  whole = [line for line in lines if line.endswith(b'\n')]
  kept = [line for i, line in enumerate(whole) if _step(line, path, i + 1) <= last_step]
  if len(whole) < len(lines):
    logging.getLogger(__name__).warning(
      f'{path}: its last line was cut short, {len(lines[-1]):,} bytes are dropped'
    )
  if len(kept) < len(lines):
    _replace(path, b''.join(kept))


def _step(line: bytes, path: pathlib.Path, number: int) -> int:
  try:
    return int(json.loads(line)['step'])
  except (ValueError, KeyError, TypeError) as error:
    raise MetricWriterError(f'{path}: line {number} is damaged: {line!r:.60}') from error


def _replace(path: pathlib.Path, data: bytes) -> None:
  partial = path.with_name(f'.{path.name}.partial')  # one name: a killed run's is written over
  try:
    with open(partial, 'wb') as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)


def _opened(path: pathlib.Path) -> BinaryIO:
  """Return a file to append to; without a buffer, what is written is the system's at once."""
  try:
    return open(path, 'ab', buffering=0)
  except OSError as error:
    raise MetricWriterError(f'{path}: can not be written: {error.strerror}') from error


def _append(file: BinaryIO, data: bytes) -> None:
  try:
    left = memoryview(data)
    while left:
      left = left[file.write(left) :]
  except OSError as error:
    message = f'{file.name}: {len(data):,} bytes could not be written: {error.strerror}'
    raise MetricWriterError(message) from error


def _new_events(folder: pathlib.Path, initial_step: int) -> BinaryIO:
  """Return a new event file; TensorBoard forgets what older ones say of later steps.

  Written record by record, as tensorboardX's own writer starts a thread and a queue, keeps the
  last two minutes in memory and swallows the error of a full disk.
  """
  events = _proto('event_pb2')
  file = _opened(folder / f'events.out.tfevents.{time.time_ns():020d}.{os.getpid()}')
  _append(file, _record(events.Event(wall_time=time.time(), file_version='brain.Event:2')))
  start = events.SessionLog(status=events.SessionLog.START)
  step = initial_step + 1 if initial_step else 0
  _append(file, _record(events.Event(wall_time=time.time(), step=step, session_log=start)))
  return file


def _proto(name: str) -> Any:
  """Return a module of protocol buffers, whose classes exist at run time only."""
  return importlib.import_module(f'tensorboardX.proto.{name}')


def _event(step: int, values: Mapping[str, float]) -> bytes:
  summaries, events = _proto('summary_pb2'), _proto('event_pb2')
  scalars = [summaries.Summary.Value(tag=tag, simple_value=values[tag]) for tag in values]
  summary = summaries.Summary(value=scalars)
  return _record(events.Event(wall_time=time.time(), step=step, summary=summary))


def _record(event: Any) -> bytes:
  """Return an event framed as TensorFlow's record: length, its checksum, the data, its checksum."""
  from tensorboardX import record_writer

  data = event.SerializeToString()
  length = struct.pack('<Q', len(data))
  checksums = [struct.pack('<I', record_writer.masked_crc32c(part)) for part in (length, data)]
  return length + checksums[0] + data + checksums[1]


class Progress:
  """Shows how far a run is: a bar on a terminal, elsewhere a line every 10 seconds or so."""

  def __init__(
    self,
    total_steps: int,
    examples_per_step: int,
    label: str = '',
    initial_step: int = 0,
    *,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
  ) -> None:
    """Begin at `initial_step`; speed and time left count from here."""
    self._total_steps = total_steps
    self._examples_per_step = examples_per_step
    self._label = label
    self._stream = sys.stderr if stream is None else stream
    self._clock = clock
    self._first = self._last = (clock(), initial_step)
    self._step, self._text = initial_step, ''
    self._bar = self._new_bar() if self._stream.isatty() else None

  def _new_bar(self) -> tqdm.tqdm:
    tqdm.tqdm.monitor_interval = 0  # no thread that watches the bar
    form = '{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]'
    return tqdm.tqdm(
      total=self._total_steps,
      initial=self._step,
      desc=self._label,
      file=self._stream,
      bar_format=form,
      dynamic_ncols=True,
      mininterval=0.2,  # seconds
    )

  def update(self, step: int, text: str = '') -> None:
    """Show that `step` is done; `text` stays until there is another one."""
    advance, self._step = step - self._step, step
    self._text = text or self._text
    if self._bar is not None:
      self._bar.set_postfix_str(f'{self._speed(self._first)}{self._joined_text()}', refresh=False)
      self._bar.update(advance)
    elif self._clock() - self._last[0] >= _SECONDS_BETWEEN_LINES:
      self._print_line(self._last)

  def close(self) -> None:
    """End the display; without a terminal, with one line for the whole run."""
    if self._bar is not None:
      self._bar.close()
    elif self._step > self._first[1]:
      self._print_line(self._first)

  def _print_line(self, since: tuple[float, int]) -> None:
    left = self._time_left(since)
    line = (
      f'{self._label}: step {self._step:,} of {self._total_steps:,}, '
      f'{self._speed(since)}{left}{self._joined_text()}'
    )
    self._last = (self._clock(), self._step)
    print(line.removeprefix(': '), file=self._stream, flush=True)

  def _speed(self, since: tuple[float, int]) -> str:
    rate = (self._step - since[1]) * self._examples_per_step / self._elapsed(since)
    return f'{rate:,.0f} examples/s'

  def _elapsed(self, since: tuple[float, int]) -> float:
    return max(self._clock() - since[0], 1e-9)

  def _time_left(self, since: tuple[float, int]) -> str:
    steps_left, steps = self._total_steps - self._step, self._step - since[1]
    if steps_left <= 0 or not steps:
      return ''
    return f', {_clock_text(steps_left * self._elapsed(since) / steps)} left'

  def _joined_text(self) -> str:
    return f', {self._text}' if self._text else ''

  def __enter__(self) -> 'Progress':
    return self

  def __exit__(self, *_: object) -> None:
    self.close()


def _clock_text(seconds: float) -> str:
  minutes, rest = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours}:{minutes:02d}:{rest:02d}' if hours else f'{minutes}:{rest:02d}'
