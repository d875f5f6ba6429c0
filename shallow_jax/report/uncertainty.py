"""How sure a measured error is, a difference of two, and a factor in size: intervals and tests."""

from collections.abc import Sequence
import dataclasses
import math
import statistics
from typing import Any

import numpy as np
from scipy import special

DRAWS = 4000  # of the mean errors, for the interval of a factor in size
MIN_SEEDS = 3  # of each size: two say too little of how far seeds differ

_Z = statistics.NormalDist().inv_cdf(0.975)


def wilson_interval(share: float, count: int) -> tuple[float, float]:
  """The 95 % score interval of a share of `count` trials (Wilson 1927).

  It says how far the share may be off because another test set of that size was drawn. Seeds are
  no further trials: the mean share of several networks is given with the size of the one test set.
  """
  weight = _Z**2 / count
  center = (share + weight / 2) / (1 + weight)
  half = _Z * math.sqrt(share * (1 - share) / count + weight / (4 * count)) / (1 + weight)
  return max(0.0, center - half), min(1.0, center + half)


def mcnemar_p_value(only_first: int, only_second: int) -> float:
  """The two-sided exact p-value of McNemar's test (McNemar 1947) for two nets on one test set.

  Given is how many examples only the one, and only the other gets wrong: if they are equally good,
  these counts are binomial with 1/2.
  """
  trials, term, tail = only_first + only_second, 1, 0
  for count in range(min(only_first, only_second) + 1):
    tail += term
    term = term * (trials - count) // (count + 1)  # the next binomial coefficient
  return min(1.0, 2 * tail / 2**trials)


def welch(a: Sequence[float], b: Sequence[float]) -> tuple[float | None, float | None]:
  """The standard error of a difference of means and its degrees of freedom (Welch 1947)."""
  if len(a) < 2 or len(b) < 2:
    return None, None
  first, second = statistics.variance(a) / len(a), statistics.variance(b) / len(b)
  if not first + second:
    return 0.0, None
  spread = first**2 / (len(a) - 1) + second**2 / (len(b) - 1)
  return math.sqrt(first + second), (first + second) ** 2 / spread


def t_interval(
  difference: float, standard_error: float | None, degrees_of_freedom: float | None
) -> list[float] | None:
  """The 95 % interval of a difference of means (Student 1908); None if its error is not known."""
  if standard_error is None or degrees_of_freedom is None:
    return None
  half = float(special.stdtrit(degrees_of_freedom, 0.975)) * standard_error
  return [difference - half, difference + half]


@dataclasses.dataclass(frozen=True)
class Budget:
  """Nets of one size: the test error of each seed, in per cent."""

  size: float  # in weights, or whatever is counted; more than 0
  errors: tuple[float, ...]


def size_for(sizes: np.ndarray, errors: np.ndarray, goal: float) -> float:
  """The smallest size at which errors, joined by lines over the logarithm of size, reach `goal`.

  It is the first of the `sizes`, which ascend, if already its error is no larger, infinity if none
  is as small.
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


def size_factor(of: Sequence[Budget], goal: Budget, *, seed: int = 0) -> dict[str, Any]:
  """How many times the size of `goal` the nets `of` need to have its mean error, for JSON.

  Returns `factor`, and `bound`: '' if it lies between measured sizes, 'at most' if already the
  smallest net is as good, 'more than' if the largest is not. `interval`: 95 %, by DRAWS of every
  size's mean error about the measured one, each of its own standard error and Student's t with
  its own degrees of freedom; an end that lies beyond the largest size is None. No interval (None)
  unless every size has MIN_SEEDS.
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
    'interval': _factor_interval(of, goal, sizes, np.random.default_rng(seed)),
  }


def _factor_interval(
  of: Sequence[Budget], goal: Budget, sizes: np.ndarray, rng: np.random.Generator
) -> list[float | None] | None:
  if min(len(budget.errors) for budget in (*of, goal)) < MIN_SEEDS:
    return None
  errors = np.stack([_drawn_means(budget, rng) for budget in of], axis=1)
  goals = _drawn_means(goal, rng)
  needed = [size_for(sizes, row, each) for row, each in zip(errors, goals, strict=True)]
  ends = np.quantile(needed, (0.025, 0.975), method='nearest') / goal.size
  return [float(end) if np.isfinite(end) else None for end in ends]


def _drawn_means(budget: Budget, rng: np.random.Generator) -> np.ndarray:
  """Where the mean of such seeds may lie, [DRAWS]."""
  count = len(budget.errors)
  standard_error = statistics.stdev(budget.errors) / math.sqrt(count)
  return statistics.fmean(budget.errors) + standard_error * rng.standard_t(count - 1, size=DRAWS)
