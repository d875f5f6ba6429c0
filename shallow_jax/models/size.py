"""What a net costs: parameters, hidden units, multiply-adds, bytes, milliseconds a call."""

from collections.abc import Callable
import itertools
import math
import statistics
import time
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from shallow_jax.models import layers


def size(module: nn.Module, input_shape: tuple[int, ...]) -> dict[str, Any]:
  """Weights and biases apart, hidden units, multiply-adds per example, bytes in float32.

  Weights are matrices and filters; biases all else, batch normalisation's scales among them.
  Hidden units are counted as in Table 2: every activation between input and logits, those of the
  pools and of the linear bottleneck included. Found from shapes alone: nothing is computed.
  """
  x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
  variables = jax.eval_shape(lambda key, x: module.init(key, x, train=False), jax.random.key(0), x)
  units = variables.pop('hidden_units', {})
  are_weights = jax.tree.leaves(layers.weights(variables['params']))
  sizes = [leaf.size for leaf in jax.tree.leaves(variables['params'])]
  weights = sum(itertools.compress(sizes, are_weights))
  jaxpr = jax.make_jaxpr(lambda variables, x: module.apply(variables, x, train=False))(variables, x)
  return {
    'parameters': {'weights': weights, 'biases': sum(sizes) - weights},
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


def _multiply_adds(jaxpr: Any) -> int:
  """Counts the multiply-adds of the matrix products and convolutions of a jaxpr."""
  total = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'dot_general':
      (contracted, _), _ = equation.params['dimension_numbers']
      left = equation.invars[0].aval.shape
      total += equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
    elif equation.primitive.name == 'conv_general_dilated':
      filters = equation.invars[1].aval
      output_axis = equation.params['dimension_numbers'].rhs_spec[0]
      total += equation.outvars[0].aval.size * filters.size // filters.shape[output_axis]
    closed = [equation.params[key] for key in ('jaxpr', 'call_jaxpr') if key in equation.params]
    total += sum(_multiply_adds(getattr(jaxpr, 'jaxpr', jaxpr)) for jaxpr in closed)
  return int(total)
