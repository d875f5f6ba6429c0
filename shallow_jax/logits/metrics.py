"""Figures about logits, and about the net that gave them.

NumPy on the host, in float64: these are read once per evaluation, never in a step.
"""

import statistics
from typing import Any

import numpy as np
from scipy import special


def error(logits: np.ndarray, labels: np.ndarray) -> float:
  """The share of examples, in per cent, whose largest logit is not their label's."""
  return 100.0 * float(np.mean(np.argmax(logits, axis=-1) != labels))


def error_by_class(logits: np.ndarray, labels: np.ndarray) -> list[float | None]:
  """`error` among the examples of each class; None for a class that has none."""
  wrong = np.argmax(logits, axis=-1) != labels
  shares = [wrong[labels == c] for c in range(logits.shape[-1])]
  return [100.0 * float(share.mean()) if share.size else None for share in shares]


def calibration_error(logits: np.ndarray, labels: np.ndarray, num_bins: int = 15) -> float:
  """Expected calibration error in per cent, equal-width bins (Guo et al. 2017, equation 3)."""
  probabilities = _softmax(logits)
  confidence = probabilities.max(axis=-1)
  correct = probabilities.argmax(axis=-1) == labels
  bins = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
  gaps = [abs(np.sum(correct[bins == b]) - np.sum(confidence[bins == b])) for b in range(num_bins)]
  return 100.0 * float(np.sum(gaps) / len(labels))


def fidelity(logits: np.ndarray, targets: np.ndarray) -> dict[str, float | None]:
  """How closely logits [n, classes] follow a teacher's.

  Returns `agreement` (share of equal predictions, per cent), `logit_r2` (1 minus the ratio of
  squared errors to the teacher's variance per class, summed over classes) and `kl` (teacher from
  student, nats).
  """
  p, q = _softmax(targets), _softmax(logits)
  tiny = np.finfo(np.float64).tiny
  kl = np.sum(p * (np.log(np.maximum(p, tiny)) - np.log(np.maximum(q, tiny))), axis=-1)
  return {
    'agreement': 100.0 * float(np.mean(logits.argmax(axis=-1) == targets.argmax(axis=-1))),
    'logit_r2': r_squared(logits, targets),
    'kl': float(np.mean(kl)),
  }


def r_squared(logits: np.ndarray, targets: np.ndarray) -> float | None:
  """1 - Σ (g - z)² / Σ (z - mean z)², sums over examples and classes, means per class.

  None where no class's targets vary: of one example, or of a teacher that says the same of all.
  """
  targets = np.asarray(targets, np.float64)
  residual = np.sum(np.square(logits - targets))
  total = np.sum(np.square(targets - targets.mean(axis=0, keepdims=True)))
  return float(1.0 - residual / total) if np.ptp(targets, axis=0).any() else None


def one_class_predicted(logits: np.ndarray) -> bool:
  """Whether every example gets the same prediction: the mark of a collapsed net."""
  predictions = np.argmax(logits, axis=-1)
  return bool(np.all(predictions == predictions[0]))


def summary(values: list[float | None]) -> dict[str, Any]:
  """Mean and standard deviation (ddof 1; null for one seed) over the seeds that have a value."""
  finite = [value for value in values if value is not None]
  return {
    'mean': statistics.fmean(finite) if finite else None,
    'std': statistics.stdev(finite) if len(finite) > 1 else None,
    'values': values,
  }


def _softmax(logits: np.ndarray) -> np.ndarray:
  return special.softmax(np.asarray(logits, np.float64), axis=-1)
