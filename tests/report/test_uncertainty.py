"""Intervals and tests against scipy's and counting; factors in size against lines drawn by hand."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from shallow_jax.report import uncertainty

Budget = uncertainty.Budget
INFINITY = float('inf')


@pytest.mark.parametrize('wrong, count', [(0, 10), (1, 10), (151, 1000), (10_000, 10_000)])
def test_wilsons_interval_is_scipys(wrong, count):
  expected = stats.binomtest(wrong, count).proportion_ci(method='wilson')
  found = uncertainty.wilson_interval(wrong / count, count)
  assert found == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_a_mean_of_seeds_need_not_be_a_whole_count():
  below, between, above = (uncertainty.wilson_interval(k / 100, 100) for k in (10, 10.5, 11))
  assert below[0] < between[0] < above[0] and below[1] < between[1] < above[1]


@pytest.mark.parametrize('first, second', [(0, 1), (3, 9), (9, 3), (7, 7), (1119, 924), (0, 40)])
def test_mcnemars_p_value_is_the_exact_binomial_one(first, second):
  expected = stats.binomtest(first, first + second, 0.5).pvalue
  assert uncertainty.mcnemar_p_value(first, second) == pytest.approx(expected, rel=1e-9)


def test_mcnemars_p_value_by_counting_coins():
  """With 2 against 6: the share of 8 tosses at least as uneven."""
  heads = [sum(tosses) for tosses in itertools.product((0, 1), repeat=8)]
  uneven = sum(abs(count - 4) >= 2 for count in heads)
  assert uncertainty.mcnemar_p_value(2, 6) == pytest.approx(uneven / 2**8)


def test_nets_that_never_differ_are_not_told_apart():
  assert uncertainty.mcnemar_p_value(0, 0) == 1.0


def test_thousands_of_differences_are_no_overflow():
  assert uncertainty.mcnemar_p_value(9000, 11_000) < 1e-40
  assert uncertainty.mcnemar_p_value(0, 20_000) == 0.0


def budgets(*errors):
  """At 1, 10, 100, ...; an error alone is one seed's."""
  rows = [error if isinstance(error, tuple) else (error,) for error in errors]
  return [Budget(10.0**i, row) for i, row in enumerate(rows)]


@pytest.mark.parametrize(
  'goal, size',
  [
    (40, 1.0),
    (30, 1.0),  # the smallest has just this error
    (25, math.sqrt(10)),  # halfway on the axis of logarithms
    (22, 10**0.8),
    (20, 10.0),
    (11, 10**1.9),
    (10, 100.0),
    (9.99, INFINITY),
  ],
)
def test_the_size_lies_on_the_line_over_the_logarithm(goal, size):
  found = uncertainty.size_for(np.array([1.0, 10, 100]), np.array([30.0, 20, 10]), goal)
  assert found == pytest.approx(size)


def test_of_a_curve_that_rises_again_the_first_crossing_counts():
  sizes, errors = np.array([1.0, 10, 100, 1000]), np.array([30.0, 10, 40, 5])
  assert uncertainty.size_for(sizes, errors, 20) == pytest.approx(math.sqrt(10))


def test_the_factor_is_the_size_needed_by_the_size_of_the_goal():
  found = uncertainty.size_factor(budgets(30, 20, 10), Budget(2.0, (25.0,)))
  assert found == {'factor': pytest.approx(math.sqrt(10) / 2), 'bound': '', 'interval': None}


def test_what_no_size_reaches_is_a_lower_bound():
  found = uncertainty.size_factor(budgets(30, 20, 10), Budget(2.0, (5.0,)))
  assert (found['factor'], found['bound']) == (50.0, 'more than')


def test_what_the_smallest_reaches_is_an_upper_bound():
  found = uncertainty.size_factor(budgets(30, 20, 10), Budget(2.0, (31.0,)))
  assert (found['factor'], found['bound']) == (0.5, 'at most')


def test_budgets_may_come_in_any_order():
  ordered = budgets(30, 20, 10)
  goal = Budget(2.0, (25.0,))
  assert uncertainty.size_factor(ordered[::-1], goal) == uncertainty.size_factor(ordered, goal)


def test_seeds_that_agree_have_an_interval_of_no_width():
  found = uncertainty.size_factor(budgets((30,) * 3, (20,) * 3), Budget(1.0, (25,) * 3))
  assert found['interval'] == pytest.approx([math.sqrt(10)] * 2)


def test_an_end_is_where_students_t_puts_the_mean():
  """Only the goal varies: on the line its mean is 25 minus 10 times the exponent, from 30."""
  goal = (24.0, 25.0, 26.0)
  found = uncertainty.size_factor(budgets((30,) * 3, (20,) * 3), Budget(1.0, goal))
  half = stats.t(2).ppf(0.975) * stats.sem(goal)
  assert found['interval'] == pytest.approx(
    [10 ** ((5 - half) / 10), 10 ** ((5 + half) / 10)], rel=0.1
  )
  assert found['factor'] == pytest.approx(10**0.5)


def test_the_errors_of_the_sizes_vary_too():
  narrow = uncertainty.size_factor(budgets((30,) * 3, (20,) * 3), Budget(1.0, (25,) * 3))
  wide = uncertainty.size_factor(budgets((29, 30, 31), (19, 20, 21)), Budget(1.0, (25,) * 3))
  (low, high), (lower, higher) = narrow['interval'], wide['interval']
  assert lower < low - 0.1 and (higher is None or higher > high + 0.1)


def test_an_end_beyond_the_largest_size_is_none():
  found = uncertainty.size_factor(budgets((30,) * 3, (20,) * 3), Budget(1.0, (19, 21, 23)))
  assert found['interval'][0] > 1 and found['interval'][1] is None
  never = uncertainty.size_factor(budgets((30,) * 3, (20,) * 3), Budget(1.0, (10, 10, 11)))
  assert never['interval'] == [None, None]


@pytest.mark.parametrize('few', [(25.0,), (24.0, 26.0)])
def test_fewer_than_three_seeds_anywhere_give_no_interval(few):
  three = (30,) * 3, (20,) * 3
  assert uncertainty.size_factor(budgets(*three), Budget(1.0, few))['interval'] is None
  found = uncertainty.size_factor(budgets(three[0], few), Budget(1.0, (25,) * 3))
  assert found['interval'] is None


@pytest.mark.slow
@pytest.mark.parametrize('seeds', [3, 5])
@pytest.mark.parametrize('deviation', [0.3, 1.0])
def test_the_95_per_cent_interval_covers_as_many(seeds, deviation, monkeypatch):
  monkeypatch.setattr(uncertainty, 'DRAWS', 1000)
  rng, covered = np.random.default_rng(0), 0
  for run in range(300):
    of = budgets(*(tuple(rng.normal(mean, deviation, seeds)) for mean in (30, 20, 10)))
    goal = Budget(1.0, tuple(rng.normal(22, deviation, seeds)))
    low, high = uncertainty.size_factor(of, goal, seed=run)['interval']
    covered += low is not None and low <= 10**0.8 and (high is None or high >= 10**0.8)
  assert covered / 300 > 0.94


def test_the_same_seed_draws_the_same_interval():
  of, goal = budgets((28, 31, 30), (19, 21, 18)), Budget(1.0, (24.0, 25.5, 23.0))
  assert uncertainty.size_factor(of, goal) == uncertainty.size_factor(of, goal)
