"""Which state of which label each frame belongs to: thirds of the corpus's segments, at first."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from shallow_jax.speech import hmm
from shallow_jax.speech.recordings import audio

_CENTRE = audio.WINDOW // 2  # the sample in the middle of frame 0


def starts(segments: Sequence[tuple[int, int, int]], num_frames: int) -> np.ndarray:
  """The first frame of each segment (start, end, label) in samples, int [segments].

  A frame is where its centre is, sample 160 t + 200. Segments follow each other; the first begins
  at frame 0. One without a frame's centre has the first frame of the next.
  """
  samples = np.array([start for start, _, _ in segments])
  frames = np.clip(-(-(samples - _CENTRE) // audio.FRAME_SHIFT), 0, num_frames)
  frames[0] = 0
  return frames


def uniform(segments: Sequence[tuple[int, int, int]], num_frames: int) -> np.ndarray:
  """States int32 [frames]: each segment's frames are split evenly among its label's states.

  Frame k of a segment's n has the state that the middle of that frame lies in: two frames have the
  first and the last state, a single one the middle state. The last segment goes on to the end.
  """
  first = starts(segments, num_frames)
  counts = np.diff(first, append=num_frames)
  position = np.arange(num_frames) - np.repeat(first, counts)
  state = hmm.STATES_PER_LABEL * (2 * position + 1) // (2 * np.repeat(counts, counts))
  labels = np.repeat([label for _, _, label in segments], counts)
  return (hmm.STATES_PER_LABEL * labels + state).astype(np.int32)


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


def statistics(
  old: Sequence[np.ndarray],
  new: Sequence[np.ndarray],
  corpus_starts: Sequence[np.ndarray],
  num_labels: int,
) -> Change:
  """Compares two alignments, states int [frames] per utterance, and the second with the corpus.

  Args:
    old: before.
    new: after.
    corpus_starts: `starts` per utterance. The first of each is always frame 0 and not counted. An
      utterance whose labels are not all entered, because it kept its thirds, is left out.
    num_labels: of the corpus.
  """
  before, after = np.concatenate(old), np.concatenate(new)
  counts = np.bincount(after, minlength=hmm.STATES_PER_LABEL * num_labels).astype(float)
  counts = counts.reshape(num_labels, hmm.STATES_PER_LABEL)
  totals = counts.sum(axis=1, keepdims=True)
  shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
  entered = [hmm.entries(states) for states in new]
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
