"""A phone HMM without Gaussians: how labels follow labels, and how long a state lasts.

Every label has STATES_PER_LABEL states, passed from left to right without skips; state s of label l
has index STATES_PER_LABEL * l + s. The emissions are a net's posteriors over the states' priors
(Bourlard & Morgan, Connectionist Speech Recognition, 1994); all else is counted here, from the
training set's transcriptions and alignments.
"""

from collections.abc import Iterable, Sequence
import dataclasses

import jax
import numpy as np

from shallow_jax.runtime import errors

STATES_PER_LABEL = 3


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Hmm:
  """What decoding and realigning know besides a net's posteriors, in nats, float32.

  Attributes:
    log_bigram: [labels, labels], log P(next | label); a row's probabilities sum to 1.
    log_stay: [states], log P(the next frame has the same state).
    log_leave: [states], log P(the next frame has another state).
    log_prior: [states], log share of the training frames.
    boundary: the label that every utterance begins and ends with, h# in TIMIT.
  """

  log_bigram: np.ndarray
  log_stay: np.ndarray
  log_leave: np.ndarray
  log_prior: np.ndarray
  boundary: int


def estimate(
  alignments: Sequence[np.ndarray],
  transcriptions: Iterable[Sequence[int] | np.ndarray],
  num_labels: int,
  boundary: int,
) -> Hmm:
  """The HMM of a training set: states int [frames] and label indices [phones] per utterance."""
  num_states = STATES_PER_LABEL * num_labels
  log_stay, log_leave = self_loops(alignments, num_states)
  return Hmm(
    log_bigram=bigram(transcriptions, num_labels, boundary),
    log_stay=log_stay,
    log_leave=log_leave,
    log_prior=priors(alignments, num_states),
    boundary=boundary,
  )


def bigram(
  transcriptions: Iterable[Sequence[int] | np.ndarray], num_labels: int, boundary: int
) -> np.ndarray:
  """Witten-Bell's interpolated log probabilities, float32 [label, next label].

  P(q | p) = (c(p q) + T(p) P(q)) / (c(p) + T(p)), T(p) the number of labels seen after p; P(q) is
  smoothed by the same rule towards 1 / labels (Chen & Goodman 1998, section 2.4). So a label that
  was never left has P(q) as its row, and no probability is 0.

  The boundary stands for start and end: its row begins a string, its column ends one. An end of a
  string without it is read as if it stood there; TIMIT's strings have it at both.

  Raises:
    DataError: no string begins with the boundary.
  """
  pairs = np.zeros((num_labels, num_labels))
  strings = [np.asarray(labels) for labels in transcriptions]
  if not any(string[0] == boundary for string in strings):
    raise errors.DataError(
      f'transcriptions: label {boundary}, the boundary, begins none of {len(strings)}; '
      'expected it at both ends of each'
    )
  for string in strings:
    bounded = _bounded(string, boundary)
    np.add.at(pairs, (bounded[:-1], bounded[1:]), 1)
  unigram = _interpolated(pairs.sum(axis=0), np.full(num_labels, 1 / num_labels))
  return np.log(_interpolated(pairs, unigram)).astype(np.float32)


def _bounded(string: np.ndarray, boundary: int) -> np.ndarray:
  """A string of labels with the boundary at the ends that lack it."""
  start = [boundary] if string[0] != boundary else []
  end = [boundary] if string[-1] != boundary else []
  return np.concatenate([start, string, end]).astype(np.int64)


def _interpolated(counts: np.ndarray, lower: np.ndarray) -> np.ndarray:
  """Witten-Bell's mixture of counts [..., labels] with a lower order's probabilities [labels]."""
  total = counts.sum(axis=-1, keepdims=True)
  distinct = np.count_nonzero(counts, axis=-1, keepdims=True)
  unseen = total == 0
  return (counts + (distinct + unseen) * lower) / (total + distinct + unseen)


def self_loops(alignments: Iterable[np.ndarray], num_states: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns log P(stay) and log P(leave), float32 [states], from states int [frames] per utterance.

  A run of equal states is one leave, its other frames are stays; the utterance's end leaves too.
  Each is counted once more (Laplace's rule), so neither is impossible, and a state that was never
  seen stays with probability 1/2.
  """
  frames = np.zeros(num_states)
  runs = np.zeros(num_states)
  for states in alignments:
    frames += np.bincount(states, minlength=num_states)
    begins = np.diff(states, prepend=-1) != 0
    runs += np.bincount(states[begins], minlength=num_states)
  leave = (runs + 1) / (frames + 2)
  return np.log1p(-leave).astype(np.float32), np.log(leave).astype(np.float32)


def priors(alignments: Iterable[np.ndarray], num_states: int) -> np.ndarray:
  """The log share of each state among all frames, float32 [states].

  A state that was never seen counts as seen once.
  """
  counts = np.sum([np.bincount(states, minlength=num_states) for states in alignments], axis=0)
  counts = np.maximum(counts, 1)
  return np.log(counts / counts.sum()).astype(np.float32)


def entries(path: np.ndarray) -> np.ndarray:
  """The frames of a path, states int [frames], at which a label is entered.

  A label is entered where its first state begins, so a label that follows itself is entered twice.
  """
  begins = np.diff(path, prepend=-1) != 0
  return np.flatnonzero(begins & (path % STATES_PER_LABEL == 0))
