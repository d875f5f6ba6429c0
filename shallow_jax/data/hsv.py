"""Colours as hue, saturation and value (Smith, SIGGRAPH 1978), each of 0 to 1; pure JAX."""

import jax
import jax.numpy as jnp


def from_rgb(rgb: jax.Array) -> jax.Array:
  """Hue, saturation and value [..., 3] of red, green and blue [..., 3] of 0 to 1; grey: hue 0."""
  red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
  value = rgb.max(axis=-1)
  chroma = value - rgb.min(axis=-1)
  divisor = jnp.where(chroma > 0, chroma, 1.0)
  sixths = jnp.select(
    [value == red, value == green],
    [(green - blue) / divisor, 2 + (blue - red) / divisor],
    4 + (red - green) / divisor,
  )
  saturation = chroma / jnp.where(value > 0, value, 1.0)
  return jnp.stack([_modulo_1(sixths / 6), saturation, value], axis=-1)


def to_rgb(hsv: jax.Array) -> jax.Array:
  """Red, green and blue [..., 3] of 0 to 1; any hue is taken modulo 1."""
  hue, saturation, value = hsv[..., :1], hsv[..., 1:2], hsv[..., 2:]
  start = jnp.array([5 / 6, 3 / 6, 1 / 6]).reshape((1,) * (hsv.ndim - 1) + (3,))
  sixths = 6 * _modulo_1(start + hue)
  return value - value * saturation * jnp.clip(jnp.minimum(sixths, 4 - sixths), 0, 1)


def jitter(images: jax.Array, scales: jax.Array, shifts: jax.Array) -> jax.Array:
  """Scale, then shift hue, saturation and value of images; the latter two stay within 0 to 1.

  Grey stays grey, however much saturation is added: it has no hue to show.

  Args:
    images: [batch, height, width, 3] of 0 to 255.
    scales: [batch, 3].
    shifts: [batch, 3].
  Returns:
    float32 [batch, height, width, 3] of 0 to 255.
  """
  hsv = from_rgb(images / 255.0)
  hue, saturation, value = jnp.split(
    hsv * scales[:, None, None] + shifts[:, None, None], 3, axis=-1
  )
  saturation = jnp.where(hsv[..., 1:2] > 0, saturation.clip(0, 1), 0.0)
  return 255 * to_rgb(jnp.concatenate([hue, saturation, value.clip(0, 1)], axis=-1))


def _modulo_1(x: jax.Array) -> jax.Array:
  return x - jnp.floor(x)  # on CPU `%` takes several times as long
