"""Which steps a folder of checkpoints keeps; damage and restoring are tested with the loop."""

import numpy as np
import pytest

from shallow_jax.runtime import checkpoint


@pytest.mark.parametrize(
  ('saved', 'keep', 'left'),
  [
    ((100, 200, 300), 2, [300, 200]),
    ((200, 100), 1, [100]),
    ((100, 300, 200), 2, [200, 100]),  # 300 is of a training that was given up
    ((100, 100), 1, [100]),
  ],
)
def test_what_was_saved_last_is_what_comes_back(tmp_path, saved, keep, left):
  for i, step in enumerate(saved):
    checkpoint.save(tmp_path, step, {'x': np.full(2, i)}, notes={'of': i}, keep=keep)
  assert checkpoint.steps(tmp_path) == left
  assert checkpoint.newest_notes(tmp_path) == {'of': len(saved) - 1}
  restored, notes = checkpoint.restore_newest(tmp_path, {'x': np.zeros(2, int)})
  np.testing.assert_array_equal(restored['x'], np.full(2, len(saved) - 1))
  assert notes == {'of': len(saved) - 1}


def test_where_nothing_was_saved_there_are_no_notes(tmp_path):
  assert checkpoint.newest_notes(tmp_path) is None
