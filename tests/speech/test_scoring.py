"""Errors against a plain Levenshtein loop and jiwer."""

import collections
import itertools

import jiwer
import numpy as np
import pytest

from shallow_jax.runtime import errors
from shallow_jax.speech import phone_errors
from shallow_jax.speech import scoring

SILENCE = 2


def random_strings(count, longest=9, symbols=4, seed=0):
  rng = np.random.default_rng(seed)
  lengths = rng.integers(0, longest + 1, count)
  return [rng.integers(0, symbols, length).tolist() for length in lengths]


def best_counts(reference, hypothesis, free=None):
  """All (substitutions, deletions, insertions) of the best alignments, by the plain loop."""
  table = {}
  for i, j in itertools.product(range(len(reference) + 1), range(len(hypothesis) + 1)):
    counts = {(0, 0, 0)} if i == j == 0 else set()
    if i:
      counted = reference[i - 1] != free
      counts |= {(s, d + counted, n) for s, d, n in table[i - 1, j]}
    if j:
      counts |= {(s, d, n + 1) for s, d, n in table[i, j - 1]}
    if i and j:
      wrong = reference[i - 1] != hypothesis[j - 1]
      counts |= {(s + wrong, d, n) for s, d, n in table[i - 1, j - 1]}
    least = min(map(sum, counts))
    table[i, j] = {each for each in counts if sum(each) == least}
  return table[len(reference), len(hypothesis)]


def count(*args):
  """Errors (substitutions, deletions, insertions) of each utterance; the references' lengths."""
  counts, _ = scoring.count(*args)
  assert counts.dtype == np.int32
  return [tuple(row) for row in counts[:, :3].tolist()], counts[:, 3].tolist()


@pytest.mark.parametrize('convention, free', [('strict', None), ('optional', SILENCE)])
def test_errors_are_the_plain_loops(convention, free):
  """300 pairs, more than a batch, of all lengths from 0."""
  references, hypotheses = random_strings(300, seed=1), random_strings(300, seed=2)
  counts, lengths = count(references, hypotheses, SILENCE, convention)
  totals = scoring.num_errors(references, hypotheses, SILENCE, convention)
  for reference, hypothesis, found, total in zip(
    references, hypotheses, counts, totals, strict=True
  ):
    expected = best_counts(reference, hypothesis, free)
    assert found in expected
    assert sum(found) == total == sum(next(iter(expected)))
  assert lengths == list(map(len, references))


def jiwer_counts(reference, hypothesis):
  words = [' '.join(map(str, string)) for string in (reference, hypothesis)]
  found = jiwer.process_words(*words)
  return found.substitutions, found.deletions, found.insertions


def test_errors_are_jiwers():
  """Where the best alignments differ in kinds of errors, jiwer may have taken another of them."""
  references, hypotheses = random_strings(1000, seed=3), random_strings(1000, seed=4)
  pairs = [pair for pair in zip(references, hypotheses, strict=True) if pair[0]]
  counts, _ = count(*zip(*pairs, strict=True), SILENCE)
  same = 0
  for pair, found in zip(pairs, counts, strict=True):
    expected = jiwer_counts(*pair)
    assert sum(found) == sum(expected)
    assert len(best_counts(*pair)) > 1 or found == expected
    same += found == expected
  assert same / len(pairs) > 0.98


def test_the_rate_of_a_set_is_jiwers():
  references, hypotheses = random_strings(50, 40, 39, 5), random_strings(50, 40, 39, 6)
  references = [[*reference, 1] for reference in references]
  words = [[' '.join(map(str, row)) for row in rows] for rows in (references, hypotheses)]
  counts, _ = scoring.count(references, hypotheses, SILENCE)
  assert phone_errors.rate(counts) == pytest.approx(
    100 * jiwer.process_words(*words).wer, rel=1e-12
  )


@pytest.mark.parametrize('free', [None, SILENCE])
def test_edits_spell_both_strings(free):
  references, hypotheses = random_strings(300, seed=7), random_strings(300, seed=8)
  found = scoring.edits(references, hypotheses, free)
  for steps, reference, hypothesis in zip(found, references, hypotheses, strict=True):
    for column, string in zip(steps.T, (reference, hypothesis), strict=True):
      assert column[column != scoring.GAP].tolist() == string
    assert not (steps == scoring.GAP).all(axis=1).any()


@pytest.mark.parametrize(
  'reference, hypothesis, steps',
  [
    ([0, 1], [1, 0], [(-1, 1), (0, 0), (1, -1)]),
    ([0], [1, 2], [(-1, 1), (0, 2)]),
    ([0, 1], [2], [(0, 2), (1, -1)]),
    ([0, 0, 0], [0], [(0, -1), (0, -1), (0, 0)]),
    ([], [3], [(-1, 3)]),
    ([], [], []),
  ],
)
def test_ties_go_to_matches_then_deletions_then_substitutions(reference, hypothesis, steps):
  (found,) = scoring.edits([reference], [hypothesis])
  assert list(map(tuple, found.tolist())) == steps


def test_long_and_short_strings_share_a_batch():
  references = [[0] * 3, list(range(200)), [], [1, 2]]
  hypotheses = [[0] * 90, list(range(0, 200, 2)), [5], []]
  found = scoring.distances(references, hypotheses)
  assert found.tolist() == [87, 100, 1, 2]
  assert scoring.distances([], []).tolist() == []


# What decoders do with silence, and what the conventions make of it. 2 is silence.
SILENCES = [
  ('missed', [2, 0, 2, 1, 2], [2, 0, 1, 2], {'strict': 1, 'optional': 0, 'removed': 0}),
  ('added', [2, 0, 1, 2], [2, 0, 2, 1, 2], {'strict': 1, 'optional': 1, 'removed': 0}),
  ('for a phone', [2, 0, 1, 2], [2, 2, 1, 2], {'strict': 1, 'optional': 1, 'removed': 1}),
  ('heard as one', [2, 0, 2, 1, 2], [2, 0, 3, 1, 2], {'strict': 1, 'optional': 1, 'removed': 1}),
  ('all missed', [2, 2], [], {'strict': 2, 'optional': 0, 'removed': 0}),
]


@pytest.mark.parametrize('name, reference, hypothesis, expected', SILENCES)
def test_three_conventions_on_silence(name, reference, hypothesis, expected):
  del name
  for convention in scoring.CONVENTIONS:
    [found], [length] = count([reference], [hypothesis], SILENCE, convention)
    assert sum(found) == expected[convention], convention
    phones = [symbol for symbol in reference if symbol != SILENCE]
    assert length == len(phones if convention == 'removed' else reference)


def test_removed_silence_leaves_the_errors_of_the_rest():
  references, hypotheses = random_strings(200, seed=9), random_strings(200, seed=10)
  rest = [
    [[symbol for symbol in row if symbol != SILENCE] for row in rows]
    for rows in (references, hypotheses)
  ]
  removed = count(references, hypotheses, SILENCE, 'removed')
  assert removed == count(*rest, SILENCE)


def test_an_unknown_convention_and_a_missing_hypothesis_are_refused():
  with pytest.raises(errors.DataError, match="'sil', expected one of strict, optional, removed"):
    scoring.count([[1]], [[1]], SILENCE, 'sil')
  with pytest.raises(errors.DataError, match='1 hypotheses for 2 references'):
    scoring.num_errors([[1], [2]], [[1]], SILENCE)


LABELS = ('h#', 'q', 'ih', 'ix', 'tcl', 't', 'ax', 'ah')
SCORED = dict(zip(LABELS, ('sil', None, 'ih', 'ih', 'sil', 't', 'ah', 'ah'), strict=True))


def test_labels_are_mapped_and_q_is_deleted_but_repeats_are_kept():
  classes = scoring.classes(LABELS, SCORED)
  assert classes.names == ('ah', 'ih', 'sil', 't')
  assert classes.names[classes.silence] == 'sil'
  transcription = [LABELS.index(label) for label in 'h# q ih ix q tcl t ax h#'.split()]
  found = [classes.names[symbol] for symbol in classes.of(transcription)]
  assert found == 'sil ih ih sil t ah sil'.split()
  assert classes.of([]) == []


def test_maps_without_silence_or_with_holes_are_refused():
  with pytest.raises(errors.DataError, match="no phone is scored as 'sil'"):
    scoring.classes(('ih', 'q'), SCORED)
  with pytest.raises(errors.DataError, match="the phone 'zh' is in no class"):
    scoring.classes(('zh', 'h#'), SCORED)


def test_confusions_add_up_to_the_strings_and_to_the_errors():
  references, hypotheses = random_strings(300, seed=11), random_strings(300, seed=12)
  counts, edits = scoring.count(references, hypotheses, SILENCE)
  table = scoring.confusion(edits, 4)
  for rows, axis in ((references, 1), (hypotheses, 0)):
    symbols = collections.Counter(itertools.chain(*rows))
    assert table.sum(axis=axis)[:4].tolist() == [symbols[symbol] for symbol in range(4)]
  substitutions, deletions, insertions, _ = counts.sum(axis=0)
  classes = table[:4, :4]
  assert classes.sum() - classes.trace() == substitutions
  assert (table[:4, 4].sum(), table[4, :4].sum(), table[4, 4]) == (deletions, insertions, 0)


def test_a_confusion_is_reference_by_hypothesis():
  edits = scoring.edits([[0, 1, 3, 0, 1], [0, 1]], [[0, 2, 3, 0], [0, 3, 1]])
  table = scoring.confusion(edits, 4)
  expected = np.zeros((5, 5), int)
  expected[0, 0], expected[3, 3], expected[1, 1] = 3, 1, 1
  expected[1, 2] = expected[1, 4] = expected[4, 3] = 1  # taken for 2, deleted, 3 inserted
  np.testing.assert_array_equal(table, expected)
