"""Networks as pure functions: a Linen module, and the variables that it is applied to.

Variables are a dict of `params`, `batch_stats` (empty without BatchNorm) and `output`, the
per-class `mean` and `std` [num_classes] that turn a net trained on normalised logits back into one
that gives logits. Everything outside this folder sees logits only.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from shallow_jax.models import conv
from shallow_jax.models import dense
from shallow_jax.models import layers
from shallow_jax.models import single_layer
from shallow_jax.models import speech_conv

MODELS: dict[str, type[nn.Module]] = {
  'dnn': dense.DNN,
  'shallow': dense.Shallow,
  'cnn': conv.CNN,
  'shallow_conv': conv.ShallowConv,
  'single_layer': single_layer.SingleLayer,
  'speech_cnn': speech_conv.SpeechCNN,
}

Variables = Mapping[str, Any]


def arguments(name: str) -> dict[str, Any]:
  """The arguments of a model that a config sets, with their defaults."""
  fields = dataclasses.fields(MODELS[name])
  skipped = ('num_classes', 'parent', 'name')
  return {field.name: field.default for field in fields if field.name not in skipped}


def build(model: Mapping[str, Any], num_classes: int) -> nn.Module:
  """Builds the module of a config's `model`: its name and the constructor's arguments."""
  options = {
    key: tuple(value) if isinstance(value, list) else value  # hashable
    for key, value in model.items()
    if key != 'name'
  }
  return MODELS[model['name']](num_classes=num_classes, **options)


def hidden_axes(module: nn.Module) -> tuple[tuple[str, int], ...]:
  """Which axis of a wide net's parameters runs over its hidden units, by the end of their paths.

  So many units need memory in three places: the layer's own matrix (U where it is factorised) and
  biases, and the output's matrix. Empty for the other nets.
  """
  return layers.HIDDEN_AXES if isinstance(module, (dense.Shallow, conv.ShallowConv)) else ()


def smallest_batch(model: Mapping[str, Any]) -> int:
  """How many examples a config's `model` needs in a batch to learn: 2 of a normalised bottleneck.

  By its own mean and variance alone every example is the same there.
  """
  is_shallow = model['name'].startswith('shallow')
  is_normalised = is_shallow and model['batch_norm'] and model['bottleneck']
  return 2 if is_normalised else 1


def init(
  module: nn.Module,
  key: jax.Array,
  input_shape: tuple[int, ...],
  output: Mapping[str, jax.Array] | None = None,
) -> dict[str, Any]:
  """Draws the variables of a module for inputs [batch, *input_shape]."""
  return {
    **_compiled_init(module, tuple(input_shape))(key),
    'output': identity_output(module.num_classes) if output is None else dict(output),
  }


@functools.lru_cache(maxsize=64)
def _compiled_init(
  module: nn.Module, input_shape: tuple[int, ...]
) -> Callable[[jax.Array], dict[str, Any]]:
  """One program for all seeds: operator by operator it takes longer to compile."""

  def init(key: jax.Array) -> dict[str, Any]:
    x = jnp.zeros((1, *input_shape), jnp.float32)
    variables = module.init({'params': key}, x, train=False)
    return {'params': variables['params'], 'batch_stats': variables.get('batch_stats', {})}

  return jax.jit(init)


def identity_output(num_classes: int) -> dict[str, jax.Array]:
  """The output transform of a net that was not trained on normalised targets."""
  return {
    'mean': jnp.zeros(num_classes, jnp.float32),
    'std': jnp.ones(num_classes, jnp.float32),
  }


def with_output(variables: Variables, output: Mapping[str, jax.Array]) -> dict[str, Any]:
  """The variables of the same function with another output transform.

  The old transform is folded into the output layer: with mean m and std s [num_classes] before, m'
  and s' after, kernel' = kernel s / s' and bias' = (bias s + m - m') / s'.
  """
  # In float64, which multiplies and divides float32 exactly: the same transform changes no bit.
  mean, std, new_mean, new_std = (
    np.asarray(transform[name], np.float64)
    for transform in (variables['output'], output)
    for name in ('mean', 'std')
  )

  def folded(path: tuple[Any, ...], leaf: jax.Array) -> Any:
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    if name.endswith('output/kernel'):
      return jnp.asarray(np.asarray(leaf, np.float64) * std / new_std, leaf.dtype)
    if name.endswith('output/bias'):
      moved = np.asarray(leaf, np.float64) * std + (mean - new_mean)
      return jnp.asarray(moved / new_std, leaf.dtype)
    return leaf

  return {
    'params': jax.tree_util.tree_map_with_path(folded, variables['params']),
    'batch_stats': variables['batch_stats'],
    'output': dict(output),
  }


def apply(module: nn.Module, variables: Variables, x: jax.Array) -> jax.Array:
  """The logits [batch, num_classes] in evaluation mode: no dropout, running statistics."""
  outputs = module.apply(_collections(variables), x, train=False)
  return _logits(outputs, variables)


def apply_train(
  module: nn.Module,
  variables: Variables,
  x: jax.Array,
  dropout_key: jax.Array,
  compute_dtype: str = 'float32',
) -> tuple[jax.Array, Mapping[str, Any]]:
  """The float32 logits [batch, num_classes] in training mode, and the updated batch_stats.

  In bfloat16 the inputs and a copy of the parameters are rounded, and with them each layer's
  outputs; sums within a product, the logits and the gradients of the parameters are float32.
  """
  collections = _collections(variables)
  if compute_dtype != 'float32':
    x, collections['params'] = jax.tree.map(
      lambda leaf: leaf.astype(compute_dtype), (x, collections['params'])
    )
  outputs, updated = module.apply(
    collections, x, train=True, rngs={'dropout': dropout_key}, mutable=['batch_stats']
  )
  return _logits(outputs, variables), updated['batch_stats'] if updated else {}


def _collections(variables: Variables) -> dict[str, Any]:
  return {'params': variables['params'], 'batch_stats': variables['batch_stats']}


def _logits(outputs: Any, variables: Variables) -> jax.Array:
  output = variables['output']
  return outputs.astype(jnp.float32) * output['std'][None, :] + output['mean'][None, :]
