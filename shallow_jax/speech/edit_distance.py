"""Levenshtein's alignment of many pairs of strings at once, in NumPy.

A substitution, a deletion and an insertion cost 1 each. One symbol of the references may be free to
delete.
"""

from collections.abc import Iterator, Sequence
import dataclasses

import numpy as np

GAP = -1  # in an alignment: no symbol on this side

Strings = Sequence[Sequence[int]]  # of symbols 0, 1, ...

_CHUNK = 256  # pairs at once


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


def alignments(
  references: Strings, hypotheses: Strings, free_to_delete: int | None = None
) -> list[np.ndarray]:
  """An alignment of least cost for each pair.

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
  """The alignment's steps, the last one first."""
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
