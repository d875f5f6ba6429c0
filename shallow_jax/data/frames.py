"""Recordings as the rows of a split: a frame is an example, and knows its neighbours."""

from collections.abc import Iterable, Sequence
import dataclasses

import numpy as np

from shallow_jax.data import dataset
from shallow_jax.speech import context

MAX_FRAMES = 2**16  # of a recording, 10 minutes 55 seconds: a frame's number has 16 bits of its id

_HASH_DIGITS = 12  # hexadecimal: 48 bits


@dataclasses.dataclass(frozen=True, eq=False)
class Recording:
  """One recording's features.

  Attributes:
    name: for messages.
    sha256: of its samples, hexadecimal.
    features: float32 [frames, 123].
  """

  name: str
  sha256: str
  features: np.ndarray

  @property
  def key(self) -> str:
    """The 48 bits that its frames' ids begin with; two recordings of one key are the same."""
    return self.sha256[:_HASH_DIGITS]


def check_length(recording: Recording) -> None:
  """Raises DataError where ids would not tell the recording's frames apart."""
  if len(recording.features) > MAX_FRAMES:
    raise dataset.DataError(
      f'{recording.name}: {len(recording.features):,} frames, expected {MAX_FRAMES:,} at most: '
      'cut it into several recordings'
    )


def check_all_differ(recordings: Iterable[Recording]) -> None:
  """Raises DataError where ids would not tell recordings apart."""
  names: dict[str, str] = {}
  for recording in recordings:
    other = names.setdefault(recording.key, recording.name)
    if other != recording.name:
      raise dataset.DataError(
        f'{other} and {recording.name}: the same samples (sha256 {recording.key}...), expected '
        'each recording once'
      )


def split(recordings: Sequence[Recording], labels: Sequence[np.ndarray] | None) -> dataset.Split:
  """Makes a split of recordings in the order of their keys, which is that of its rows' ids.

  A frame's id is the recording's key and the frame's number: sorted by id, recordings stay whole.

  Args:
    recordings: that `check_length` and `check_all_differ` let pass.
    labels: of each recording int [frames]; None: not known.
  """
  lengths = np.array([len(recording.features) for recording in recordings])
  keys = np.array([int(recording.key, 16) for recording in recordings], np.uint64)
  number = np.concatenate([np.arange(length, dtype=np.uint64) for length in lengths])
  key = np.repeat(keys, lengths)
  before, after = context.reach(lengths)
  if labels is None:
    label = np.full(len(number), dataset.UNKNOWN, np.int32)
  else:
    label = np.concatenate(labels).astype(np.int32)
  first, second = key >> np.uint64(16), (key & np.uint64(0xFFFF)) << np.uint64(16) | number
  return dataset.Split(
    {
      'input': np.concatenate([recording.features for recording in recordings]),
      'label': label,
      'id': np.stack([first, second], axis=1).astype(np.uint32),
      'before': before,
      'after': after,
    }
  )
