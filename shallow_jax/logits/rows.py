"""Rows of stored logits, read where they lie: of one store or of several, larger than memory."""

from collections.abc import Sequence
import dataclasses
import functools
import math
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class LogitsOnDisk:
  """Logits [views, examples, classes] left on disk: `logits[views, rows]` reads those rows.

  views is an integer or a slice, rows an integer, a slice or an array of integers; or both are
  arrays of one shape, which gives the logits of these pairs [..., classes].

  Attributes:
    parts: [views, some examples, classes], one after the other.
  """

  parts: tuple[np.ndarray, ...]

  @functools.cached_property
  def _starts(self) -> np.ndarray:
    """The first example of each part, and how many there are in all."""
    return np.cumsum([0, *(part.shape[1] for part in self.parts)])

  @functools.cached_property
  def shape(self) -> tuple[int, int, int]:
    """[views, examples, classes]."""
    views, _, num_classes = self.parts[0].shape
    return views, int(self._starts[-1]), num_classes

  @functools.cached_property
  def dtype(self) -> np.dtype:
    """Of each logit that is read."""
    return np.result_type(*{part.dtype for part in self.parts})

  def __getitem__(self, key: tuple[Any, Any]) -> np.ndarray:
    """Return a copy of these views and rows, in the shape NumPy would give."""
    views, rows = key
    _, num_examples, num_classes = self.shape
    index = _row_index(rows, num_examples)
    numbers = np.searchsorted(self._starts, index.ravel(), side='right') - 1
    local = index.ravel() - self._starts[numbers]
    pairs = views if isinstance(views, np.ndarray) else None
    kept = () if pairs is not None else self.parts[0][views, :0].shape[:-2]
    logits = np.empty((*kept, local.size, num_classes), self.dtype)
    by_part = np.argsort(numbers, kind='stable')
    bounds = np.searchsorted(numbers[by_part], np.arange(len(self.parts) + 1))
    for number in np.flatnonzero(np.diff(bounds)):
      here = by_part[bounds[number] : bounds[number + 1]]
      part = self.parts[number]
      if pairs is not None:
        logits[here] = part[pairs.ravel()[here], local[here]]
      else:
        logits[..., here, :] = part[views][..., local[here], :]
    return logits.reshape(*kept, *index.shape, num_classes)

  def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
    """Return all of them in memory; always a copy."""
    return np.concatenate(self.parts, axis=1).astype(dtype or self.dtype, copy=False)


def _row_index(rows: Any, num_rows: int) -> np.ndarray:
  if isinstance(rows, slice):
    return np.arange(*rows.indices(num_rows))
  index = np.asarray(rows)
  if index.dtype.kind not in 'iu' or ((index < -num_rows) | (index >= num_rows)).any():
    raise IndexError(f'rows are integers from {-num_rows} to {num_rows - 1}')
  return np.where(index < 0, index + num_rows, index)


@dataclasses.dataclass(frozen=True)
class TargetsOnDisk:
  """The same logits as targets [examples, views, classes] float32: `targets[rows]` reads rows.

  `targets[rows, views]` of two arrays reads one view of each row.

  What divides examples among devices reads by each process only what its devices hold.
  """

  logits: LogitsOnDisk

  @property
  def shape(self) -> tuple[int, int, int]:
    """[examples, views, classes]."""
    views, num_examples, num_classes = self.logits.shape
    return num_examples, views, num_classes

  @property
  def nbytes(self) -> int:
    """Of all of them in memory."""
    return math.prod(self.shape) * np.dtype(np.float32).itemsize

  def __len__(self) -> int:
    """Return the number of examples."""
    return self.shape[0]

  def __getitem__(self, key: slice | np.ndarray | tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the targets of these examples: [rows, views, classes], or of pairs [rows, classes]."""
    if isinstance(key, tuple):
      rows, views = key
      return self.logits[views, rows].astype(np.float32, copy=False)
    return _as_targets(self.logits[:, key])

  def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
    """Return all of them in memory; always a copy."""
    found, start = np.empty(self.shape, dtype or np.float32), 0
    for part in self.logits.parts:
      stop = start + part.shape[1]
      found[start:stop] = part.swapaxes(0, 1)
      start = stop
    return found


def targets(stores: Sequence[np.ndarray | LogitsOnDisk]) -> np.ndarray | TargetsOnDisk:
  """The targets [examples, views, classes] of stores' logits: in memory unless one of them is not.

  Args:
    stores: logits [views, examples, classes], one set of examples after the other.
  """
  parts = [logits.parts if isinstance(logits, LogitsOnDisk) else (logits,) for logits in stores]
  found = TargetsOnDisk(LogitsOnDisk(sum(parts, start=())))
  in_memory = all(isinstance(logits, np.ndarray) for logits in stores)
  return np.asarray(found) if in_memory else found


def _as_targets(logits: np.ndarray) -> np.ndarray:
  return np.ascontiguousarray(logits.swapaxes(0, 1), np.float32)
