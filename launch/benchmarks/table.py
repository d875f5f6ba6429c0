"""What launch/benchmark.py found, as the tables of the README.

  python -m launch.benchmarks.table configs/results/benchmarks/benchmark.json README.md

writes them between the two lines that BEGIN and END are; a test fails when they drift apart.
"""

from collections.abc import Iterator, Mapping, Sequence
import pathlib
import statistics
import sys
from typing import Any

from launch import publish
from launch.benchmarks import nets
from shallow_jax.runtime import storage

Found = Mapping[str, Any]

BEGIN, END = '<!-- benchmark:begin -->', '<!-- benchmark:end -->'

_STEP_RATIOS = {
  'of the roofline': 'of the roofline',
  'times PyTorch, CPU time': '× PyTorch',
  'times PyTorch that keeps memory, CPU time': '× the same, memory kept',
  'times PyTorch, channels last, CPU time': '× the same, channels last',
  'times PyTorch compiled, CPU time': '× compiled',
  'times torchdistill, CPU time': '× torchdistill',
  "times Keras' Distiller, CPU time": '× Keras',
}
_LOGITS_RATIOS = {
  'logits, times PyTorch, CPU time': '× PyTorch',
  'logits, times PyTorch, channels last, CPU time': '× the same, channels last',
}
_STORE_RATIOS = {
  'verify, of sha256': 'verify, by a thread a core, beside sha256 in one thread',
  'random reads, of memmap': 'random reads in memory, beside a memory-mapped .npy',
  'random reads of a mapped store, of memmap': 'random reads of a store on disk, beside the same',
  'random reads, times top-k records': 'random reads, beside top-k records',
  'write, of raw files': 'write, hash and sync, beside numpy.save and sync',
  'write, times top-k records': 'write, beside top-k records',
}


def main(source: str, page: str) -> None:
  """Rewrites the tables of a page."""
  tables = markdown(storage.read_json(source))
  path = pathlib.Path(page)
  storage.write_bytes(path, publish.with_tables(path, tables, BEGIN, END).encode())


def markdown(found: Found) -> str:
  """The tables of steps, of epochs, of the store, and of memory and start."""
  teacher = found['teacher']['found']
  steps = [
    *_student_rows(found['students']['found']),
    _row('the teacher, one core', teacher, 'ours step', _STEP_RATIOS),
    _row("the teacher's logits, one core", teacher, 'ours sweep', _LOGITS_RATIOS),
  ]
  head = ("a net's step, 128 examples", 'ms', 'CPU ms', *_STEP_RATIOS.values())
  epochs, seconds = found['epochs']['found'], found['start']['found']['seconds']
  tables = [_table(head, steps), _epochs(epochs), _store(found['store'])]
  return '\n\n'.join([*tables, _rest(found['memory'], seconds), _spread(found)])


def _student_rows(found: Found) -> list[Sequence[str]]:
  return [
    _row(name, found[name], 'ours step', _STEP_RATIOS) for name in nets.STUDENTS if name in found
  ]


def _row(name: str, net: Found, ours: str, labels: Mapping[str, str]) -> Sequence[str]:
  times = net['times'][ours]
  by_column = {column: net['ratios'].get(label) for label, column in labels.items()}
  ratios = [_ratio(by_column.get(column)) for column in _STEP_RATIOS.values()]
  return (name, f'{times["wall_ms"]:.0f}', f'{times["cpu_ms"]:.0f}', *ratios)


def _epochs(found: Found) -> str:
  head = ('an epoch with its teachers in every step', '× stored logits', 'storing, once, in epochs')
  once = 'storing once, in epochs of the student'
  rows = [
    (name, _ratio(each['ratios']['stored, times online']), _ratio(each['ratios'][once]))
    for name, each in found.items()
  ]
  return _table(head, rows)


def _store(part: Found) -> str:
  ratios, size = part['found']['ratios'], part['found']['notes']['store']['bytes_a_record']
  rows = [(label, _ratio(ratios[name])) for name, label in _STORE_RATIOS.items()]
  sizes = ', '.join(f'{size[name]:.1f}' for name in ('store', 'raw', 'top-k records'))
  rows.append(('bytes a record: ours, one .npy, top-k records', sizes))
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


def _spread(found: Found) -> str:
  """How far the rounds of a timing lie apart."""
  timings = [timing['all']['wall_ms'] for timing in _timings(found)]
  spreads = sorted(max(rounds) / min(rounds) for rounds in timings)
  median, most = statistics.median(spreads), spreads[-1]
  return (
    f"Of {len(timings)} timings the slowest of a timing's rounds took {median:.2f} times as long "
    f'as its fastest at the median, {most:.2f} times at most.'
  )


def _timings(found: Any) -> Iterator[Found]:
  """All that was timed in rounds, wherever it stands."""
  if not isinstance(found, dict):
    return
  if 'all' in found:
    yield found
  else:
    for each in found.values():
      yield from _timings(each)


def _ratio(found: Found | None) -> str:
  return '–' if found is None else f'{found["ratio"]:.2f}'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  lines = [head, ['---', *['--:'] * (len(head) - 1)], *rows]
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


if __name__ == '__main__':
  main(*sys.argv[1:])
