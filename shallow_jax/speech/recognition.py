"""What turns a data set of frames back into utterances with phones: for decoding and realigning."""

import dataclasses
from typing import Any

import numpy as np

from shallow_jax.runtime import storage
from shallow_jax.speech.recordings import phones


@dataclasses.dataclass(frozen=True, eq=False)
class Utterances:
  """The utterances of a split, in the order of its rows.

  Attributes:
    names: unique in the corpus: falk0_sx186.
    speakers: who says each: falk0.
    offsets: int64 [utterances + 1]: utterance i has the rows from offsets[i] up to, and without,
      offsets[i + 1].
    transcriptions: each one's label indices, int32 [phones].
  """

  names: tuple[str, ...]
  speakers: tuple[str, ...]
  offsets: np.ndarray
  transcriptions: tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Recognition:
  """What a data set of speech has besides frames.

  Attributes:
    phones: the labels; class 3 l + s of the data set is state s of label l.
    utterances: of 'train', 'validation' and 'test'.
  """

  phones: phones.PhoneMap
  utterances: dict[str, Utterances]

  def fingerprint(self) -> dict[str, Any]:
    """All that decoding and scoring depend on, for JSON."""
    return {
      'phones_sha256': storage.sha256_json(list(self.phones.scored.items())),
      'utterances': {
        name: {'count': len(rows.names), 'sha256': _sha256(rows)}
        for name, rows in self.utterances.items()
      },
    }


def _sha256(rows: Utterances) -> str:
  return storage.sha256_json(
    {
      'names': rows.names,
      'speakers': rows.speakers,
      'offsets': rows.offsets,
      'transcriptions': rows.transcriptions,
    }
  )
