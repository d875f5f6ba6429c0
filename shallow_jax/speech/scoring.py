"""The phone error rate: what is counted, and by which of three conventions on silence.

Both sides are mapped to the scored classes (TIMIT: 39) and deleted labels (q) are dropped before
the alignment; repeats stay. Then, per corpus, PER = 100 (S + D + I) / N.

  strict    silence is a class like another (Kaldi since November 2014): the headline
  optional  a silence of the reference may be missing in the hypothesis at no cost; it counts in N
            (Kaldi before, pytorch-kaldi: sclite's optionally deletable words)
  removed   silence is taken off both sides
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses

import numpy as np

from shallow_jax.runtime import errors
from shallow_jax.speech import edit_distance

CONVENTIONS = ('strict', 'optional', 'removed')

_DELETED = -1


@dataclasses.dataclass(frozen=True, eq=False)
class Classes:
  """The classes that phones are scored as.

  Attributes:
    names: in alphabetical order; a class is its place here.
    of_label: int32 [labels], -1 for a label that scoring deletes.
    silence: the class of silence.
  """

  names: tuple[str, ...]
  of_label: np.ndarray
  silence: int

  def of(self, transcription: Sequence[int] | np.ndarray) -> list[int]:
    """The classes of a transcription's labels, without what scoring deletes; repeats stay."""
    scored = self.of_label[np.asarray(transcription, np.int64)]
    return scored[scored != _DELETED].tolist()


@dataclasses.dataclass(frozen=True)
class Counts:
  """Errors against a reference of so many phones, of one utterance or of many together."""

  substitutions: int
  deletions: int
  insertions: int
  length: int

  def __add__(self, other: 'Counts') -> 'Counts':
    return Counts(
      self.substitutions + other.substitutions,
      self.deletions + other.deletions,
      self.insertions + other.insertions,
      self.length + other.length,
    )

  @property
  def total(self) -> int:
    """Errors of all three kinds."""
    return self.substitutions + self.deletions + self.insertions

  @property
  def rate(self) -> float:
    """The phone error rate in per cent.

    Raises:
      DataError: the reference is empty.
    """
    if self.length == 0:
      raise errors.DataError('a reference of 0 phones has no error rate, expected 1 phone or more')
    return 100.0 * self.total / self.length


def classes(
  labels: Sequence[str], scored: Mapping[str, str | None], silence: str = 'sil'
) -> Classes:
  """Make the Classes of a phone map.

  Args:
    labels: the model's labels.
    scored: the class that each label is scored as; None: scoring deletes it.
    silence: the name of silence's class.
  Raises:
    DataError: a label without an entry, or no label of silence's class.
  """
  for label in labels:
    if label not in scored:
      raise errors.DataError(f'the phone {label!r} is in no class, expected one for every phone')
  names = tuple(sorted({name for label in labels if (name := scored[label]) is not None}))
  if silence not in names:
    raise errors.DataError(f'no phone is scored as {silence!r}, expected one for silence')
  place = {None: _DELETED, **{name: i for i, name in enumerate(names)}}
  of_label = np.array([place[scored[label]] for label in labels], np.int32)
  return Classes(names, of_label, names.index(silence))


def count(
  references: edit_distance.Strings,
  hypotheses: edit_distance.Strings,
  silence: int,
  convention: str = 'strict',
) -> list[Counts]:
  """Count each utterance's errors.

  The split into kinds is that of one of the best alignments, see `edit_distance.alignments`; the
  total is that of all of them.

  Args:
    references: classes, as `Classes.of` gives them.
    hypotheses: as many.
    silence: `Classes.silence`.
    convention: one of CONVENTIONS.
  """
  references, hypotheses, free = _by_convention(references, hypotheses, silence, convention)
  found = []
  for steps in edit_distance.alignments(references, hypotheses, free):
    symbols, others = steps.T
    inserted, missing = symbols == edit_distance.GAP, others == edit_distance.GAP
    counts = Counts(
      substitutions=int(np.sum((symbols != others) & ~inserted & ~missing)),
      deletions=int(np.sum(missing & (symbols != free))),
      insertions=int(np.sum(inserted)),
      length=int(np.sum(~inserted)),
    )
    found.append(counts)
  return found


def num_errors(
  references: edit_distance.Strings,
  hypotheses: edit_distance.Strings,
  silence: int,
  convention: str = 'strict',
) -> np.ndarray:
  """Each utterance's `count`, all kinds together: int64 [utterances]. Faster."""
  return edit_distance.distances(*_by_convention(references, hypotheses, silence, convention))


def pooled(counts: Iterable[Counts]) -> Counts:
  """The counts of a whole set."""
  return sum(counts, Counts(0, 0, 0, 0))


def per_speaker(counts: Sequence[Counts], speakers: Sequence[str]) -> dict[str, Counts]:
  """The counts of each speaker, by name.

  Args:
    counts: of each utterance.
    speakers: who speaks it.
  """
  utterances = list(zip(speakers, counts, strict=True))
  return {
    name: pooled(each for speaker, each in utterances if speaker == name)
    for name in sorted(set(speakers))
  }


def confusion(
  references: edit_distance.Strings, hypotheses: edit_distance.Strings, num_classes: int
) -> np.ndarray:
  """How often each class was taken for each, by the strict convention.

  Returns:
    int64 [classes + 1, classes + 1]: row: the reference's class, column: the hypothesis's. The last
    row counts insertions, the last column deletions.
  """
  table = np.zeros((num_classes + 1, num_classes + 1), np.int64)
  for steps in edit_distance.alignments(references, hypotheses):
    np.add.at(table, tuple(steps.T), 1)  # a GAP is the last row or column
  return table


def _by_convention(
  references: edit_distance.Strings,
  hypotheses: edit_distance.Strings,
  silence: int,
  convention: str,
) -> tuple[edit_distance.Strings, edit_distance.Strings, int | None]:
  """Both sides, and the class that is free to delete."""
  if len(references) != len(hypotheses):
    raise errors.DataError(
      f'{len(hypotheses)} hypotheses for {len(references)} references, expected one for each'
    )
  if convention == 'strict':
    return references, hypotheses, None
  if convention == 'optional':
    return references, hypotheses, silence
  if convention == 'removed':
    return _without(silence, references), _without(silence, hypotheses), None
  raise errors.DataError(f'convention {convention!r}, expected one of {", ".join(CONVENTIONS)}')


def _without(symbol: int, strings: edit_distance.Strings) -> list[list[int]]:
  return [[each for each in string if each != symbol] for string in strings]
