"""Timings in turn: every round times each contender once, so that a slow minute slows them all."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
from typing import Any

REPOSITORY = pathlib.Path(__file__).parents[2]


@dataclasses.dataclass
class Worker:
  """A contender's process, see worker.py. `missing` says which library it lacks."""

  process: subprocess.Popen[str]
  notes: dict[str, Any]
  calls: Sequence[str]
  missing: str = ''

  def time(self, call: str, count: int) -> dict[str, float]:
    """The wall and CPU seconds of `count` units of a call's work."""
    assert self.process.stdin is not None
    self.process.stdin.write(f'{call} {count}\n')
    self.process.stdin.flush()
    return _answer(self.process)


@contextlib.contextmanager
def workers(
  contenders: Mapping[str, tuple[str, Mapping[str, Any]]], *, cores: int = 0, devices: int = 0
) -> Iterator[dict[str, Worker]]:
  """Starts contenders, given as a function's name and its arguments, one after the other.

  Args:
    contenders: by name; see worker.py.
    cores: that each may use; 0: all.
    devices: virtual CPU devices that each has; 0: the machine's own.
  """
  environment = dict(os.environ)
  if devices:
    flags = f'--xla_force_host_platform_device_count={devices}'
    environment |= {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': flags}
  with contextlib.ExitStack() as stack:
    started = {}
    for name, (function, arguments) in contenders.items():
      command = [sys.executable, '-m', 'launch.benchmarks.worker', function, str(cores)]
      process = subprocess.Popen(
        [*command, json.dumps(arguments)],
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
      )
      stack.enter_context(process)
      stack.callback(process.kill)
      answer = _answer(process)
      started[name] = Worker(
        process, answer.get('notes', {}), answer.get('calls', ()), answer.get('missing', '')
      )
    yield started


def compare(running: Mapping[str, Worker], *, rounds: int, seconds: float) -> dict[str, Any]:
  """Times all calls of all workers in turn.

  Returns:
    For each 'worker call' the medians `wall_ms` and `cpu_ms` of one unit of work, and `all`, their
    values round by round.
  """
  turns = [(name, call) for name, worker in running.items() for call in worker.calls]
  counts = {turn: _count(running[turn[0]], turn[1], seconds) for turn in turns}
  found: dict[str, Any] = {f'{name} {call}': {'wall_ms': [], 'cpu_ms': []} for name, call in turns}
  for _ in range(rounds):
    for name, call in turns:
      count = counts[name, call]
      for kind, value in running[name].time(call, count).items():
        found[f'{name} {call}'][f'{kind}_ms'].append(1e3 * value / count)
  return {
    turn: {**{kind: statistics.median(each) for kind, each in values.items()}, 'all': values}
    for turn, values in found.items()
  }


def ratio(times: Mapping[str, Any], above: str, below: str, kind: str) -> dict[str, float]:
  """The ratio of two turns' medians, and the least and the greatest of one round."""
  each = [
    a / b
    for a, b in zip(
      times[above]['all'][f'{kind}_ms'], times[below]['all'][f'{kind}_ms'], strict=True
    )
  ]
  ratio = times[above][f'{kind}_ms'] / times[below][f'{kind}_ms']
  return {'ratio': ratio, 'least': min(each), 'greatest': max(each)}


def _count(worker: Worker, call: str, seconds: float) -> int:
  """How many units of work take about so long; compiles and warms up on the way."""
  worker.time(call, 1)
  worker.time(call, 1)
  return max(1, round(seconds / worker.time(call, 1)['wall']))


def _answer(process: subprocess.Popen[str]) -> dict[str, Any]:
  assert process.stdout is not None
  line = process.stdout.readline()
  if not line:
    raise RuntimeError(f'a worker ended with code {process.wait()}: {process.args}')
  return json.loads(line)
