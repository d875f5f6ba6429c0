"""A phone HMM without Gaussians: how labels follow labels, and how long a state lasts.

The states of a label (`phones.STATES_PER_LABEL`) are passed from left to right without skips. The
emissions are a net's posteriors over the states' priors (Bourlard & Morgan, Connectionist Speech
Recognition, 1994); all else is counted here, from the training set's transcriptions and alignments.

An alignment says which state each frame of an utterance belongs to: at first thirds of the corpus's
segments.
"""

from collections.abc import Iterable, Sequence
import dataclasses

import jax
import numpy as np

from shallow_jax.runtime import errors
from shallow_jax.speech.recordings import audio
from shallow_jax.speech.recordings import phones

_CENTRE = audio.WINDOW // 2  # the sample in the middle of frame 0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Hmm:
  """What decoding and realigning know besides a net's posteriors, in nats, float32."""

  log_bigram: np.ndarray  # [labels, labels], log P(next | label); a row's probabilities sum to 1
  log_stay: np.ndarray  # [states], log P(the next frame has the same state)
  log_leave: np.ndarray  # [states], log P(the next frame has another state)
  log_prior: np.ndarray  # [states], log share of the training frames
  boundary: int  # the label that every utterance begins and ends with, h# in TIMIT


def estimate(
  alignments: Sequence[np.ndarray],
  transcriptions: Iterable[Sequence[int] | np.ndarray],
  num_labels: int,
  boundary: int,
) -> Hmm:
  """The HMM of a training set: states int [frames] and label indices [phones] per utterance."""
  num_states = phones.STATES_PER_LABEL * num_labels
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
  return np.flatnonzero(begins & (path % phones.STATES_PER_LABEL == 0))


def starts(segments: Sequence[tuple[int, int, int]], num_frames: int) -> np.ndarray:
  """The first frame of each segment (start, end, label) in samples, int [segments].

  A frame is where its centre is, sample 160 t + 200. Segments follow each other; the first begins
  at frame 0. One without a frame's centre has the first frame of the next.
  """
  samples = np.array([start for start, _, _ in segments])
  frames = np.clip(-(-(samples - _CENTRE) // audio.FRAME_SHIFT), 0, num_frames)
  frames[0] = 0
  return frames


def uniform_alignment(segments: Sequence[tuple[int, int, int]], num_frames: int) -> np.ndarray:
  """States int32 [frames]: each segment's frames are divided evenly among its label's states.

  Frame k of a segment's n has the state that the middle of that frame lies in: two frames have the
  first and the last state, a single one the middle state. The last segment goes on to the end.
  """
  first = starts(segments, num_frames)
  counts = np.diff(first, append=num_frames)
  position = np.arange(num_frames) - np.repeat(first, counts)
  state = phones.STATES_PER_LABEL * (2 * position + 1) // (2 * np.repeat(counts, counts))
  labels = np.repeat([label for _, _, label in segments], counts)
  return (phones.STATES_PER_LABEL * labels + state).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Change:
  """What a realignment did.

  Attributes:
    changed: the share of frames that have another state.
    shares: [labels, states of a label], how a label's frames are divided among its states; NaN for
      a label without frames.
    shift: the mean distance in frames between where a label begins now and in the corpus; NaN if
      no utterance can be compared.
  """

  changed: float
  shares: np.ndarray
  shift: float


def compare(
  old: Sequence[np.ndarray],
  new: Sequence[np.ndarray],
  corpus_starts: Sequence[np.ndarray],
  num_labels: int,
) -> Change:
  """Compares two alignments, states int [frames] per utterance, and the second with the corpus.

  Of the corpus's `starts` per utterance the first is always frame 0 and not counted. An utterance
  whose labels are not all entered, because it kept its thirds, is left out.
  """
  before, after = np.concatenate(old), np.concatenate(new)
  counts = np.bincount(after, minlength=phones.STATES_PER_LABEL * num_labels).astype(float)
  counts = counts.reshape(num_labels, phones.STATES_PER_LABEL)
  totals = counts.sum(axis=1, keepdims=True)
  shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
  entered = [entries(states) for states in new]
  shifts = [
    np.abs(now[1:] - first[1:])
    for now, first in zip(entered, corpus_starts, strict=True)
    if len(now) == len(first)
  ]
  return Change(
    changed=float(np.mean(before != after)),
    shares=shares,
    shift=float(np.concatenate(shifts).mean()) if sum(map(len, shifts)) else float('nan'),
  )
