"""The best path through a phone HMM for each utterance (Viterbi), free or along known phones.

`decode` finds the phones with the path:

  score = Σ_t acoustic (log p(state | x_t) - log prior) + log a
        + Σ_(labels entered) lm log P(label | label before) + insertion

A path begins in the boundary's first state and ends in its last one; that first label costs
nothing. No hypothesis is pruned.

One frame's step is a maximum over [label, next label], because only a label's last state leads to
other labels. The label that was left is not stored: the way back needs it once a frame, and finds
it by taking that one maximum again.

`realign` knows the phones and their order, so that the states to pass are a chain.
"""

from collections.abc import Sequence
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from shallow_jax.runtime import errors
from shallow_jax.speech import hmm
from shallow_jax.speech.recordings import phones

_NO_STATE = -1  # in paths, beyond an utterance's end
_LAST = phones.STATES_PER_LABEL - 1
_UTTERANCES = 64  # in a batch
_STEP = 64  # padded lengths are multiples of it


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scales:
  """What the parts of a score weigh: tuned on the dev set, never on test."""

  acoustic: float  # the factor of a frame's log likelihood
  lm: float  # the factor of the bigram's log probability
  insertion: float  # nats per label that is entered; less of them are when it is negative


def decode(
  log_posteriors: Sequence[np.ndarray], model: hmm.Hmm, settings: Sequence[Scales]
) -> tuple[np.ndarray, list[np.ndarray]]:
  """Returns the best paths of utterances under each of several scales.

  Args:
    log_posteriors: float32 [frames, states] per utterance.
    settings: all are tried in one compiled call per batch.

  Returns:
    scores: float32 [settings, utterances].
    paths: state indices int32 [settings, frames] per utterance.

  Raises:
    DataError: an utterance is shorter than a label's states, or has no path with a finite score.
  """
  lengths = [len(frames) for frames in log_posteriors]
  for index, length in enumerate(lengths):
    if length < phones.STATES_PER_LABEL:
      raise errors.DataError(
        f'utterance {index}: {length} frames, expected at least {phones.STATES_PER_LABEL}, '
        'one for each state of a label'
      )
  stacked = jax.tree.map(lambda *values: np.array(values, np.float32), *settings)
  scores = np.zeros((len(settings), len(lengths)), np.float32)
  paths: list[np.ndarray] = [np.zeros(0, np.int32)] * len(lengths)
  for batch in batches_by_length(lengths):
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
  return path[hmm.entries(path)] // phones.STATES_PER_LABEL


@jax.jit
def viterbi(
  log_posteriors: jax.Array, lengths: jax.Array, model: hmm.Hmm, settings: Scales
) -> tuple[jax.Array, jax.Array]:
  """The best paths of padded utterances, for one setting after the other.

  Args:
    log_posteriors: [utterances, frames, states].
    lengths: int [utterances]; frames from there on are not looked at.
    settings: its fields are [settings].

  Returns:
    scores: float32 [settings, utterances]; -inf for one that is shorter than a label's states.
    paths: int16 [settings, utterances, frames], -1 from an utterance's end on.
  """
  likelihoods = log_posteriors - model.log_prior[None, None]
  by_label = likelihoods.reshape(*likelihoods.shape[:2], -1, phones.STATES_PER_LABEL)
  likelihoods = by_label.transpose(1, 0, 3, 2)  # labels last: vectors of them
  return jax.lax.map(lambda scales: _best_paths(likelihoods, lengths, model, scales), settings)


def _best_paths(
  likelihoods: jax.Array, lengths: jax.Array, model: hmm.Hmm, scales: Scales
) -> tuple[jax.Array, jax.Array]:
  """`viterbi` of one setting, from likelihoods [frames, utterances, states of a label, labels]."""
  num_frames, num_utterances, _, num_labels = likelihoods.shape
  bigram = scales.lm * jnp.asarray(model.log_bigram) + scales.insertion
  log_stay, log_leave = (
    log.reshape(num_labels, phones.STATES_PER_LABEL).T for log in (model.log_stay, model.log_leave)
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
  end = jnp.full(num_utterances, phones.STATES_PER_LABEL * model.boundary + _LAST, jnp.int32)
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
    label, part = jnp.divmod(state, phones.STATES_PER_LABEL)
    moved = is_moved[jnp.arange(len(state)), part, label]
    label_before = jnp.argmax(leaving + bigram.T[label], axis=1).astype(state.dtype)
    entered_from = phones.STATES_PER_LABEL * label_before + _LAST
    before = jnp.where(part == 0, entered_from, state - 1)
    return jnp.where(moved, before, state), state

  first, others = jax.lax.scan(back, end, (is_moved, leaving), reverse=True)
  return jnp.concatenate([first[None], others]).T


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
    current: states int32 [frames] per utterance.
    model: its bigram plays no part.

  Returns:
    alignments: states int32 [frames] per utterance.
    kept: the indices of the utterances that were too short.

  Raises:
    DataError: an utterance has no path with a finite score.
  """
  alignments = list(current)
  state = np.arange(phones.STATES_PER_LABEL, dtype=np.int32)
  chains = [
    (phones.STATES_PER_LABEL * np.asarray(labels, np.int32)[:, None] + state).ravel()
    for labels in transcriptions
  ]
  lengths = [len(frames) for frames in log_posteriors]
  fits = np.array([len(chain) <= length for chain, length in zip(chains, lengths, strict=True)])
  for batch in batches_by_length(lengths, np.flatnonzero(fits)):
    num_states = batch.lengths([len(chain) for chain in chains])
    found = force(
      batch.pad(log_posteriors),
      batch.lengths(lengths),
      batch.pad(chains, _round_up(int(num_states.max()))),
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


@dataclasses.dataclass(frozen=True)
class Batch:
  """Utterances of about one length, and the shape that they are padded to."""

  indices: np.ndarray  # which utterances, int [utterances <= rows]
  rows: int  # a power of two
  length: int  # a multiple of 64, at least that of each utterance

  def pad(self, arrays: Sequence[np.ndarray], length: int | None = None) -> np.ndarray:
    """This batch's arrays [its length, ...] of all utterances' as one [rows, length, ...].

    What is added is 0. `length` is the batch's unless it is given.
    """
    first = np.asarray(arrays[self.indices[0]])
    shape = (self.rows, self.length if length is None else length, *first.shape[1:])
    padded = np.zeros(shape, first.dtype)
    for row, index in enumerate(self.indices):
      padded[row, : len(arrays[index])] = arrays[index]
    return padded

  def lengths(self, lengths: Sequence[int]) -> np.ndarray:
    """This batch's lengths of all utterances', int32 [rows]; 0 for a row without an utterance."""
    padded = np.zeros(self.rows, np.int32)
    padded[: len(self.indices)] = np.asarray(lengths)[self.indices]
    return padded


def batches_by_length(lengths: Sequence[int], chosen: np.ndarray | None = None) -> list[Batch]:
  """Batches of at most 64 utterances each, the longest first.

  `chosen` are the indices of the utterances to take, all if it is None.
  """
  indices = np.arange(len(lengths)) if chosen is None else chosen
  order = indices[np.argsort(np.asarray(lengths)[indices], kind='stable')[::-1]]
  parts = [order[start : start + _UTTERANCES] for start in range(0, len(order), _UTTERANCES)]
  return [
    Batch(
      indices=part,
      rows=1 << (len(part) - 1).bit_length(),
      length=_round_up(int(lengths[part[0]])),
    )
    for part in parts
  ]


def _round_up(length: int) -> int:
  """The next multiple of 64, for a length that is to be padded."""
  return -(-length // _STEP) * _STEP
