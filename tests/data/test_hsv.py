"""Hue, saturation and value against the standard library."""

import colorsys
import itertools

import numpy as np
import pytest

from shallow_jax.data import hsv

# every corner, edge and grey of the cube of colours, and its inside
GRID = np.array(list(itertools.product(np.linspace(0, 1, 6), repeat=3)), np.float32)


def by_pixel(function, pixels):
  return np.array([function(*pixel) for pixel in pixels.astype(np.float64)])


@pytest.mark.parametrize(
  ('ours', 'theirs'),
  [(hsv.from_rgb, colorsys.rgb_to_hsv), (hsv.to_rgb, colorsys.hsv_to_rgb)],
)
def test_conversions_are_colorsyss(ours, theirs):
  np.testing.assert_allclose(ours(GRID), by_pixel(theirs, GRID), atol=2e-6)
  image = GRID.reshape(2, 12, 9, 3)
  np.testing.assert_array_equal(ours(image).reshape(-1, 3), ours(GRID))


def test_jitter_scales_then_shifts_within_limits_and_leaves_grey_grey():
  scales = np.array([[1.0, 1.5, 0.7], [1.0, 0.8, 1.2]], np.float32)
  shifts = np.array([[-0.3, 0.2, 0.5], [0.4, -0.3, -0.2]], np.float32)
  found = hsv.jitter(np.stack([255 * GRID] * 2).reshape(2, 12, 18, 3), scales, shifts)

  def expected(scale, shift):
    def change(*pixel):
      hue, saturation, value = np.array(colorsys.rgb_to_hsv(*pixel)) * scale + shift
      saturation = 0 if len(set(pixel)) == 1 else np.clip(saturation, 0, 1)
      return colorsys.hsv_to_rgb(hue % 1, saturation, np.clip(value, 0, 1))

    return 255 * by_pixel(change, GRID)

  for pixels, scale, shift in zip(found, scales, shifts, strict=True):
    np.testing.assert_allclose(pixels.reshape(-1, 3), expected(scale, shift), atol=1e-3)
