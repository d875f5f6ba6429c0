"""A picture for each sweep: points over an axis, curves of training, or bars."""

from collections.abc import Mapping, Sequence
import pathlib
from typing import Any

from matplotlib import axes as axes_lib
from matplotlib import figure as figure_lib
from matplotlib import lines as lines_lib

from shallow_jax.report import comparison
from shallow_jax.report import curves as curves_lib
from shallow_jax.report import texts
from shallow_jax.report.figures import style

REFERENCE_LINES = ('--', ':', '-.')

Sweep = Mapping[str, Any]
Point = Mapping[str, Any]
Style = tuple[str, str]


def figure(
  results: Mapping[str, Any], sweep: Sweep, folders: Sequence[pathlib.Path]
) -> figure_lib.Figure | None:
  """The picture of one of results' sweeps; None if it is of curves and there are none.

  `folders` are those of the experiment's runs, one a split; curves are read there.
  """
  if sweep['kind'] == 'curves':
    return _curves(results, sweep, folders)
  return (_bars if sweep['kind'] == 'bars' else _points)(results, sweep)


def _points(results: Mapping[str, Any], sweep: Sweep) -> figure_lib.Figure:
  drawn, axes = style.new(6.4, 6.6) if sweep['diagonal'] else style.new(8, 5.6)
  if sweep['log_x']:
    axes.set_xscale('log')
  points = _all_points(sweep)
  errors = [value for point in points for value in point['values']]
  far = 100.0 if sweep['y'] == 'accuracy' else style.far(errors)
  handles, styles = [], _styles(results, sweep)
  of_paper = _draw_paper(axes, sweep, styles)
  for each, (color, marker) in zip(sweep['series'], styles, strict=True):
    near = sorted((p for p in each['points'] if max(p['values']) <= far), key=lambda p: p['x'])
    x, y, spread = ([point[key] or 0.0 for point in near] for key in ('x', 'mean', 'std'))
    look = dict(marker=marker, markersize=6.5, linewidth=1.5, elinewidth=1.2, capsize=3, zorder=3)
    axes.errorbar(x, y, yerr=spread, color=color, **look)
    if each['label']:
      handles.append(style.handle(each['label'], color, marker, '-'))
  handles += _draw_references(results, sweep, axes.axhline)
  axes.margins(x=0.06, y=0.1)
  if sweep['diagonal']:
    handles.append(_draw_diagonal(axes))
  if sweep['log_x']:
    style.log_ticks(axes.xaxis)
  axes.grid(color=style.PALE, linewidth=0.7, which='major')
  _titles(axes, results, sweep, sweep['x_label'], f'test {_y_label(results, sweep)}')
  style.legend(drawn, handles + of_paper, style.spread(results))
  beyond = [results['networks'][p['network']] for p in points if max(p['values']) > far]
  style.name_collapsed(axes, beyond)
  return drawn


def _styles(results: Mapping[str, Any], sweep: Sweep) -> list[Style]:
  """A colour and marker a series."""
  entries = [[results['networks'][p['network']] for p in s['points']] for s in sweep['series']]
  return style.styles([style.kind(each[0]) if each else '' for each in entries])


def _all_points(sweep: Sweep) -> list[Point]:
  return [point for each in sweep['series'] for point in each['points']]


def _draw_paper(
  axes: axes_lib.Axes, sweep: Sweep, styles: Sequence[Style]
) -> list[lines_lib.Line2D]:
  """The paper's points under ours, with the marker of our series of that label."""
  ours = [each['label'] for each in sweep['series']]
  own = {label: marker for label, (_, marker) in zip(ours, styles, strict=False) if label}
  handles = []
  for each in sweep['paper_points']:
    x, y = zip(*each['points'], strict=True) if each['points'] else ((), ())
    marker, line = own.get(each['label'], 'X'), '-' if each['label'] else ''
    look = dict(color=style.PAPER, linewidth=1.0, markersize=6, zorder=1)
    axes.plot(x, y, marker=marker, linestyle=line, **look)
    label = f'the paper: {each["label"]}' if each['label'] else 'the paper'
    handles.append(style.handle(label, style.PAPER, marker, line))
  return handles


def _draw_references(
  results: Mapping[str, Any], sweep: Sweep, draw_line: Any
) -> list[lines_lib.Line2D]:
  """Lines across at the means of networks that are on no axis."""
  handles = []
  split = 'validation' if sweep['kind'] == 'curves' else 'test'
  for i, name in enumerate(sweep['references']):
    entry = results['networks'][name]
    metric = 'error' if sweep['kind'] == 'curves' else comparison.metric(entry)
    error = entry['metrics'][split][metric]['mean']
    value = 100 - error if sweep['y'] == 'accuracy' else error
    line = REFERENCE_LINES[i % len(REFERENCE_LINES)]
    draw_line(value, color=style.INK, linewidth=1, linestyle=line, zorder=1)
    label = f'{entry["label"]}: {value:.2f} %'
    handles.append(style.handle(label, style.INK, '', line, 1))
  return handles


def _draw_diagonal(axes: axes_lib.Axes) -> lines_lib.Line2D:
  """The line y = x, on axes of one scale that hold all points."""
  bounds = [*axes.get_xlim(), *axes.get_ylim()]
  low, high = min(bounds), max(bounds)
  axes.plot([low, high], [low, high], color=style.GREY, linewidth=1, zorder=1)
  axes.set(xlim=(low, high), ylim=(low, high), aspect='equal')
  return style.handle('y = x', style.GREY, '', '-')


def _bars(results: Mapping[str, Any], sweep: Sweep) -> figure_lib.Figure:
  """A bar a network, grouped by series, with its mean beside it."""
  points = _all_points(sweep)
  drawn, axes = style.new(8, 1.6 + 0.42 * len(points))
  widest = max(point['mean'] + (point['std'] or 0) for point in points)
  handles, row = [], 0
  for each, (color, _) in zip(sweep['series'], _styles(results, sweep), strict=True):
    for point in each['points']:
      axes.barh(row, point['mean'], height=0.6, color=color, alpha=0.35, zorder=2)
      look = dict(color=color, elinewidth=1.6, capsize=3, zorder=3)
      axes.errorbar(point['mean'], row, xerr=point['std'], **look)
      end = point['mean'] + (point['std'] or 0.0) + 0.015 * widest
      axes.text(end, row, texts.summary_text(point), va='center', zorder=4, **style.NAME)
      row += 1
    if each['label'] and each['points']:
      handles.append(style.handle(each['label'], color, 's'))
  handles += _draw_references(results, sweep, axes.axvline)
  style.rows(axes, [results['networks'][point['network']]['label'] for point in points])
  axes.set_xlim(0, 1.22 * widest or 1)
  _titles(axes, results, sweep, f'test {_y_label(results, sweep)}', '')
  style.legend(drawn, handles, style.spread(results))
  return drawn


def _curves(
  results: Mapping[str, Any], sweep: Sweep, folders: Sequence[pathlib.Path]
) -> figure_lib.Figure | None:
  """A line a network, all in one pair of axes; None if none has a curve."""
  drawn, axes = style.new(8, 5.6)
  if sweep['log_x']:
    axes.set_xscale('log')
  points = _all_points(sweep)
  styles = style.styles([style.kind(results['networks'][p['network']]) for p in points])
  curves: list[curves_lib.Curve] = []
  handles, of_paper = [], _draw_paper(axes, sweep, ())
  for point, (color, _) in zip(points, styles, strict=True):
    seeds = results['networks'][point['network']]['seeds']
    curve = _curve(sweep, point, seeds, folders, 'validation')
    if curve is None:
      continue
    style.band(axes, *curve, color)
    training = _curve(sweep, point, seeds, folders, 'train') if sweep['y'] == 'loss' else None
    if training is not None:
      style.band(axes, *training, color, '--')
    curves.append(curve)
    label = results['networks'][point['network']]['label']
    handles.append(style.handle(label, color, '', '-'))
  if not any(len(x) > 1 for x, _ in curves):
    return None
  handles += _draw_references(results, sweep, axes.axhline)
  if sweep['y'] == 'error':
    axes.set_ylim(top=style.top_of_curves(curves))
  elif sweep['y'] == 'loss':
    axes.set_yscale('log')
    style.log_ticks(axes.yaxis)
  if sweep['log_x']:
    style.log_ticks(axes.xaxis)
  else:
    axes.set_xlim(left=0)
  axes.grid(color=style.PALE, linewidth=0.7, which='major')
  _titles(axes, results, sweep, sweep['x_label'], f'validation {_y_label(results, sweep)}')
  style.legend(drawn, handles + of_paper, style.spread(results))
  return drawn


def _curve(
  sweep: Sweep, point: Point, seeds: Sequence[int], folders: Sequence[pathlib.Path], kind: str
) -> curves_lib.Curve | None:
  """x [evaluations] and values [seeds, evaluations] of a network."""
  folders = [folder / point['network'] for folder in folders]
  curve = curves_lib.read(folders, seeds, kind, 'loss' if sweep['y'] == 'loss' else 'error')
  seconds = curves_lib.seconds_per_step(folders, seeds)
  step = {'steps': 1.0, 'epochs': point['x'], 'seconds': seconds}[sweep['x']]
  if curve is None or step is None:
    return None
  steps, values = curve
  return steps * step, 100 - values if sweep['y'] == 'accuracy' else values


def _y_label(results: Mapping[str, Any], sweep: Sweep) -> str:
  """What a sweep's y is: of points and bars the metric that is compared, of curves by example."""
  if sweep['y'] == 'loss':
    return 'loss (dashed: on training batches)'
  if sweep['kind'] == 'curves':
    name = style.frame_error_name(results)
    return f'{name}, %' if sweep['y'] == 'error' else f'{name.replace("error", "accuracy")}, %'
  name = comparison.error_name(results['networks'])
  if sweep['y'] == 'error':
    return f'{name}, %'
  return 'accuracy, %' if name == 'error' else f'accuracy (100 − {name}), %'


def _titles(axes: axes_lib.Axes, results: Mapping[str, Any], sweep: Sweep, x: str, y: str) -> None:
  title = f'{results["experiment"]}: {sweep["title"]}'
  style.titles(axes, title, x, y, results['note'] if sweep['paper_points'] else '')
