"""Alignment by the net itself: Viterbi over the labels that are known to be spoken, in order."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from shallow_jax.runtime import errors
from shallow_jax.speech import batches
from shallow_jax.speech import hmm

_NO_STATE = -1  # in paths, beyond an utterance's end


def realign(
  log_posteriors: Sequence[np.ndarray],
  transcriptions: Sequence[Sequence[int] | np.ndarray],
  current: Sequence[np.ndarray],
  model: hmm.Hmm,
) -> tuple[list[np.ndarray], list[int]]:
  """The most likely states of utterances whose labels are known.

  Every state of every label has one frame at least. An utterance that is too short for that keeps
  its current alignment.

  Args:
    log_posteriors: float32 [frames, states] per utterance.
    transcriptions: label indices [phones] per utterance.
    current: int32 [frames] per utterance.
    model: the HMM; its bigram plays no part.

  Returns:
    alignments: states int32 [frames] per utterance.
    kept: the indices of the utterances that were too short.

  Raises:
    DataError: an utterance has no path with a finite score.
  """
  alignments = list(current)
  chains = [_chain(labels) for labels in transcriptions]
  lengths = [len(frames) for frames in log_posteriors]
  fits = np.array([len(chain) <= length for chain, length in zip(chains, lengths, strict=True)])
  for batch in batches.by_length(lengths, np.flatnonzero(fits)):
    num_states = batch.lengths([len(chain) for chain in chains])
    found = force(
      batch.pad(log_posteriors),
      batch.lengths(lengths),
      batch.pad(chains, batches.round_up(int(num_states.max()))),
      num_states,
      model,
    )
    scores, paths = jax.device_get(found)
    for row, index in enumerate(batch.indices):
      if not np.isfinite(scores[row]):
        raise errors.DataError(
          f'utterance {index}: the best path scores {scores[row]}; expected log posteriors that '
          'are numbers, and states that are possible'
        )
      alignments[index] = paths[row, : lengths[index]].astype(np.int32)
  return alignments, np.flatnonzero(~fits).tolist()


@jax.jit
def force(
  log_posteriors: jax.Array,
  lengths: jax.Array,
  chains: jax.Array,
  num_states: jax.Array,
  model: hmm.Hmm,
) -> tuple[jax.Array, jax.Array]:
  """The best paths of padded utterances through their chains of states.

  Args:
    log_posteriors: [utterances, frames, states].
    lengths: int [utterances]; frames from there on are not looked at.
    chains: int [utterances, positions], the states to pass, in order.
    num_states: int [utterances], the positions of a chain that count.
    model: the HMM.

  Returns:
    scores: float32 [utterances], Σ_t log p(state | x_t) - log prior, and Σ log a.
    paths: state indices int16 [utterances, frames], -1 from an utterance's end on.
  """
  num_utterances, num_frames, _ = log_posteriors.shape
  rows = jnp.arange(num_utterances)
  likelihoods = (log_posteriors - model.log_prior[None, None]).swapaxes(0, 1)
  log_stay, log_leave = model.log_stay[chains], model.log_leave[chains]

  def forward(scores: jax.Array, frame: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Scores [utterances, positions] one frame on."""
    likelihood, t = frame
    left = scores + log_leave
    moved = jnp.concatenate([jnp.full((num_utterances, 1), -jnp.inf), left[:, :-1]], axis=1)
    stayed = scores + log_stay
    inside = (t < lengths)[:, None]
    ahead = jnp.maximum(moved, stayed) + jnp.take_along_axis(likelihood, chains, axis=1)
    return jnp.where(inside, ahead, scores), inside & (moved > stayed)

  def back(position: jax.Array, is_moved: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The position [utterances] at the frame before."""
    return position - is_moved[rows, position], position

  start = likelihoods[0, rows, chains[:, 0]]
  scores = jnp.full(chains.shape, -jnp.inf).at[:, 0].set(start)
  scores, trace = jax.lax.scan(forward, scores, (likelihoods[1:], jnp.arange(1, num_frames)))
  first, others = jax.lax.scan(back, num_states - 1, trace, reverse=True)
  positions = jnp.concatenate([first[None], others]).T
  inside = jnp.arange(num_frames)[None] < lengths[:, None]
  paths = jnp.where(inside, jnp.take_along_axis(chains, positions, axis=1), _NO_STATE)
  return scores[rows, num_states - 1], paths.astype(jnp.int16)


def _chain(labels: Sequence[int] | np.ndarray) -> np.ndarray:
  """The states of a string of labels in order, int32 [states]."""
  states = np.arange(hmm.STATES_PER_LABEL, dtype=np.int32)
  return (hmm.STATES_PER_LABEL * np.asarray(labels, np.int32)[:, None] + states).ravel()
