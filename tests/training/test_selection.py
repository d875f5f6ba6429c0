"""Which trial of a search validation prefers."""

import pytest

from shallow_jax.settings import keys
from shallow_jax.training import selection


def trial(error, loss=1.0, *, collapsed=False, status='trained'):
  return dict(status=status, collapsed=collapsed, validation=dict(error=error, loss=loss))


DIVERGED = dict(status='diverged', collapsed=False, validation={})
RARE = trial(5.0, collapsed=True)  # 95 % are of one class


@pytest.mark.parametrize(
  ('select', 'trials', 'best'),
  [
    ('error', [trial(8.0), RARE], 1),
    ('error', [trial(4.0), RARE], 0),
    ('error', [DIVERGED, trial(90.0, collapsed=True)], 1),
    ('error', [trial(4.0, 0.3), trial(4.0, 0.2)], 1),
    ('loss', [trial(20.0, 2.4), trial(90.0, 2.3, collapsed=True)], 0),
    ('loss', [trial(8.0, 0.3), trial(5.0, 0.2, collapsed=True)], 1),
    ('loss', [trial(8.0, 0.3), trial(9.0, 0.2)], 1),
    ('error', [DIVERGED, DIVERGED], 0),
  ],
)
def test_best_trial(select, trials, best):
  entry = dict(keys.NETWORK, select=select)
  assert selection.best_trial(entry, trials) == best


def test_losses_of_other_scales_break_no_tie():
  trials = [trial(4.0, 0.3), trial(4.0, 0.2)]
  entry = dict(keys.NETWORK, search=dict(loss=dict(temperature=(1.0, 0.01))))
  assert selection.best_trial(entry, trials) == 0
