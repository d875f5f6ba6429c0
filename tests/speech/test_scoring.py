"""Errors against a plain Levenshtein loop and jiwer; intervals against scipy's bootstrap."""

import collections
import itertools

import jiwer
import numpy as np
import pytest
from scipy import stats

from shallow_jax.runtime import errors
from shallow_jax.speech import bootstrap
from shallow_jax.speech import edit_distance
from shallow_jax.speech import scoring

SILENCE = 2


def random_strings(count, longest=9, symbols=4, seed=0):
  rng = np.random.default_rng(seed)
  lengths = rng.integers(0, longest + 1, count)
  return [rng.integers(0, symbols, length).tolist() for length in lengths]


def best_splits(reference, hypothesis, free=None):
  """All (substitutions, deletions, insertions) of the best alignments, by the plain loop."""
  table = {}
  for i, j in itertools.product(range(len(reference) + 1), range(len(hypothesis) + 1)):
    splits = {(0, 0, 0)} if i == j == 0 else set()
    if i:
      counted = reference[i - 1] != free
      splits |= {(s, d + counted, n) for s, d, n in table[i - 1, j]}
    if j:
      splits |= {(s, d, n + 1) for s, d, n in table[i, j - 1]}
    if i and j:
      wrong = reference[i - 1] != hypothesis[j - 1]
      splits |= {(s + wrong, d, n) for s, d, n in table[i - 1, j - 1]}
    least = min(map(sum, splits))
    table[i, j] = {split for split in splits if sum(split) == least}
  return table[len(reference), len(hypothesis)]


def split(counts):
  return counts.substitutions, counts.deletions, counts.insertions


@pytest.mark.parametrize('convention, free', [('strict', None), ('optional', SILENCE)])
def test_errors_are_the_plain_loops(convention, free):
  """300 pairs, more than a batch, of all lengths from 0."""
  references, hypotheses = random_strings(300, seed=1), random_strings(300, seed=2)
  counts = scoring.count(references, hypotheses, SILENCE, convention)
  totals = scoring.num_errors(references, hypotheses, SILENCE, convention)
  for reference, hypothesis, found, total in zip(
    references, hypotheses, counts, totals, strict=True
  ):
    expected = best_splits(reference, hypothesis, free)
    assert split(found) in expected
    assert found.total == total == sum(next(iter(expected)))
    assert found.length == len(reference)


def jiwer_split(reference, hypothesis):
  words = [' '.join(map(str, string)) for string in (reference, hypothesis)]
  found = jiwer.process_words(*words)
  return found.substitutions, found.deletions, found.insertions


def test_errors_are_jiwers():
  """Where the best alignments differ in kinds of errors, jiwer may have taken another of them."""
  references, hypotheses = random_strings(1000, seed=3), random_strings(1000, seed=4)
  pairs = [pair for pair in zip(references, hypotheses, strict=True) if pair[0]]
  counts = scoring.count(*zip(*pairs, strict=True), SILENCE)
  same = 0
  for pair, found in zip(pairs, counts, strict=True):
    expected = jiwer_split(*pair)
    assert found.total == sum(expected)
    assert len(best_splits(*pair)) > 1 or split(found) == expected
    same += split(found) == expected
  assert same / len(pairs) > 0.98


def test_the_rate_of_a_set_is_jiwers():
  references, hypotheses = random_strings(50, 40, 39, 5), random_strings(50, 40, 39, 6)
  references = [[*reference, 1] for reference in references]
  words = [[' '.join(map(str, row)) for row in rows] for rows in (references, hypotheses)]
  rate = scoring.pooled(scoring.count(references, hypotheses, SILENCE)).rate
  assert rate == pytest.approx(100 * jiwer.process_words(*words).wer, rel=1e-12)


@pytest.mark.parametrize('free', [None, SILENCE])
def test_an_alignment_spells_both_strings(free):
  references, hypotheses = random_strings(300, seed=7), random_strings(300, seed=8)
  found = edit_distance.alignments(references, hypotheses, free)
  for steps, reference, hypothesis in zip(found, references, hypotheses, strict=True):
    for column, string in zip(steps.T, (reference, hypothesis), strict=True):
      assert column[column != edit_distance.GAP].tolist() == string
    assert not (steps == edit_distance.GAP).all(axis=1).any()


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
  (found,) = edit_distance.alignments([reference], [hypothesis])
  assert list(map(tuple, found.tolist())) == steps


def test_long_and_short_strings_share_a_batch():
  references = [[0] * 3, list(range(200)), [], [1, 2]]
  hypotheses = [[0] * 90, list(range(0, 200, 2)), [5], []]
  found = edit_distance.distances(references, hypotheses)
  assert found.tolist() == [87, 100, 1, 2]
  assert edit_distance.distances([], []).tolist() == []


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
    (found,) = scoring.count([reference], [hypothesis], SILENCE, convention)
    assert found.total == expected[convention], convention
    phones = [symbol for symbol in reference if symbol != SILENCE]
    assert found.length == len(phones if convention == 'removed' else reference)


def test_removed_silence_leaves_the_errors_of_the_rest():
  references, hypotheses = random_strings(200, seed=9), random_strings(200, seed=10)
  rest = [
    [[symbol for symbol in row if symbol != SILENCE] for row in rows]
    for rows in (references, hypotheses)
  ]
  removed = scoring.count(references, hypotheses, SILENCE, 'removed')
  assert removed == scoring.count(*rest, SILENCE)


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


def test_an_empty_reference_has_no_rate():
  with pytest.raises(errors.DataError, match='0 phones has no error rate'):
    _ = scoring.pooled(scoring.count([[]], [[1]], SILENCE)).rate


def test_speakers_are_pooled_by_themselves():
  counts = [scoring.Counts(1, 2, 3, 10), scoring.Counts(0, 1, 0, 4), scoring.Counts(5, 0, 0, 6)]
  found = scoring.per_speaker(counts, ['mabc0', 'fxyz0', 'mabc0'])
  assert list(found) == ['fxyz0', 'mabc0']
  assert found['mabc0'] == scoring.Counts(6, 2, 3, 16)
  assert found['mabc0'].rate == 100 * 11 / 16
  assert scoring.pooled(found.values()) == scoring.Counts(6, 3, 3, 20)


def test_confusions_add_up_to_the_strings_and_to_the_errors():
  references, hypotheses = random_strings(300, seed=11), random_strings(300, seed=12)
  table = scoring.confusion(references, hypotheses, 4)
  for rows, axis in ((references, 1), (hypotheses, 0)):
    symbols = collections.Counter(itertools.chain(*rows))
    assert table.sum(axis=axis)[:4].tolist() == [symbols[symbol] for symbol in range(4)]
  counts = scoring.pooled(scoring.count(references, hypotheses, SILENCE))
  classes = table[:4, :4]
  assert classes.sum() - classes.trace() == counts.substitutions
  assert (table[:4, 4].sum(), table[4, :4].sum(), table[4, 4]) == (*split(counts)[1:], 0)


def test_a_confusion_is_reference_by_hypothesis():
  table = scoring.confusion([[0, 1, 3, 0, 1], [0, 1]], [[0, 2, 3, 0], [0, 3, 1]], 4)
  expected = np.zeros((5, 5), int)
  expected[0, 0], expected[3, 3], expected[1, 1] = 3, 1, 1
  expected[1, 2] = expected[1, 4] = expected[4, 3] = 1  # taken for 2, deleted, 3 inserted
  np.testing.assert_array_equal(table, expected)


def systems():
  """Counts of two systems on 60 utterances, the second a little better."""
  rng = np.random.default_rng(0)
  lengths = rng.integers(15, 60, 60)
  first = rng.binomial(lengths, 0.25)
  second = rng.binomial(first, 0.9) + rng.binomial(lengths, 0.02)
  return [
    [scoring.Counts(int(wrong), 0, 0, int(n)) for wrong, n in zip(column, lengths, strict=True)]
    for column in (first, second)
  ]


def scipys(statistic, *columns):
  found = stats.bootstrap(
    columns, statistic, paired=True, vectorized=True, method='percentile', rng=1, n_resamples=9999
  )
  return found.confidence_interval.low, found.confidence_interval.high


def test_the_interval_is_scipys():
  counts, _ = systems()
  expected = scipys(
    lambda wrong, length, axis: 100 * wrong.sum(axis) / length.sum(axis),
    [each.total for each in counts],
    [each.length for each in counts],
  )
  found = bootstrap.interval(counts)
  assert found == pytest.approx(expected, abs=0.1)
  assert expected[1] - expected[0] > 2
  assert found == bootstrap.interval(counts) != bootstrap.interval(counts, seed=1)


def test_the_interval_of_a_difference_is_scipys_and_narrower_than_of_two_sets():
  first, second = systems()
  expected = scipys(
    lambda a, b, length, axis: 100 * (b.sum(axis) - a.sum(axis)) / length.sum(axis),
    [each.total for each in first],
    [each.total for each in second],
    [each.length for each in first],
  )
  found = bootstrap.difference(first, second)
  assert (found.low, found.high) == pytest.approx(expected, abs=0.1)
  assert found.value == pytest.approx(scoring.pooled(second).rate - scoring.pooled(first).rate)
  apart = bootstrap.interval(first)[1] - bootstrap.interval(first)[0]
  assert found.high - found.low < apart
  assert 0.9 < found.share_better < 1
  turned = bootstrap.difference(second, first)
  assert turned.share_better == pytest.approx(1 - found.share_better)
  assert turned.value == -found.value


def test_a_system_is_as_good_as_itself():
  first, _ = systems()
  assert bootstrap.difference(first, first) == bootstrap.Difference(0.0, 0.0, 0.0, 0.5)


def test_draws_without_a_phone_have_no_errors():
  counts = [scoring.Counts(0, 0, 0, 0), scoring.Counts(1, 0, 0, 2)]
  assert bootstrap.interval(counts) == (0.0, 50.0)


def test_bootstraps_need_phones_and_the_same_ones():
  with pytest.raises(errors.DataError, match='references of 0 phones'):
    bootstrap.interval([scoring.Counts(0, 0, 1, 0)])
  first, second = systems()
  with pytest.raises(errors.DataError, match='expected the same utterances in the same order'):
    bootstrap.difference(first, second[::-1])
