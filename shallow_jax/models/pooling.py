"""Pooling, `p` in the paper's architectures: max and stochastic, over 3x3 windows with stride 2.

The paper gives no geometry; without padding (32 -> 15 -> 7 -> 3) it is the only reading that gives
both its 54M and its 70M parameters. The gradients are written out, because XLA's are slow on CPU.
"""

from collections.abc import Iterator
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp

from shallow_jax.models import layers

_SIZE, _STRIDE = 3, 2


class Pool(nn.Module):
  """Pools non-negative maps [batch, height, width, channels].

  Attributes:
    kind: 'max', or 'stochastic' (Zeiler & Fergus, ICLR 2013): in training a window gives one of its
      activations, drawn with a probability proportional to it; in evaluation their mean, weighted
      by those probabilities.
  """

  kind: str = 'max'

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Returns [batch, (height - 3) // 2 + 1, (width - 3) // 2 + 1, channels]."""
    if self.kind == 'max':
      return max_pool(x)
    if self.kind != 'stochastic':
      raise ValueError(f"unknown pooling {self.kind!r}; expected 'max' or 'stochastic'")
    return sampled_pool(x, self.make_rng('dropout')) if train else weighted_pool(x)


def max_pool(x: jax.Array) -> jax.Array:
  """Takes the maximum over 3x3 windows, stride 2, without padding (Table 2's `p`).

  A window's gradient goes to exactly one position: the first of its maxima in row-major order, as
  in XLA's select-and-scatter and in PyTorch. Written as a gather it is on CPU several times as fast
  as the former.

  Args:
    x: [batch, height, width, channels], floating point, height and width at least 3.

  Returns:
    [batch, (height - 3) // 2 + 1, (width - 3) // 2 + 1, channels].

  Raises:
    ValueError: x is no batch of images, or one smaller than a window.
  """
  _check_images(x)
  return _max_pool(x, x.shape[1:3])


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(x: jax.Array, size: tuple[int, int]) -> jax.Array:
  del size  # the shape that the backward pass has to restore
  return nn.max_pool(x, (3, 3), strides=(2, 2))


def _max_pool_forward(x: jax.Array, size: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
  """Returns the pooled values and, as int8, the place (0 to 8) of the maximum in its window."""
  del size
  pooled, *others = _positions(x)
  place = jnp.zeros(pooled.shape, jnp.int8)
  for k, value in enumerate(others, start=1):
    # Only a strictly greater one moves the place: ties stay with the first.
    place = jnp.where(value > pooled, jnp.int8(k), place)
    pooled = jnp.maximum(pooled, value)
  return pooled, place


def _to_chosen(size: tuple[int, int], place: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
  """Gathers, for each position of x, the gradients of those windows that gave its value.

  Windows p - 1 and p overlap in row 2p; row 2p + 1 lies in window p alone. Thus even and odd rows
  and columns are four images, each a sum of 4, 2, 2 and 1 terms, which are then interleaved.
  """
  border = ((0, 0), (1, 1), (1, 1), (0, 0))
  place = jnp.pad(place, border, constant_values=-1)
  gradient = jnp.pad(gradient, border)
  batch, rows, columns, channels = gradient.shape

  def windows(i: int, j: int) -> jax.Array:
    """The gradients of the windows that gave their row i and column j, else 0."""
    row, column = int(i < 2), int(j < 2)  # window p is at p + 1 in the padded arrays
    part = (slice(None), slice(row, row + rows - 1), slice(column, column + columns - 1))
    return jnp.where(place[part] == 3 * i + j, gradient[part], jnp.zeros((), gradient.dtype))

  even_rows = jnp.stack(
    [windows(0, 0) + windows(0, 2) + windows(2, 0) + windows(2, 2), windows(0, 1) + windows(2, 1)],
    axis=3,
  )
  odd_rows = jnp.stack([windows(1, 0) + windows(1, 2), windows(1, 1)], axis=3)
  x_gradient = jnp.stack([even_rows, odd_rows], axis=2)  # [batch, rows, 2, columns, 2, channels]
  x_gradient = x_gradient.reshape(batch, 2 * (rows - 1), 2 * (columns - 1), channels)
  return (x_gradient[:, : size[0], : size[1]],)


_max_pool.defvjp(_max_pool_forward, _to_chosen)


def sampled_pool(x: jax.Array, key: jax.Array) -> jax.Array:
  """Stochastic pooling in training: an activation a_i of a window is drawn with a_i / Σ a.

  A window of zeros gives 0. The gradient goes to the position that was drawn. Takes and returns the
  shapes of `max_pool`; x is not negative.
  """
  _check_images(x)
  rows, columns = (_windows(length) for length in x.shape[1:3])
  draws = layers.draw(
    lambda shape: jax.random.uniform(key, shape, x.dtype), (len(x), rows, columns, x.shape[3])
  )
  return _sampled_pool(x, draws, x.shape[1:3])


def weighted_pool(x: jax.Array) -> jax.Array:
  """Stochastic pooling in evaluation: Σ a_i² / Σ a over each window, 0 where all are 0.

  Takes and returns the shapes of `sampled_pool`.
  """
  _check_images(x)
  total = sum(_positions(x))
  squares = sum(jnp.square(value) for value in _positions(x))
  return jnp.where(total > 0, squares / jnp.where(total > 0, total, 1), 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _sampled_pool(x: jax.Array, draws: jax.Array, size: tuple[int, int]) -> jax.Array:
  return _sampled_pool_forward(x, draws, size)[0]


def _sampled_pool_forward(
  x: jax.Array, draws: jax.Array, size: tuple[int, int]
) -> tuple[jax.Array, jax.Array]:
  """Returns the drawn values and, as int8, their places (0 to 8) in their windows."""
  del size
  # The first place whose cumulative sum passes the drawn share of the whole sum.
  threshold = draws * sum(_positions(x))
  place = jnp.full(draws.shape, -1, jnp.int8)
  pooled = cumulative = jnp.zeros_like(draws)
  for k, value in enumerate(_positions(x)):
    cumulative = cumulative + value
    is_drawn = (cumulative > threshold) & (place < 0)
    place = jnp.where(is_drawn, jnp.int8(k), place)
    pooled = jnp.where(is_drawn, value, pooled)
  return pooled, place


def _sampled_pool_backward(
  size: tuple[int, int], place: jax.Array, gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
  return (*_to_chosen(size, place, gradient), jnp.zeros_like(gradient))


_sampled_pool.defvjp(_sampled_pool_forward, _sampled_pool_backward)


def _positions(x: jax.Array) -> Iterator[jax.Array]:
  """The nine images of what stands at a place of every window, row by row."""
  rows, columns = (_STRIDE * _windows(length) - 1 for length in x.shape[1:3])
  for i in range(_SIZE):
    for j in range(_SIZE):
      yield x[:, i : i + rows : _STRIDE, j : j + columns : _STRIDE]


def _windows(length: int) -> int:
  return (length - _SIZE) // _STRIDE + 1


def _check_images(x: jax.Array) -> None:
  if x.ndim != 4 or min(x.shape[1:3]) < _SIZE:
    raise ValueError(f'pooling needs [batch, height >= 3, width >= 3, channels], got {x.shape}')
