"""No line twice or missing after any resume; events that TensorBoard reads; the line on screen."""

import errno
import io
import json
import os
import pathlib
import struct
import subprocess
import sys

import pytest

from shallow_jax.report import curves
from shallow_jax.runtime import metric_writer

ROOT = pathlib.Path(__file__).parents[2]


def lines(folder):
  return [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]


def write_steps(folder, initial_step, last_step):
  """Writes as a run does: a train line every step, validation every second one."""
  with metric_writer.MetricWriter(folder, initial_step=initial_step, tensorboard=False) as writer:
    for step in range(initial_step + 1, last_step + 1):
      writer.write(step, 'train', {'loss': 1 / step})
      if step % 2 == 0:
        writer.write(step, 'validation', {'error': 100 / step})


def test_a_line_is_a_json_object_and_there_at_once(tmp_path):
  with metric_writer.MetricWriter(tmp_path / 'a' / 'b', tensorboard=False) as writer:
    writer.write(3, 'train', {'loss': 0.5, 'accuracy': 1})
    assert lines(tmp_path / 'a' / 'b') == [
      {'step': 3, 'kind': 'train', 'loss': 0.5, 'accuracy': 1.0}
    ]


def test_what_is_not_finite_is_null(tmp_path):
  with metric_writer.MetricWriter(tmp_path) as writer:
    writer.write(1, 'validation', {'error': float('nan'), 'loss': float('inf'), 'r2': 0.5})
  (line,) = lines(tmp_path)
  assert line == {
    'step': 1, 'kind': 'validation', 'error': None, 'loss': None, 'r2': 0.5, 'nonfinite': True,
  }  # fmt: skip
  assert list(line) == ['step', 'kind', 'error', 'loss', 'r2', 'nonfinite']


@pytest.mark.parametrize('resumed_at', range(7))
@pytest.mark.parametrize('torn', [b'', b'{"step": 7, "ki', b'{"step": 1}'])
def test_a_resumed_run_has_every_line_once(tmp_path, resumed_at, torn):
  write_steps(tmp_path / 'whole', 0, 10)
  write_steps(tmp_path / 'resumed', 0, 6)
  with open(tmp_path / 'resumed' / 'metrics.jsonl', 'ab') as file:
    file.write(torn)
  write_steps(tmp_path / 'resumed', resumed_at, 10)
  whole, resumed = (
    (tmp_path / name / 'metrics.jsonl').read_bytes() for name in ('whole', 'resumed')
  )
  assert whole == resumed
  assert [path.name for path in (tmp_path / 'resumed').iterdir()] == ['metrics.jsonl']


def test_what_is_cut_short_is_told_and_is_no_record_for_a_reader_either(tmp_path, caplog):
  seed = tmp_path / 'seed-0'
  write_steps(seed, 0, 4)
  whole = curves.read([tmp_path], [0], 'validation', 'error')
  with open(seed / 'metrics.jsonl', 'ab') as file:
    file.write(b'{"step": 5, "ki')
  for ours, theirs in zip(curves.read([tmp_path], [0], 'validation', 'error'), whole, strict=True):
    assert (ours == theirs).all()
  assert caplog.messages == []
  write_steps(seed, 4, 4)
  (message,) = caplog.messages
  assert message == f'{seed}/metrics.jsonl: its last line was cut short, 15 bytes are dropped'


def test_lines_that_stay_are_not_written_again(tmp_path):
  write_steps(tmp_path, 0, 4)
  before = (tmp_path / 'metrics.jsonl').stat().st_ino
  write_steps(tmp_path, 4, 6)
  assert (tmp_path / 'metrics.jsonl').stat().st_ino == before


def test_a_damaged_line_is_named(tmp_path):
  write_steps(tmp_path, 0, 4)
  data = (tmp_path / 'metrics.jsonl').read_bytes()
  for harmed in (data.replace(b'"step": 2', b'"step" 2', 1), b'[1]\n' + data):
    (tmp_path / 'metrics.jsonl').write_bytes(harmed)
    with pytest.raises(metric_writer.MetricWriterError, match=r'jsonl: line \d is damaged'):
      metric_writer.MetricWriter(tmp_path, initial_step=2)
    assert (tmp_path / 'metrics.jsonl').read_bytes() == harmed


@pytest.mark.parametrize('moment', ['write', 'replace'])
def test_a_kill_while_lines_are_dropped_loses_none(tmp_path, moment):
  write_steps(tmp_path, 0, 6)
  code = """if True:
    import os, signal, sys
    from shallow_jax.runtime import metric_writer
    name = {'write': 'fsync', 'replace': 'replace'}[sys.argv[2]]
    setattr(os, name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    metric_writer.MetricWriter(sys.argv[1], initial_step=3)
  """
  assert subprocess.run([sys.executable, '-c', code, tmp_path, moment], cwd=ROOT).returncode == -9
  assert [line['step'] for line in lines(tmp_path)] == [1, 2, 2, 3, 4, 4, 5, 6, 6]
  write_steps(tmp_path, 3, 4)
  assert [line['step'] for line in lines(tmp_path)] == [1, 2, 2, 3, 4, 4]
  assert [path.name for path in tmp_path.iterdir()] == ['metrics.jsonl']


def test_a_failure_while_lines_are_dropped_loses_none(tmp_path, monkeypatch):
  write_steps(tmp_path, 0, 6)
  before = (tmp_path / 'metrics.jsonl').read_bytes()

  def fail(_):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(os, 'fsync', fail)
  with pytest.raises(metric_writer.MetricWriterError, match=r'metrics\.jsonl: .*: No space left'):
    metric_writer.MetricWriter(tmp_path, initial_step=3)
  assert (tmp_path / 'metrics.jsonl').read_bytes() == before
  assert [path.name for path in tmp_path.iterdir()] == ['metrics.jsonl']


def test_a_full_disk_is_named_and_survived(tmp_path):
  code = """if True:
    import sys
    from shallow_jax.runtime import metric_writer
    with metric_writer.MetricWriter(sys.argv[1], tensorboard=False) as writer:
      for step in range(1, 1000):
        writer.write(step, 'train', {'loss': 0.5})
  """
  words = ['bash', '-c', 'ulimit -f 2; exec "$@"', 'bash', sys.executable, '-c', code, tmp_path]
  done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 1
  message = f'MetricWriterError: {tmp_path}/metrics.jsonl: 43 bytes could not be written: '
  assert message in done.stderr.splitlines()[-1]
  with metric_writer.MetricWriter(tmp_path, initial_step=40, tensorboard=False) as writer:
    writer.write(41, 'train', {'loss': 0.25})
  assert [line['step'] for line in lines(tmp_path)] == list(range(1, 42))


def test_a_folder_that_can_not_be_written(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(metric_writer.MetricWriterError, match=r'file/metrics\.jsonl: can not be'):
    metric_writer.MetricWriter(tmp_path / 'file')


def crc32c(data):
  """The Castagnoli checksum, bit by bit."""
  crc = 0xFFFFFFFF
  for byte in data:
    crc ^= byte
    for _ in range(8):
      crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
  return crc ^ 0xFFFFFFFF


def masked(data):
  crc = crc32c(data)
  return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events(path):
  """Returns the events of a file; every checksum is checked."""
  event_pb2 = pytest.importorskip('tensorboardX.proto.event_pb2')
  data, found = path.read_bytes(), []
  while data:
    (length,) = struct.unpack('<Q', data[:8])
    assert struct.unpack('<I', data[8:12]) == (masked(data[:8]),)
    body, checksum = data[12 : 12 + length], data[12 + length : 16 + length]
    assert struct.unpack('<I', checksum) == (masked(body),)
    found.append(event_pb2.Event.FromString(body))
    data = data[16 + length :]
  return found


def test_events_hold_the_finite_values(tmp_path):
  with metric_writer.MetricWriter(tmp_path) as writer:
    writer.write(5, 'train', {'loss': 0.5, 'norm': float('nan')})
    (path,) = tmp_path.glob('events.out.tfevents.*')
    version, start, event = events(path)  # there at once, no queue
  assert version.file_version == 'brain.Event:2'
  assert start.step == 0
  assert (event.step, [value.tag for value in event.summary.value]) == (5, ['train/loss'])
  assert event.summary.value[0].simple_value == 0.5


def test_tensorboard_forgets_the_steps_that_come_again(tmp_path):
  for initial_step in (0, 3):
    with metric_writer.MetricWriter(tmp_path, initial_step=initial_step) as writer:
      writer.write(initial_step + 1, 'train', {'loss': 0.5})
  first, second = sorted(tmp_path.glob('events.out.tfevents.*'))
  assert [event.step for event in events(first)] == [0, 0, 1]
  _, start, event = events(second)
  assert start.session_log.status == start.session_log.START
  assert (start.step, event.step) == (4, 4)  # what older files say of step 4 and later is dropped


@pytest.mark.parametrize('options', [{'tensorboard': False}, {}])
def test_no_events_unless_there_are_values_and_a_wish(tmp_path, options):
  with metric_writer.MetricWriter(tmp_path, **options) as writer:
    if options:
      writer.write(1, 'train', {'loss': 0.5})
  assert [path.name for path in tmp_path.iterdir()] == ['metrics.jsonl']


class Clock:
  """A clock that a test moves."""

  seconds = 100.0

  def __call__(self):
    return self.seconds


def test_plain_progress_says_speed_and_time_left_every_10_seconds():
  clock, stream = Clock(), io.StringIO()
  with metric_writer.Progress(5000, 64, 'mimic/0', 1000, stream=stream, clock=clock) as progress:
    for step in range(1001, 4001):
      clock.seconds += 0.0125  # 80 steps a second
      progress.update(step, f'loss {step / 1e4:.2f}' if step % 500 == 0 else '')
  assert stream.getvalue().splitlines() == [
    'mimic/0: step 1,800 of 5,000, 5,120 examples/s, 0:40 left, loss 0.15',
    'mimic/0: step 2,600 of 5,000, 5,120 examples/s, 0:30 left, loss 0.25',
    'mimic/0: step 3,400 of 5,000, 5,120 examples/s, 0:20 left, loss 0.30',
    'mimic/0: step 4,000 of 5,000, 5,120 examples/s, 0:12 left, loss 0.40',
  ]


def test_a_short_run_has_one_line_and_an_idle_one_has_none():
  clock, stream = Clock(), io.StringIO()
  with metric_writer.Progress(7200, 1, 'a', stream=stream, clock=clock) as progress:
    clock.seconds += 2
    progress.update(1)
  with metric_writer.Progress(10, 1, 'b', 10, stream=stream, clock=clock):
    pass
  assert stream.getvalue() == 'a: step 1 of 7,200, 0 examples/s, 3:59:58 left\n'


def test_a_terminal_gets_a_bar(capsys):
  stream = io.StringIO()
  stream.isatty = lambda: True
  clock = Clock()
  with metric_writer.Progress(100, 64, 'cnn/0', 50, stream=stream, clock=clock) as progress:
    clock.seconds += 1
    progress.update(60, 'loss 0.5')
    progress.update(100)
  last = stream.getvalue().split('\r')[-1]
  assert last.startswith('cnn/0: 100%|')
  assert '100/100' in last
  assert '3,200 examples/s, loss 0.5' in last
  assert capsys.readouterr() == ('', '')
