"""What result.json says of the seeds of a network."""

from made_up.speech import make_logits
from made_up.speech import make_recognition
import numpy as np
import pytest

from shallow_jax.pipeline import evaluate
from shallow_jax.speech import phone_errors
from shallow_jax.speech import recognise

RECOGNITION, LABELS = make_recognition()
MODEL = recognise.estimate(RECOGNITION, LABELS['train'])
ONE = dict(acoustic=(1.0,), lm=(1.0,), insertion=(0.0,))


def noisy(seed, noise=6.0):
  rng = np.random.default_rng(seed)
  return {
    name: make_logits(LABELS[name]) + noise * rng.standard_normal((len(LABELS[name]), 12))
    for name in evaluate.SETS
  }


def rates(found, name='test'):
  return [phone_errors.rate(counts) for counts in found.counts[name]]


def test_the_summary_is_over_the_seeds_that_did_not_diverge():
  found = [recognise.recognise(noisy(seed), RECOGNITION, MODEL, ONE) for seed in (1, 2)]
  summary = evaluate._phone_summary([found[0], None, found[1]], RECOGNITION, 'test')
  strict = [rates(each)[0] for each in found]
  assert summary['values'] == [strict[0], None, strict[1]]
  assert summary['mean'] == pytest.approx(np.mean(strict))
  kinds = sum(summary[kind]['mean'] for kind in ('substitutions', 'deletions', 'insertions'))
  assert kinds == pytest.approx(summary['mean'])
  assert summary['interval'][0] <= summary['mean'] <= summary['interval'][1]
  scales = dict(acoustic=1.0, lm=1.0, insertion=0.0)
  assert summary['scales'] == [scales, None, scales]
  speakers = RECOGNITION.utterances['test'].speakers
  assert set(summary['by_speaker']) == set(speakers)
  mine = [i for i, name in enumerate(speakers) if name == 'test0']
  counts = sum(each.counts['test'][0, mine].sum(axis=0) for each in found)
  assert summary['by_speaker']['test0'] == pytest.approx(100 * counts[:3].sum() / counts[3])


def test_nobody_left_is_no_rate():
  summary = evaluate._phone_summary([None], RECOGNITION, 'test')
  assert summary['mean'] is None
  assert summary['interval'] is None
