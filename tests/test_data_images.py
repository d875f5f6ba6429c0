"""Augmented views as pure functions of id, view and seed; standardisation against NumPy."""

import jax
import numpy as np
import pytest

from shallow_jax.data import dataset
from shallow_jax.data import images

augment = jax.jit(images.augment, static_argnums=0)
ALL = images.Augmentation(flip=True, crop_padding=4, seed=0)


@pytest.fixture(scope='module')
def batch():
  pixels = np.random.default_rng(0).integers(0, 256, (64, 12, 10, 3)).astype(np.uint8)
  return pixels, dataset.ids(pixels)


def views(settings, batch, view):
  with jax.numpy_rank_promotion('raise'):
    pixels, ids = batch
    return np.asarray(augment(settings, pixels, ids, np.full(len(ids), view, np.int32)))


def test_view_0_is_the_image(batch):
  np.testing.assert_array_equal(views(ALL, batch, 0), batch[0])


def test_a_view_depends_on_id_view_and_seed_alone(batch):
  pixels, ids = batch
  first = views(ALL, batch, 5)
  assert first.dtype == np.uint8
  rows = np.array([9, 2, 2])
  np.testing.assert_array_equal(views(ALL, (pixels[rows], ids[rows]), 5), first[rows])
  other = images.Augmentation(flip=True, crop_padding=4, seed=1)
  for changed in (views(ALL, batch, 6), views(other, batch, 5)):
    assert np.mean([np.array_equal(a, b) for a, b in zip(changed, first, strict=True)]) < 0.2


def test_views_are_shifts_and_flips_with_a_mirrored_border(batch):
  pixels, _ = batch
  padded = np.pad(pixels, ((0, 0), (4, 4), (4, 4), (0, 0)), mode='reflect')
  padded = np.stack([padded, padded[:, :, ::-1]])  # [flip, example, ...]
  found = np.array([_placement(padded[:, i], view) for i, view in enumerate(views(ALL, batch, 1))])
  flips, rows, columns = found.T
  assert 16 < flips.sum() < 48
  assert set(rows) == set(columns) == set(range(9))


def _placement(padded, view):
  height, width, _ = view.shape
  for flip, row, column in np.ndindex(2, 9, 9):
    if np.array_equal(padded[flip, row : row + height, column : column + width], view):
      return flip, row, column
  raise AssertionError('no shift and flip of the image')


@pytest.mark.parametrize(
  'settings',
  [
    images.Augmentation(flip=False, crop_padding=0, seed=0),
    images.Augmentation(flip=True, crop_padding=0, seed=0),
  ],
)
def test_what_is_off_is_off(batch, settings):
  pixels, view = batch[0], views(settings, batch, 1)
  same = np.array([np.array_equal(a, b) for a, b in zip(pixels, view, strict=True)])
  assert same.all() != settings.flip
  np.testing.assert_array_equal(view[~same], pixels[~same][:, :, ::-1])


def test_views_do_not_depend_on_jaxs_default_generator(batch):
  first = views(ALL, batch, 3)
  with jax.default_prng_impl('rbg'):
    np.testing.assert_array_equal(views(ALL, batch, 3), first)


@pytest.mark.parametrize('shape', [(2500, 4, 5, 3), (2500, 6)])
def test_fit_is_the_mean_and_deviation_by_channel(shape):
  inputs = np.random.default_rng(0).normal(300, 7, shape).astype(np.float32)
  rows = inputs.reshape(-1, shape[-1]).astype(np.float64)
  constants = images.fit(inputs)
  np.testing.assert_allclose(constants['mean'], rows.mean(axis=0), rtol=1e-6)
  np.testing.assert_allclose(constants['std'], rows.std(axis=0), rtol=1e-6)
