"""Names beside the points of a picture, none over another or over a point."""

from collections.abc import Sequence
from typing import Any

from matplotlib import axes as axes_lib
from matplotlib import figure as figure_lib
from matplotlib import text as text_lib
from matplotlib import transforms
from matplotlib.backends import backend_agg
import numpy as np


def label(
  figure: figure_lib.Figure,
  axes: axes_lib.Axes,
  points: Sequence[tuple[float, float]],
  names: Sequence[str],
  *,
  line_color: str,
  **style: Any,
) -> None:
  """Writes each point's name at the nearest place beside it that is still free.

  Args:
    figure: complete but for the names: its layout is fixed from here on.
    axes: in it.
    points: as the axes count.
    names: one a point.
    line_color: of the line from a name to its point.
    **style: of the names, as matplotlib's Text takes it.
  """
  figure.draw_without_rendering()  # fixes the layout: extents are in pixels from here on
  figure.set_layout_engine('none')
  renderer = backend_agg.FigureCanvasAgg(figure).get_renderer()
  pixels = axes.transData.transform(points)
  taken = [_around(x, y, 9) for x, y in pixels]
  for index in np.argsort(-pixels[:, 1]):
    name = axes.annotate(
      names[index],
      points[index],
      xytext=(0, 0),
      textcoords='offset points',
      bbox=dict(color='white', alpha=0.8, pad=0.5, linewidth=0),
      arrowprops=dict(arrowstyle='-', color=line_color, linewidth=0.6, shrinkA=0, shrinkB=4),
      **style,
    )
    taken.append(_place(name, axes.get_window_extent(renderer), taken, renderer))


def _place(
  name: text_lib.Annotation,
  inside: transforms.Bbox,
  taken: Sequence[transforms.Bbox],
  renderer: backend_agg.RendererAgg,
) -> transforms.Bbox:
  """Moves a name to the first free place, nearest first; returns its extent in pixels."""
  places = [(side, shift) for shift in _shifts() for side in ('left', 'right')]
  for side, shift in places:
    distance = 9 if abs(shift) < 10 else 22
    name.set(ha=side, va='center', position=(distance if side == 'left' else -distance, shift))
    name.update_positions(renderer)
    box = text_lib.Text.get_window_extent(name, renderer)  # without its line
    within = inside.x0 <= box.x0 and box.x1 <= inside.x1
    within = within and inside.y0 <= box.y0 and box.y1 <= inside.y1
    if within and not any(box.overlaps(other) for other in taken):
      break
  return box


def _shifts() -> list[int]:
  return [0] + [sign * step for step in range(3, 160, 3) for sign in (1, -1)]


def _around(x: float, y: float, radius: float) -> transforms.Bbox:
  return transforms.Bbox.from_extents(x - radius, y - radius, x + radius, y + radius)
