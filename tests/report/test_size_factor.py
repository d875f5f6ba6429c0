"""Factors in size against lines drawn by hand."""

import math

import numpy as np
import pytest

from shallow_jax.report import size_factor

Budget = size_factor.Budget
INFINITY = float('inf')


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
  found = size_factor.size_for(np.array([1.0, 10, 100]), np.array([30.0, 20, 10]), goal)
  assert found == pytest.approx(size)


def test_of_a_curve_that_rises_again_the_first_crossing_counts():
  sizes, errors = np.array([1.0, 10, 100, 1000]), np.array([30.0, 10, 40, 5])
  assert size_factor.size_for(sizes, errors, 20) == pytest.approx(math.sqrt(10))


def test_the_factor_is_the_size_needed_by_the_size_of_the_goal():
  found = size_factor.factor(budgets(30, 20, 10), Budget(2.0, (25.0,)))
  assert found == {'factor': pytest.approx(math.sqrt(10) / 2), 'bound': '', 'interval': None}


def test_what_no_size_reaches_is_a_lower_bound():
  found = size_factor.factor(budgets(30, 20, 10), Budget(2.0, (5.0,)))
  assert (found['factor'], found['bound']) == (50.0, 'more than')


def test_what_the_smallest_reaches_is_an_upper_bound():
  found = size_factor.factor(budgets(30, 20, 10), Budget(2.0, (31.0,)))
  assert (found['factor'], found['bound']) == (0.5, 'at most')


def test_budgets_may_come_in_any_order():
  ordered = budgets(30, 20, 10)
  goal = Budget(2.0, (25.0,))
  assert size_factor.factor(ordered[::-1], goal) == size_factor.factor(ordered, goal)


def test_seeds_that_agree_have_an_interval_of_no_width():
  found = size_factor.factor(budgets((30, 30), (20, 20)), Budget(1.0, (25, 25)))
  assert found['interval'] == pytest.approx([math.sqrt(10)] * 2)


def test_the_interval_is_that_of_every_draw_of_two_seeds():
  """Only the goal varies: of two seeds 24 and 26 the mean is 24, 25, 25 or 26, a quarter each."""
  found = size_factor.factor(budgets((30, 30), (20, 20)), Budget(1.0, (24, 26)))
  assert found['interval'] == pytest.approx([10**0.4, 10**0.6])
  assert found['factor'] == pytest.approx(10**0.5)


def test_the_errors_of_the_sizes_vary_too():
  found = size_factor.factor(budgets((29, 31), (19, 21)), Budget(1.0, (25, 25)))
  low, high = found['interval']
  assert low == pytest.approx(10 ** (4 / 10)) and high == pytest.approx(10 ** (6 / 10))


def test_an_end_beyond_the_largest_size_is_none():
  found = size_factor.factor(budgets((30, 30), (20, 20)), Budget(1.0, (19, 23)))
  assert found['interval'] == [pytest.approx(10**0.7), None]
  never = size_factor.factor(budgets((30, 30), (20, 20)), Budget(1.0, (10, 11)))
  assert never['interval'] == [None, None]


def test_one_seed_anywhere_gives_no_interval():
  assert size_factor.factor(budgets((30, 30), 20), Budget(1.0, (24, 26)))['interval'] is None
  assert size_factor.factor(budgets((30, 30), (20, 20)), Budget(1.0, (25,)))['interval'] is None


def test_the_same_seed_draws_the_same_interval():
  of, goal = budgets((28, 31, 30), (19, 21, 18)), Budget(1.0, (24.0, 25.5, 23.0))
  assert size_factor.factor(of, goal) == size_factor.factor(of, goal)
