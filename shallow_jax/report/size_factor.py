"""How many times the size of one kind of net another kind needs for the same error."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

RESAMPLES = 2000


@dataclasses.dataclass(frozen=True)
class Budget:
  """Nets of one size.

  Attributes:
    size: in weights, or whatever is counted; more than 0.
    errors: the test error of each seed, in per cent.
  """

  size: float
  errors: tuple[float, ...]


def size_for(sizes: np.ndarray, errors: np.ndarray, goal: float) -> float:
  """The smallest size at which errors, joined by lines over the logarithm of size, reach `goal`.

  Args:
    sizes: ascending [budgets].
    errors: at these sizes [budgets].
    goal: the error to reach.

  Returns:
    The first size if already its error is no larger, infinity if none is as small.
  """
  reached = np.flatnonzero(errors <= goal)
  if not reached.size:
    return float('inf')
  i = int(reached[0])
  if i == 0:
    return float(sizes[0])
  share = (errors[i - 1] - goal) / (errors[i - 1] - errors[i])
  low, high = np.log(sizes[i - 1]), np.log(sizes[i])
  return float(np.exp(low + share * (high - low)))


def factor(
  of: Sequence[Budget], goal: Budget, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
  """How many times the size of `goal` the nets `of` need to have its mean error, for JSON.

  Returns `factor`, and `bound`: '' if it lies between measured sizes, 'at most' if already the
  smallest net is as good, 'more than' if the largest is not. `interval`: the 2.5th and 97.5th
  percentiles when seeds are drawn anew with replacement, each size by itself; an end that lies
  beyond the largest size is None. No interval (None) unless every size has two seeds or more.
  """
  of = sorted(of, key=lambda budget: budget.size)
  sizes = np.array([budget.size for budget in of])
  means = np.array([np.mean(budget.errors) for budget in of])
  needed = size_for(sizes, means, float(np.mean(goal.errors)))
  bound = (
    'more than' if needed > sizes[-1] else 'at most' if means[0] <= np.mean(goal.errors) else ''
  )
  return {
    'factor': min(needed, float(sizes[-1])) / goal.size,
    'bound': bound,
    'interval': _interval(of, goal, sizes, resamples, np.random.default_rng(seed)),
  }


def _interval(
  of: Sequence[Budget], goal: Budget, sizes: np.ndarray, resamples: int, rng: np.random.Generator
) -> list[float | None] | None:
  if min(len(budget.errors) for budget in (*of, goal)) < 2:
    return None
  errors = np.stack([_resampled_means(budget, resamples, rng) for budget in of], axis=1)
  goals = _resampled_means(goal, resamples, rng)
  needed = [size_for(sizes, row, each) for row, each in zip(errors, goals, strict=True)]
  ends = np.quantile(needed, (0.025, 0.975), method='nearest') / goal.size
  return [float(end) if np.isfinite(end) else None for end in ends]


def _resampled_means(budget: Budget, resamples: int, rng: np.random.Generator) -> np.ndarray:
  """Means [resamples] of as many seeds, drawn with replacement."""
  errors = np.array(budget.errors)
  return errors[rng.integers(len(errors), size=(resamples, len(errors)))].mean(axis=1)
