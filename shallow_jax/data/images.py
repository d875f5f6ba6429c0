"""Standardisation and augmented views of images, on the device.

The paper augments nothing; flips and crops serve the teachers (Urban et al., ICLR 2017).
"""

from collections.abc import Mapping
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

_CHUNK = 1024  # examples
_CONSTANT = 1e-6  # a standard deviation below is that of a constant


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


def fit(inputs: np.ndarray) -> dict[str, np.ndarray]:
  """Return the mean and standard deviation of inputs [examples, ..., channels], float32 [channels].

  Images have one of each a channel, vectors one a feature; what is constant gets a deviation of 1.
  """
  rows, channels = inputs.reshape(len(inputs), -1), inputs.shape[-1]
  mean = _by_channel(rows.mean(axis=0, dtype=np.float64), channels)
  centre = np.tile(mean, rows.shape[1] // channels)
  # in chunks: a float64 copy of CIFAR-10 would take a gigabyte
  chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
  squares = np.sum([np.square(chunk - centre).sum(axis=0) for chunk in chunks], axis=0)
  std = np.sqrt(_by_channel(squares / len(rows), channels))
  std = np.where(std > _CONSTANT, std, 1.0)
  return {'mean': mean.astype(np.float32), 'std': std.astype(np.float32)}


def _by_channel(means: np.ndarray, channels: int) -> np.ndarray:
  return means.reshape(-1, channels).mean(axis=0)


def standardise(constants: Mapping[str, jax.Array], inputs: jax.Array) -> jax.Array:
  """Scale inputs [batch, ..., channels] to float32 with mean 0 and deviation 1 on train."""
  axes = range(inputs.ndim - 1)
  mean = jnp.expand_dims(constants['mean'], axes)
  std = jnp.expand_dims(constants['std'], axes)
  return (inputs.astype(jnp.float32) - mean) / std


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
