"""From logits to phone error rates: perfect and shuffled ones, scales, what is told of them."""

import dataclasses
import logging

import jiwer
from made_up.speech import PHONES
from made_up.speech import make_logits
from made_up.speech import make_recognition
import numpy as np
import pytest

from shallow_jax.speech import phone_errors
from shallow_jax.speech import recognise
from shallow_jax.speech import viterbi

RECOGNITION, LABELS = make_recognition()
MODEL = recognise.estimate(RECOGNITION, LABELS['train'])
ONE = dict(acoustic=(1.0,), lm=(1.0,), insertion=(0.0,))
SETS = ('validation', 'test')


def noisy(seed, noise=6.0):
  rng = np.random.default_rng(seed)
  return {
    name: make_logits(LABELS[name]) + noise * rng.standard_normal((len(LABELS[name]), 12))
    for name in SETS
  }


def rates(found, name='test'):
  return [phone_errors.rate(counts) for counts in found.counts[name]]


def test_perfect_posteriors_make_no_errors():
  logits = {name: make_logits(LABELS[name]) for name in SETS}
  found = recognise.recognise(logits, RECOGNITION, MODEL, ONE)
  for name in SETS:
    assert rates(found, name) == [0.0, 0.0, 0.0]
  np.testing.assert_array_equal(found.confusion, np.diag(found.confusion.diagonal()))
  scored = [label for labels in RECOGNITION.utterances['test'].transcriptions for label in labels]
  assert found.confusion.sum() == sum(label != 3 for label in scored)


def test_shuffled_posteriors_are_worth_nothing():
  rng = np.random.default_rng(0)
  logits = {name: rng.permutation(make_logits(LABELS[name])) for name in SETS}
  strict, *_ = rates(recognise.recognise(logits, RECOGNITION, MODEL, ONE))
  assert strict > 60


def test_the_rate_is_jiwers_on_the_scored_classes():
  found = recognise.recognise(noisy(3), RECOGNITION, MODEL, ONE)
  log_posteriors = recognise.by_utterance(
    recognise.log_posteriors(noisy(3)['test']), RECOGNITION.utterances['test'].offsets
  )
  _, paths = viterbi.decode(log_posteriors, MODEL, [viterbi.Scales(1.0, 1.0, 0.0)])

  def text(labels):
    scored = [PHONES.scored[PHONES.labels[label]] for label in labels]
    return ' '.join(name for name in scored if name is not None)

  references = [text(labels) for labels in RECOGNITION.utterances['test'].transcriptions]
  hypotheses = [text(viterbi.transcribe(path[0])) for path in paths]
  strict = rates(found)[0]
  assert 0 < strict < 100
  assert strict == pytest.approx(100 * jiwer.wer(references, hypotheses))


def test_test_has_no_say_in_the_scales():
  grid = dict(ONE, insertion=(-30.0, 0.0, 40.0))
  # On test one of the labels alone is known, and weakly: entering more labels would be better.
  logits = {name: make_logits(LABELS[name]) for name in SETS}
  logits['test'] = make_logits(np.where(LABELS['test'] // 3 == 1, LABELS['test'], 0), 1.0)
  found = recognise.recognise(logits, RECOGNITION, MODEL, grid)
  strict = {
    value: rates(recognise.recognise(logits, RECOGNITION, MODEL, dict(ONE, insertion=(value,))))[0]
    for value in grid['insertion']
  }
  assert min(strict.values()) < strict[found.scales.insertion]


def test_validation_chooses_the_best_of_all_and_the_first_of_equal_ones():
  logits = noisy(1)
  grid = dict(acoustic=(0.05, 1.0), lm=(1.0, 5.0), insertion=(-4.0, 0.0))
  found = recognise.recognise(logits, RECOGNITION, MODEL, grid)
  by_scales = {
    (a, lm, i): rates(
      recognise.recognise(
        logits, RECOGNITION, MODEL, dict(acoustic=(a,), lm=(lm,), insertion=(i,))
      ),
      'validation',
    )[0]
    for a in grid['acoustic']
    for lm in grid['lm']
    for i in grid['insertion']
  }
  best = min(by_scales.values())
  first = next(scales for scales, rate in by_scales.items() if rate == best)
  assert dataclasses.astuple(found.scales) == first
  assert max(by_scales.values()) > best


def test_an_edge_of_the_grid_is_said(caplog):
  logits = {name: make_logits(LABELS[name]) for name in SETS}
  grid = dict(acoustic=(0.5, 1.0, 2.0), lm=(1.0,), insertion=(0.0,))
  with caplog.at_level(logging.WARNING):
    found = recognise.recognise(logits, RECOGNITION, MODEL, grid)
  assert found.at_edge == ('acoustic',)
  assert 'validation prefers acoustic 0.5, at the edge' in caplog.text


def test_the_boundary_is_the_silence_that_begins_utterances():
  assert PHONES.labels[recognise.boundary(RECOGNITION)] == 'h#'


def test_outputs_fitted_to_one_hot_labels_are_posteriors():
  rng = np.random.default_rng(2)
  smooth = {name: 0.4 * np.eye(12)[LABELS[name]] + 0.05 for name in SETS}
  outputs = {name: rows + rng.normal(0, 0.1, rows.shape) for name, rows in smooth.items()}
  as_posteriors, as_logits = (
    rates(recognise.recognise(outputs, RECOGNITION, MODEL, ONE, are_posteriors=choice))[0]
    for choice in (True, False)
  )
  assert as_posteriors < as_logits
  rows = np.array([[0.7, 0.3, -0.2]])
  np.testing.assert_allclose(
    np.exp(recognise.log_posteriors(rows, are_posteriors=True)), [[0.7, 0.3, 0.0]], atol=2e-4
  )


def test_posteriors_are_one_over_the_states():
  logits = np.random.default_rng(0).normal(0, 50, (7, 12))
  np.testing.assert_allclose(np.exp(recognise.log_posteriors(logits)).sum(axis=1), 1.0, rtol=1e-5)
  assert recognise.log_posteriors(logits).dtype == np.float32
