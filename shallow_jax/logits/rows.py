"""Logits that are larger than memory, read where they lie."""

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class MappedLogits:
  """Logits [views, examples, classes] left on disk: `logits[views, rows]` reads those rows.

  views is an integer or a slice, rows an integer, a slice or an array of integers.
  """

  parts: tuple[np.ndarray, ...]
  shard_rows: int

  @property
  def shape(self) -> tuple[int, int, int]:
    """[views, examples, classes]."""
    views, _, num_classes = self.parts[0].shape
    return views, sum(part.shape[1] for part in self.parts), num_classes

  @property
  def dtype(self) -> np.dtype:
    """Of each logit."""
    return self.parts[0].dtype

  def __getitem__(self, key: tuple[Any, Any]) -> np.ndarray:
    """Return a copy of these views and rows, in the shape NumPy would give."""
    views, rows = key
    index = _row_index(rows, self.shape[1])
    numbers, local = np.divmod(index.ravel(), self.shard_rows)
    kept = self.parts[0][views, :0].shape[:-2]
    logits = np.empty((*kept, local.size, self.shape[2]), self.dtype)
    by_shard = np.argsort(numbers, kind='stable')
    ends = np.searchsorted(numbers[by_shard], np.arange(len(self.parts) + 1))
    for number in np.flatnonzero(np.diff(ends)):
      here = by_shard[ends[number] : ends[number + 1]]
      logits[..., here, :] = self.parts[number][views][..., local[here], :]
    return logits.reshape(*kept, *index.shape, self.shape[2])

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
