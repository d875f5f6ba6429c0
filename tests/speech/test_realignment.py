"""Realignment against hmmlearn's Viterbi on a linear chain."""

from made_up.hmm import hmmlearn_path
from made_up.hmm import log_posteriors
from made_up.hmm import model
import numpy as np
import pytest

from shallow_jax.runtime.errors import DataError
from shallow_jax.speech import hmm
from shallow_jax.speech import realignment

NUM_LABELS = 5
MODEL = model(NUM_LABELS)
LENGTHS = [40, 25, 9, 61, 100]
LABELS = [[1, 0, 0, 3, 1], [1, 4, 1], [2, 2, 2], [1, 2, 3, 4, 0, 1, 1, 1, 3, 1], [0]]
POSTERIORS = log_posteriors(LENGTHS, NUM_LABELS)
CURRENT = [np.full(length, 99, np.int32) for length in LENGTHS]


def chain(labels):
  return np.array([3 * label + part for label in labels for part in range(3)])


def best(frames, labels):
  """Score and states by hmmlearn."""
  states = chain(labels)
  transitions = np.diag(np.exp(MODEL.log_stay[states]))
  transitions += np.diag(np.exp(MODEL.log_leave[states[:-1]]), k=1)
  likelihoods = (frames - MODEL.log_prior)[:, states]
  score, path = hmmlearn_path(likelihoods, transitions, first=0, last=len(states) - 1)
  return score, states[path]


def test_the_path_is_hmmlearns():
  found, kept = realignment.realign(POSTERIORS, LABELS, CURRENT, MODEL)
  assert kept == []
  for frames, labels, states in zip(POSTERIORS, LABELS, found, strict=True):
    assert states.dtype == np.int32
    np.testing.assert_array_equal(states, best(frames, labels)[1])


def test_the_score_is_hmmlearns():
  chains = np.stack([np.pad(chain(LABELS[i]), (0, 15 - 3 * len(LABELS[i]))) for i in (0, 1)])
  frames = np.stack([POSTERIORS[0], np.pad(POSTERIORS[1], ((0, 15), (0, 0)))])
  scores, _ = realignment.force(frames, np.array([40, 25]), chains, np.array([15, 9]), MODEL)
  expected = [best(POSTERIORS[i], LABELS[i])[0] for i in (0, 1)]
  np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_the_labels_of_a_realignment_are_the_known_ones():
  found, _ = realignment.realign(POSTERIORS, LABELS, CURRENT, MODEL)
  for labels, states in zip(LABELS, found, strict=True):
    assert (states[hmm.entries(states)] // 3).tolist() == labels


def test_neither_padding_nor_company_changes_a_result():
  many = 15  # more than one batch
  found, _ = realignment.realign(many * POSTERIORS, many * LABELS, many * CURRENT, MODEL)
  for utterance in (0, 2, 4):
    one = slice(utterance, utterance + 1)
    [alone], _ = realignment.realign(POSTERIORS[one], LABELS[one], CURRENT[one], MODEL)
    for copy in range(many):
      np.testing.assert_array_equal(found[len(LABELS) * copy + utterance], alone)


def test_an_utterance_too_short_for_its_labels_keeps_what_it_had():
  labels = [LABELS[0], [1, 0, 2, 1], LABELS[2], LABELS[3], LABELS[4]]
  posteriors = [POSTERIORS[0], POSTERIORS[1][:11], *POSTERIORS[2:]]
  current = [CURRENT[0], CURRENT[1][:11], *CURRENT[2:]]
  found, kept = realignment.realign(posteriors, labels, current, MODEL)
  assert kept == [1]
  np.testing.assert_array_equal(found[1], current[1])
  np.testing.assert_array_equal(found[3], best(POSTERIORS[3], LABELS[3])[1])


def test_posteriors_that_are_not_numbers_are_refused():
  broken = [frames.copy() for frames in POSTERIORS]
  broken[3][30] = np.nan
  with pytest.raises(DataError, match='utterance 3: the best path scores nan'):
    realignment.realign(broken, LABELS, CURRENT, MODEL)
