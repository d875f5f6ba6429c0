"""A batch that pmap has divided over the devices: what a net draws and measures is of all of it."""

from collections.abc import Callable

import jax


def axis() -> str | None:
  """The axis over which the batch is divided, None where it is whole."""
  try:
    jax.lax.axis_size('data')
  except NameError:
    return None
  return 'data'


def draw(sample: Callable[[tuple[int, ...]], jax.Array], shape: tuple[int, ...]) -> jax.Array:
  """What `sample(shape)` draws of a batch, [batch, ...]: a device takes its part of the whole."""
  name = axis()
  if name is None:
    return sample(shape)
  whole = sample((jax.lax.axis_size(name) * shape[0], *shape[1:]))
  return jax.lax.dynamic_slice_in_dim(whole, jax.lax.axis_index(name) * shape[0], shape[0])
