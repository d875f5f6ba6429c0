"""The pictures of an experiment's networks, from its results and their curves of training.

Each is None where there is nothing to draw.
"""

from collections.abc import Iterable, Mapping, Sequence
import pathlib
import textwrap
from typing import Any

from matplotlib import axes as axes_lib
from matplotlib import figure as figure_lib
import numpy as np

from shallow_jax.report import comparison
from shallow_jax.report import curves as curves_lib
from shallow_jax.report import texts
from shallow_jax.report.figures import style

GAIN, LOSS, TARGET = '#009E73', '#D55E00', '#f2f3f5'
COLUMNS = 4  # of small multiples
PANEL_TITLE = 32  # characters that fit over a panel
MANY = 24  # more networks than these have no panels of curves
# Of a name beside a point, in parts of the axes: its height, a letter's width, how far away it is.
LINE, CHARACTER, GAP = 0.036, 0.0095, 0.022

Entry = comparison.Entry


def _finished(results: Mapping[str, Any]) -> dict[str, Entry]:
  """The networks that have a mean, in their order."""
  return comparison.finished({name: results['networks'][name] for name in results['order']})


def _far(networks: Mapping[str, Entry]) -> float:
  return style.far([value for entry in networks.values() for value in comparison.values(entry)])


def error_by_network(results: Mapping[str, Any]) -> figure_lib.Figure | None:
  """A row a network: mean, standard deviation and seeds, and the teacher's mean as a line."""
  networks = _finished(results)
  if not networks:
    return None
  figure, axes = style.new(8, 1.5 + 0.36 * len(networks))
  far, headline = _far(networks), results['roles']['headline']
  for row, (name, entry) in enumerate(networks.items()):
    _draw_row(axes, row, entry, far, is_headline=name == headline)
  teacher = networks.get(results['roles']['teacher'])
  if teacher is not None:
    axes.axvline(style.mean(teacher), color=style.INK, linewidth=1, linestyle='--', zorder=1)
  style.rows(axes, [entry['label'] for entry in networks.values()])
  for tick, name in zip(axes.get_yticklabels(), networks, strict=True):
    tick.set_fontweight('bold' if name == headline else 'normal')
  _limit_rows(axes, list(networks.values()), far)
  error_name = style.test_error_name(results)
  style.titles(axes, f'{results["experiment"]}: {error_name}', f'{error_name}, %', '')
  handles = [*style.kind_handles(networks.values()), style.handle('one seed', style.GREY, '.')]
  if any(entry['paper'] for entry in networks.values()):
    handles.append(style.handle('the paper', style.GREY, 'X'))
  if teacher is not None:
    handles.append(style.handle(f'teacher: {teacher["label"]}', style.INK, '', '--', 1))
  style.legend(figure, handles, style.spread(results))
  return figure


def _draw_row(
  axes: axes_lib.Axes, row: int, entry: Entry, far: float, *, is_headline: bool
) -> None:
  error, (color, marker) = comparison.test_error(entry), style.KINDS[style.kind(entry)]
  values = comparison.values(entry)
  if len(values) > 1:
    shifts = np.linspace(-0.16, 0.16, len(values))
    axes.plot(values, row + shifts, '.', color=color, alpha=0.45, markersize=5, zorder=2)
  if max(values) <= far:
    size = 8 if is_headline else 6.5
    look = dict(color=color, marker=marker, markersize=size, elinewidth=1.6, capsize=3, zorder=3)
    axes.errorbar(error['mean'], row, xerr=error['std'], **look)
  if entry['paper'] is not None:
    axes.plot(entry['paper']['value'], row, 'X', color=style.GREY, markersize=8, zorder=2)


def _limit_rows(axes: axes_lib.Axes, networks: Sequence[Entry], far: float) -> None:
  """Ends the axis where the others are still told apart; what lies beyond is written at its end."""
  values = [value for entry in networks for value in comparison.values(entry)]
  axes.set_xlim(left=0)
  if max(values) <= far:
    return
  axes.set_xlim(0, 1.6 * max(value for value in values if value <= far) or 1)
  for row, entry in enumerate(networks):
    beyond = ', '.join(f'{value:.1f}' for value in comparison.values(entry) if value > far)
    if beyond:
      text = f'mean {style.mean(entry):.1f}, a seed at {beyond} →'
      look = dict(ha='right', va='center', zorder=4, bbox=dict(color='white', pad=1.5))
      axes.text(0.995, row, text, transform=axes.get_yaxis_transform(), **look, **style.NAME)


def error_against_parameters(results: Mapping[str, Any]) -> figure_lib.Figure | None:
  """A point a network; named are the headline, the teacher and the best net on labels."""
  networks = _finished(results)
  far = _far(networks) if networks else 0.0
  near = {name: e for name, e in networks.items() if max(comparison.values(e)) <= far}
  if len({entry['parameters']['weights'] for entry in near.values()}) < 2:
    return None
  figure, axes = style.new(8, 5.6)
  axes.set_xscale('log')
  # Hollow and without their spread: nets of one size stand in a column, and would hide one another.
  look = dict(markerfacecolor='none', markeredgewidth=1.6, markersize=7)
  for entry in near.values():
    color, marker = style.KINDS[style.kind(entry)]
    axes.plot(entry['parameters']['weights'], style.mean(entry), marker, color=color, **look)
  axes.margins(x=0.18, y=0.12)
  axes.set_ylim(bottom=0)
  axes.grid(color=style.PALE, linewidth=0.7, which='major')
  style.log_ticks(axes.xaxis)
  error_name = style.test_error_name(results)
  title = f'{results["experiment"]}: {error_name} by size'
  style.titles(axes, title, 'weights (biases apart)', f'{error_name}, %')
  style.legend(figure, style.kind_handles(networks.values()), f'mean over {style.runs(results)}')
  chosen = {results['roles'][role] for role in ('headline', 'teacher', 'best_on_labels')}
  _name(axes, [entry for name, entry in near.items() if name in chosen], near.values())
  style.name_collapsed(axes, [entry for name, entry in networks.items() if name not in near])
  return figure


def _name(axes: axes_lib.Axes, named: Iterable[Entry], networks: Iterable[Entry]) -> None:
  """Writes names right or left of their points, at the nearest height that no point or name has."""
  left, right = axes.get_xlim()
  top = axes.get_ylim()[1]

  def place(entry: Entry) -> tuple[float, float]:
    part = np.log(entry['parameters']['weights'] / left) / np.log(right / left)
    return float(part), style.mean(entry) / top

  taken = [place(entry) for entry in networks]
  look = dict(xycoords='axes fraction', textcoords='axes fraction', va='center', **style.NAME)
  line = dict(arrowstyle='-', color=style.GREY, linewidth=0.6, shrinkA=1, shrinkB=4)
  for entry in named:
    (x, y), width = place(entry), CHARACTER * len(entry['label'])
    shifts = (0, 0.04, -0.04, 0.08, -0.08, 0.12, -0.12, 0.16, -0.16)
    places = [(side, y + shift) for shift in shifts for side in (1, -1)]
    free = [
      (side, height)
      for side, height in places
      for center in [x + side * (GAP + width / 2)]
      if width / 2 < center < 1 - width / 2 and LINE / 2 < height < 1 - LINE / 2
      if all(abs(center - a) > width / 2 + 0.01 or abs(height - b) > LINE for a, b in taken)
    ]
    side, height = (free or places)[0]
    end = x + side * GAP
    taken += [(end + side * CHARACTER * i, height) for i in range(len(entry['label']) + 1)]
    align, arrow = 'left' if side > 0 else 'right', dict(line, relpos=(float(side < 0), 0.5))
    axes.annotate(entry['label'], (x, y), xytext=(end, height), ha=align, arrowprops=arrow, **look)


def learning_curves(
  results: Mapping[str, Any], folders: Sequence[pathlib.Path]
) -> figure_lib.Figure | None:
  """A panel a network: mean and standard deviation over seeds, the others in grey behind."""
  names = _finished(results)
  seeds = {name: results['networks'][name]['seeds'] for name in names}
  read = {name: curves_lib.read([each / name for each in folders], seeds[name]) for name in names}
  curves = {name: curve for name, curve in read.items() if curve is not None}
  if len(curves) > MANY or not any(len(steps) > 1 for steps, _ in curves.values()):
    return None
  columns = min(COLUMNS, len(curves))
  rows = -(-len(curves) // columns)
  figure = style.new_figure(2.5 * columns + 0.6, 2.1 * rows + 0.9)
  grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
  top = style.top_of_curves(curves.values())
  for axes, name in zip(grid.flat, curves, strict=False):
    for other, (steps, errors) in curves.items():
      if other != name:
        axes.plot(steps, errors.mean(axis=0), color=style.PALE, linewidth=0.8, zorder=1)
    entry = results['networks'][name]
    style.band(axes, *curves[name], style.KINDS[style.kind(entry)][0])
    title = textwrap.shorten(entry['label'], PANEL_TITLE, placeholder=' …')
    axes.set_title(title, fontsize=9, loc='left', color=style.INK)
    axes.tick_params(labelsize=8)
    axes.set_ylim(0, top)
    axes.set_xlim(left=0)
    style.plain(axes)
  for axes in grid.flat[len(curves) :]:
    axes.set_axis_off()
  for axes in grid.flat[max(0, len(curves) - columns) : len(curves)]:
    axes.tick_params(labelbottom=True)
  between = '\n' if columns < COLUMNS else ', '
  error_name = f'validation {style.frame_error_name(results)}'
  title = f'{results["experiment"]}: {error_name} while training'
  figure.suptitle(f'{title}{between}{style.spread(results)}', fontsize=11, x=0.01, ha='left')
  figure.supxlabel('step', fontsize=10)
  figure.supylabel(f'{error_name}, %', fontsize=10)
  return figure


def attribution(results: Mapping[str, Any]) -> figure_lib.Figure | None:
  """A bar a network of the chain, and in colour what the step to it takes off or adds."""
  steps = results['attribution']
  if not steps:
    return None
  names = [steps[0]['from']] + [step['to'] for step in steps]
  errors = [style.mean(results['networks'][name]) for name in names]
  figure, axes = style.new(8, 1.4 + 0.62 * len(names))
  axes.barh(range(len(names)), errors, height=0.5, color='#c8ced6')
  for row, step in enumerate(steps, start=1):
    _draw_step(axes, row, step, errors[row - 1], errors[row], 0.015 * max(errors))
  for row, error in enumerate(errors):
    axes.text(0.012 * max(errors), row, f'{error:.2f} %', va='center', **style.NAME)
  axes.set_yticks(range(len(names)), [results['networks'][name]['label'] for name in names])
  axes.set_ylim(len(names) - 0.5, -0.5)
  axes.set_xlim(0, 2.1 * max(errors) or 1)
  axes.tick_params(axis='y', length=0)
  title = f'{results["experiment"]}: what the gain is due to, step by step'
  notes = '± standard error; in brackets: share of the way from top to bottom'
  style.titles(axes, title, f'{style.test_error_name(results)}, % ({notes})', '')
  return figure


def _draw_step(
  axes: axes_lib.Axes, row: int, step: Mapping[str, Any], before: float, after: float, space: float
) -> None:
  look: dict[str, Any]
  if step['cause'] == comparison.LEFT:
    look = dict(color=TARGET, edgecolor=style.GREY, hatch='....', linewidth=0.6)
  elif after <= before:
    look = dict(color=GAIN)
  else:
    look = dict(color=LOSS, hatch='////', edgecolor='white', linewidth=0)
  axes.barh(row, before - after, left=after, height=0.5, **look)
  axes.plot([before] * 2, [row - 0.75, row + 0.25], color=style.GREY, linewidth=0.8)
  change, error = texts.number(-step['change'], '+.2f'), texts.plus_minus(step['standard_error'])
  text = f'{step["cause"]}: {change}{error}{texts.in_brackets(step["share"])}'
  axes.text(max(before, after) + space, row, text, va='center', **style.NAME)


def against_the_paper(results: Mapping[str, Any]) -> figure_lib.Figure | None:
  """A row for each of the paper's: its value in grey under ours, and both in digits."""
  rows = [entry for entry in _finished(results).values() if entry['paper']]
  if not rows:
    return None
  figure, axes = style.new(8, 1.7 + 0.42 * len(rows))
  for row, entry in enumerate(rows):
    _draw_paper_row(axes, row, entry)
  style.rows(axes, [entry['label'] for entry in rows])
  axes.set_xlim(left=0)
  title = f'{results["experiment"]}: against the paper'
  style.titles(axes, title, f'{style.test_error_name(results)}, %', '', results['note'])
  handles = [style.handle('the paper', style.PAPER, 'X'), *style.kind_handles(rows)]
  style.beside(axes, 'ours (paper)', (1, 1), (4, 4), fontsize=8.5, color=style.GREY)
  bars = f'thick bar: {style.spread(results)}; thin bar: 95 % interval'
  style.legend(figure, handles, bars)
  return figure


def _draw_paper_row(axes: axes_lib.Axes, row: int, entry: Entry) -> None:
  error, (color, marker) = comparison.test_error(entry), style.KINDS[style.kind(entry)]
  paper = entry['paper']['value']
  axes.plot(paper, row, 'X', color=style.PAPER, markersize=9, zorder=2)
  look = dict(color=color, zorder=3)
  if entry['test_interval'] is not None:
    axes.plot(entry['test_interval'], [row, row], linewidth=1, **look)
  axes.errorbar(
    error['mean'], row, xerr=error['std'], marker=marker, markersize=6, elinewidth=3, **look
  )
  look = dict(xycoords=axes.get_yaxis_transform(), va='center', **style.NAME)
  style.beside(axes, f'{error["mean"]:.2f}  ({paper:g})', (1, row), (4, 0), **look)
