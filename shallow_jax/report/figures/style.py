"""What the report's pictures share: colours, axes, legends, and PNG bytes."""

from collections.abc import Iterable, Mapping, Sequence
import io
import textwrap
from typing import Any

from matplotlib import axes as axes_lib
from matplotlib import axis as axis_lib
from matplotlib import figure as figure_lib
from matplotlib import lines as lines_lib
from matplotlib import ticker
import numpy as np

from shallow_jax.report import comparison
from shallow_jax.report import texts
from shallow_jax.settings import targets as targets_lib

DPI = 150
INK, GREY, PALE = '#222222', '#777777', '#dddddd'
PAPER = '#a3a3a3'  # of the paper's points and lines, which lie beneath ours
# Okabe and Ito's colours, told apart by the colour-blind too; each kind has its marker as well.
KINDS = {
  'on labels': ('#D55E00', 's'),
  'taught by a network': ('#0072B2', 'o'),
  'ensemble': ('#111111', 'D'),
}
SERIES = (
  ('#0072B2', 'o'),
  ('#D55E00', 's'),
  ('#009E73', '^'),
  ('#CC79A7', 'D'),
  ('#E69F00', 'v'),
  ('#56B4E9', 'P'),
  ('#111111', 'X'),
)
NAME = {'fontsize': 8.5, 'color': INK}
FAR = 5.0  # times the median error: beyond it the axis of errors ends
TITLE_WIDTH = 11  # characters an inch


def new(width: float, height: float) -> tuple[figure_lib.Figure, axes_lib.Axes]:
  """A figure of that many inches with one plain pair of axes."""
  figure = new_figure(width, height)
  axes = figure.subplots()
  plain(axes)
  return figure, axes


def new_figure(width: float, height: float) -> figure_lib.Figure:
  """An empty figure of that many inches."""
  figure = figure_lib.Figure(figsize=(width, height), dpi=DPI)
  figure.set_layout_engine('constrained', w_pad=0.1, h_pad=0.1)
  return figure


def plain(axes: axes_lib.Axes) -> None:
  """Takes away the lines at the top and on the right."""
  axes.spines[['top', 'right']].set_visible(False)
  axes.set_axisbelow(True)


def rows(axes: axes_lib.Axes, labels: Sequence[str]) -> None:
  """A row for each label, the first on top."""
  axes.set_yticks(range(len(labels)), labels)
  axes.set_ylim(len(labels) - 0.4, -0.6)
  axes.tick_params(axis='y', length=0)
  axes.grid(axis='x', color=PALE, linewidth=0.7)


def titles(axes: axes_lib.Axes, title: str, x: str, y: str, note: str = '') -> None:
  """Title, the note under it, and what the axes show."""
  figure = axes.get_figure(root=True)
  assert figure is not None
  width = int(TITLE_WIDTH * figure.get_figwidth())
  title, note = (textwrap.fill(text, width) for text in (title, note))
  beside(axes, note, (0, 1), (0, 6), fontsize=9, color=GREY)
  pad = 8 + 13 * (note.count('\n') + 1) if note else None
  axes.set_title(title, fontsize=12, loc='left', color=INK, pad=pad)
  axes.set_xlabel(x, fontsize=10)
  axes.set_ylabel(y, fontsize=10)
  axes.tick_params(labelsize=9)


def beside(
  axes: axes_lib.Axes, text: str, at: tuple[float, float], shift: tuple[float, float], **look: Any
) -> None:
  """Writes a text that many points away from a place, which is given in parts of the axes."""
  look = {'xycoords': 'axes fraction', **look}
  axes.annotate(text, at, xytext=shift, textcoords='offset points', annotation_clip=False, **look)


def log_ticks(axis: axis_lib.Axis) -> None:
  """Ticks of a logarithmic axis as counts, as many as there is room for; call it with all drawn."""
  low, high = axis.get_view_interval()
  subs = (1, 1.5, 2, 3, 4, 6, 8) if high < 10 * low else (1, 2, 5) if high < 200 * low else (1,)
  axis.set_major_locator(ticker.LogLocator(subs=subs))
  axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: texts.short_count(value)))
  axis.set_minor_formatter(ticker.NullFormatter())


def handle(
  label: str, color: str, marker: str, line: Any = '', width: float | None = None
) -> lines_lib.Line2D:
  """A line of the legend."""
  look = dict(color=color, marker=marker, linestyle=line, linewidth=width)
  return lines_lib.Line2D([], [], label=label, **look)


def legend(figure: figure_lib.Figure, handles: Sequence[lines_lib.Line2D], title: str) -> None:
  """Beneath the axes, where it hides nothing; as many columns as have room."""
  longest = max((len(str(each.get_label())) for each in handles), default=0)
  figure.legend(
    handles=handles,
    loc='outside lower center',
    ncols=max(1, min(len(handles), 6, int(105 / (longest + 6)))),
    fontsize=8.5,
    frameon=False,
    handletextpad=0.5,
    columnspacing=1.5,
    title=title,
    title_fontsize=8.5,
  )


def kind(entry: comparison.Entry) -> str:
  """Which of KINDS a network is."""
  if entry['kind'] == 'ensemble':
    return 'ensemble'
  return 'on labels' if targets_lib.are_labels(entry['targets']) else 'taught by a network'


def styles(kinds: Sequence[str]) -> list[tuple[str, str]]:
  """A colour and marker for each series: the first of a kind has the kind's, wherever it is."""
  own = {kinds.index(name): style for name, style in KINDS.items() if name in kinds}
  others = [style for style in SERIES if style[0] not in {color for color, _ in own.values()}]
  return [own[i] if i in own else others.pop(0) for i in range(len(kinds))]


def kind_handles(entries: Iterable[comparison.Entry]) -> list[lines_lib.Line2D]:
  """The legend of the kinds that there are."""
  found = {kind(entry) for entry in entries}
  return [handle(name, *style) for name, style in KINDS.items() if name in found]


def test_error_name(results: Mapping[str, Any]) -> str:
  """What the pictures show, for titles: 'test error'."""
  return f'test {comparison.error_name(results["networks"])}'


def frame_error_name(results: Mapping[str, Any]) -> str:
  """What curves of training show: of speech the error by frame."""
  is_speech = comparison.error_name(results['networks']) != 'error'
  return 'frame error' if is_speech else 'error'


def mean(entry: comparison.Entry) -> float:
  """A network's mean test error in per cent."""
  return comparison.test_error(entry)['mean']


def far(errors: Sequence[float]) -> float:
  """The error from which on a value would press all others together: a collapsed net's."""
  return 1.0 + FAR * float(np.median(errors))


def name_collapsed(axes: axes_lib.Axes, entries: Iterable[comparison.Entry]) -> None:
  """Says in a corner which networks lie beyond the picture."""
  lines = [
    f'{entry["label"]}: mean {mean(entry):.1f}, a seed at {max(comparison.values(entry)):.1f} ↑'
    for entry in entries
  ]
  axes.text(0.01, 0.99, '\n'.join(lines), transform=axes.transAxes, va='top', **NAME)


def band(axes: axes_lib.Axes, x: np.ndarray, rows: np.ndarray, color: str, line: str = '-') -> None:
  """Draws the mean of rows [seeds, points] over x [points], and their standard deviation."""
  center = rows.mean(axis=0)
  if len(rows) > 1:
    deviation = rows.std(axis=0, ddof=1)
    low = np.maximum(center - deviation, 0)
    axes.fill_between(x, low, center + deviation, color=color, alpha=0.22, linewidth=0, zorder=2)
  axes.plot(x, center, line, color=color, linewidth=1.7, zorder=3)


def top_of_curves(curves: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
  """Where an axis of errors ends that shows every curve from a fifth of its way on."""
  late = [rows.mean(axis=0)[steps >= steps[-1] / 5] for steps, rows in curves]
  return min(100.0, 1.15 * max(float(np.max(center)) for center in late) + 1.0)


def spread(results: Mapping[str, Any]) -> str:
  """What the bars of the pictures are."""
  return f'mean ± standard deviation over {runs(results)}'


def runs(results: Mapping[str, Any]) -> str:
  """What the means are over."""
  splits = results['data'].get('splits')
  return f'the seeds of {len(splits)} splits' if splits else 'seeds'


def png(figure: figure_lib.Figure) -> bytes:
  """The figure as the bytes of a PNG file."""
  buffer = io.BytesIO()
  figure.savefig(buffer, format='png')
  return buffer.getvalue()
