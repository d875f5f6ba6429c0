"""Intervals and tests against scipy's, and against counting."""

import itertools

import pytest
from scipy import stats

from shallow_jax.report import uncertainty


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
