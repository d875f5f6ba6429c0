#!/usr/bin/env python3
"""How fast is it, beside what it could be and beside others? Ratios first.

  python launch/benchmark.py --output=benchmark.json --figure=benchmark.png

Parts, each a flag value of `--parts`:
  students   a student's step at the sizes of the paper, beside the bare products in it (the
             roofline, in the same process) and beside PyTorch, torchdistill and Keras, if
             installed (pip install -e '.[peers]')
  teacher    the teacher CNN's step and its logits, beside PyTorch's, one core each
  epochs     a student's epoch with stored logits beside the same with the teacher in every step
  store      write, verify and random reads, beside raw files and a store of top-k records
  costs      a student's step against width, rank, batch and data
  memory     bytes of the widest student on each of four devices that share its hidden units
  start      from the command to the first step, with a cold and a warm compile cache

Every contender runs in a process of its own, as its users run it; they are timed in turn, round by
round. Times are medians over the rounds; a ratio's range is that of the single rounds. CPU time is
that of all threads. What an experiment's trainings take: benchmark_experiment.py.
"""

from collections.abc import Callable, Mapping, Sequence
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import app
from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # a checkout need not be installed

from launch.benchmarks import figure
from launch.benchmarks import nets
from launch.benchmarks import rounds
from shallow_jax.runtime import host
from shallow_jax.runtime import storage

_OURS = 'launch.benchmarks.ours'
_TORCH = 'launch.benchmarks.torch_peer'
_KERAS = 'launch.benchmarks.keras_peer'
_TORCHDISTILL = 'launch.benchmarks.torchdistill_peer'

_ROUNDS = flags.DEFINE_integer('rounds', 9, 'of all that is compared', lower_bound=1)
_SECONDS = flags.DEFINE_float(
  'seconds', 0.5, 'of a turn, of one unit of work or more', lower_bound=0
)
_BATCH = flags.DEFINE_integer('batch_size', 128, 'of a step', lower_bound=1)
_STUDENTS = flags.DEFINE_list('students', [*nets.STUDENTS], 'of nets.py')
_OUTPUT = flags.DEFINE_string(
  'output', '', 'a JSON file, whose other parts stay; empty: only print'
)
_FIGURE = flags.DEFINE_string('figure', '', 'a PNG of all that is in --output; empty: none')

# Of a step: above, below, which time.
STEP_RATIOS = {
  'of the roofline': ('ours products', 'ours step', 'wall'),
  'times PyTorch, CPU time': ('pytorch eager', 'ours step', 'cpu'),
  'times PyTorch that keeps memory, CPU time': ('pytorch-keeping eager', 'ours step', 'cpu'),
  'times PyTorch, channels last, CPU time': ('pytorch channels-last', 'ours step', 'cpu'),
  'times PyTorch compiled, CPU time': ('pytorch compiled', 'ours step', 'cpu'),
  'times torchdistill, CPU time': ('torchdistill box', 'ours step', 'cpu'),
  "times Keras' Distiller, CPU time": ('keras distiller', 'ours step', 'cpu'),
}
STORE_EXAMPLES = 1 << 20
DATA_SIZES = (1_000, 10_000, 100_000)
WIDTHS = (2_000, 4_000, 8_000, 16_000, 32_000)
RANKS = (10, 50, 100, 250, 500, 1200, 0)
BATCHES = (16, 32, 64, 128, 256, 512)


def students() -> dict[str, Any]:
  """A student's step, by net: ours, the bare products, the peers."""
  return {name: _student(name, nets.STUDENTS[name]) for name in _STUDENTS.value}


def _student(name: str, net: nets.Net) -> dict[str, Any]:
  arguments = dict(net=net, batch_size=_BATCH.value)
  contenders = {
    'ours': (f'{_OURS}:student', arguments),
    'pytorch': (f'{_TORCH}:student', arguments),
    'pytorch-keeping': (f'{_TORCH}:student_keeping_memory', arguments),
    'torchdistill': (f'{_TORCHDISTILL}:student', arguments),
  }
  if net['model']['name'] == 'shallow':
    contenders['keras'] = (f'{_KERAS}:student', arguments)
  return _show(name, _compare(contenders), STEP_RATIOS)


def teacher() -> dict[str, Any]:
  """The teacher's step and its logits of a batch, beside PyTorch's, one core each."""
  arguments = dict(net=nets.TEACHER, batch_size=_BATCH.value)
  contenders = {
    'ours': (f'{_OURS}:teacher', arguments),
    'pytorch': (f'{_TORCH}:teacher', arguments),
  }
  wanted = {
    **STEP_RATIOS,
    'logits, times PyTorch, CPU time': ('pytorch sweep', 'ours sweep', 'cpu'),
    'logits, times PyTorch, channels last, CPU time': (
      'pytorch sweep-channels-last',
      'ours sweep',
      'cpu',
    ),
  }
  return _show('teacher, one core', _compare(contenders, cores=1), wanted)


def epochs() -> dict[str, Any]:
  """A student's epoch with stored logits, and with one teacher or four in every step."""
  found = {}
  for name in ('3072-1200L-30k', '64c-p-1200L-30k'):
    net, teacher_net = nets.STUDENTS[name], nets.TEACHER
    if net['model']['name'] == 'shallow':
      net = dict(net, input_shape=teacher_net['input_shape'])  # it flattens images
    for members in (1, nets.ENSEMBLE_SIZE):
      arguments = dict(net=net, teacher_net=teacher_net, members=members, batch_size=_BATCH.value)
      label = f'{name}, {members} teacher' + 's' * (members > 1)
      one = _compare({'ours': (f'{_OURS}:epoch', arguments)})
      wanted = {
        'stored, times online': ('ours online', 'ours stored', 'wall'),
        'storing once, in epochs of the student': ('ours sweep', 'ours stored', 'wall'),
      }
      found[label] = _show(label, one, wanted)
  return found


def store() -> dict[str, Any]:
  """The logit store of a million images."""
  with tempfile.TemporaryDirectory() as folder:
    arguments = dict(parent=folder, num_examples=STORE_EXAMPLES)
    found = _compare({'store': ('launch.benchmarks.stores:store', arguments)})
  print('bytes a record:', found['notes']['store']['bytes_a_record'])
  wanted = {
    'verify, of sha256': ('store sha256', 'store verify', 'wall'),
    'random reads, of memmap': ('store read-memmap', 'store read', 'wall'),
    'random reads of a mapped store, of memmap': ('store read-memmap', 'store read-mapped', 'wall'),
    'random reads, times top-k records': ('store read-records', 'store read', 'wall'),
    'write, of raw files': ('store write-raw', 'store write', 'wall'),
    'write, times top-k records': ('store write-records', 'store write', 'wall'),
  }
  return _show('store', found, wanted)


def costs() -> dict[str, Any]:
  """A student's step against one size at a time; the others are those of 3072-1200L-8k."""
  batch, student = _BATCH.value, nets.image_student
  return {
    'width': {h: _cost(student(h), batch) for h in WIDTHS},
    'rank': {r: _cost(student(8_000, r), batch) for r in RANKS},
    'batch': {b: _cost(student(8_000), b) for b in BATCHES},
    'data': {n: _cost(student(8_000), batch, n) for n in DATA_SIZES},
  }


def _cost(net: nets.Net, batch_size: int, num_examples: int = 0) -> dict[str, Any]:
  arguments = dict(net=net, batch_size=batch_size, num_examples=num_examples)
  found = _compare({'ours': (f'{_OURS}:student', arguments)})
  step = found['times']['ours step']
  print(f'{net["model"]}, batch {batch_size}: {step["wall_ms"]:.1f} ms', flush=True)
  return found


def memory() -> dict[str, Any]:
  """Bytes of weights and momentum on each of four virtual devices, for the widest student."""
  arguments = dict(net=nets.STUDENTS['1845-250L-400k'], batch_size=_BATCH.value)
  contenders = {'ours': (f'{_OURS}:memory', arguments)}
  with rounds.workers(contenders, devices=4) as running:
    found = running['ours'].notes
  for model, count in found['bytes'].items():
    print(f'1845-250L-400k, parallel.model={model}: {count / 1e6:,.0f} MB a device', flush=True)
  return found


def start() -> dict[str, Any]:
  """Seconds from the command to the end of the first step on digits, its evaluation included."""
  found: dict[str, list[float]] = {'cold': [], 'warm': []}
  with tempfile.TemporaryDirectory() as folder:
    cache = {'XDG_CACHE_HOME': f'{folder}/cache'}
    for kind in ('cold', *['warm'] * _ROUNDS.value):
      workdir = f'{folder}/{kind}-{len(found[kind])}'
      command = [sys.executable, '-m', 'shallow_jax.main', '--config=configs/digits.py:smoke']
      command += [f'--workdir={workdir}', '--only=cnn', '--stage=train']
      command += [f'--config.networks.cnn.{key}=1' for key in ('seeds', 'num_steps')]
      found[kind].append(_seconds_until('step 1 of 1', command, os.environ | cache))
  print('start:', {kind: [round(each, 1) for each in times] for kind, times in found.items()})
  return {'seconds': found}


def _seconds_until(text: str, command: Sequence[str], environment: Mapping[str, str]) -> float:
  started, seconds = time.perf_counter(), float('nan')
  with subprocess.Popen(
    command,
    env=dict(environment),
    cwd=rounds.REPOSITORY,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  ) as process:
    assert process.stdout is not None
    for line in process.stdout:
      if text in line:
        seconds = time.perf_counter() - started
  if process.returncode:
    raise RuntimeError(f'{command} ended with code {process.returncode}')
  return seconds


PARTS: Mapping[str, Callable[[], dict[str, Any]]] = {
  each.__name__: each for each in (students, teacher, epochs, store, costs, memory, start)
}
_PARTS = flags.DEFINE_list('parts', [*PARTS], 'what to measure')


def main(argv: list[str]) -> None:
  """Measures, prints, and writes after each part."""
  if argv[1:]:
    raise app.UsageError(f'{argv[1]!r} is no flag')
  output, drawn = pathlib.Path(_OUTPUT.value), pathlib.Path(_FIGURE.value)
  found = _found_before(output) if _OUTPUT.value else {}
  if _FIGURE.value and not {*found, *_PARTS.value} & {*figure.PARTS}:
    raise app.UsageError(f'--figure={drawn}: it shows {", ".join(figure.PARTS)}, none is there')
  for path in (output, drawn):
    path.parent.mkdir(parents=True, exist_ok=True)
  for part in _PARTS.value:
    found[part] = {'provenance': _provenance(), 'found': PARTS[part]()}
    if _OUTPUT.value:
      storage.write_json(output, found)
  if _FIGURE.value:
    storage.write_bytes(drawn, figure.draw(found))


def _found_before(path: pathlib.Path) -> dict[str, Any]:
  """What an earlier run has written."""
  if not path.exists():
    return {}
  try:
    found = storage.read_json(path)
  except storage.StorageError as error:
    raise app.UsageError(f'--output={path}: {error}') from error
  if not isinstance(found, dict) or not found.keys() <= PARTS.keys():
    raise app.UsageError(f'--output={path}: expected what this program writes, or no file')
  return found


def _some_of(known: Mapping[str, Any]) -> Callable[[list[str]], bool]:
  def check(given: list[str]) -> bool:
    if given and {*given} <= {*known}:
      return True
    raise flags.ValidationError(f'{",".join(given)!r}: expected some of {", ".join(known)}')

  return check


flags.register_validator('parts', _some_of(PARTS))
flags.register_validator('students', _some_of(nets.STUDENTS))


def _compare(
  contenders: Mapping[str, tuple[str, Mapping[str, Any]]], *, cores: int = 0
) -> dict[str, Any]:
  with rounds.workers(contenders, cores=cores) as running:
    for name, worker in running.items():
      if worker.missing:
        print(f'{name}: not measured, {worker.missing}', flush=True)
    times = rounds.compare(running, rounds=_ROUNDS.value, seconds=_SECONDS.value)
    return {'notes': {name: worker.notes for name, worker in running.items()}, 'times': times}


def _show(
  name: str, found: Mapping[str, Any], wanted: Mapping[str, tuple[str, str, str]]
) -> dict[str, Any]:
  """Works out and prints the ratios whose contenders were there, then the times."""
  times = found['times']
  ratios = {
    label: rounds.ratio(times, above, below, kind)
    for label, (above, below, kind) in wanted.items()
    if above in times and below in times
  }
  print(name)
  for label, each in ratios.items():
    print(f'  {each["ratio"]:6.2f} {label} ({each["least"]:.2f} to {each["greatest"]:.2f})')
  for label, each in times.items():
    print(f'  {each["wall_ms"]:10.1f} ms, CPU {each["cpu_ms"]:10.1f} ms  {label}', flush=True)
  return {'ratios': ratios, **found}


def _provenance() -> dict[str, Any]:
  return {
    **host.provenance(),
    'processor': _processor(),
    'batch_size': _BATCH.value,
    'rounds': _ROUNDS.value,
  }


def _processor() -> str:
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:
    return platform.processor()
  return next((line.split(': ')[1] for line in lines if line.startswith('model name')), '')


if __name__ == '__main__':
  app.run(main)
