"""Near-duplicates of photographs: re-encoded, rescaled, recoloured, mirrored, moved by a pixel.

First, coarse: the average colours on a 4 x 4 grid. Photographs have much in common there (bright
above, dark below), so the grids are whitened; then one matrix product correlates all pairs, and a
second one all with the mirror images. Few pairs pass.

Then, fine: the edges of each such pair at full resolution, one image shifted by up to two pixels.
Pixels would not do: any two pictures of the sea correlate. Of edges the square roots are compared,
else one strong edge, a horizon or the rim of a plate, decides.

The thresholds come from pairs that were looked at. In CIFAR-10 and CIFAR-100, test against train,
most pairs above 0.7 are one photograph twice, or an object twice in a series of shots; above 0.8
nearly all, at 0.65 about half. Of CIFAR-100's 60,000 images against all of CIFAR-10's, four that
only look alike pass: a leak costs more. Of copies of CIFAR-10's images 97 in 100 or more are found:
as JPEGs of quality 20, through 16 x 16 pixels, brighter, of gamma 2, with noise, mirrored, moved by
half a pixel, by one each way, or by two along one axis. What lost two pixels all round is not.
"""

from collections.abc import Iterator

import numpy as np

CORRELATION = 0.7  # of the edges of near-duplicates

_COARSE_CORRELATION = 0.8  # of their whitened grids
_GRID = 4  # cells a side
_RIDGE = 0.1  # of the mean variance, added to all before whitening
_MAX_SHIFT = 2  # pixels each way
_MIN_SIDE = 16  # pixels
_CHUNK = 256  # images at once
_PAIRS = 64  # at once


def are_photographs(images: np.ndarray) -> bool:
  """Whether images are what the thresholds were chosen on: uint8 [images, height, width, 3]."""
  return (
    images.dtype == np.uint8
    and images.ndim == 4
    and images.shape[3] == 3
    and min(images.shape[1:3]) >= _MIN_SIDE
  )


def near_duplicates(pool: np.ndarray, held_out: np.ndarray, correlation: float) -> np.ndarray:
  """Returns which images of a pool show what a held-out one does: bool [images].

  Both are uint8 [images, height, width, 3]; a pair counts from this correlation of its edges on.
  """
  whitening = _whitening(held_out)
  grids = _whitened(pool, whitening)
  found = np.zeros(len(pool), bool)
  for others in (held_out, held_out[:, :, ::-1]):
    for rows, columns in _alike(grids, _whitened(others, whitening)):
      same = edge_correlation(pool[rows], others[columns]) >= correlation
      found[rows[same]] = True
  return found


def edge_correlation(images: np.ndarray, others: np.ndarray) -> np.ndarray:
  """Returns the correlation of the edges of pairs, at the best of 25 shifts: float64 [pairs].

  With the Sobel gradients g of the brightness along x and y, and e = sign(g) |g|^½, it is
  Σ e e' / (Σ e² Σ e'²)^½ over the two images' overlap; 0 where one of them has no edge. Both are
  uint8 [pairs, height, width, channels].
  """
  edges, other_edges = _edges(images), _edges(others)
  shifts = range(-_MAX_SHIFT, _MAX_SHIFT + 1)
  return np.max(
    [
      _correlation(edges[:, _from(y), _from(x)], other_edges[:, _from(-y), _from(-x)])
      for y in shifts
      for x in shifts
    ],
    axis=0,
  )


def _alike(grids: np.ndarray, others: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields the pairs whose grids correlate, a few at once: rows of `grids`, rows of `others`."""
  for start in range(0, len(grids), _CHUNK):
    correlations = grids[start : start + _CHUNK] @ others.T
    pairs = np.flatnonzero(correlations >= _COARSE_CORRELATION)
    rows, columns = np.divmod(pairs, len(others))
    for first in range(0, len(rows), _PAIRS):
      some = slice(first, first + _PAIRS)
      yield start + rows[some], columns[some]


def _whitening(images: np.ndarray) -> np.ndarray:
  """The matrix that gives the grids of images and mirror images second moments of nearly 1."""
  grids = np.concatenate([_grids(images), _grids(images[:, :, ::-1])]).astype(np.float64)
  variances, directions = np.linalg.eigh(grids.T @ grids / len(grids))
  scales = 1 / np.sqrt(variances + _RIDGE / len(variances))  # the variances' sum is 1
  return ((directions * scales) @ directions.T).astype(np.float32)


def _whitened(images: np.ndarray, whitening: np.ndarray) -> np.ndarray:
  return _unit(_grids(images) @ whitening)


def _grids(images: np.ndarray) -> np.ndarray:
  """Averages over the cells of a grid, each colour's mean taken off: float32 [images, features]."""
  down, across = (_averaging(side) for side in images.shape[1:3])
  averages = np.empty((len(images), _GRID, _GRID, images.shape[3]), np.float32)
  for start in range(0, len(images), _CHUNK):
    chunk = slice(start, start + _CHUNK)
    averages[chunk] = np.einsum('gy,nyxc,hx->nghc', down, images[chunk], across, optimize=True)
  averages -= averages.mean(axis=(1, 2), keepdims=True)
  num_features = _GRID * _GRID * images.shape[3]
  return _unit(averages.reshape(len(images), num_features))


def _averaging(side: int) -> np.ndarray:
  """The matrix [cells, side] that averages over each cell's pixels."""
  is_in_cell = np.arange(side) * _GRID // side == np.arange(_GRID)[:, None]
  return (is_in_cell / is_in_cell.sum(axis=1, keepdims=True)).astype(np.float32)


def _unit(rows: np.ndarray) -> np.ndarray:
  """Rows of length 1; one of zeros stays so."""
  lengths = np.linalg.norm(rows, axis=1, keepdims=True)
  return rows / np.where(lengths > 0, lengths, 1)


def _edges(images: np.ndarray) -> np.ndarray:
  """Signed square roots of Sobel gradients along x and y: [pairs, height - 2, width - 2, 2]."""
  brightness = images.mean(axis=-1)
  rows = brightness[:, :-2] + 2 * brightness[:, 1:-1] + brightness[:, 2:]
  columns = brightness[:, :, :-2] + 2 * brightness[:, :, 1:-1] + brightness[:, :, 2:]
  along_x = rows[:, :, 2:] - rows[:, :, :-2]
  along_y = columns[:, 2:] - columns[:, :-2]
  gradients = np.stack([along_x, along_y], axis=-1)
  return np.copysign(np.sqrt(np.abs(gradients)), gradients)


def _from(shift: int) -> slice:
  """The part of an axis that overlaps with another image's `_from(-shift)`."""
  return slice(shift, None) if shift >= 0 else slice(None, shift)


def _correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  products = np.einsum('nyxc,nyxc->n', first, second)
  lengths = np.sqrt(
    np.einsum('nyxc,nyxc->n', first, first) * np.einsum('nyxc,nyxc->n', second, second)
  )
  return products / np.where(lengths > 0, lengths, 1)
