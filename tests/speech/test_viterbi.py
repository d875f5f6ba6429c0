"""Decoding and realigning against hmmlearn's dense Viterbi and against all paths there are."""

import dataclasses
import itertools

from made_up.hmm import hmmlearn_path
from made_up.hmm import log
from made_up.hmm import log_posteriors
from made_up.hmm import model
import numpy as np
import pytest

from shallow_jax.runtime.errors import DataError
from shallow_jax.speech import hmm
from shallow_jax.speech import viterbi

NUM_LABELS = 4
MODEL = model(NUM_LABELS)
PLAIN = viterbi.Scales(acoustic=1.0, lm=1.0, insertion=0.0)
SETTINGS = [
  PLAIN,
  viterbi.Scales(acoustic=0.3, lm=2.5, insertion=4.5),
  viterbi.Scales(acoustic=2.0, lm=0.5, insertion=-1.0),
]


def transitions(hmm_model, scales):
  """The dense matrix exp(log a + lm log P + insertion) [states, states]."""
  num_labels = len(hmm_model.log_bigram)
  found = np.zeros((3 * num_labels, 3 * num_labels))
  for state in range(3 * num_labels):
    label, part = divmod(state, 3)
    found[state, state] = np.exp(hmm_model.log_stay[state])
    leave = np.exp(hmm_model.log_leave[state])
    if part < 2:
      found[state, state + 1] = leave
      continue
    for after in range(num_labels):
      probability = np.exp(scales.lm * hmm_model.log_bigram[label, after])
      found[state, 3 * after] = leave * probability * np.exp(scales.insertion)
  return found


def likelihoods(posteriors, hmm_model, scales):
  return scales.acoustic * (posteriors - hmm_model.log_prior)


@pytest.mark.parametrize('which', range(len(SETTINGS)))
def test_score_and_path_are_hmmlearns(which):
  posteriors = log_posteriors([40, 3, 9, 25, 17], NUM_LABELS)
  scores, paths = viterbi.decode(posteriors, MODEL, SETTINGS)
  assert scores.shape == (len(SETTINGS), 5)
  scales = SETTINGS[which]
  for utterance, frames in enumerate(posteriors):
    score, path = hmmlearn_path(
      likelihoods(frames, MODEL, scales), transitions(MODEL, scales), first=3, last=5
    )
    np.testing.assert_allclose(scores[which, utterance], score, rtol=1e-4)
    assert paths[utterance].dtype == np.int32
    np.testing.assert_array_equal(paths[utterance][which], path)


def all_paths(num_labels, length, boundary):
  """Every path from the boundary's first state to its last one."""
  paths = [[3 * boundary]]
  for _ in range(length - 1):
    paths = [[*path, after] for path in paths for after in successors(path[-1], num_labels)]
  return [path for path in paths if path[-1] == 3 * boundary + 2]


def successors(state, num_labels):
  """Only a last state can be left for another label; staying counts before entering anew."""
  entered = range(0, 3 * num_labels, 3) if state % 3 == 2 else [state + 1]
  return [state, *entered]


def score_of(path, posteriors, hmm_model, scales):
  total = sum(likelihoods(posteriors, hmm_model, scales)[np.arange(len(path)), path])
  for before, after in itertools.pairwise(path):
    total += hmm_model.log_stay[before] if before == after else hmm_model.log_leave[before]
    if before % 3 == 2 and after % 3 == 0:
      total += scales.lm * hmm_model.log_bigram[before // 3, after // 3] + scales.insertion
  return total


def test_no_path_is_better():
  two_labels = model(2, seed=3)
  [posteriors] = log_posteriors([11], 2, seed=3)
  scores, [paths] = viterbi.decode([posteriors], two_labels, SETTINGS)
  candidates = all_paths(2, 11, boundary=1)
  assert len(candidates) > 200
  for which, scales in enumerate(SETTINGS):
    totals = [score_of(path, posteriors, two_labels, scales) for path in candidates]
    np.testing.assert_allclose(scores[which, 0], max(totals), rtol=1e-5)
    assert paths[which].tolist() == candidates[int(np.argmax(totals))]


def test_neither_padding_nor_company_changes_a_decoding():
  lengths = [20, 70, 5, *range(3, 66)]  # two batches, of other shapes than each alone
  posteriors = log_posteriors(lengths, NUM_LABELS)
  scores, paths = viterbi.decode(posteriors, MODEL, [PLAIN])
  for utterance in (0, 1, 2, 3, 65):
    alone_scores, [alone] = viterbi.decode([posteriors[utterance]], MODEL, [PLAIN])
    np.testing.assert_array_equal(alone, paths[utterance])
    np.testing.assert_allclose(alone_scores[:, 0], scores[:, utterance], rtol=1e-6)


def test_what_lies_beyond_an_utterances_end_is_not_looked_at():
  [frames] = log_posteriors([30], NUM_LABELS)
  settings = viterbi.Scales(*(np.array([value], np.float32) for value in (1.0, 1.0, 0.0)))
  [[score]], [[path]] = viterbi.viterbi(frames[None, :20], np.array([20]), MODEL, settings)
  noise = np.where(np.arange(30)[:, None] < 20, frames, np.nan)
  [[padded_score]], [[padded]] = viterbi.viterbi(noise[None], np.array([20]), MODEL, settings)
  assert padded[20:].tolist() == [-1] * 10
  np.testing.assert_array_equal(padded[:20], path)
  np.testing.assert_allclose(padded_score, score, rtol=1e-6)


def certain(states, num_labels):
  """Posteriors that leave no doubt."""
  return log(np.eye(3 * num_labels)[states] + 1e-6)


def test_a_label_that_follows_itself_is_two_labels():
  states = [3, 4, 5, 0, 1, 1, 2, 0, 0, 1, 2, 6, 7, 8, 3, 4, 4, 5]
  _, [[path]] = viterbi.decode([certain(states, NUM_LABELS)], MODEL, [PLAIN])
  assert path.tolist() == states
  assert viterbi.transcribe(path).tolist() == [1, 0, 0, 2, 1]


def test_a_label_that_lasts_is_one_label():
  states = [3, 4, 5, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 4, 5, 5]
  _, [[path]] = viterbi.decode([certain(states, NUM_LABELS)], MODEL, [PLAIN])
  assert viterbi.transcribe(path).tolist() == [1, 0, 1]


def test_fewer_labels_are_entered_the_more_one_costs():
  posteriors = log_posteriors([60], NUM_LABELS)
  penalties = [viterbi.Scales(1.0, 1.0, insertion) for insertion in (1e3, 5.0, 0.0, -5.0, -1e3)]
  _, [paths] = viterbi.decode(posteriors, MODEL, penalties)
  numbers = [len(viterbi.transcribe(path)) for path in paths]
  assert numbers == sorted(numbers, reverse=True)
  assert (numbers[0], numbers[-1]) == (20, 1)


def test_without_a_language_model_the_bigram_plays_no_part():
  posteriors = log_posteriors([30], NUM_LABELS)
  settings = [viterbi.Scales(1.0, 0.0, 0.5), PLAIN]
  other = dataclasses.replace(MODEL, log_bigram=model(NUM_LABELS, seed=9).log_bigram)
  scores, [paths] = viterbi.decode(posteriors, MODEL, settings)
  others_scores, [others_paths] = viterbi.decode(posteriors, other, settings)
  np.testing.assert_array_equal(paths[0], others_paths[0])
  assert scores[0] == others_scores[0]
  assert scores[1] != others_scores[1]


def test_an_utterance_without_a_path_is_refused():
  long, short = log_posteriors([9, 2], NUM_LABELS)
  with pytest.raises(DataError, match='utterance 1: 2 frames, expected at least 3'):
    viterbi.decode([long, short], MODEL, [PLAIN])
  long[4] = np.nan
  with pytest.raises(DataError, match='utterance 1: the best path scores nan'):
    viterbi.decode([long[:3], long], MODEL, [PLAIN])


# ---- along known labels ----

FIVE_LABELS = model(5)
LENGTHS = [40, 25, 9, 61, 100]
LABELS = [[1, 0, 0, 3, 1], [1, 4, 1], [2, 2, 2], [1, 2, 3, 4, 0, 1, 1, 1, 3, 1], [0]]
POSTERIORS = log_posteriors(LENGTHS, 5)
CURRENT = [np.full(length, 99, np.int32) for length in LENGTHS]


def chain(labels):
  return np.array([3 * label + part for label in labels for part in range(3)])


def best(frames, labels):
  """Score and states by hmmlearn."""
  states = chain(labels)
  transitions = np.diag(np.exp(FIVE_LABELS.log_stay[states]))
  transitions += np.diag(np.exp(FIVE_LABELS.log_leave[states[:-1]]), k=1)
  likelihoods = (frames - FIVE_LABELS.log_prior)[:, states]
  score, path = hmmlearn_path(likelihoods, transitions, first=0, last=len(states) - 1)
  return score, states[path]


def test_the_path_is_hmmlearns():
  found, kept = viterbi.realign(POSTERIORS, LABELS, CURRENT, FIVE_LABELS)
  assert kept == []
  for frames, labels, states in zip(POSTERIORS, LABELS, found, strict=True):
    assert states.dtype == np.int32
    np.testing.assert_array_equal(states, best(frames, labels)[1])


def test_the_score_is_hmmlearns():
  chains = np.stack([np.pad(chain(LABELS[i]), (0, 15 - 3 * len(LABELS[i]))) for i in (0, 1)])
  frames = np.stack([POSTERIORS[0], np.pad(POSTERIORS[1], ((0, 15), (0, 0)))])
  scores, _ = viterbi.force(frames, np.array([40, 25]), chains, np.array([15, 9]), FIVE_LABELS)
  expected = [best(POSTERIORS[i], LABELS[i])[0] for i in (0, 1)]
  np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_the_labels_of_a_realignment_are_the_known_ones():
  found, _ = viterbi.realign(POSTERIORS, LABELS, CURRENT, FIVE_LABELS)
  for labels, states in zip(LABELS, found, strict=True):
    assert (states[hmm.entries(states)] // 3).tolist() == labels


def test_neither_padding_nor_company_changes_a_realignment():
  many = 15  # more than one batch
  found, _ = viterbi.realign(many * POSTERIORS, many * LABELS, many * CURRENT, FIVE_LABELS)
  for utterance in (0, 2, 4):
    one = slice(utterance, utterance + 1)
    [alone], _ = viterbi.realign(POSTERIORS[one], LABELS[one], CURRENT[one], FIVE_LABELS)
    for copy in range(many):
      np.testing.assert_array_equal(found[len(LABELS) * copy + utterance], alone)


def test_an_utterance_too_short_for_its_labels_keeps_what_it_had():
  labels = [LABELS[0], [1, 0, 2, 1], LABELS[2], LABELS[3], LABELS[4]]
  posteriors = [POSTERIORS[0], POSTERIORS[1][:11], *POSTERIORS[2:]]
  current = [CURRENT[0], CURRENT[1][:11], *CURRENT[2:]]
  found, kept = viterbi.realign(posteriors, labels, current, FIVE_LABELS)
  assert kept == [1]
  np.testing.assert_array_equal(found[1], current[1])
  np.testing.assert_array_equal(found[3], best(POSTERIORS[3], LABELS[3])[1])


def test_posteriors_that_are_not_numbers_are_refused():
  broken = [frames.copy() for frames in POSTERIORS]
  broken[3][30] = np.nan
  with pytest.raises(DataError, match='utterance 3: the best path scores nan'):
    viterbi.realign(broken, LABELS, CURRENT, FIVE_LABELS)


# ---- batches ----


def test_every_utterance_is_in_one_batch_that_it_fits():
  lengths = np.random.default_rng(0).integers(1, 800, 150)
  found = viterbi.batches_by_length(lengths)
  assert [batch.rows for batch in found] == [64, 64, 32]
  np.testing.assert_array_equal(
    np.sort(np.concatenate([batch.indices for batch in found])), np.arange(150)
  )
  for batch in found:
    assert len(batch.indices) <= batch.rows
    longest = lengths[batch.indices].max()
    assert longest <= batch.length < longest + 64 and batch.length % 64 == 0


def test_shapes_stay_few_however_many_utterances_there_are():
  lengths = np.random.default_rng(0).integers(90, 780, 4000)
  assert len({(batch.rows, batch.length) for batch in viterbi.batches_by_length(lengths)}) <= 13


def test_only_the_chosen_are_taken():
  found = viterbi.batches_by_length([5, 300, 7, 8], np.array([0, 2, 3]))
  assert [(batch.indices.tolist(), batch.length) for batch in found] == [([3, 2, 0], 64)]
  assert viterbi.batches_by_length([5, 300], np.array([], int)) == []


def test_what_is_added_is_zero():
  arrays = [np.full((length, 2), length, np.float32) for length in (3, 9, 70)]
  [batch] = viterbi.batches_by_length([3, 9, 70])
  padded = batch.pad(arrays)
  assert padded.shape == (4, 128, 2) and padded.dtype == np.float32
  assert padded[:, :, 0].sum(axis=1).tolist() == [70 * 70, 9 * 9, 3 * 3, 0]
  assert (padded[1, :9] == 9).all()
  assert batch.lengths([3, 9, 70]).tolist() == [70, 9, 3, 0]
  assert batch.pad(arrays, length=192).shape == (4, 192, 2)
