"""Names beside the points of a picture: none over another, over a point or under a line."""

from collections.abc import Iterator, Sequence
import dataclasses
from typing import Any

from matplotlib import axes as axes_lib
from matplotlib import figure as figure_lib
from matplotlib import path as path_lib
from matplotlib import transforms
from matplotlib.backends import backend_agg
import numpy as np

# In points, as matplotlib measures text:
POINT = 4.3  # half the width of the square around a point that stays free
GAP = 4.0  # between a point and the line to its name
NEAR, FAR = 9.0, 22.0  # from a point sideways to its name, beside it and above or below it


@dataclasses.dataclass(frozen=True)
class _Place:
  """Where a name could stand."""

  offset: tuple[float, float]  # of the near end of the name from its point, in points
  box: transforms.Bbox  # of the name, in pixels
  line: path_lib.Path  # from the name to its point, in pixels


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
  around = [_square(point, POINT * figure.dpi / 72) for point in pixels]
  taken: list[_Place] = []
  for index in np.argsort(-pixels[:, 1]):
    size = _size(axes, names[index], renderer, style)
    places = list(_places(pixels[index], size, figure.dpi / 72))
    inside = [place for place in places if _is_within(place.box, axes.get_window_extent(renderer))]
    free = (place for place in inside if _is_free(place, around, taken))
    place = next(free, places[0])
    _write(axes, names[index], points[index], place, line_color, style)
    taken.append(place)


def _size(
  axes: axes_lib.Axes, name: str, renderer: backend_agg.RendererAgg, look: dict[str, Any]
) -> tuple[float, float]:
  """Width and height of a name in pixels."""
  text = axes.text(0, 0, name, transform=axes.transAxes, **look)
  size = text.get_window_extent(renderer).size
  text.remove()
  return size


def _places(point: np.ndarray, size: tuple[float, float], scale: float) -> Iterator[_Place]:
  """All places of a name, nearest first; scale: pixels a point of text."""
  for shift in [0] + [sign * step for step in range(3, 160, 3) for sign in (1, -1)]:
    distance = NEAR if abs(shift) < 10 else FAR
    for x in (distance, -distance):
      end = point + np.array([x, shift]) * scale
      left = end[0] if x > 0 else end[0] - size[0]
      box = transforms.Bbox.from_bounds(left, end[1] - size[1] / 2, *size)
      near = point + (end - point) * GAP / np.hypot(x, shift)
      yield _Place((x, shift), box, path_lib.Path([end, near]))


def _is_within(box: transforms.Bbox, axes: transforms.Bbox) -> bool:
  return axes.x0 <= box.x0 and box.x1 <= axes.x1 and axes.y0 <= box.y0 and box.y1 <= axes.y1


def _is_free(place: _Place, around: Sequence[transforms.Bbox], taken: Sequence[_Place]) -> bool:
  if place.box.count_overlaps([*around, *(other.box for other in taken)]):
    return False
  return not any(
    place.line.intersects_bbox(other.box, filled=False)
    or other.line.intersects_bbox(place.box, filled=False)
    or place.line.intersects_path(other.line, filled=False)
    for other in taken
  )


def _write(
  axes: axes_lib.Axes,
  name: str,
  point: tuple[float, float],
  place: _Place,
  line_color: str,
  look: dict[str, Any],
) -> None:
  is_right = place.offset[0] > 0
  axes.annotate(
    name,
    point,
    xytext=place.offset,
    textcoords='offset points',
    ha='left' if is_right else 'right',
    va='center',
    bbox=dict(color='white', alpha=0.8, pad=0.5, linewidth=0),
    arrowprops=dict(
      arrowstyle='-',
      color=line_color,
      linewidth=0.6,
      relpos=(0 if is_right else 1, 0.5),
      shrinkA=0,
      shrinkB=GAP,
    ),
    **look,
  )


def _square(center: np.ndarray, half: float) -> transforms.Bbox:
  return transforms.Bbox([center - half, center + half])
