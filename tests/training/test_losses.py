"""Losses and their gradients against NumPy in float64, written out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from shallow_jax.training import losses

NUM_CLASSES = 5
SETTINGS = dict(temperature=3.0, label_smoothing=0.2, label_weight=0.0)


def batch_of(size=6, *, unknown=()):
  """Returns logits, a batch with targets and labels (-1 at `unknown`), and std [classes]."""
  rng = np.random.default_rng(0)
  logits, targets = rng.normal(scale=2, size=(2, size, NUM_CLASSES)).astype(np.float32)
  labels = rng.integers(NUM_CLASSES, size=size).astype(np.int32)
  labels[list(unknown)] = -1
  std = rng.uniform(0.5, 3, NUM_CLASSES).astype(np.float32)
  return logits, {'label': labels, 'target': targets}, std


def log_softmax(logits):
  logits = np.asarray(logits, np.float64)
  return logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))


def numpy_cross_entropy(logits, labels, smoothing=0.0):
  """The mean over the examples whose label is known, each written as a sum over classes."""
  total, known = 0.0, 0
  for row, label in zip(log_softmax(logits), labels, strict=True):
    if label >= 0:
      for c in range(NUM_CLASSES):
        q = (1 - smoothing) * (c == label) + smoothing / NUM_CLASSES
        total -= q * row[c]
      known += 1
  return total / known


def numpy_l2(logits, targets, std):
  """½ of a mean over examples of a sum over classes."""
  logits, targets, std = (np.asarray(array, np.float64) for array in (logits, targets, std))
  total = 0.0
  for t in range(len(logits)):
    for c in range(NUM_CLASSES):
      total += ((logits[t, c] - targets[t, c]) / std[c]) ** 2
  return total / (2 * len(logits))


def numpy_kl(logits, targets, temperature):
  log_p = log_softmax(np.asarray(targets, np.float64) / temperature)
  log_q = log_softmax(np.asarray(logits, np.float64) / temperature)
  return temperature**2 * np.sum(np.exp(log_p) * (log_p - log_q)) / len(logits)


def numpy_own(name, logits, batch, std):
  """A loss of a config by its name, without the labels' share."""
  labels, targets = batch['label'], batch['target']
  hard = np.argmax(targets, axis=-1)
  one_hot, ones = np.eye(NUM_CLASSES), np.ones(NUM_CLASSES)
  probabilities = np.exp(log_softmax(logits)), np.exp(log_softmax(targets))
  return {
    'cross_entropy': lambda: numpy_cross_entropy(logits, labels, SETTINGS['label_smoothing']),
    'label_l2': lambda: numpy_l2(logits, one_hot[labels], std),
    'logit_l2': lambda: numpy_l2(logits, targets, std),
    'kl': lambda: numpy_kl(logits, targets, SETTINGS['temperature']),
    'probability_l2': lambda: numpy_l2(*probabilities, ones),
    'hard_cross_entropy': lambda: numpy_cross_entropy(logits, hard),
    'hard_l2': lambda: numpy_l2(logits, one_hot[hard], std),
  }[name]()


@pytest.mark.parametrize('name', losses.ON_LABELS + losses.ON_LOGITS)
def test_each_loss_equals_numpy(name):
  logits, batch, std = batch_of()
  actual = losses.compute(dict(SETTINGS, name=name), logits, batch, std)
  assert actual.shape == ()
  np.testing.assert_allclose(actual, numpy_own(name, logits, batch, std), rtol=2e-6)


@pytest.mark.parametrize('name', losses.ON_LOGITS)
def test_a_mix_leaves_unknown_labels_out_of_the_labels_share_only(name):
  logits, batch, std = batch_of(unknown=(1, 4))
  actual = losses.compute(dict(SETTINGS, name=name, label_weight=0.3), logits, batch, std)
  labels_share = numpy_cross_entropy(logits, batch['label'])
  expected = 0.7 * numpy_own(name, logits, batch, std) + 0.3 * labels_share
  np.testing.assert_allclose(actual, expected, rtol=2e-6)


def test_an_unlabelled_batch_has_no_labels_share():
  logits, batch, std = batch_of(unknown=range(6))
  loss = dict(SETTINGS, name='logit_l2', label_weight=0.25)
  value, gradient = jax.value_and_grad(losses.compute, 1)(loss, jnp.asarray(logits), batch, std)
  np.testing.assert_allclose(value, 0.75 * numpy_l2(logits, batch['target'], std), rtol=2e-6)
  assert np.isfinite(gradient).all()


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_unknown_labels_add_nothing_to_cross_entropy(smoothing):
  logits, batch, _ = batch_of(unknown=(0, 3))
  value, gradient = jax.value_and_grad(losses.cross_entropy)(logits, batch['label'], smoothing)
  known = batch['label'] >= 0
  alone = losses.cross_entropy(logits[known], batch['label'][known], smoothing)
  np.testing.assert_allclose(value, alone, rtol=1e-6)
  assert not np.any(gradient[~known])
  assert np.all(np.any(gradient[known], axis=-1))


def test_smoothed_cross_entropy_equals_optax():
  logits, batch, _ = batch_of()
  targets = optax.smooth_labels(jax.nn.one_hot(batch['label'], NUM_CLASSES), 0.1)
  expected = optax.softmax_cross_entropy(jnp.asarray(logits), targets).mean()
  np.testing.assert_allclose(losses.cross_entropy(logits, batch['label'], 0.1), expected, rtol=1e-6)


@pytest.mark.parametrize('num_examples', [1, 7])
def test_logit_l2_is_half_a_sum_over_classes_and_a_mean_over_examples(num_examples):
  zeros, targets = jnp.zeros((num_examples, 183)), jnp.full((num_examples, 183), 2.0)
  value, gradient = jax.value_and_grad(losses.logit_l2)(zeros, targets, jnp.ones(183))
  np.testing.assert_allclose(value, 0.5 * 183 * 2**2, rtol=1e-6)
  np.testing.assert_allclose(gradient, np.full(zeros.shape, -2 / num_examples), rtol=1e-6)


def test_logit_l2_in_units_of_std_is_logit_l2_on_normalised_logits():
  logits, batch, std = batch_of()
  mean = np.linspace(-4, 4, NUM_CLASSES, dtype=np.float32)
  normalised = [(array - mean) / std for array in (logits, batch['target'])]
  expected = losses.logit_l2(*normalised, np.ones(NUM_CLASSES, np.float32))
  np.testing.assert_allclose(losses.logit_l2(logits, batch['target'], std), expected, rtol=1e-5)


def test_kl_carries_the_square_of_the_temperature():
  logits, batch, _ = batch_of()
  at_one = losses.kl(logits, batch['target'], 1.0)
  at_four = losses.kl(4 * logits, 4 * batch['target'], 4.0)
  np.testing.assert_allclose(at_four, 16 * at_one, rtol=1e-5)


def test_kl_alone_looks_at_no_label():
  logits, batch, std = batch_of()
  loss = dict(SETTINGS, name='kl')
  others = dict(batch, label=np.roll(batch['label'], 1))
  assert losses.compute(loss, logits, batch, std) == losses.compute(loss, logits, others, std)


def test_at_high_temperature_kl_becomes_logit_matching_with_an_error_like_1_over_t():
  """(g - z) / num_classes, one num_classes-th of logit_l2's gradient (claim 8 of paper.md)."""
  logits, batch, _ = batch_of()
  logits, targets = (
    jnp.asarray(array - array.mean(axis=-1, keepdims=True)) for array in (logits, batch['target'])
  )
  limit = (logits - targets) / (NUM_CLASSES * len(logits))  # the mean over examples included
  matching = jax.grad(losses.logit_l2)(logits, targets, jnp.ones(NUM_CLASSES))
  np.testing.assert_allclose(matching, NUM_CLASSES * limit, rtol=1e-5)
  errors = [
    np.abs(jax.grad(losses.kl)(logits, targets, temperature) - limit).max()
    for temperature in (10.0, 20.0, 40.0, 80.0, 160.0)
  ]
  assert errors[-1] < 0.02 * np.abs(limit).max()
  np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 2.0, atol=0.1)


def test_hard_labels_are_the_teachers_whatever_the_labels():
  logits, batch, std = batch_of(unknown=range(6))
  hard = batch['target'].argmax(axis=-1)
  np.testing.assert_array_equal(
    losses.compute(dict(SETTINGS, name='hard_cross_entropy'), logits, batch, std),
    losses.cross_entropy(logits, hard),
  )
  np.testing.assert_array_equal(
    losses.compute(dict(SETTINGS, name='hard_l2'), logits, batch, std),
    losses.one_hot_l2(logits, hard, std),
  )


def test_an_unknown_loss_is_refused_by_name():
  logits, batch, std = batch_of()
  with pytest.raises(ValueError, match="unknown loss 'l3'; expected one of cross_entropy"):
    losses.compute(dict(SETTINGS, name='l3'), logits, batch, std)
