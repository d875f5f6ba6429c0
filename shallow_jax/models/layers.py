"""Layers: `c`, `lc` and `L` of the paper's architectures, the wide hidden layer and the output.

The paper gives no filter sizes. A 5x5 'same' convolution before the pool of pooling.py is the only
reading that gives both its 54M and its 70M parameters.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
import math
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

HE_NORMAL = nn.initializers.he_normal()
BATCH_NORM_EPSILON = 1e-5
BATCH_AXIS = 'data'  # pmap's name for the axis over which it divides a batch (runtime/parallel.py)

Params = Mapping[str, Any]

_IMAGES_A_BLOCK = 4  # of a convolution's kernel gradient on CPU


class Conv(nn.Module):
  """A 'same' convolution with stride 1 (Table 2's `c`, without its ReLU).

  On CPU the kernel's gradient is computed as matrix products over a few images at once, in about
  half of XLA's time (launch/benchmark.py); elsewhere it is XLA's.

  Parameters: kernel [kernel_size, kernel_size, channels, features], normal with He's variance (He
  et al. 2015), and bias [features], zero.
  """

  features: int
  kernel_size: int = 5
  use_bias: bool = True

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [batch, height, width, channels] to [batch, height, width, features]."""
    channels = x.shape[-1]
    shape = (self.kernel_size, self.kernel_size, channels, self.features)
    kernel = self.param('kernel', HE_NORMAL, shape)
    bias = self.param('bias', nn.initializers.zeros, (self.features,)) if self.use_bias else None
    x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias)
    y = _convolve(x, kernel)
    return y if bias is None else y + bias.reshape(1, 1, 1, -1)


@jax.custom_vjp
def _convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Convolves x [batch, height, width, channels]; on CPU the kernel's gradient is written out."""
  return _lax_convolve(x, kernel)


def _lax_convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
  return jax.lax.conv_general_dilated(
    x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )


def _convolve_backward(
  saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
  x, kernel = saved
  (x_gradient,) = jax.linear_transpose(lambda x: _lax_convolve(x, kernel), x)(gradient)

  def by_lax() -> jax.Array:
    return jax.linear_transpose(lambda kernel: _lax_convolve(x, kernel), kernel)(gradient)[0]

  kernel_gradient = jax.lax.platform_dependent(
    cpu=lambda: _kernel_gradient_by_blocks(x, gradient, kernel.shape[0]).astype(kernel.dtype),
    default=by_lax,
  )
  return x_gradient, kernel_gradient


_convolve.defvjp(lambda x, kernel: (_lax_convolve(x, kernel), (x, kernel)), _convolve_backward)


def _kernel_gradient_by_blocks(x: jax.Array, gradient: jax.Array, size: int) -> jax.Array:
  """A convolution's kernel gradient from a few images at once, which stay in a core's cache.

  Of each block, the pixels under a row of the kernel, times the gradient, is one matrix product.
  A block takes every (batch / block)-th image, so that devices which divide the batch each have
  some of it. Takes x [batch, height, width, channels] and the outputs' gradient [batch, height,
  width, features]; returns float32 [size, size, channels, features].
  """
  batch, height, width, channels = x.shape
  features = gradient.shape[-1]
  block = math.gcd(batch, _IMAGES_A_BLOCK)
  x = x.reshape(block, batch // block, height, width, channels)
  gradient = gradient.reshape(block, batch // block, height, width, features)
  pad = ((size - 1) // 2, size // 2)  # where SAME puts it for odd and even sizes

  def add(index: jax.Array, total: jax.Array) -> jax.Array:
    images = jax.lax.dynamic_index_in_dim(x, index, axis=1, keepdims=False)
    images = jnp.pad(images, ((0, 0), pad, pad, (0, 0)))
    outputs = jax.lax.dynamic_index_in_dim(gradient, index, axis=1, keepdims=False)
    # [block, padded height, width, size * channels]: the pixels under one row of the kernel
    under_row = jnp.concatenate([images[:, :, j : j + width] for j in range(size)], axis=-1)
    return total + jnp.stack(
      [
        jnp.einsum(
          'bhwi,bhwo->io',
          under_row[:, i : i + height],
          outputs,
          preferred_element_type=jnp.float32,
        )
        for i in range(size)
      ]
    )

  total = jnp.zeros((size, size * channels, features), jnp.float32)
  total = jax.lax.fori_loop(0, batch // block, add, total)
  return total.reshape(size, size, channels, features)


class LowRankDense(nn.Module):
  """A dense layer whose matrix is the product of two thin ones, W ≈ U V (section 3.2).

  x [batch, D] -> x V U + b [batch, features], with V [D, rank] and U [rank, features] and no
  nonlinearity between them: rank (D + features) weights instead of D features.
  Initialised so that V U has the variance of He's initialisation of W.

  With `batch_norm` the bottleneck x V is normalised (and starts at a tenth, which lets a wide layer
  learn at a higher rate): an affine map in evaluation mode, which merges into the matrix like V.
  """

  features: int
  rank: int
  batch_norm: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Returns [batch, features]; a rank above min(D, features) raises ValueError."""
    inputs = x.shape[-1]
    if self.rank > min(inputs, self.features):
      raise ValueError(
        f'a bottleneck of {self.rank} is wider than the layer of {inputs} x {self.features} '
        f'that it factorises; expected at most {min(inputs, self.features)}'
      )
    v = self.param('v', nn.initializers.lecun_normal(), (inputs, self.rank))
    u = self.param('u', HE_NORMAL, (self.rank, self.features))
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    x = x @ v
    if self.batch_norm:
      tenth = nn.initializers.constant(0.1)
      x = batch_norm(train=train, scale_init=tenth, name='normalization')(x)
    return add_bias(hidden_units(self, x) @ u, bias)


@jax.custom_vjp
def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
  """x [batch, features] + bias [features], whose gradient is computed as a product with ones.

  A sum over examples takes XLA longer on CPU.
  """
  return x + bias[None, :]


def _add_bias_backward(saved: None, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
  del saved
  ones = jnp.ones(len(gradient), gradient.dtype)
  summed = jnp.dot(ones, gradient, preferred_element_type=jnp.float32)
  return gradient, summed.astype(gradient.dtype)


add_bias.defvjp(lambda x, bias: (add_bias(x, bias), None), _add_bias_backward)


def merge_bottleneck(params: Params, batch_stats: Params | None = None) -> dict[str, Any]:
  """Replaces every LowRankDense in a tree of params by the equal dense layer, kernel V U.

  A bottleneck's batch_stats merge into kernel and bias. Returned are the params of the same net
  with `bottleneck=0`, whose outputs in evaluation mode are the same.
  """
  stats = batch_stats or {}
  if {'v', 'u', 'bias'} <= set(params):
    return _merged(params, stats)
  return {
    name: merge_bottleneck(child, stats.get(name)) if isinstance(child, Mapping) else child
    for name, child in params.items()
  }


def _merged(params: Params, batch_stats: Params) -> dict[str, jax.Array]:
  v, u, bias = params['v'], params['u'], params['bias']
  if 'normalization' not in params:
    return {'kernel': v @ u, 'bias': bias}
  affine, stats = params['normalization'], batch_stats['normalization']
  gain = affine['scale'] / jnp.sqrt(stats['var'] + BATCH_NORM_EPSILON)
  shift = affine['bias'] - gain * stats['mean']
  return {'kernel': (v * gain[None, :]) @ u, 'bias': bias + shift @ u}


def mapped_axis() -> str | None:
  """The axis over which pmap has divided the batch, None where it is whole."""
  try:
    jax.lax.axis_size(BATCH_AXIS)
  except NameError:
    return None
  return BATCH_AXIS


def draw(sample: Callable[[tuple[int, ...]], jax.Array], shape: tuple[int, ...]) -> jax.Array:
  """What `sample(shape)` draws of a batch, [batch, ...]; under pmap a device takes its part of it.

  What a net draws is of the whole batch, however it is divided.
  """
  name = mapped_axis()
  if name is None:
    return sample(shape)
  whole = sample((jax.lax.axis_size(name) * shape[0], *shape[1:]))
  return jax.lax.dynamic_slice_in_dim(whole, jax.lax.axis_index(name) * shape[0], shape[0])


class Dropout(nn.Module):
  """Dropout whose masks are the same however the batch is divided over devices."""

  rate: float

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Zeroes a share `rate` of x [batch, ...] in training and multiplies the rest by 1/(1-rate)."""
    if not train or self.rate == 0:
      return x
    if self.rate == 1:
      return jnp.zeros_like(x)  # whose gradient is 0, not 0 / 0
    kept, key = 1 - self.rate, self.make_rng('dropout')
    mask = draw(lambda shape: jax.random.bernoulli(key, kept, shape), x.shape)
    return jnp.where(mask, x / kept, 0)


def batch_norm(*, train: bool, **options: Any) -> nn.BatchNorm:
  """Batch normalisation: the batch's own statistics in training, running ones in evaluation."""
  return nn.BatchNorm(
    use_running_average=not train,
    momentum=0.9,
    epsilon=BATCH_NORM_EPSILON,
    axis_name=mapped_axis() if train else None,
    **options,
  )


# Of WideHidden's and Output's parameters: the axis over the hidden units, by the end of the path.
HIDDEN_AXES = (('hidden/kernel', 1), ('hidden/u', 1), ('hidden/bias', 0), ('output/kernel', 0))


class WideHidden(nn.Module):
  """The shallow net's hidden layer: ReLU units behind a full or a factorised matrix."""

  features: int
  bottleneck: int  # 0: the full matrix
  batch_norm: bool = False  # of the bottleneck

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps [batch, D] to [batch, features]."""
    if self.bottleneck:
      layer = LowRankDense(self.features, self.bottleneck, self.batch_norm, name='hidden')
      x = layer(x, train=train)
    else:
      x = nn.Dense(self.features, kernel_init=HE_NORMAL, name='hidden')(x)
    return hidden_units(self, nn.relu(x))


class Output(nn.Module):
  """The linear layer that gives the logits.

  An `init_scale` of 0.01 keeps the first steps of a wide mimic small: logit regression diverges
  where the same net on labels does not.
  """

  num_classes: int
  init_scale: float = 1.0

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [batch, H] to float32 logits [batch, num_classes]."""
    init = nn.initializers.variance_scaling(self.init_scale**2, 'fan_in', 'truncated_normal')
    product = functools.partial(jax.lax.dot_general, preferred_element_type=jnp.float32)
    layer = nn.Dense(self.num_classes, kernel_init=init, dot_general=product, name='output')
    return layer(x)


class LocallyConnected(nn.Module):
  """A 3x3 'same' layer like a convolution, but with filters of its own at each place (`lc`).

  Parameters, as in Flax's ConvLocal: kernel [height, width, 9 * channels, features], normal with
  He's variance for the 9 * channels inputs of a unit, and bias [height, width, features], zero.
  """

  features: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [batch, height, width, channels] to [batch, height, width, features]."""
    height, width, channels = x.shape[1:]
    init = nn.initializers.he_normal(batch_axis=(0, 1))
    kernel = self.param('kernel', init, (height, width, 9 * channels, self.features))
    bias = self.param('bias', nn.initializers.zeros, (height, width, self.features))
    x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias)
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    under = [x[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    under = jnp.stack(under, axis=-1).reshape(-1, height, width, 9 * channels)
    return jnp.einsum('bhwi,hwio->bhwo', under, kernel) + bias[None]


def weights(params: Params) -> Params:
  """Of each parameter whether it is a weight: a matrix or a filter, no bias and no scale."""

  def is_weight(path: Sequence[Any], leaf: Any) -> bool:
    return jnp.ndim(leaf) > 1 and path[-1].key != 'bias'  # an `lc` layer has one at each place

  return jax.tree_util.tree_map_with_path(is_weight, params)


def check_images(x: jax.Array, pools: int) -> None:
  """Raises ValueError where x is no batch of images [batch, height, width, channels] for a CNN.

  `pools` of 3x3 with stride 2 need a side of 3, 7, 15 ... pixels.
  """
  side, found = 2 ** (pools + 1) - 1, list(x.shape[1:])
  wanted = f'expected images [height, width, channels] of {side} x {side} pixels or more'
  if len(found) == 2:
    raise ValueError(f'inputs are {found}, {wanted}; grey ones are [{found[0]}, {found[1]}, 1]')
  if len(found) != 3:
    raise ValueError(f'inputs are {found}, {wanted}')
  if found[0] <= 4 < min(found[1:]):
    raise ValueError(f'inputs are {found}, channels first by their looks, {wanted}')
  if min(found[:2]) < side:
    raise ValueError(f'inputs are {found}, too small to be pooled {pools} x, {wanted}')


def flatten(x: jax.Array) -> jax.Array:
  """[batch, ...] -> [batch, D]."""
  return x.reshape(x.shape[0], -1)


def dense_hidden(
  module: nn.Module, x: jax.Array, widths: Sequence[int], dropout: float, *, train: bool
) -> jax.Array:
  """Fully connected ReLU layers with dropout, `2k-2k-2k`, in the compact scope of `module`.

  Maps [batch, inputs] to [batch, widths[-1]].
  """
  for width in widths:
    x = nn.relu(nn.Dense(width, kernel_init=HE_NORMAL)(x))
    x = Dropout(dropout)(hidden_units(module, x), train=train)
  return x


def hidden_units(module: nn.Module, x: jax.Array) -> jax.Array:
  """Marks x [batch, ...] as hidden units of the net (counted by size.py); returns x."""
  module.sow('hidden_units', 'activations', x)
  return x
