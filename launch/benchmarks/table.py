"""What launch/benchmark.py found, as the tables of the README.

  python -m launch.benchmarks.table configs/results/benchmarks/benchmark.json README.md

writes them between the two lines that BEGIN and END are; a test fails when they drift apart.
"""

from collections.abc import Mapping, Sequence
import json
import pathlib
import statistics
import sys
from typing import Any

from launch.benchmarks import nets

Found = Mapping[str, Any]

BEGIN, END = '<!-- benchmark:begin -->', '<!-- benchmark:end -->'

_STEP_RATIOS = {
  'of the roofline': 'of the roofline',
  'times PyTorch, CPU time': '× PyTorch',
  'times PyTorch compiled, CPU time': '× compiled',
  'times torchdistill, CPU time': '× torchdistill',
  "times Keras' Distiller, CPU time": '× Keras',
}
_TEACHER_RATIOS = {
  'step, of the roofline': 'of the roofline',
  'step, times PyTorch': '× PyTorch',
  'step, times PyTorch compiled': '× compiled',
}
_STORE_RATIOS = {
  'verify, of sha256': "verify, beside sha256's bare speed",
  'random reads, of memmap': 'random reads in memory, beside a memory-mapped .npy',
  'random reads of a mapped store, of memmap': 'random reads of a store on disk, beside the same',
  'random reads, times top-k records': 'random reads, beside top-k records',
  'write, of raw files': 'write, hash and sync, beside numpy.save and sync',
  'write, times top-k records': 'write, beside top-k records',
}


def main(source: str, page: str) -> None:
  """Rewrites the tables of a page."""
  path = pathlib.Path(page)
  before, _, rest = path.read_text().partition(f'{BEGIN}\n')
  _, _, after = rest.partition(f'\n{END}')
  tables = markdown(json.loads(pathlib.Path(source).read_text()))
  path.write_text(f'{before}{BEGIN}\n{tables}\n{END}{after}')


def markdown(found: Found) -> str:
  """The tables of steps, of epochs, of the store, and of memory and start."""
  students = found['students']['found']
  steps = {name: students[name] for name in nets.STUDENTS if name in students}
  steps['the teacher, one core'] = found['teacher']['found']
  epochs, seconds = found['epochs']['found'], found['start']['found']['seconds']
  parts = [_steps(steps), _epochs(epochs), _store(found['store']), _rest(found['memory'], seconds)]
  return '\n\n'.join(parts)


def _steps(found: Found) -> str:
  head = ("a net's step, 128 examples", 'ms', 'CPU ms', 'GFLOP/s', *_STEP_RATIOS.values())
  rows = []
  for name, net in found.items():
    labels = _TEACHER_RATIOS if 'step, of the roofline' in net['ratios'] else _STEP_RATIOS
    times = net['times']['ours step']
    rate = 1e3 * net['notes']['ours']['gflop'] / times['wall_ms']
    ratios = [_ratio(net['ratios'].get(label)) for label in labels]
    ratios += ['–'] * (len(_STEP_RATIOS) - len(ratios))
    rows.append((name, f'{times["wall_ms"]:.0f}', f'{times["cpu_ms"]:.0f}', f'{rate:.0f}', *ratios))
  return _table(head, rows)


def _epochs(found: Found) -> str:
  head = ('an epoch with its teachers in every step', '× stored logits', 'storing, once, in epochs')
  once = 'storing once, in epochs of the student'
  rows = [
    (name, _ratio(each['ratios']['stored, times online']), _ratio(each['ratios'][once]))
    for name, each in found.items()
  ]
  return _table(head, rows)


def _store(part: Found) -> str:
  ratios = part['found']['ratios']
  rows = [(label, _ratio(ratios[name])) for name, label in _STORE_RATIOS.items()]
  return _table(('the store: a million rows of 10 logits', 'speed'), rows)


def _rest(memory: Found, seconds: Found) -> str:
  megabytes = [f'{count / 1e6:,.0f}' for count in memory['found']['bytes'].values()]
  divided = ', '.join(memory['found']['bytes'])
  return _table(
    ('memory and start', ''),
    [
      (
        f'weights and momentum of 1845-250L-400k on each of four devices, parallel.model={divided}',
        f'{", ".join(megabytes)} MB',
      ),
      (
        'the command to the end of the first step and its evaluation, compile cache cold, warm',
        f'{statistics.median(seconds["cold"]):.1f}, {statistics.median(seconds["warm"]):.1f} s',
      ),
    ],
  )


def _ratio(found: Found | None) -> str:
  return '–' if found is None else f'{found["ratio"]:.2f}'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  lines = [head, ['---', *['--:'] * (len(head) - 1)], *rows]
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


if __name__ == '__main__':
  main(*sys.argv[1:])
