"""Near-duplicates: copies of photographs are found, others are not; edges against SciPy."""

import io

import numpy as np
from PIL import Image
import pytest
from scipy import ndimage
from sklearn import datasets

from shallow_jax.data import duplicates


@pytest.fixture(scope='module')
def photographs():
  """40 different ones: uint8 [40, 32, 32, 3], pieces of scikit-learn's two, without empty sky."""
  pieces = []
  for whole in datasets.load_sample_images().images:
    third = np.asarray(Image.fromarray(whole).resize((213, 142)))[:128, :192]
    pieces.append(third.reshape(4, 32, 6, 32, 3).swapaxes(1, 2).reshape(24, 32, 32, 3))
  pieces = np.concatenate(pieces)
  return pieces[np.argsort(pieces.std(axis=(1, 2, 3)), kind='stable')[-40:]]


def jpeg(image, quality):
  file = io.BytesIO()
  Image.fromarray(image).save(file, 'JPEG', quality=quality)
  return np.asarray(Image.open(file))


def resized(image, side):
  return np.asarray(Image.fromarray(image).resize((side, side)).resize((32, 32)))


def moved(image, down, right):
  return np.roll(np.pad(image, ((2, 2), (2, 2), (0, 0)), 'edge'), (down, right), (0, 1))[2:-2, 2:-2]


def recoloured(image, scale, shift, gamma=1.0):
  return np.clip(255 * (image / 255) ** gamma * scale + shift, 0, 255).astype(np.uint8)


COPIES = {
  'the same': lambda image: image,
  're-encoded': lambda image: jpeg(image, 50),
  'rescaled': lambda image: resized(image, 20),
  'enlarged': lambda image: resized(image, 64),
  'brighter': lambda image: recoloured(image, 1, 40),
  'darker': lambda image: recoloured(image, 0.6, 0),
  'of another gamma': lambda image: recoloured(image, 1, 0, gamma=2.0),
  'warmer': lambda image: recoloured(image, np.array([1.2, 1.0, 0.8]), 0),
  'tinted': lambda image: image // 3 + np.array([120, 60, 0], np.uint8),
  'mirrored': lambda image: image[:, ::-1],
  'moved': lambda image: moved(image, 1, -1),
  'moved by two': lambda image: moved(image, 0, 2),
  'mirrored, moved and re-encoded': lambda image: jpeg(moved(image, 1, 1)[:, ::-1].copy(), 60),
}


def copies_and_others(photographs, copy):
  """A pool of 20 copies and 20 other photographs, and the held-out originals."""
  held_out, others = photographs[::2], photographs[1::2]
  return np.concatenate([[COPIES[copy](image) for image in held_out], others]), held_out


@pytest.mark.parametrize('copy', COPIES)
def test_copies_are_found_and_other_photographs_are_not(photographs, copy):
  found = duplicates.near_duplicates(*copies_and_others(photographs, copy), 0.7)
  assert (found.shape, found.dtype) == ((40,), bool)
  assert found[:20].sum() >= 17
  assert found[20:].sum() == 0


def test_the_same_colours_do_not_make_a_duplicate(photographs):
  # each 8 x 8 pixels turned upside down: to the grid there is no difference
  turned = photographs.reshape(40, 4, 8, 32, 3)[:, :, ::-1].reshape(photographs.shape)
  assert not duplicates.near_duplicates(turned, photographs, 0.7).any()


def test_the_threshold_decides(photographs):
  pool, held_out = copies_and_others(photographs, 're-encoded')
  counts = [duplicates.near_duplicates(pool, held_out, c).sum() for c in (0.1, 0.7, 0.9, 1.0)]
  assert counts == sorted(counts, reverse=True)
  assert counts[0] >= counts[1] > counts[2] > counts[3] == 0


def test_chunks_make_no_difference(photographs, monkeypatch):
  pool, held_out = copies_and_others(photographs, 'moved by two')
  whole = duplicates.near_duplicates(pool, held_out, 0.7)
  monkeypatch.setattr(duplicates, '_CHUNK', 7)
  monkeypatch.setattr(duplicates, '_PAIRS', 2)
  np.testing.assert_array_equal(duplicates.near_duplicates(pool, held_out, 0.7), whole)
  assert 0 < whole.sum() < 40


def test_few_other_photographs_are_compared_at_full_resolution(photographs, monkeypatch):
  compared = []

  def count(images, others):
    compared.append(len(images))
    return np.zeros(len(images))

  monkeypatch.setattr(duplicates, 'edge_correlation', count)
  light = np.linspace(190, 0, 32).astype(np.uint8)[:, None, None]
  lit_from_above = photographs // 4 + light
  duplicates.near_duplicates(lit_from_above, lit_from_above, 0.7)
  # each with itself, and of the 2 * 40 * 40 pairs hardly another
  assert 40 <= sum(compared) <= 60


def test_flat_images_are_nobodys_duplicates(photographs):
  flat = np.broadcast_to(np.array([0, 90, 255], np.uint8)[:, None, None, None], (3, 32, 32, 3))
  assert not duplicates.near_duplicates(flat, np.concatenate([photographs, flat]), 0.7).any()


def test_one_held_out_image_and_a_pool_of_none_will_do(photographs):
  alone = photographs[:1]
  assert duplicates.near_duplicates(photographs, alone, 0.7).tolist() == [True] + 39 * [False]
  assert duplicates.near_duplicates(photographs[:0], photographs, 0.7).shape == (0,)


@pytest.mark.parametrize('shape', [(32, 32), (23, 30), (17, 41)])
def test_sides_need_not_be_multiples_of_the_grids(photographs, shape):
  cut = photographs.repeat(2, axis=2)[:, : shape[0], : shape[1]]
  assert duplicates.near_duplicates(cut[:, :, ::-1], cut[:30], 0.7)[:30].sum() >= 29


def test_edges_correlate_as_scipys_sobel_filter_says(photographs):
  first, second = photographs[:2], photographs[[0, 4]][:, ::-1]
  found = duplicates.edge_correlation(first, second)
  assert found.dtype == np.float64
  np.testing.assert_allclose(found, list(map(best_correlation, first, second)))


def best_correlation(first, second):
  """The definition, written out for one pair."""
  first, second = (edges(image) for image in (first, second))
  best = -1
  for down in range(-2, 3):
    for right in range(-2, 3):
      pairs = [
        (first[y, x], second[y - down, x - right])
        for y in range(max(down, 0), 30 + min(down, 0))
        for x in range(max(right, 0), 30 + min(right, 0))
      ]
      a, b = (np.ravel(part) for part in zip(*pairs, strict=True))
      best = max(best, a @ b / np.sqrt((a @ a) * (b @ b)))
  return best


def edges(image):
  gradients = [ndimage.sobel(image.mean(axis=2), axis)[1:-1, 1:-1] for axis in (0, 1)]
  return np.moveaxis([np.sign(g) * np.abs(g) ** 0.5 for g in gradients], 0, 2)


def test_without_edges_there_is_no_correlation(photographs):
  flat = np.full_like(photographs, 7)
  assert (duplicates.edge_correlation(flat, photographs) == 0).all()
  assert (duplicates.edge_correlation(flat, flat) == 0).all()


def test_edges_correlate_fully_across_two_pixels_either_way(photographs):
  wide = photographs[:, :30].copy()
  for down in (0, 1, 2):
    for right in (-2, 0, 2):
      first = wide[:, 2:26, 2:26]
      second = wide[:, 2 + down : 26 + down, 2 + right : 26 + right]
      np.testing.assert_allclose(duplicates.edge_correlation(first, second), 1)
  assert (duplicates.edge_correlation(wide[:, :24, :24], wide[:, :24, 3:27]) < 0.999).all()


@pytest.mark.parametrize(
  ('shape', 'dtype', 'are'),
  [
    ((5, 32, 32, 3), np.uint8, True),
    ((5, 16, 96, 3), np.uint8, True),
    ((5, 15, 32, 3), np.uint8, False),
    ((5, 28, 28, 1), np.uint8, False),
    ((5, 32, 32, 3), np.float32, False),
    ((5, 64), np.uint8, False),
  ],
)
def test_photographs_are_colour_images_of_a_sensible_size(shape, dtype, are):
  assert duplicates.are_photographs(np.zeros(shape, dtype)) == are
