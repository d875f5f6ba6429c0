"""What launch/benchmark.py found, as one picture."""

from collections.abc import Callable, Mapping
from typing import Any

from matplotlib import axes as axes_lib

from launch.benchmarks import nets
from shallow_jax.report.figures import style

Found = Mapping[str, Any]

PARTS = ('students', 'epochs', 'costs')  # that are drawn

_CONTENDERS = {  # of a step: label, colour
  'ours step': ('shallow_jax', '#0072B2'),
  'ours products': ('its bare products (roofline)', '#a3a3a3'),
  'pytorch eager': ('PyTorch', '#D55E00'),
  'pytorch-keeping eager': ('PyTorch, memory kept as ours', '#F2B49B'),
  'pytorch channels-last': ('PyTorch, channels last', '#8B3A00'),
  'pytorch compiled': ('PyTorch, compiled', '#E69F00'),
  'torchdistill box': ('torchdistill', '#CC79A7'),
  'keras distiller': ("Keras' Distiller on JAX", '#009E73'),
}
_COSTS = {
  'width': 'hidden units',
  'rank': 'rank of the bottleneck',
  'batch': 'examples a step',
  'data': 'examples on the device',
}


def draw(found: Found) -> bytes:
  """The PNG of all parts that are there."""
  panels: list[Callable[[axes_lib.Axes], None]] = []
  if 'students' in found:
    panels.append(lambda axes: _students(axes, found['students']['found']))
  if 'epochs' in found:
    panels.append(lambda axes: _epochs(axes, found['epochs']['found']))
  for name in _COSTS if 'costs' in found else ():
    panels.append(lambda axes, name=name: _cost(axes, name, found['costs']['found'][name]))
  rows = -(-len(panels) // 2)
  heights = [5.6 if 'students' in found else 3.2, *[3.2] * (rows - 1)]
  figure = style.new_figure(11.0, sum(heights))
  columns = min(2, len(panels))
  grid = figure.subplots(rows, columns, squeeze=False, height_ratios=heights).ravel()
  for axes, panel in zip(grid, panels, strict=False):
    style.plain(axes)
    panel(axes)
  for axes in grid[len(panels) :]:
    axes.set_visible(False)
  return style.png(figure)


def _students(axes: axes_lib.Axes, found: Found) -> None:
  """Bars of CPU time, in times of ours."""
  found = {name: found[name] for name in nets.STUDENTS if name in found}
  present = [each for each in _CONTENDERS if any(each in net['times'] for net in found.values())]
  height = 0.8 / len(present)
  for i, contender in enumerate(present):
    label, color = _CONTENDERS[contender]
    rows = [row for row, net in enumerate(found.values()) if contender in net['times']]
    all_times = [net['times'] for net in found.values() if contender in net['times']]
    times = [each[contender]['cpu_ms'] / each['ours step']['cpu_ms'] for each in all_times]
    places = [row + (i - (len(present) - 1) / 2) * height for row in rows]
    axes.barh(places, times, 0.9 * height, color=color, label=label)
  axes.set_yticks(range(len(found)), [*found])
  axes.invert_yaxis()
  axes.axvline(1.0, color=style.INK, linewidth=0.8)
  style.titles(axes, "A student's step", 'CPU time, in times of ours', '')
  axes.legend(fontsize=8, frameon=False, loc='upper center', bbox_to_anchor=(0.3, -0.12), ncols=2)


def _epochs(axes: axes_lib.Axes, found: Found) -> None:
  """Bars of how many times longer an epoch takes with the teacher in every step."""
  ratios = {name: each['ratios']['stored, times online']['ratio'] for name, each in found.items()}
  bars = axes.barh([*ratios], [*ratios.values()], 0.6, color=_CONTENDERS['ours step'][1])
  axes.bar_label(bars, [f'{ratio:.1f}' for ratio in ratios.values()], padding=3, fontsize=8.5)
  axes.invert_yaxis()
  axes.axvline(1.0, color=style.INK, linewidth=0.8)
  title = 'An epoch, teachers in every step'
  style.titles(axes, title, 'wall clock, in epochs with stored logits', '')


def _cost(axes: axes_lib.Axes, name: str, found: Found) -> None:
  by_size = sorted((int(size), each['times']['ours step']) for size, each in found.items())
  sizes, times = [size for size, _ in by_size], [step['wall_ms'] for _, step in by_size]
  ranked = [pair for pair in zip(sizes, times, strict=True) if pair[0]]
  color, marker = style.SERIES[0]
  axes.loglog(*zip(*ranked, strict=True), color=color, marker=marker)
  if 0 in sizes:
    full = times[sizes.index(0)]
    axes.axhline(full, color=style.GREY, linestyle='--', linewidth=1)
    axes.annotate('no bottleneck', (ranked[0][0], full), (0, 4), textcoords='offset points')
  axes.set_ylim(bottom=0.5 * min(times), top=2.0 * max(times))
  style.log_ticks(axes.xaxis)
  style.log_ticks(axes.yaxis)
  style.titles(axes, f'A step against {name}', _COSTS[name], 'wall clock, ms')
