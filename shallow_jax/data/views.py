"""Augmented views of images, on the device.

The paper augments nothing. Flips, crops and colours are there as in Urban et al. (ICLR 2017), mixup
(Zhang et al., ICLR 2018) as in Beyer et al. (CVPR 2022): one view for teacher and student.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from shallow_jax.runtime import errors

_NUM_SHARES = 4096  # quantiles of the distribution of mixup's shares


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """How views are made: pixels moved (flip, shift, crop), then coloured, then mixed.

  Attributes:
    flip: mirror left and right in half of the views.
    crop_padding: shift by up to so many pixels each way; the border mirrors the image.
    crop_min_scale: cut out a part and resize it bilinearly to the whole size: of any number of
      pixels a side from round(crop_min_scale * side) to all, at any place. 1: off. With
      crop_padding it is shifted as well.
    hue_shift: by up to so much of the colour circle each way.
    saturation_shift: by up to so much each way, of saturations of 0 to 1; grey stays grey.
    saturation_scale: first by a factor of up to 1 + so much, or down to its inverse.
    value_shift: as saturation_shift, of values (brightness) of 0 to 1.
    value_scale: as saturation_scale.
    mixup_alpha: mix with another image of the set; the image's own share is the larger of x and
      1 - x, x ~ Beta(alpha, alpha). 0: off.
    seed: another seed, other views.
  """

  flip: bool = False
  crop_padding: int = 0
  crop_min_scale: float = 1.0
  hue_shift: float = 0.0
  saturation_shift: float = 0.0
  saturation_scale: float = 0.0
  value_shift: float = 0.0
  value_scale: float = 0.0
  mixup_alpha: float = 0.0
  seed: int = 0

  @property
  def changes_colours(self) -> bool:
    """Whether hue, saturation or value are changed."""
    shifts = self.hue_shift, self.saturation_shift, self.value_shift
    return any((*shifts, self.saturation_scale, self.value_scale))

  def fingerprint(self) -> dict[str, Any]:
    """Return the settings and what else decides a view's pixels."""
    return {
      **dataclasses.asdict(self),
      'border': 'reflect',
      'resize': 'bilinear',
      'partner': 'hashed' if self.mixup_alpha else 'offset',
      'random': 'threefry2x32',
    }

  def mix(self, num_examples: int) -> np.ndarray:
    """Return what `partner_offsets` finds each example's partners by: uint32 [num_examples, 3].

    Its row, the number of rows, the seed.

    Raises:
      DataError: one example alone.
    """
    if num_examples < 2:
      raise errors.DataError(
        f'augment.mixup_alpha: a set of {num_examples} has nothing to mix, expected 2 or more'
      )
    rows = np.arange(num_examples)
    return np.stack(np.broadcast_arrays(rows, num_examples, self.seed), axis=1).astype(np.uint32)


def build(
  config: Mapping[str, Any], image_shape: Sequence[int], where: str = 'data.augment'
) -> Augmentation:
  """Make the Augmentation of a config's data.augment, for images [height, width, channels].

  Raises:
    DataError: a number out of range; the message names the key, which is found at `where`.
  """
  side = min(image_shape[:2])
  least = {'crop_min_scale': 1 / side}
  most = {
    'crop_padding': side - 1,
    'crop_min_scale': 1,
    'hue_shift': 0.5,
    'saturation_shift': 1,
    'value_shift': 1,
    'seed': 2**32 - 1,
  }
  for key, value in config.items():
    low, high = least.get(key, 0), most.get(key, math.inf)
    if not low <= value <= high or math.isinf(value):
      expected = f'{low} or more' if math.isinf(high) else f'{low} to {high}'
      raise errors.DataError(f'{where}.{key} is {value}, expected {expected}')
  return Augmentation(**config)


def augment(settings: Augmentation, raw: Mapping[str, jax.Array], views: jax.Array) -> jax.Array:
  """Make views of images: a pure function of each image's id, its view and the settings' seed.

  A raw batch has 'input' [batch, height, width, channels] of 0 to 255 and 'id' uint32 [batch, 2];
  views are mixed where it has 'partner_input' and 'partner_id' of `dataset.take_views`. View 0 is
  the image itself. Views have the images' dtype where pixels are only moved, else float32.
  """
  pixels, shares = _view(settings, raw['input'], raw['id'], views)
  if 'partner_input' not in raw:
    return pixels
  partners, _ = _view(settings, raw['partner_input'], raw['partner_id'], views)
  shares = shares[:, None, None, None]
  return shares * pixels + (1 - shares) * partners


def partner_offsets(mix: Any, views: Any) -> Any:
  """How many rows further in its set each example's partner in a view's mix stands.

  In a view all rows of a set are turned by one number, hashed of seed and view: each example is a
  partner once, never its own. View 0 is not mixed.

  Args:
    mix: uint32 [batch, 3] of `Augmentation.mix`.
    views: int32 [batch]. Both are of NumPy, or of JAX: the result as well, and the same.

  Returns:
    int32 [batch]; row + offset is a row of the set.
  """
  row, size, seed = mix[:, 0], mix[:, 1], mix[:, 2]
  bits = seed * np.uint32(0x9E3779B9) + views.astype(np.uint32)
  for factor in (0x85EBCA6B, 0xC2B2AE35):  # the end of MurmurHash3
    bits = (bits ^ (bits >> np.uint32(16))) * np.uint32(factor)
  turn = (1 + (bits ^ (bits >> np.uint32(16))) % (size - 1)) * (views > 0)
  return ((row + turn) % size).astype(np.int32) - row.astype(np.int32)


class _Draws(NamedTuple):
  """What is drawn for each view [batch, ...]; for view 0, what changes nothing."""

  flip: jax.Array  # bool [batch]
  shift: jax.Array  # int32 [batch, 2]: pixels down and to the right
  crop: jax.Array  # [batch, 3] of 0 to 1: how small, how far down and to the right
  colour: jax.Array  # [batch, 2, 3] of -1 to 1: scale and shift of hue, saturation and value
  share: jax.Array  # [batch]: of the image in its mix


def _view(
  settings: Augmentation, images: jax.Array, ids: jax.Array, views: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Views before the mix [batch, height, width, channels], and the share of each in it [batch]."""
  draws = jax.vmap(functools.partial(_draw, settings))(ids, views)
  pixels = _place(settings, images, draws)
  if settings.changes_colours:
    coloured = _colour(settings, pixels, draws)
    pixels = jnp.where(views[:, None, None, None] > 0, coloured, pixels.astype(jnp.float32))
  return pixels, draws.share


def _draw(settings: Augmentation, words: jax.Array, view: jax.Array) -> _Draws:
  # the generator is named: stored logits must belong to these pixels whatever jax's default is
  key = jax.random.key(settings.seed, impl='threefry2x32')
  for number in (words[0], words[1], view):
    key = jax.random.fold_in(key, number)
  flip_key, shift_key, crop_key, colour_key, share_key = jax.random.split(key, 5)
  padding = settings.crop_padding
  shift = jax.random.randint(shift_key, (2,), -padding, padding + 1)
  return _Draws(
    flip=jax.random.bernoulli(flip_key) & settings.flip & (view > 0),
    shift=jnp.where(view > 0, shift, 0),
    crop=jnp.where(view > 0, jax.random.uniform(crop_key, (3,)), 0.0),
    colour=jax.random.uniform(colour_key, (2, 3), minval=-1.0),
    share=jnp.where(view > 0, _draw_share(settings.mixup_alpha, share_key), 1.0),
  )


def _draw_share(alpha: float, key: jax.Array) -> jax.Array:
  """A quantile of max(x, 1 - x), x ~ Beta(alpha, alpha), at a drawn place.

  Not jax.random.beta: its rejections hang on rounded numbers, and may differ between devices.
  """
  if not alpha:
    return jnp.float32(1)
  upper_half = 0.5 + (np.arange(_NUM_SHARES) + 0.5) / (2 * _NUM_SHARES)
  shares = jnp.asarray(special.betaincinv(alpha, alpha, upper_half), jnp.float32)
  return shares[jax.random.randint(key, (), 0, _NUM_SHARES)]


def _place(settings: Augmentation, images: jax.Array, draws: _Draws) -> jax.Array:
  """Flips, shifts and crops: without a crop the pixels are moved only."""
  rows, columns = (
    _positions(settings, size, draws, axis) for axis, size in enumerate(images.shape[1:3])
  )
  if settings.crop_min_scale == 1:
    return _pixels(images, rows, columns, draws.flip)
  top, left = jnp.floor(rows), jnp.floor(columns)
  down, right = (rows - top)[:, :, None, None], (columns - left)[:, None, :, None]
  top, left = top.astype(jnp.int32), left.astype(jnp.int32)

  def between(rows: jax.Array) -> jax.Array:
    here = _pixels(images, rows, left, draws.flip).astype(jnp.float32)
    return here + right * (_pixels(images, rows, left + 1, draws.flip) - here)

  upper = between(top)
  return upper + down * (between(top + 1) - upper)


def _positions(settings: Augmentation, size: int, draws: _Draws, axis: int) -> jax.Array:
  """Where in an image a view's rows (axis 0) or columns (1) lie [batch, size], before a flip.

  Of whole pixels without a crop; outside of 0 to size - 1 where a shift leads beyond the border.
  """
  positions, shifts = jnp.arange(size)[None], draws.shift[:, axis, None]
  if settings.crop_min_scale == 1:
    return positions + shifts
  smallest = round(settings.crop_min_scale * size)
  part = size - jnp.floor(draws.crop[:, :1] * (size - smallest + 1))
  start = jnp.floor(draws.crop[:, 1 + axis, None] * (size - part + 1))
  positions = (positions + 0.5) * (part / size) - 0.5
  return positions.clip(0, part - 1) + start + shifts


def _pixels(images: jax.Array, rows: jax.Array, columns: jax.Array, flips: jax.Array) -> jax.Array:
  """The pixels at rows [batch, height] and columns [batch, width], mirrored beyond the border."""
  _, height, width, _ = images.shape
  rows, columns = _reflect(rows, height), _reflect(columns, width)
  columns = jnp.where(flips[:, None], width - 1 - columns, columns)
  examples = jnp.arange(len(images))[:, None, None]
  return images[examples, rows[:, :, None], columns[:, None, :]]


def _reflect(positions: jax.Array, size: int) -> jax.Array:
  positions = jnp.abs(positions)
  return jnp.minimum(positions, 2 * (size - 1) - positions)


def _colour(settings: Augmentation, images: jax.Array, draws: _Draws) -> jax.Array:
  scale = jnp.array([0.0, settings.saturation_scale, settings.value_scale])
  shift = jnp.array([settings.hue_shift, settings.saturation_shift, settings.value_shift])
  scales = jnp.exp(draws.colour[:, 0] * jnp.log1p(scale)[None])
  return jitter_colours(images, scales, draws.colour[:, 1] * shift[None])


def hsv_from_rgb(rgb: jax.Array) -> jax.Array:
  """Hue, saturation and value (Smith, SIGGRAPH 1978) of red, green and blue; grey: hue 0.

  Both are [..., 3] of 0 to 1.
  """
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


def rgb_from_hsv(hsv: jax.Array) -> jax.Array:
  """Red, green and blue [..., 3] of 0 to 1; any hue is taken modulo 1."""
  hue, saturation, value = hsv[..., :1], hsv[..., 1:2], hsv[..., 2:]
  start = jnp.array([5 / 6, 3 / 6, 1 / 6]).reshape((1,) * (hsv.ndim - 1) + (3,))
  sixths = 6 * _modulo_1(start + hue)
  return value - value * saturation * jnp.clip(jnp.minimum(sixths, 4 - sixths), 0, 1)


def jitter_colours(images: jax.Array, scales: jax.Array, shifts: jax.Array) -> jax.Array:
  """Scale, then shift hue, saturation and value of images; the latter two stay within 0 to 1.

  Grey stays grey, however much saturation is added: it has no hue to show. Takes images [batch,
  height, width, 3] of 0 to 255, scales and shifts [batch, 3]; gives float32 images.
  """
  hsv = hsv_from_rgb(images / 255.0)
  hue, saturation, value = jnp.split(
    hsv * scales[:, None, None] + shifts[:, None, None], 3, axis=-1
  )
  saturation = jnp.where(hsv[..., 1:2] > 0, saturation.clip(0, 1), 0.0)
  return 255 * rgb_from_hsv(jnp.concatenate([hue, saturation, value.clip(0, 1)], axis=-1))


def _modulo_1(x: jax.Array) -> jax.Array:
  return x - jnp.floor(x)  # on CPU `%` takes several times as long
