"""Utterances of many lengths as few padded arrays, so that few shapes are compiled."""

from collections.abc import Sequence
import dataclasses

import numpy as np

_UTTERANCES = 64
_STEP = 64  # padded lengths are multiples of it


@dataclasses.dataclass(frozen=True)
class Batch:
  """Utterances of about one length, and the shape that they are padded to.

  Attributes:
    indices: which utterances, int [utterances <= rows].
    rows: a power of two.
    length: a multiple of 64, at least that of each utterance.
  """

  indices: np.ndarray
  rows: int
  length: int

  def pad(self, arrays: Sequence[np.ndarray], length: int | None = None) -> np.ndarray:
    """This batch's arrays [its length, ...] of all utterances' as one [rows, length, ...].

    What is added is 0. `length` is the batch's unless it is given.
    """
    first = np.asarray(arrays[self.indices[0]])
    shape = (self.rows, self.length if length is None else length, *first.shape[1:])
    padded = np.zeros(shape, first.dtype)
    for row, index in enumerate(self.indices):
      padded[row, : len(arrays[index])] = arrays[index]
    return padded

  def lengths(self, lengths: Sequence[int]) -> np.ndarray:
    """This batch's lengths of all utterances', int32 [rows]; 0 for a row without an utterance."""
    padded = np.zeros(self.rows, np.int32)
    padded[: len(self.indices)] = np.asarray(lengths)[self.indices]
    return padded


def by_length(lengths: Sequence[int], chosen: np.ndarray | None = None) -> list[Batch]:
  """Batches of at most 64 utterances each, the longest first.

  `chosen` are the indices of the utterances to take, all if it is None.
  """
  indices = np.arange(len(lengths)) if chosen is None else chosen
  order = indices[np.argsort(np.asarray(lengths)[indices], kind='stable')[::-1]]
  parts = [order[start : start + _UTTERANCES] for start in range(0, len(order), _UTTERANCES)]
  return [
    Batch(
      indices=part,
      rows=1 << (len(part) - 1).bit_length(),
      length=round_up(int(lengths[part[0]])),
    )
    for part in parts
  ]


def round_up(length: int) -> int:
  """The next multiple of 64, for a length that is to be padded."""
  return -(-length // _STEP) * _STEP
