"""How sure a measured error is, and a difference of two: intervals and tests."""

from collections.abc import Sequence
import math
import statistics

from scipy import special

_Z = statistics.NormalDist().inv_cdf(0.975)


def wilson_interval(share: float, count: int) -> tuple[float, float]:
  """The 95 % score interval of a share of `count` trials (Wilson 1927).

  It says how far the figure may be off because another test set of that size was drawn. Seeds are
  no further trials: the mean share of several networks is given with the size of the one test set.
  """
  weight = _Z**2 / count
  center = (share + weight / 2) / (1 + weight)
  half = _Z * math.sqrt(share * (1 - share) / count + weight / (4 * count)) / (1 + weight)
  return max(0.0, center - half), min(1.0, center + half)


def mcnemar_p_value(only_first: int, only_second: int) -> float:
  """The two-sided exact p-value of McNemar's test (McNemar 1947) for two nets on one test set.

  Args:
    only_first: examples that only the first net gets wrong.
    only_second: examples that only the second gets wrong. As often as the first, if they are
      equally good: the counts are then binomial with 1/2.
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
