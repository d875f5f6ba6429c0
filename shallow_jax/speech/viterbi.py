"""The best path through a phone HMM for each utterance (Viterbi), and the phones along it.

  score = Σ_t acoustic (log p(state | x_t) - log prior) + log a
        + Σ_(labels entered) lm log P(label | label before) + insertion

A path begins in the boundary's first state and ends in its last one; that first label costs
nothing. No hypothesis is pruned.

One frame's step is a maximum over [label, next label], because only a label's last state leads to
other labels. The label that was left is not stored: the way back needs it once a frame, and finds
it by taking that one maximum again.
"""

from collections.abc import Sequence
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from shallow_jax.runtime import errors
from shallow_jax.speech import batches
from shallow_jax.speech import hmm

_NO_STATE = -1  # in paths, beyond an utterance's end
_LAST = hmm.STATES_PER_LABEL - 1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scales:
  """What the parts of a score weigh: tuned on the dev set, never on test.

  Attributes:
    acoustic: the factor of a frame's log likelihood.
    lm: the factor of the bigram's log probability.
    insertion: nats per label that is entered; less of them are when it is negative.
  """

  acoustic: float
  lm: float
  insertion: float


def decode(
  log_posteriors: Sequence[np.ndarray], model: hmm.Hmm, settings: Sequence[Scales]
) -> tuple[np.ndarray, list[np.ndarray]]:
  """Returns the best paths of utterances under each of several scales.

  Args:
    log_posteriors: float32 [frames, states] per utterance.
    model: the HMM.
    settings: all are tried in one compiled call per batch.

  Returns:
    scores: float32 [settings, utterances].
    paths: state indices int32 [settings, frames] per utterance.

  Raises:
    DataError: an utterance is shorter than a label's states, or has no path with a finite score.
  """
  lengths = [len(frames) for frames in log_posteriors]
  for index, length in enumerate(lengths):
    if length < hmm.STATES_PER_LABEL:
      raise errors.DataError(
        f'utterance {index}: {length} frames, expected at least {hmm.STATES_PER_LABEL}, '
        'one for each state of a label'
      )
  stacked = _stacked(settings)
  scores = np.zeros((len(settings), len(lengths)), np.float32)
  paths: list[np.ndarray] = [np.zeros(0, np.int32)] * len(lengths)
  for batch in batches.by_length(lengths):
    found = viterbi(batch.pad(log_posteriors), batch.lengths(lengths), model, stacked)
    batch_scores, batch_paths = jax.device_get(found)
    for row, index in enumerate(batch.indices):
      scores[:, index] = batch_scores[:, row]
      paths[index] = batch_paths[:, row, : lengths[index]].astype(np.int32)
  broken = np.flatnonzero(~np.isfinite(scores).all(axis=0))
  if len(broken):
    raise errors.DataError(
      f'utterance {broken[0]}: the best path scores {scores[:, broken[0]].min()}; expected log '
      'posteriors that are numbers, and a state that is possible in every frame'
    )
  return scores, paths


def transcribe(path: np.ndarray) -> np.ndarray:
  """The labels that a path, states int [frames], enters one after the other, int [phones].

  They are read from the path, not merged from equal frames: a label can follow itself.
  """
  return path[hmm.entries(path)] // hmm.STATES_PER_LABEL


@jax.jit
def viterbi(
  log_posteriors: jax.Array, lengths: jax.Array, model: hmm.Hmm, settings: Scales
) -> tuple[jax.Array, jax.Array]:
  """The best paths of padded utterances, for one setting after the other.

  Args:
    log_posteriors: [utterances, frames, states].
    lengths: int [utterances]; frames from there on are not looked at.
    model: the HMM.
    settings: its fields are [settings].

  Returns:
    scores: float32 [settings, utterances]; -inf for one that is shorter than a label's states.
    paths: int16 [settings, utterances, frames], -1 from an utterance's end on.
  """
  num_utterances, num_frames, num_states = log_posteriors.shape
  shape = (num_utterances, num_frames, num_states // hmm.STATES_PER_LABEL, hmm.STATES_PER_LABEL)
  likelihoods = log_posteriors - model.log_prior[None, None]
  likelihoods = likelihoods.reshape(shape).transpose(1, 0, 3, 2)  # labels last: vectors of them
  return jax.lax.map(lambda scales: _best_paths(likelihoods, lengths, model, scales), settings)


def _best_paths(
  likelihoods: jax.Array, lengths: jax.Array, model: hmm.Hmm, scales: Scales
) -> tuple[jax.Array, jax.Array]:
  """`viterbi` of one setting, from likelihoods [frames, utterances, states of a label, labels]."""
  num_frames, num_utterances, _, num_labels = likelihoods.shape
  bigram = scales.lm * jnp.asarray(model.log_bigram) + scales.insertion
  log_stay, log_leave = (
    log.reshape(num_labels, hmm.STATES_PER_LABEL).T for log in (model.log_stay, model.log_leave)
  )

  def forward(
    scores: jax.Array, frame: tuple[jax.Array, jax.Array]
  ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Scores [utterances, states of a label, labels] one frame on."""
    likelihood, t = frame
    left = scores + log_leave[None]
    leaving = left[:, _LAST]
    entered = jnp.max(leaving[:, :, None] + bigram[None], axis=1)
    moved = jnp.concatenate([entered[:, None], left[:, :_LAST]], axis=1)
    stayed = scores + log_stay[None]
    inside = (t < lengths)[:, None, None]
    ahead = jnp.maximum(moved, stayed) + scales.acoustic * likelihood
    return jnp.where(inside, ahead, scores), (inside & (moved > stayed), leaving)

  start = scales.acoustic * likelihoods[0, :, 0, model.boundary]
  scores = jnp.full(likelihoods.shape[1:], -jnp.inf).at[:, 0, model.boundary].set(start)
  times = jnp.arange(1, num_frames)
  scores, (is_moved, leaving) = jax.lax.scan(forward, scores, (likelihoods[1:], times))
  end = jnp.full(num_utterances, hmm.STATES_PER_LABEL * model.boundary + _LAST, jnp.int32)
  paths = _traced_back(end, is_moved, leaving, bigram)
  inside = jnp.arange(num_frames)[None] < lengths[:, None]
  paths = jnp.where(inside, paths, _NO_STATE).astype(jnp.int16)
  return scores[:, _LAST, model.boundary], paths


def _traced_back(
  end: jax.Array, is_moved: jax.Array, leaving: jax.Array, bigram: jax.Array
) -> jax.Array:
  """The paths int32 [utterances, frames] that arrive at the states `end` [utterances].

  Args:
    end: the last frame's states.
    is_moved: bool [frames but the first, utterances, states of a label, labels], whether the best
      path to a state comes from another state.
    leaving: [frames but the first, utterances, labels], the scores of having left the last states.
    bigram: [labels, next labels], what is added to those.
  """

  def back(state: jax.Array, frame: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The states [utterances] of the frame before."""
    is_moved, leaving = frame
    label, part = jnp.divmod(state, hmm.STATES_PER_LABEL)
    moved = is_moved[jnp.arange(len(state)), part, label]
    label_before = jnp.argmax(leaving + bigram.T[label], axis=1).astype(state.dtype)
    entered_from = hmm.STATES_PER_LABEL * label_before + _LAST
    before = jnp.where(part == 0, entered_from, state - 1)
    return jnp.where(moved, before, state), state

  first, others = jax.lax.scan(back, end, (is_moved, leaving), reverse=True)
  return jnp.concatenate([first[None], others]).T


def _stacked(settings: Sequence[Scales]) -> Scales:
  """Settings as one, whose fields are float32 [settings]."""
  return jax.tree.map(lambda *values: np.array(values, np.float32), *settings)
