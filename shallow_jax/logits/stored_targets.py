"""Targets that stay on disk: a student's targets read from logit stores, row by row."""

from collections.abc import Sequence
import dataclasses
import math
from typing import Any

import numpy as np

from shallow_jax.logits import rows as rows_lib
from shallow_jax.logits import store as logit_store


@dataclasses.dataclass(frozen=True)
class StoredTargets:
  """Stored logits as targets [examples, views, classes] float32: `targets[rows]` reads those rows.

  What divides examples among devices reads by each process only what its devices hold.

  Attributes:
    stores: logits [views, examples, classes], one set of examples after the other.
  """

  stores: tuple[np.ndarray | rows_lib.MappedLogits, ...]

  @property
  def shape(self) -> tuple[int, int, int]:
    """[examples, views, classes]."""
    views, _, classes = self.stores[0].shape
    return len(self), views, classes

  @property
  def nbytes(self) -> int:
    """Of all of them in memory."""
    return math.prod(self.shape) * np.dtype(np.float32).itemsize

  def __len__(self) -> int:
    """Return the number of examples."""
    return sum(store.shape[1] for store in self.stores)

  def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
    """Return the targets [rows, views, classes] of these examples."""
    indices = np.arange(len(self))[rows]
    found = np.empty((len(indices), *self.shape[1:]), np.float32)
    start = 0
    for store in self.stores:
      here = (indices >= start) & (indices < start + store.shape[1])
      found[here] = store[:, indices[here] - start].transpose(1, 0, 2)
      start += store.shape[1]
    return found

  def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
    """Return all of them in memory; always a copy."""
    return self[:].astype(dtype or np.float32, copy=False)


def targets(stores: Sequence[logit_store.Store]) -> np.ndarray | StoredTargets:
  """The targets [examples, views, classes] of stores: in memory, unless one of them is not."""
  found = StoredTargets(tuple(store.logits for store in stores))
  in_memory = all(isinstance(store.logits, np.ndarray) for store in stores)
  return np.asarray(found) if in_memory else found
