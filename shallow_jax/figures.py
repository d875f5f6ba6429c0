"""The report's pictures, as PNG bytes, drawn from results and from the curves of training."""

from collections.abc import Iterable, Mapping, Sequence
import io
import pathlib
from typing import Any

from matplotlib import axes as axes_lib
from matplotlib import figure as figure_lib
from matplotlib import lines as lines_lib
from matplotlib import ticker
import numpy as np

from shallow_jax import label_placement
from shallow_jax import results as results_lib

DPI = 150
INK, GREY, PALE = '#222222', '#777777', '#dddddd'
# Okabe and Ito's colours, told apart by the colour-blind too; each kind has its marker as well.
KINDS = {
  'on labels': ('#D55E00', 's'),
  'taught by a network': ('#0072B2', 'o'),
  'ensemble': ('#111111', 'D'),
}
GAIN, LOSS, TARGET = '#009E73', '#D55E00', '#f2f3f5'
COLUMNS = 4  # of small multiples
FAR = 5.0  # times the median error: beyond it the axis of errors ends
LABELLED_POINTS = 24  # more networks than these are shown without their names
_NAME = {'fontsize': 8.5, 'color': INK}

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
    if results_lib.test_error(results['networks'][name])['mean'] is not None
  }
  read = {name: results_lib.read_curves([folder / name for folder in folders]) for name in networks}
  curves = {name: curve for name, curve in read.items() if curve is not None}
  drawn = {
    'error_by_network.png': _error_by_network(results, networks),
    'error_against_parameters.png': _error_against_parameters(results, networks),
    'learning_curves.png': _learning_curves(results, curves),
    'attribution.png': _attribution(results),
  }
  return {name: _png(figure) for name, figure in drawn.items() if figure is not None}


def _error_by_network(
  results: Mapping[str, Any], networks: Mapping[str, Entry]
) -> figure_lib.Figure | None:
  if not networks:
    return None
  figure, axes = _new(8, 1.5 + 0.36 * len(networks))
  far = _far(networks.values())
  for row, (name, entry) in enumerate(networks.items()):
    _draw_row(axes, row, entry, far, is_headline=name == results['roles']['headline'])
  teacher = networks.get(results['roles']['teacher'])
  if teacher is not None:
    mean = _mean(teacher)
    axes.axvline(mean, color=INK, linewidth=1, linestyle='--', zorder=1)
  axes.set_yticks(range(len(networks)), [entry['label'] for entry in networks.values()])
  for tick, name in zip(axes.get_yticklabels(), networks, strict=True):
    tick.set_fontweight('bold' if name == results['roles']['headline'] else 'normal')
  axes.set_ylim(len(networks) - 0.4, -0.6)
  _limit_rows(axes, list(networks.values()), far)
  axes.grid(axis='x', color=PALE, linewidth=0.7)
  axes.tick_params(axis='y', length=0)
  _titles(axes, f'{results["experiment"]}: test error', 'test error, %', '')
  handles = _handles(networks.values()) + _extra_handles(networks.values(), teacher)
  _legend(figure, handles, _spread(results))
  return figure


def _draw_row(
  axes: axes_lib.Axes, row: int, entry: Entry, far: float, *, is_headline: bool
) -> None:
  error, (color, marker) = results_lib.test_error(entry), KINDS[_kind(entry)]
  values = _values(entry)
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
    axes.plot(entry['paper']['value'], row, 'X', color=GREY, markersize=8, zorder=2)


def _limit_rows(axes: axes_lib.Axes, networks: Sequence[Entry], far: float) -> None:
  """Ends the axis where the others are still told apart; what lies beyond is written at its end."""
  values = [value for entry in networks for value in _values(entry)]
  axes.set_xlim(left=0)
  if max(values) <= far:
    return
  axes.set_xlim(0, 1.6 * max(value for value in values if value <= far) or 1)
  for row, entry in enumerate(networks):
    beyond = ', '.join(f'{value:.1f}' for value in _values(entry) if value > far)
    if beyond:
      text = f'mean {_mean(entry):.1f}, a seed at {beyond} →'
      axes.text(
        0.995,
        row,
        text,
        ha='right',
        va='center',
        **_NAME,
        zorder=4,
        transform=axes.get_yaxis_transform(),
        bbox=dict(color='white', pad=1.5),
      )


def _far(networks: Iterable[Entry]) -> float:
  """The error from which on a value would press all others together: a collapsed net's."""
  return 1.0 + FAR * float(np.median([value for entry in networks for value in _values(entry)]))


def _mean(entry: Entry) -> float:
  return results_lib.test_error(entry)['mean']


def _values(entry: Entry) -> list[float]:
  return [value for value in results_lib.test_error(entry)['values'] if value is not None]


def _extra_handles(networks: Iterable[Entry], teacher: Entry | None) -> list[lines_lib.Line2D]:
  handles = [_handle('one seed', GREY, '.')]
  if any(entry['paper'] for entry in networks):
    handles.append(_handle('the paper', GREY, 'X'))
  if teacher is not None:
    label = f'teacher: {teacher["label"]}'
    handles.append(lines_lib.Line2D([], [], color=INK, linewidth=1, linestyle='--', label=label))
  return handles


def _error_against_parameters(
  results: Mapping[str, Any], networks: Mapping[str, Entry]
) -> figure_lib.Figure | None:
  far = _far(networks.values()) if networks else 0.0
  near = [entry for entry in networks.values() if max(_values(entry)) <= far]
  if len({entry['parameters']['weights'] for entry in near}) < 2:
    return None
  figure, axes = _new(8, 5.6)
  axes.set_xscale('log')
  for entry in near:
    color, marker = KINDS[_kind(entry)]
    # Without its spread: nets of one size stand in a column, where bars would hide one another.
    axes.plot(
      entry['parameters']['weights'],
      _mean(entry),
      marker,
      color=color,
      markerfacecolor='none',  # so that one behind another shows
      markeredgewidth=1.6,
      markersize=7,
    )
  axes.margins(x=0.18, y=0.12)
  axes.set_ylim(bottom=0)
  axes.grid(color=PALE, linewidth=0.7, which='major')
  low, high = axes.get_xlim()
  subs = (1, 1.5, 2, 3, 4, 6, 8) if high < 10 * low else (1, 2, 5) if high < 200 * low else (1,)
  axes.xaxis.set_major_locator(ticker.LogLocator(subs=subs))
  axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: short_count(value)))
  axes.xaxis.set_minor_formatter(ticker.NullFormatter())
  _titles(
    axes, f'{results["experiment"]}: test error by size', 'weights (biases apart)', 'test error, %'
  )
  _legend(figure, _handles(networks.values()), f'mean over {_runs(results)}')
  if len(networks) <= LABELLED_POINTS:
    points = [(entry['parameters']['weights'], _mean(entry)) for entry in near]
    names = [entry['label'] for entry in near]
    label_placement.label(figure, axes, points, names, line_color=GREY, **_NAME)
  _name_collapsed(axes, [entry for entry in networks.values() if max(_values(entry)) > far])
  return figure


def _name_collapsed(axes: axes_lib.Axes, networks: Sequence[Entry]) -> None:
  """Says in a corner which networks lie beyond the picture."""
  lines = [
    f'{entry["label"]}: mean {_mean(entry):.1f}, a seed at {max(_values(entry)):.1f} ↑'
    for entry in networks
  ]
  axes.text(0.01, 0.99, '\n'.join(lines), transform=axes.transAxes, va='top', **_NAME)


def _learning_curves(
  results: Mapping[str, Any], curves: Mapping[str, results_lib.Curves]
) -> figure_lib.Figure | None:
  """A panel a network: mean and standard deviation over seeds, the others in grey behind."""
  if not any(len(steps) > 1 for steps, _ in curves.values()):
    return None
  columns = min(COLUMNS, len(curves))
  rows = -(-len(curves) // columns)
  figure = _figure(2.5 * columns + 0.6, 2.1 * rows + 0.9)
  grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
  top = _top(curves)
  for axes, name in zip(grid.flat, curves, strict=False):
    for other, (steps, errors) in curves.items():
      if other != name:
        axes.plot(steps, errors.mean(axis=0), color=PALE, linewidth=0.8, zorder=1)
    _draw_curve(axes, results['networks'][name], *curves[name])
    axes.set_ylim(0, top)
    axes.set_xlim(left=0)
    _plain(axes)
  for axes in grid.flat[len(curves) :]:
    axes.set_axis_off()
  for axes in grid.flat[max(0, len(curves) - columns) : len(curves)]:
    axes.tick_params(labelbottom=True)
  figure.suptitle(
    f'{results["experiment"]}: validation error while training, {_spread(results)}',
    fontsize=11,
    x=0.01,
    ha='left',
  )
  figure.supxlabel('step', fontsize=10)
  figure.supylabel('validation error, %', fontsize=10)
  return figure


def _draw_curve(axes: axes_lib.Axes, entry: Entry, steps: np.ndarray, errors: np.ndarray) -> None:
  color, _ = KINDS[_kind(entry)]
  mean = errors.mean(axis=0)
  if len(errors) > 1:
    spread = errors.std(axis=0, ddof=1)
    low = np.maximum(mean - spread, 0)
    axes.fill_between(steps, low, mean + spread, color=color, alpha=0.22, linewidth=0, zorder=2)
  axes.plot(steps, mean, color=color, linewidth=1.7, zorder=3)
  axes.set_title(f'{entry["label"]}', fontsize=9, loc='left', color=INK)
  axes.tick_params(labelsize=8)


def _top(curves: Mapping[str, results_lib.Curves]) -> float:
  """Where the axis ends: it shows every curve from a fifth of its way on."""
  late = [errors.mean(axis=0)[steps >= steps[-1] / 5] for steps, errors in curves.values()]
  return min(100.0, 1.15 * max(float(np.max(mean)) for mean in late) + 1.0)


def _attribution(results: Mapping[str, Any]) -> figure_lib.Figure | None:
  """A bar a network of the chain, and in colour what the step to it takes off or adds."""
  steps = results['attribution']
  if not steps:
    return None
  names = [steps[0]['from']] + [step['to'] for step in steps]
  errors = [results_lib.test_error(results['networks'][name])['mean'] for name in names]
  figure, axes = _new(8, 1.4 + 0.62 * len(names))
  axes.barh(range(len(names)), errors, height=0.5, color='#c8ced6')
  for row, step in enumerate(steps, start=1):
    _draw_step(axes, row, step, errors[row - 1], errors[row], 0.015 * max(errors))
  for row, error in enumerate(errors):
    axes.text(0.012 * max(errors), row, f'{error:.2f} %', va='center', **_NAME)
  axes.set_yticks(range(len(names)), [results['networks'][name]['label'] for name in names])
  axes.set_ylim(len(names) - 0.5, -0.5)
  axes.set_xlim(0, 2.1 * max(errors) or 1)
  axes.tick_params(axis='y', length=0)
  title = f'{results["experiment"]}: what the gain is due to, step by step'
  notes = '± standard error; in brackets: share of the way from top to bottom'
  _titles(axes, title, f'test error, % ({notes})', '')
  return figure


def _draw_step(
  axes: axes_lib.Axes, row: int, step: Mapping[str, Any], before: float, after: float, space: float
) -> None:
  style: dict[str, Any]
  if step['cause'] == results_lib.LEFT:
    style = dict(color=TARGET, edgecolor=GREY, hatch='....', linewidth=0.6)
  elif after <= before:
    style = dict(color=GAIN)
  else:
    style = dict(color=LOSS, hatch='////', edgecolor='white', linewidth=0)
  axes.barh(row, before - after, left=after, height=0.5, **style)
  axes.plot([before] * 2, [row - 0.75, row + 0.25], color=GREY, linewidth=0.8)
  axes.text(max(before, after) + space, row, _step_text(step), va='center', **_NAME)


def _step_text(step: Mapping[str, Any]) -> str:
  error = '' if step['standard_error'] is None else f' ± {step["standard_error"]:.2f}'
  share = '' if step['share'] is None else f' ({100 * step["share"]:.0f} %)'
  return f'{step["cause"]}: {-step["change"]:+.2f}{error}{share}'.replace('-', '−')


def short_count(value: float) -> str:
  """A count in a few characters: 950, 66.6k, 3.93M."""
  for size, unit in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
    if value >= max(0.9995 * size, 1e4):  # 999,900 is 1M, and four digits are short enough
      return f'{value / size:.3g}{unit}'
  return f'{value:,.0f}'


def _kind(entry: Entry) -> str:
  if entry['kind'] == 'ensemble':
    return 'ensemble'
  return 'on labels' if entry['targets'] == 'labels' else 'taught by a network'


def _kinds(entries: Iterable[Entry]) -> list[str]:
  found = {_kind(entry) for entry in entries}
  return [kind for kind in KINDS if kind in found]


def _new(width: float, height: float) -> tuple[figure_lib.Figure, axes_lib.Axes]:
  figure = _figure(width, height)
  axes = figure.subplots()
  _plain(axes)
  return figure, axes


def _figure(width: float, height: float) -> figure_lib.Figure:
  figure = figure_lib.Figure(figsize=(width, height), dpi=DPI)
  figure.set_layout_engine('constrained', w_pad=0.1, h_pad=0.1)
  return figure


def _plain(axes: axes_lib.Axes) -> None:
  axes.spines[['top', 'right']].set_visible(False)
  axes.set_axisbelow(True)


def _titles(axes: axes_lib.Axes, title: str, x: str, y: str) -> None:
  axes.set_title(title, fontsize=12, loc='left', color=INK)
  axes.set_xlabel(x, fontsize=10)
  axes.set_ylabel(y, fontsize=10)
  axes.tick_params(labelsize=9)


def _handles(entries: Iterable[Entry]) -> list[lines_lib.Line2D]:
  return [_handle(kind, *KINDS[kind]) for kind in _kinds(entries)]


def _handle(label: str, color: str, marker: str) -> lines_lib.Line2D:
  return lines_lib.Line2D([], [], color=color, marker=marker, linestyle='', label=label)


def _legend(figure: figure_lib.Figure, handles: Sequence[lines_lib.Line2D], title: str) -> None:
  """Beneath the axes, where it hides nothing."""
  figure.legend(
    handles=handles,
    loc='outside lower center',
    ncols=min(len(handles), 6),
    fontsize=8.5,
    frameon=False,
    handletextpad=0.3,
    columnspacing=1.5,
    title=title,
    title_fontsize=8.5,
  )


def _spread(results: Mapping[str, Any]) -> str:
  return f'mean ± standard deviation over {_runs(results)}'


def _runs(results: Mapping[str, Any]) -> str:
  splits = results['data'].get('splits')
  return f'the seeds of {len(splits)} splits' if splits else 'seeds'


def _png(figure: figure_lib.Figure) -> bytes:
  buffer = io.BytesIO()
  figure.savefig(buffer, format='png')
  return buffer.getvalue()
