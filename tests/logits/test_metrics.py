"""Figures about logits against NumPy and plain loops."""

import numpy as np
import pytest

from shallow_jax.logits import metrics


def logits_and_labels(size=400, num_classes=5):
  rng = np.random.default_rng(0)
  labels = rng.integers(num_classes, size=size)
  logits = rng.normal(size=(size, num_classes)) + 1.5 * np.eye(num_classes)[labels]
  return logits.astype(np.float32), labels


def softmax(logits):
  exponentials = np.exp(np.asarray(logits, np.float64))
  return exponentials / exponentials.sum(axis=-1, keepdims=True)


def test_error_is_the_share_of_wrong_predictions_in_per_cent():
  logits = np.float32([[1, 0, 0], [0, 2, 1], [0, 0, 3], [5, 4, 3]])
  assert metrics.error(logits, np.array([0, 1, 2, 1])) == 25.0
  assert metrics.error(logits, np.array([0, 1, 2, 0])) == 0.0
  assert metrics.error(logits, np.array([1, 2, 0, 2])) == 100.0


@pytest.mark.parametrize('num_bins', [1, 10, 15])
def test_calibration_error_equals_a_loop_over_bins(num_bins):
  logits, labels = logits_and_labels()
  probabilities = softmax(logits)
  expected = 0.0
  for b in range(num_bins):
    correct, confidences = [], []
    for row, label in zip(probabilities, labels, strict=True):
      if b / num_bins <= row.max() < (b + 1) / num_bins:
        correct.append(row.argmax() == label)
        confidences.append(row.max())
    if correct:
      gap = abs(np.mean(correct) - np.mean(confidences))
      expected += 100 * len(correct) / len(labels) * gap
  assert expected > 1
  assert metrics.calibration_error(logits, labels, num_bins) == pytest.approx(expected, abs=1e-9)


def test_certain_predictions_fall_into_the_last_bin():
  logits = np.float32([[100, 0], [100, 0], [0, 100], [0, 100]])
  assert metrics.calibration_error(logits, np.array([0, 0, 1, 1])) == pytest.approx(0)
  assert metrics.calibration_error(logits, np.array([0, 1, 1, 0])) == pytest.approx(50)


def test_equal_logits_have_full_fidelity():
  logits, _ = logits_and_labels()
  assert metrics.fidelity(logits, logits) == {'agreement': 100.0, 'logit_r2': 1.0, 'kl': 0.0}


def test_fidelity_equals_numpy():
  targets, _ = logits_and_labels()
  logits = targets + np.random.default_rng(1).normal(size=targets.shape).astype(np.float32)
  found = metrics.fidelity(logits, targets)
  p, q = softmax(targets), softmax(logits)
  agreeing = sum(a.argmax() == b.argmax() for a, b in zip(logits, targets, strict=True))
  assert 0 < agreeing < len(logits)
  assert found['agreement'] == pytest.approx(100 * agreeing / len(logits))
  assert found['kl'] == pytest.approx(np.mean(np.sum(p * np.log(p / q), axis=-1)))
  assert found['logit_r2'] == metrics.r_squared(logits, targets)


def test_fidelity_survives_probabilities_that_underflow():
  targets, logits = np.float32([[2000, 0], [0, 2000]]), np.float32([[0, 2000], [0, 2000]])
  found = metrics.fidelity(logits, targets)
  assert found['agreement'] == 50.0
  assert np.isfinite(found['kl'])
  assert found['kl'] > 100


def test_r_squared_equals_a_loop_with_means_per_class():
  targets, _ = logits_and_labels(size=30)
  targets += np.float32([0, 10, -10, 5, 100])  # a common mean would make everything look good
  logits = targets + np.random.default_rng(1).normal(size=targets.shape).astype(np.float32)
  residual = total = 0.0
  for c in range(targets.shape[1]):
    mean = np.mean(targets[:, c], dtype=np.float64)
    for g, z in zip(logits[:, c], targets[:, c], strict=True):
      residual += (float(g) - float(z)) ** 2
      total += (float(z) - mean) ** 2
  assert metrics.r_squared(logits, targets) == pytest.approx(1 - residual / total, rel=1e-6)


def test_r_squared_of_the_mean_is_0_and_of_worse_is_negative():
  targets, _ = logits_and_labels()
  mean = np.broadcast_to(targets.mean(axis=0, dtype=np.float64), targets.shape)
  assert metrics.r_squared(mean, targets) == pytest.approx(0, abs=1e-12)
  assert metrics.r_squared(-targets, targets) < 0


def test_one_class_predicted():
  assert metrics.one_class_predicted(np.float32([[2, 1], [5, 0]]))
  assert not metrics.one_class_predicted(np.float32([[2, 1], [0, 5]]))


@pytest.mark.parametrize(
  ('values', 'mean', 'std'),
  [
    ([1.0, 2.0, 4.0], 7 / 3, np.std([1, 2, 4], ddof=1)),
    ([1.0, None, 3.0], 2.0, np.sqrt(2)),
    ([5.0], 5.0, None),
    ([None, 5.0], 5.0, None),
    ([None, None], None, None),
    ([], None, None),
  ],
)
def test_summary_over_the_seeds_that_have_a_value(values, mean, std):
  found = metrics.summary(values)
  assert found['values'] == values
  for key, expected in (('mean', mean), ('std', std)):
    assert found[key] == (None if expected is None else pytest.approx(expected))


def test_targets_that_do_not_vary_have_no_r_squared():
  targets = np.array([[1.0, 2.0]] * 5)
  assert metrics.r_squared(targets + 1, targets) is None
  assert metrics.fidelity(targets[:1], targets[:1])['logit_r2'] is None


@pytest.mark.parametrize('rows', [3, 7, 50])
def test_equal_targets_have_no_r_squared_though_their_mean_is_rounded(rows):
  targets = np.full((rows, 2), 0.1)
  assert metrics.r_squared(targets + 1, targets) is None
