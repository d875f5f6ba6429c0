"""How far a phone error rate may be off because other utterances were drawn (Bisani & Ney 2004).

Units, utterances or speakers, are drawn with replacement, as many as there are, 10,000 times.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from shallow_jax.runtime import errors
from shallow_jax.speech import scoring

_SAMPLES = 10_000
_AT_ONCE = 250  # samples
_PERCENTILES = (2.5, 97.5)


@dataclasses.dataclass(frozen=True)
class Difference:
  """The second system's phone error rate less the first's, in points.

  Attributes:
    value: over all units as they are.
    low: the 95 % interval from here
    high: to here.
    share_better: the share of samples in which the second system makes fewer errors; equally many
      count half.
  """

  value: float
  low: float
  high: float
  share_better: float


def interval(counts: Sequence[scoring.Counts], seed: int = 0) -> tuple[float, float]:
  """The 95 % percentile interval of the pooled phone error rate, in per cent.

  Args:
    counts: of each unit. Speakers give a wider interval than utterances: what one speaker says is
      alike.
    seed: of the draws.
  Raises:
    DataError: no phone in the references.
  """
  wrong, length = _resampled(_totals(counts), _lengths(counts), seed=seed)
  low, high = np.percentile(100.0 * wrong / length, _PERCENTILES)
  return float(low), float(high)


def difference(
  first: Sequence[scoring.Counts], second: Sequence[scoring.Counts], seed: int = 0
) -> Difference:
  """Compare two systems on the same units, drawn together: a paired bootstrap.

  Args:
    first: the counts of each unit by one system.
    second: by the other, in the same order.
    seed: of the draws.
  Raises:
    DataError: the two have other references, or no phone in them.
  """
  lengths = _lengths(first)
  if not np.array_equal(lengths, _lengths(second)):
    raise errors.DataError(
      f'two systems with references of {lengths.sum()} and {_lengths(second).sum()} phones, '
      'expected the same utterances in the same order'
    )
  more = _totals(second) - _totals(first)
  drawn, length = _resampled(more, lengths, seed=seed)
  low, high = np.percentile(100.0 * drawn / length, _PERCENTILES)
  return Difference(
    value=100.0 * float(more.sum() / lengths.sum()),
    low=float(low),
    high=float(high),
    share_better=float(np.mean(drawn < 0) + np.mean(drawn == 0) / 2),
  )


def _totals(counts: Sequence[scoring.Counts]) -> np.ndarray:
  return np.array([each.total for each in counts], np.int64)


def _lengths(counts: Sequence[scoring.Counts]) -> np.ndarray:
  lengths = np.array([each.length for each in counts], np.int64)
  if not lengths.sum():
    raise errors.DataError('references of 0 phones have no error rate, expected 1 phone or more')
  return lengths


def _resampled(values: np.ndarray, lengths: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """The sums [samples] of two values of each unit, over the units drawn for each sample."""
  rng = np.random.default_rng(seed)
  columns = np.stack([values, lengths])
  shape = (_AT_ONCE, len(values))
  parts = [
    columns[:, rng.integers(len(values), size=shape)].sum(axis=2)
    for _ in range(_SAMPLES // _AT_ONCE)
  ]
  sums, length = np.concatenate(parts, axis=1)
  return sums, np.maximum(length, 1)  # only units without a phone may have been drawn
