"""The report's pictures, as PNG bytes, drawn from results and from the curves of training."""

from collections.abc import Iterable, Mapping, Sequence
import pathlib
import textwrap
from typing import Any

from matplotlib import axes as axes_lib
from matplotlib import figure as figure_lib
from matplotlib import lines as lines_lib
import numpy as np

from shallow_jax.report import comparison
from shallow_jax.report import curves as curves_lib
from shallow_jax.report.figures import confusion
from shallow_jax.report.figures import labels as labels_lib
from shallow_jax.report.figures import style

GAIN, LOSS, TARGET = '#009E73', '#D55E00', '#f2f3f5'
COLUMNS = 4  # of small multiples
PANEL_TITLE = 32  # characters that fit over a panel
MANY = 24  # more networks than these have no names beside their points, and no panels of curves

Entry = Mapping[str, Any]


def draw(results: Mapping[str, Any], folders: Sequence[pathlib.Path]) -> dict[str, bytes]:
  """All pictures that there is something to draw for, by file name.

  Args:
    results: as results.collect returns them.
    folders: of the experiment's runs, one a split.
  """
  networks = {
    name: results['networks'][name]
    for name in results['order']
    if comparison.test_error(results['networks'][name])['mean'] is not None
  }
  read = {name: curves_lib.read([folder / name for folder in folders]) for name in networks}
  curves = {name: curve for name, curve in read.items() if curve is not None}
  drawn = {
    'error_by_network.png': _error_by_network(results, networks),
    'error_against_parameters.png': _error_against_parameters(results, networks),
    'learning_curves.png': _learning_curves(results, curves),
    'attribution.png': _attribution(results),
    'against_the_paper.png': _against_the_paper(results, networks),
    'phone_confusion.png': confusion.figure(results, folders),
  }
  return {name: style.png(figure) for name, figure in drawn.items() if figure is not None}


def _error_by_network(
  results: Mapping[str, Any], networks: Mapping[str, Entry]
) -> figure_lib.Figure | None:
  if not networks:
    return None
  figure, axes = style.new(8, 1.5 + 0.36 * len(networks))
  far = style.far(networks.values())
  for row, (name, entry) in enumerate(networks.items()):
    _draw_row(axes, row, entry, far, is_headline=name == results['roles']['headline'])
  teacher = networks.get(results['roles']['teacher'])
  if teacher is not None:
    mean = style.mean(teacher)
    axes.axvline(mean, color=style.INK, linewidth=1, linestyle='--', zorder=1)
  axes.set_yticks(range(len(networks)), [entry['label'] for entry in networks.values()])
  for tick, name in zip(axes.get_yticklabels(), networks, strict=True):
    tick.set_fontweight('bold' if name == results['roles']['headline'] else 'normal')
  axes.set_ylim(len(networks) - 0.4, -0.6)
  _limit_rows(axes, list(networks.values()), far)
  axes.grid(axis='x', color=style.PALE, linewidth=0.7)
  axes.tick_params(axis='y', length=0)
  error_name = style.test_error_name(results)
  style.titles(axes, f'{results["experiment"]}: {error_name}', f'{error_name}, %', '')
  handles = style.kind_handles(networks.values()) + _extra_handles(networks.values(), teacher)
  style.legend(figure, handles, style.spread(results))
  return figure


def _draw_row(
  axes: axes_lib.Axes, row: int, entry: Entry, far: float, *, is_headline: bool
) -> None:
  error, (color, marker) = comparison.test_error(entry), style.KINDS[style.kind(entry)]
  values = style.values(entry)
  if len(values) > 1:
    shifts = np.linspace(-0.16, 0.16, len(values))
    axes.plot(values, row + shifts, '.', color=color, alpha=0.45, markersize=5, zorder=2)
  if max(values) <= far:
    axes.errorbar(
      error['mean'],
      row,
      xerr=error['std'],
      color=color,
      marker=marker,
      zorder=3,
      markersize=8 if is_headline else 6.5,
      elinewidth=1.6,
      capsize=3,
    )
  if entry['paper'] is not None:
    axes.plot(entry['paper']['value'], row, 'X', color=style.GREY, markersize=8, zorder=2)


def _limit_rows(axes: axes_lib.Axes, networks: Sequence[Entry], far: float) -> None:
  """Ends the axis where the others are still told apart; what lies beyond is written at its end."""
  values = [value for entry in networks for value in style.values(entry)]
  axes.set_xlim(left=0)
  if max(values) <= far:
    return
  axes.set_xlim(0, 1.6 * max(value for value in values if value <= far) or 1)
  for row, entry in enumerate(networks):
    beyond = ', '.join(f'{value:.1f}' for value in style.values(entry) if value > far)
    if beyond:
      text = f'mean {style.mean(entry):.1f}, a seed at {beyond} →'
      axes.text(
        0.995,
        row,
        text,
        ha='right',
        va='center',
        **style.NAME,
        zorder=4,
        transform=axes.get_yaxis_transform(),
        bbox=dict(color='white', pad=1.5),
      )


def _extra_handles(networks: Iterable[Entry], teacher: Entry | None) -> list[lines_lib.Line2D]:
  handles = [style.handle('one seed', style.GREY, '.')]
  if any(entry['paper'] for entry in networks):
    handles.append(style.handle('the paper', style.GREY, 'X'))
  if teacher is not None:
    label = f'teacher: {teacher["label"]}'
    handles.append(
      lines_lib.Line2D([], [], color=style.INK, linewidth=1, linestyle='--', label=label)
    )
  return handles


def _error_against_parameters(
  results: Mapping[str, Any], networks: Mapping[str, Entry]
) -> figure_lib.Figure | None:
  far = style.far(networks.values()) if networks else 0.0
  near = [entry for entry in networks.values() if max(style.values(entry)) <= far]
  if len({entry['parameters']['weights'] for entry in near}) < 2:
    return None
  figure, axes = style.new(8, 5.6)
  axes.set_xscale('log')
  for entry in near:
    color, marker = style.KINDS[style.kind(entry)]
    # Without its spread: nets of one size stand in a column, where bars would hide one another.
    axes.plot(
      entry['parameters']['weights'],
      style.mean(entry),
      marker,
      color=color,
      markerfacecolor='none',  # so that one behind another shows
      markeredgewidth=1.6,
      markersize=7,
    )
  axes.margins(x=0.18, y=0.12)
  axes.set_ylim(bottom=0)
  axes.grid(color=style.PALE, linewidth=0.7, which='major')
  style.log_ticks(axes.xaxis)
  error_name = style.test_error_name(results)
  title = f'{results["experiment"]}: {error_name} by size'
  style.titles(axes, title, 'weights (biases apart)', f'{error_name}, %')
  style.legend(figure, style.kind_handles(networks.values()), f'mean over {style.runs(results)}')
  if len(networks) <= MANY:
    points = [(entry['parameters']['weights'], style.mean(entry)) for entry in near]
    names = [entry['label'] for entry in near]
    labels_lib.label(figure, axes, points, names, line_color=style.GREY, **style.NAME)
  style.name_collapsed(
    axes, [entry for entry in networks.values() if max(style.values(entry)) > far]
  )
  return figure


def _learning_curves(
  results: Mapping[str, Any], curves: Mapping[str, curves_lib.Curve]
) -> figure_lib.Figure | None:
  """A panel a network: mean and standard deviation over seeds, the others in grey behind."""
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
    _draw_curve(axes, results['networks'][name], *curves[name])
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


def _draw_curve(axes: axes_lib.Axes, entry: Entry, steps: np.ndarray, errors: np.ndarray) -> None:
  style.band(axes, steps, errors, style.KINDS[style.kind(entry)][0])
  title = textwrap.shorten(entry['label'], PANEL_TITLE, placeholder=' …')
  axes.set_title(title, fontsize=9, loc='left', color=style.INK)
  axes.tick_params(labelsize=8)


def _attribution(results: Mapping[str, Any]) -> figure_lib.Figure | None:
  """A bar a network of the chain, and in colour what the step to it takes off or adds."""
  steps = results['attribution']
  if not steps:
    return None
  names = [steps[0]['from']] + [step['to'] for step in steps]
  errors = [comparison.test_error(results['networks'][name])['mean'] for name in names]
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
  axes.text(max(before, after) + space, row, _step_text(step), va='center', **style.NAME)


def _step_text(step: Mapping[str, Any]) -> str:
  error = '' if step['standard_error'] is None else f' ± {step["standard_error"]:.2f}'
  share = '' if step['share'] is None else f' ({100 * step["share"]:.0f} %)'
  return f'{step["cause"]}: {-step["change"]:+.2f}{error}{share}'.replace('-', '−')


def _against_the_paper(
  results: Mapping[str, Any], networks: Mapping[str, Entry]
) -> figure_lib.Figure | None:
  """A row for each of the paper's: its figure in grey under ours, and both in digits."""
  rows = [entry for entry in networks.values() if entry['paper']]
  if not rows:
    return None
  figure, axes = style.new(8, 1.7 + 0.42 * len(rows))
  for row, entry in enumerate(rows):
    _draw_paper_row(axes, row, entry)
  axes.set_yticks(range(len(rows)), [entry['label'] for entry in rows])
  axes.set_ylim(len(rows) - 0.4, -0.6)
  axes.set_xlim(left=0)
  axes.tick_params(axis='y', length=0)
  axes.grid(axis='x', color=style.PALE, linewidth=0.7)
  title = f'{results["experiment"]}: against the paper'
  style.titles(axes, title, f'{style.test_error_name(results)}, %', '', results['note'])
  handles = [style.handle('the paper', style.PAPER, 'X'), *style.kind_handles(rows)]
  axes.annotate(
    'ours (paper)',
    (1, 1),
    xycoords='axes fraction',
    xytext=(4, 4),
    textcoords='offset points',
    fontsize=8.5,
    color=style.GREY,
  )
  interval = 'thin bar: 95 % interval'
  style.legend(figure, handles, f'thick bar: {style.spread(results)}; {interval}')
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
  axes.annotate(
    f'{error["mean"]:.2f}  ({paper:g})',
    (1, row),
    xycoords=axes.get_yaxis_transform(),
    xytext=(4, 0),
    textcoords='offset points',
    va='center',
    annotation_clip=False,
    **style.NAME,
  )
