"""The frames around a frame against padding each utterance by itself."""

import jax
import jax.numpy as jnp
import numpy as np

from shallow_jax.speech import context

LENGTHS = (1, 20, 4, 2, 15)


def padded_by_themselves():
  """Of each frame of all utterances the rows [15] of its context."""
  ends = np.cumsum(LENGTHS)
  windows = []
  for start, end in zip(ends - LENGTHS, ends, strict=True):
    rows = np.pad(np.arange(start, end), 7, mode='edge')
    windows += [rows[t : t + 15] for t in range(end - start)]
  return np.array(windows)


def test_a_window_never_reaches_into_another_utterance():
  order = np.random.default_rng(1).permutation(sum(LENGTHS)).astype(np.int32)
  before, after = (frames[order] for frames in context.reach(np.array(LENGTHS)))
  found = context.window(order, before, after)
  assert isinstance(found, np.ndarray)
  np.testing.assert_array_equal(found, padded_by_themselves()[order])
  on_device = jax.jit(context.window)(*map(jnp.asarray, (order, before, after)))
  assert on_device.dtype == jnp.int32
  np.testing.assert_array_equal(on_device, found)


def test_reach_is_7_frames_at_most():
  before, after = context.reach(np.array([9, 1]))
  assert before.dtype == after.dtype == np.uint8
  np.testing.assert_array_equal(before, [0, 1, 2, 3, 4, 5, 6, 7, 7, 0])
  np.testing.assert_array_equal(after, [7, 7, 6, 5, 4, 3, 2, 1, 0, 0])
