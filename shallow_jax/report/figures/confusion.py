"""The picture of which phones a network takes for which."""

from collections.abc import Mapping, Sequence
import pathlib
from typing import Any

from matplotlib import colors
from matplotlib import figure as figure_lib
import numpy as np

from shallow_jax.report.figures import style
from shallow_jax.speech import phone_errors

INCHES_A_CLASS = 0.185
LOWEST = 0.1  # per cent: below it a cell is white

# The 39 classes, those that are said alike beside each other.
ORDER: tuple[str, ...] = tuple(
  """
  iy ih eh ae ah uw uh aa ey ay oy aw ow er l r y w m n ng dx b d g p t k jh ch v dh z f th s sh
  hh sil""".split()
)


def figure(results: Mapping[str, Any], folders: Sequence[pathlib.Path]) -> figure_lib.Figure | None:
  """The headline's confusions on test, all seeds and splits added; None where there are none.

  Rows: what was said, in per cent of a row; columns: what was recognised. The last row are
  insertions, in per cent of all insertions; the last column deletions.
  """
  name = shown(results)
  read = [found for folder in folders if name and (found := phone_errors.read(folder, name))]
  if not read:
    return None
  classes = [str(each) for each in read[0]['classes']]
  table = sum(found['confusion'][phone_errors.known(found['test'])].sum(axis=0) for found in read)
  places = {name: place for place, name in enumerate(ORDER)}
  order = sorted(range(len(classes)), key=lambda i: places[classes[i]])
  order.append(len(classes))
  table = np.asarray(table, float)[np.ix_(order, order)]
  share = 100 * table / np.maximum(table.sum(axis=1, keepdims=True), 1)
  drawn = _drawn(share, [classes[i] for i in order[:-1]])
  label = results['networks'][name]['label']
  title = f'{results["experiment"]}: phones said and recognised by {label}'
  style.titles(drawn.axes[0], title, 'recognised', 'said')
  return drawn


def shown(results: Mapping[str, Any]) -> str:
  """The network that is shown: the headline, else the one of the lowest phone error rate."""
  rates = {
    name: per['mean']
    for name, entry in results['networks'].items()
    if (per := entry['metrics']['test']['per']) is not None and per['mean'] is not None
  }
  headline = results['roles']['headline']
  return headline if headline in rates else min(rates, key=rates.__getitem__, default='')


def _drawn(share: np.ndarray, classes: Sequence[str]) -> figure_lib.Figure:
  side = INCHES_A_CLASS * len(share) + 1.6
  drawn = style.new_figure(side + 0.8, side + 0.3)
  axes = drawn.subplots()
  cells = np.ma.masked_less(share, LOWEST)
  image = axes.imshow(cells, cmap='viridis_r', norm=colors.LogNorm(LOWEST, 100.0))
  axes.set_xticks(range(len(share)), [*classes, 'deleted'], rotation=90)
  axes.set_yticks(range(len(share)), [*classes, 'inserted'])
  axes.xaxis.set_ticks_position('bottom')
  for line in (axes.axhline, axes.axvline):
    line(len(classes) - 0.5, color=style.GREY, linewidth=0.8)
  bar = drawn.colorbar(image, ax=axes, shrink=0.6, pad=0.01)
  bar.set_ticks([0.1, 1, 10, 100], labels=['0.1', '1', '10', '100'])
  bar.set_label('per cent of the row', fontsize=9)
  bar.ax.tick_params(labelsize=8)
  bar.ax.minorticks_off()
  return drawn
