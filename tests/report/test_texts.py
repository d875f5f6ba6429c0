"""How counts and times are written."""

import pytest

from shallow_jax.report import texts


@pytest.mark.parametrize(
  'seconds, text',
  [(0.0, '–'), (59.4, '59 s'), (61, '1 min'), (3599, '1 h 00 min'), (5400, '1 h 30 min')],
)
def test_durations_have_two_units_at_most(seconds, text):
  assert texts.duration(seconds) == text


@pytest.mark.parametrize(
  'count, text',
  [
    (0.5, '0.5'),
    (950, '950'),
    (9999, '9,999'),
    (66_560, '66.6k'),
    (999_900, '1M'),
    (3_930_000, '3.93M'),
    (173_700_000, '174M'),
    (3.7e9, '3.7G'),
  ],
)
def test_counts_are_short(count, text):
  assert texts.short_count(count) == text
