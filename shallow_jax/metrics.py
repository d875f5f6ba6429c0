"""Figures about logits, and about the net that gave them.

NumPy on the host, in float64: these are read once per evaluation, never in a step.
"""

from collections.abc import Callable, Mapping
import statistics
import time
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np


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


def fidelity(logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
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


def r_squared(logits: np.ndarray, targets: np.ndarray) -> float:
  """1 - Σ (g - z)² / Σ (z - mean z)², sums over examples and classes, means per class."""
  targets = np.asarray(targets, np.float64)
  residual = np.sum(np.square(logits - targets))
  total = np.sum(np.square(targets - targets.mean(axis=0, keepdims=True)))
  return float(1.0 - residual / total)


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


def size(module: nn.Module, input_shape: tuple[int, ...]) -> dict[str, Any]:
  """Weights and biases apart, hidden units, multiply-adds per example, bytes in float32.

  Weights are matrices and filters; biases all vectors, batch normalisation's scales among them.
  Hidden units are counted as in Table 2: every activation between input and logits, those of the
  pools and of the linear bottleneck included. Found from shapes alone: nothing is computed.
  """
  x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
  variables = jax.eval_shape(lambda key, x: module.init(key, x, train=False), jax.random.key(0), x)
  units = variables.pop('hidden_units', {})
  leaves = jax.tree.leaves(variables['params'])
  weights = sum(leaf.size for leaf in leaves if leaf.ndim > 1)
  biases = sum(leaf.size for leaf in leaves if leaf.ndim == 1)
  jaxpr = jax.make_jaxpr(lambda variables, x: module.apply(variables, x, train=False))(variables, x)
  return {
    'parameters': {'weights': weights, 'biases': biases},
    'hidden_units': sum(leaf.size for leaf in jax.tree.leaves(units)),
    'multiply_adds': _multiply_adds(jaxpr.jaxpr),
    'bytes': 4 * sum(leaf.size for leaf in jax.tree.leaves(variables)),
  }


def latency_ms(function: Callable[..., jax.Array], *arguments: Any, seconds: float = 0.2) -> float:
  """The median time in milliseconds of a compiled call, over about `seconds`."""
  arguments = jax.block_until_ready(jax.device_put(arguments))
  jax.block_until_ready(function(*arguments))
  times: list[float] = []
  while sum(times) < seconds or len(times) < 5:
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    times.append(time.perf_counter() - start)
  return 1000.0 * statistics.median(times)


def _softmax(logits: np.ndarray) -> np.ndarray:
  logits = np.asarray(logits, np.float64)
  exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
  return exponentials / exponentials.sum(axis=-1, keepdims=True)


def _multiply_adds(jaxpr: Any) -> int:
  """Counts the multiply-adds of the matrix products and convolutions of a jaxpr."""
  total = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'dot_general':
      total += _dot_multiply_adds(equation)
    elif equation.primitive.name == 'conv_general_dilated':
      total += _convolution_multiply_adds(equation)
    total += sum(_multiply_adds(inner) for inner in _inner_jaxprs(equation.params))
  return total


def _inner_jaxprs(params: Mapping[str, Any]) -> list[Any]:
  closed = [params[key] for key in ('jaxpr', 'call_jaxpr') if key in params]
  return [getattr(jaxpr, 'jaxpr', jaxpr) for jaxpr in closed]


def _dot_multiply_adds(equation: Any) -> int:
  (contracted, _), _ = equation.params['dimension_numbers']
  lhs = equation.invars[0].aval.shape
  return int(equation.outvars[0].aval.size * np.prod([lhs[axis] for axis in contracted]))


def _convolution_multiply_adds(equation: Any) -> int:
  filters = equation.invars[1].aval
  output_axis = equation.params['dimension_numbers'].rhs_spec[0]
  return int(equation.outvars[0].aval.size * filters.size // filters.shape[output_axis])
