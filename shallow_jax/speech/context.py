"""The 15 frames around a frame, put together on the device: stored, they would be 8 GB of TIMIT."""

import jax
import numpy as np

CONTEXT = 7  # frames each way
FRAMES = 2 * CONTEXT + 1


def reach(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """How far the context of each frame reaches in its own utterance.

  Said from the frame on, so that it holds wherever the utterance's rows come to stand.

  Args:
    lengths: int [utterances], frames of each.
  Returns:
    before, after: uint8 [frames of all utterances], how many frames of the same utterance there are
    before a frame and after it; 7 at most.
  """
  before = np.concatenate([np.arange(length) for length in lengths])
  after = np.repeat(lengths, lengths) - 1 - before
  return (
    np.minimum(before, CONTEXT).astype(np.uint8),
    np.minimum(after, CONTEXT).astype(np.uint8),
  )


def window(
  rows: np.ndarray | jax.Array, before: np.ndarray | jax.Array, after: np.ndarray | jax.Array
) -> np.ndarray | jax.Array:
  """The rows of the frames around each frame, never of another utterance.

  Args:
    rows: int [batch]: where the frames stand among the features of all utterances.
    before: uint8 [batch], see `reach`.
    after: uint8 [batch].
  Returns:
    int [batch, 15] in the order of time: beyond an utterance's edge its first or last row again.
    NumPy where `before` is, else jnp.
  """
  xp = before.__array_namespace__()
  first = -before.astype(np.int32)[:, None]
  last = after.astype(np.int32)[:, None]
  steps = xp.arange(-CONTEXT, CONTEXT + 1, dtype=np.int32)[None]
  return rows[:, None] + xp.clip(steps, first, last)
