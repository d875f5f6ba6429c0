"""What is counted for the HMM and the first alignment, by thirds, against plain loops."""

import collections
import fractions
import itertools

import numpy as np
import pytest

from shallow_jax.runtime.errors import DataError
from shallow_jax.speech import hmm

NUM_LABELS = 6
BOUNDARY = 2
STRINGS = [[2, 0, 1, 1, 0, 2], [2, 0, 3, 2], [2, 3, 0, 1, 2], [2, 2]]


def witten_bell(strings, num_labels):
  """Exact probabilities [label][next], as the definition reads."""
  pairs = collections.Counter(pair for s in strings for pair in itertools.pairwise(s))

  def smooth(counts, lower):
    total, distinct = sum(counts), sum(count > 0 for count in counts)
    if not total:
      return lower
    return [
      fractions.Fraction(count + distinct * below) / (total + distinct)
      for count, below in zip(counts, lower, strict=True)
    ]

  labels = range(num_labels)
  uniform = [fractions.Fraction(1, num_labels)] * num_labels
  unigram = smooth([sum(pairs[p, q] for p in labels) for q in labels], uniform)
  return [smooth([pairs[p, q] for q in labels], unigram) for p in labels]


def test_bigram_is_witten_bells():
  expected = np.array(witten_bell(STRINGS, NUM_LABELS), float)
  found = hmm.bigram(STRINGS, NUM_LABELS, BOUNDARY)
  assert found.dtype == np.float32
  np.testing.assert_allclose(np.exp(found), expected, rtol=1e-5)


def test_every_row_of_the_bigram_sums_to_1_and_nothing_is_impossible():
  found = hmm.bigram(STRINGS, NUM_LABELS, BOUNDARY)
  np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, rtol=1e-6)
  assert np.isfinite(found).all()


def test_a_label_that_was_never_left_is_followed_by_whatever_is_frequent():
  found = hmm.bigram(STRINGS, NUM_LABELS, BOUNDARY)
  np.testing.assert_array_equal(found[4], found[5])
  assert set(np.argsort(found[4])[-2:]) == {0, 2}
  # 13 pairs end in 4 labels: 4 / (13 + 4) of the probability is spread evenly over all 6
  np.testing.assert_allclose(np.exp(found[4, 4]), 4 / 17 / 6, rtol=1e-6)


def test_a_string_without_the_boundary_is_read_as_if_it_stood_there():
  whole = [[2, 0, 1, 2], [2, 1, 0, 2], [2, 2]]
  found = hmm.bigram([whole[0], [1, 0], [2, 2]], NUM_LABELS, BOUNDARY)
  np.testing.assert_array_equal(found, hmm.bigram(whole, NUM_LABELS, BOUNDARY))


def test_a_boundary_that_begins_no_string_is_refused():
  with pytest.raises(DataError, match='label 5, the boundary, begins none of 4'):
    hmm.bigram(STRINGS, NUM_LABELS, 5)


def test_self_loops_count_stays_and_leaves():
  alignments = [np.array([6, 6, 6, 7, 8, 0, 0, 6]), np.array([8, 8, 6])]
  log_stay, log_leave = hmm.self_loops(alignments, 9)
  stays, leaves = collections.Counter(), collections.Counter()
  for states in alignments:
    for now, after in zip(states, [*states[1:], None], strict=True):
      (stays if now == after else leaves)[now] += 1
  expected = [(stays[s] + 1) / (stays[s] + leaves[s] + 2) for s in range(9)]
  np.testing.assert_allclose(np.exp(log_stay), expected, rtol=1e-6)
  np.testing.assert_allclose(np.exp(log_leave), 1 - np.array(expected), rtol=1e-6)
  assert expected[1] == 0.5


def test_priors_are_shares_of_frames_and_unseen_states_count_once():
  alignments = [np.array([0, 0, 0, 1]), np.array([2, 2, 2, 2, 1])]
  found = hmm.priors(iter(alignments), 4)
  np.testing.assert_allclose(np.exp(found), np.array([3, 2, 4, 1]) / 10, rtol=1e-6)


def test_estimate_puts_each_count_in_its_place():
  alignments = [np.array([6, 7, 8, 8, 0, 1, 2, 6, 7, 8])]
  found = hmm.estimate(alignments, STRINGS, NUM_LABELS, BOUNDARY)
  np.testing.assert_array_equal(found.log_bigram, hmm.bigram(STRINGS, NUM_LABELS, BOUNDARY))
  log_stay, log_leave = hmm.self_loops(alignments, 18)
  np.testing.assert_array_equal(found.log_stay, log_stay)
  np.testing.assert_array_equal(found.log_leave, log_leave)
  np.testing.assert_array_equal(found.log_prior, hmm.priors(alignments, 18))
  assert found.boundary == BOUNDARY


def test_a_label_is_entered_where_its_first_state_begins():
  path = np.array([3, 3, 4, 5, 0, 1, 2, 2, 0, 0, 1, 2, 3, 4, 5])
  assert hmm.entries(path).tolist() == [0, 4, 8, 12]


# Of 160-sample frames with centres 200, 360, ...: one each for 1 to 5 frames, none, and the rest.
SEGMENTS = [
  (50, 250, 4),
  (250, 520, 0),
  (520, 1001, 1),
  (1001, 1099, 5),
  (1099, 1800, 2),
  (1800, 2440, 3),
  (2440, 2500, 4),
]
NUM_FRAMES = 17


def test_a_frame_belongs_to_the_segment_that_its_centre_lies_in():
  found = hmm.uniform_alignment(SEGMENTS, NUM_FRAMES)
  assert found.dtype == np.int32
  for frame, state in enumerate(found):
    centre = min(160 * frame + 200, SEGMENTS[-1][1] - 1)
    [label] = [label for start, end, label in SEGMENTS if start <= centre < end]
    assert state // 3 == label


def test_a_segment_is_split_evenly_from_left_to_right():
  found = hmm.uniform_alignment([(0, 160, 0)], 1)
  assert (found % 3).tolist() == [1]
  thirds = {
    n: (hmm.uniform_alignment([(0, 400 + 160 * n, 0)], n) % 3).tolist() for n in range(2, 8)
  }
  assert thirds == {
    2: [0, 2],
    3: [0, 1, 2],
    4: [0, 1, 1, 2],
    5: [0, 0, 1, 2, 2],
    6: [0, 0, 1, 1, 2, 2],
    7: [0, 0, 1, 1, 1, 2, 2],
  }


def test_a_segment_without_a_centre_has_no_frame_and_begins_where_the_next_does():
  first = hmm.starts(SEGMENTS, NUM_FRAMES)
  assert first.tolist() == [0, 1, 2, 6, 6, 10, 14]
  assert 5 not in hmm.uniform_alignment(SEGMENTS, NUM_FRAMES) // 3


def test_a_centre_at_a_boundary_belongs_to_the_segment_that_starts_there():
  for start, frame in ((359, 1), (360, 1), (361, 2)):
    assert hmm.starts([(0, start, 0), (start, 900, 1)], 4).tolist() == [0, frame]


def test_what_is_outside_of_all_segments_takes_the_nearest():
  found = hmm.uniform_alignment([(700, 1000, 0), (1000, 1200, 1)], 12) // 3
  assert found.tolist() == [0] * 5 + [1] * 7
  late = hmm.uniform_alignment([(0, 500, 0), (5000, 5500, 1)], 12) // 3
  assert late.tolist() == [0] * 12


def test_a_comparison_tells_what_moved():
  old = [np.array([0, 1, 2, 3, 4, 5]), np.array([0, 1, 2, 2])]
  new = [np.array([0, 0, 1, 2, 3, 4]), np.array([0, 1, 2, 2])]
  corpus_starts = [np.array([0, 3]), np.array([0])]
  found = hmm.compare(old, new, corpus_starts, 3)
  assert found.changed == 5 / 10
  np.testing.assert_allclose(found.shares[:2], [[3 / 8, 2 / 8, 3 / 8], [1 / 2, 1 / 2, 0]])
  assert np.isnan(found.shares[2]).all()
  assert found.shift == 1.0


def test_an_utterance_that_kept_its_thirds_has_no_shift():
  new = [np.array([0, 1, 2, 3, 4, 5]), np.array([0, 1, 2, 4])]
  corpus_starts = [np.array([0, 5]), np.array([0, 3])]
  assert hmm.compare(new, new, corpus_starts, 2).shift == 2.0
  assert np.isnan(hmm.compare(new[1:], new[1:], corpus_starts[1:], 2).shift)
