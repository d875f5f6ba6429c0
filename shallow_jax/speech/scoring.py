"""The phone error rate: what is counted, and by which of three conventions on silence.

Both sides are mapped to the scored classes (TIMIT: 39) and deleted labels (q) are dropped before
they are compared; repeats stay. Then, per set, PER = 100 (S + D + I) / N.

  strict    silence is a class like another (Kaldi since November 2014): the headline
  optional  a silence of the reference may be missing in the hypothesis at no cost; it counts in N
            (Kaldi before, pytorch-kaldi: sclite's optionally deletable words)
  removed   silence is taken off both sides

Edits are Levenshtein's, of many pairs of strings at once, in NumPy: a substitution, a deletion and
an insertion cost 1 each. One symbol of the references may be free to delete.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses

import numpy as np

from shallow_jax.runtime import errors

CONVENTIONS = ('strict', 'optional', 'removed')
KINDS = ('substitutions', 'deletions', 'insertions', 'length')  # the last: of the reference
GAP = -1  # in edits: no symbol on this side

Strings = Sequence[Sequence[int]]  # of symbols 0, 1, ...

_DELETED = -1
_CHUNK = 256  # pairs at once


@dataclasses.dataclass(frozen=True, eq=False)
class Classes:
  """The classes that phones are scored as."""

  names: tuple[str, ...]  # in alphabetical order; a class is its place here
  of_label: np.ndarray  # int32 [labels], -1 for a label that scoring deletes
  silence: int

  def of(self, transcription: Sequence[int] | np.ndarray) -> list[int]:
    """The classes of a transcription's labels, without what scoring deletes; repeats stay."""
    scored = self.of_label[np.asarray(transcription, np.int64)]
    return scored[scored != _DELETED].tolist()


def classes(
  labels: Sequence[str], scored: Mapping[str, str | None], silence: str = 'sil'
) -> Classes:
  """The classes of a phone map's labels; scoring deletes a label whose class is None.

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
  references: Strings, hypotheses: Strings, silence: int, convention: str = 'strict'
) -> tuple[np.ndarray, list[np.ndarray]]:
  """Each utterance's errors by one of CONVENTIONS, and the `edits` that they were counted from.

  How many there are of each kind is as in one of the best edits; the total is that of all of them.

  Returns:
    int32 [utterances, KINDS], and the edits of each utterance.
  """
  references, hypotheses, free = _by_convention(references, hypotheses, silence, convention)
  found = edits(references, hypotheses, free)
  counts = np.zeros((len(found), len(KINDS)), np.int32)
  for row, (symbols, others) in zip(counts, (steps.T for steps in found), strict=True):
    is_inserted, is_missing = symbols == GAP, others == GAP
    row[:] = (
      np.sum((symbols != others) & ~is_inserted & ~is_missing),
      np.sum(is_missing & (symbols != free)),
      np.sum(is_inserted),
      np.sum(~is_inserted),
    )
  return counts, found


def num_errors(
  references: Strings, hypotheses: Strings, silence: int, convention: str = 'strict'
) -> np.ndarray:
  """Each utterance's `count`, all kinds together: int64 [utterances]. Faster."""
  return distances(*_by_convention(references, hypotheses, silence, convention))


def confusion(strict_edits: Sequence[np.ndarray], num_classes: int) -> np.ndarray:
  """How often each class was taken for each, by the `edits` of the strict convention.

  Returns:
    int64 [classes + 1, classes + 1]: row: the reference's class, column: the hypothesis's. The last
    row counts insertions, the last column deletions.
  """
  table = np.zeros((num_classes + 1, num_classes + 1), np.int64)
  for steps in strict_edits:
    np.add.at(table, tuple(steps.T), 1)  # a GAP is the last row or column
  return table


def _by_convention(
  references: Strings, hypotheses: Strings, silence: int, convention: str
) -> tuple[Strings, Strings, int | None]:
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


def _without(symbol: int, strings: Strings) -> list[list[int]]:
  return [[each for each in string if each != symbol] for string in strings]


def distances(
  references: Strings, hypotheses: Strings, free_to_delete: int | None = None
) -> np.ndarray:
  """The least cost of turning each reference into its hypothesis: int64 [pairs]."""
  found = np.zeros(len(references), np.int64)
  for batch in _batches(references, hypotheses):
    for length, costs in enumerate(_costs(batch, free_to_delete)):
      whole = np.flatnonzero(batch.reference_lengths == length)
      found[batch.pairs[whole]] = costs[whole, batch.hypothesis_lengths[whole]]
  return found


def edits(
  references: Strings, hypotheses: Strings, free_to_delete: int | None = None
) -> list[np.ndarray]:
  """What turns each reference into its hypothesis at the least cost, step by step.

  Where several cost the same, one is chosen from the ends of the strings backwards: equal symbols
  are matched; else a deletion is preferred to a substitution, and that to an insertion. This is
  nearly jiwer's choice: at usual error rates the numbers of each kind are the same, too.

  Returns:
    For each pair int64 [steps, 2]: a symbol of the reference and one of the hypothesis; a GAP for
    one of them is an insertion or a deletion.
  """
  found = [np.empty((0, 2), np.int64)] * len(references)
  for batch in _batches(references, hypotheses):
    tables = np.stack(list(_costs(batch, free_to_delete)), axis=1)
    for pair, table in zip(batch.pairs, tables, strict=True):
      steps = _steps_back(table, references[pair], hypotheses[pair], free_to_delete)
      found[pair] = np.array(steps[::-1], np.int64).reshape(-1, 2)
  return found


@dataclasses.dataclass(frozen=True, eq=False)
class _Batch:
  """Pairs of strings of about the same length, padded."""

  pairs: np.ndarray  # [batch]: their places in the lists
  references: np.ndarray  # int32 [batch, longest reference]
  hypotheses: np.ndarray  # int32 [batch, longest hypothesis]
  reference_lengths: np.ndarray
  hypothesis_lengths: np.ndarray


def _batches(references: Strings, hypotheses: Strings) -> Iterator[_Batch]:
  reference_lengths = np.array([len(string) for string in references], np.int64)
  hypothesis_lengths = np.array([len(string) for string in hypotheses], np.int64)
  order = np.argsort(reference_lengths + hypothesis_lengths, kind='stable')
  for start in range(0, len(order), _CHUNK):
    pairs = order[start : start + _CHUNK]
    yield _Batch(
      pairs,
      _padded([references[i] for i in pairs]),
      _padded([hypotheses[i] for i in pairs]),
      reference_lengths[pairs],
      hypothesis_lengths[pairs],
    )


def _padded(strings: Strings) -> np.ndarray:
  rows = np.zeros((len(strings), max(map(len, strings))), np.int32)
  for row, string in zip(rows, strings, strict=True):
    row[: len(string)] = string
  return rows


def _costs(batch: _Batch, free_to_delete: int | None) -> Iterator[np.ndarray]:
  """Yields, for n = 0, 1, ..., the costs of the references' first n symbols.

  Each int32 [batch, longest hypothesis + 1]: against none, one, ... symbols of the hypothesis. What
  stands behind a string's end changes no cost before it.
  """
  inserted = np.arange(batch.hypotheses.shape[1] + 1, dtype=np.int32)
  costs = np.tile(inserted, (len(batch.pairs), 1))
  yield costs
  for symbols in batch.references.T[:, :, None]:
    without_insertion = costs + (symbols != free_to_delete)
    substituted = costs[:, :-1] + (symbols != batch.hypotheses)
    np.minimum(without_insertion[:, 1:], substituted, out=without_insertion[:, 1:])
    # With insertions: the least of the columns up to here, each plus the distance to it.
    costs = np.minimum.accumulate(without_insertion - inserted, axis=1) + inserted
    yield costs


def _steps_back(
  table: np.ndarray,
  reference: Sequence[int],
  hypothesis: Sequence[int],
  free_to_delete: int | None,
) -> list[tuple[int, int]]:
  """The steps of an edit, the last one first."""
  steps = []
  i, j = len(reference), len(hypothesis)
  while i or j:
    symbol = reference[i - 1] if i else GAP
    other = hypothesis[j - 1] if j else GAP
    deletion = int(symbol != free_to_delete)
    if symbol == other:
      i, j = i - 1, j - 1
    elif i and table[i, j] == table[i - 1, j] + deletion:
      i, other = i - 1, GAP
    elif i and j and table[i, j] == table[i - 1, j - 1] + 1:
      i, j = i - 1, j - 1
    else:
      j, symbol = j - 1, GAP
    steps.append((symbol, other))
  return steps
