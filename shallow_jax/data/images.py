"""Augmented views of images, on the device.

The paper augments nothing; flips and crops serve the teachers (Urban et al., ICLR 2017).
"""

import dataclasses

import jax
import jax.numpy as jnp

@dataclasses.dataclass(frozen=True)
class Augmentation:
  """How views are made.

  Attributes:
    flip: mirror left and right in half of the views.
    crop_padding: shift by up to so many pixels each way; the border mirrors the image.
    seed: another seed, other views.
  """

  flip: bool
  crop_padding: int
  seed: int

  def fingerprint(self) -> dict[str, bool | int | str]:
    """Return the settings and what else decides a view's pixels."""
    return {**dataclasses.asdict(self), 'border': 'reflect', 'random': 'threefry2x32'}


def augment(
  settings: Augmentation, images: jax.Array, ids: jax.Array, views: jax.Array
) -> jax.Array:
  """Make views of images: a pure function of each image's id, its view and the settings' seed.

  Args:
    settings: what is done.
    images: [batch, height, width, channels], any dtype.
    ids: uint32 [batch, 2].
    views: int32 [batch]; view 0 is the image itself.
  Returns:
    The views, of the images' shape and dtype.
  """
  flips, shifts = jax.vmap(lambda words, view: _draw(settings, words, view))(ids, views)
  _, height, width, _ = images.shape
  rows = _reflect(jnp.arange(height)[None] + shifts[:, :1], height)
  columns = _reflect(jnp.arange(width)[None] + shifts[:, 1:], width)
  columns = jnp.where(flips[:, None], width - 1 - columns, columns)
  examples = jnp.arange(len(images))[:, None, None]
  return images[examples, rows[:, :, None], columns[:, None, :]]


def _draw(settings: Augmentation, words: jax.Array, view: jax.Array) -> tuple[jax.Array, jax.Array]:
  # the generator is named: stored logits must belong to these pixels whatever jax's default is
  key = jax.random.key(settings.seed, impl='threefry2x32')
  for number in (words[0], words[1], view):
    key = jax.random.fold_in(key, number)
  flip_key, shift_key = jax.random.split(key)
  flip = jax.random.bernoulli(flip_key) & settings.flip & (view > 0)
  padding = settings.crop_padding
  shift = jax.random.randint(shift_key, (2,), -padding, padding + 1)
  return flip, jnp.where(view > 0, shift, 0)


def _reflect(positions: jax.Array, size: int) -> jax.Array:
  positions = jnp.abs(positions)
  return jnp.minimum(positions, 2 * (size - 1) - positions)
