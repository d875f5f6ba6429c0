"""Augmented views as pure functions of id, view and seed, against other libraries."""

import colorsys
import dataclasses
import hashlib
import itertools

import jax
import jax.numpy as jnp
from matplotlib import colors
import numpy as np
from PIL import Image
import pytest
from scipy import stats
from support import mixes

from shallow_jax.data import dataset
from shallow_jax.data import views as views_lib
from shallow_jax.settings import keys

# every corner, edge and grey of the cube of colours, and its inside
GRID = np.array(list(itertools.product(np.linspace(0, 1, 6), repeat=3)), np.float32)

# run a few times only: quickly compiled rather than fast
augment = jax.jit(
  views_lib.augment, static_argnums=0, compiler_options={'xla_backend_optimization_level': 0}
)

OFF = views_lib.Augmentation()
MOVED = views_lib.Augmentation(flip=True, crop_padding=4)
ALL = dataclasses.replace(
  MOVED,
  crop_min_scale=0.75,
  hue_shift=0.1,
  saturation_shift=0.2,
  saturation_scale=0.3,
  value_shift=0.2,
  value_scale=0.3,
  mixup_alpha=0.5,
)

# of the views 1 and 5 of MOVED, since logits of them were first stored
GOLDEN = ['ee1206d10dc207e1', 'f63dffd32a81284d']


@pytest.fixture(scope='module')
def batch():
  pixels = np.random.default_rng(0).integers(0, 256, (64, 12, 10, 3)).astype(np.uint8)
  return {'input': pixels, 'id': dataset.ids(pixels)}


@pytest.fixture(scope='module')
def colourful():
  """Images far from grey, black and full saturation: no change is cut off."""
  rng = np.random.default_rng(0)
  hsv = np.stack([rng.random((64, 6, 6)), *rng.uniform(0.4, 0.6, (2, 64, 6, 6))], axis=-1)
  pixels = (255 * colors.hsv_to_rgb(hsv)).astype(np.float32)
  return {'input': pixels, 'id': dataset.ids(pixels)}


def views(settings, batch, view):
  with jax.numpy_rank_promotion('raise'):
    return np.asarray(augment(settings, batch, np.full(len(batch['id']), view, np.int32)))


def mixed(settings, batch, view):
  """The batch as a set of its own, each image with its partner."""
  arrays = {**batch, 'mix': settings.mix(len(batch['id']))}
  rows = np.arange(len(batch['id']))
  return views(settings, dataset.take_views(arrays, rows, np.full_like(rows, view)), view)


def rows_of(batch, rows):
  return {name: array[rows] for name, array in batch.items()}


def test_view_0_is_the_image(batch):
  moved = views(MOVED, batch, 0)
  assert moved.dtype == np.uint8
  np.testing.assert_array_equal(moved, batch['input'])
  np.testing.assert_array_equal(mixed(ALL, batch, 0), batch['input'])


@pytest.mark.parametrize('settings', [MOVED, ALL])
def test_a_view_depends_on_id_view_and_seed_alone(batch, settings):
  first = views(settings, batch, 5)
  rows = np.random.default_rng(0).integers(64, size=64)
  np.testing.assert_allclose(views(settings, rows_of(batch, rows), 5), first[rows], atol=1e-4)
  other = dataclasses.replace(settings, seed=1)
  for changed in (views(settings, batch, 6), views(other, batch, 5)):
    assert np.mean([np.array_equal(a, b) for a, b in zip(changed, first, strict=True)]) < 0.2


def test_views_that_only_move_pixels_never_change(batch):
  digests = [hashlib.sha256(views(MOVED, batch, view).tobytes()).hexdigest() for view in (1, 5)]
  assert [digest[:16] for digest in digests] == GOLDEN


def test_views_do_not_depend_on_jaxs_default_generator(batch):
  first = views(ALL, batch, 3)
  with jax.default_prng_impl('rbg'):
    np.testing.assert_array_equal(views(ALL, batch, 3), first)


def test_views_are_shifts_and_flips_with_a_mirrored_border(batch):
  pixels = batch['input']
  padded = np.pad(pixels, ((0, 0), (4, 4), (4, 4), (0, 0)), mode='reflect')
  padded = np.stack([padded, padded[:, :, ::-1]])  # [flip, example, ...]
  found = np.array(
    [_placement(padded[:, i], view) for i, view in enumerate(views(MOVED, batch, 1))]
  )
  flips, rows, columns = found.T
  assert 16 < flips.sum() < 48
  assert set(rows) == set(columns) == set(range(9))


def _placement(padded, view):
  height, width, _ = view.shape
  for flip, row, column in np.ndindex(2, 9, 9):
    if np.array_equal(padded[flip, row : row + height, column : column + width], view):
      return flip, row, column
  raise AssertionError('no shift and flip of the image')


@pytest.mark.parametrize('flip', [False, True])
def test_what_is_off_is_off(batch, flip):
  pixels, view = batch['input'], views(views_lib.Augmentation(flip=flip), batch, 1)
  same = np.array([np.array_equal(a, b) for a, b in zip(pixels, view, strict=True)])
  assert same.all() != flip
  np.testing.assert_array_equal(view[~same], pixels[~same][:, :, ::-1])


def test_crops_are_pillows_bilinear_ones_of_any_size_and_place(batch):
  settings = views_lib.Augmentation(crop_min_scale=0.75)
  found = [_crop(image, view, 0) for image, view in _pairs(settings, batch)]
  heights, widths, tops, lefts, flips = np.array(found).T
  assert set(zip(heights, widths, strict=True)) == {
    (9, 8),
    (10, 8),
    (10, 9),
    (11, 9),
    (11, 10),
    (12, 10),
  }
  assert min(np.bincount(heights)[9:]) > 6  # of 16 expected
  assert set(tops[heights == 9]) == set(range(4))
  assert set(lefts[widths == 8]) == set(range(3))
  assert not flips.any()


def test_a_crop_is_shifted_and_flipped_as_well(batch):
  settings = views_lib.Augmentation(crop_min_scale=0.75, crop_padding=1, flip=True)
  pairs = list(_pairs(settings, batch))[:24]
  found = [_crop(image, view, 1) for image, view in pairs]
  heights, _, tops, _, flips = np.array(found).T
  assert 4 < flips.sum() < 20
  assert (tops == 0).any()  # of the padded image
  assert (tops + heights > 12).any()


def _pairs(settings, batch):
  return zip(batch['input'], views(settings, batch, 1), strict=True)


def _crop(image, view, padding):
  """(height, width, top, left, flip) of the part of the padded image that gives this view."""
  padded = np.pad(image, ((padding,) * 2, (padding,) * 2, (0, 0)), mode='reflect')
  height, width, _ = image.shape
  for flip, source in enumerate((padded, padded[:, ::-1])):
    for part in np.ndindex(4, 3):
      rows, columns = height - part[0], width - part[1]
      for top, left in np.ndindex(len(source) - rows + 1, source.shape[1] - columns + 1):
        candidate = _resized(source[top : top + rows, left : left + columns], (width, height))
        if np.abs(candidate - view).max() < 1e-3:
          return rows, columns, top, left, flip
  raise AssertionError('no crop of the image')


def _resized(part, size):
  planes = [Image.fromarray(part[..., i].astype(np.float32)) for i in range(3)]
  return np.stack([plane.resize(size, Image.Resampling.BILINEAR) for plane in planes], axis=-1)


@pytest.mark.parametrize(
  ('name', 'limit', 'channel'),
  [('hue_shift', 0.1, 0), ('saturation_shift', 0.2, 1), ('value_shift', 0.2, 2)],
)
def test_a_shift_adds_one_number_to_one_channel_of_an_image(colourful, name, limit, channel):
  before, after = _hsv(colourful['input']), _hsv(_changed(colourful, name, limit))
  difference = after - before
  difference[..., 0] = (difference[..., 0] + 0.5) % 1 - 0.5  # around the circle
  shifts = difference[:, 0, 0, channel]
  expected = np.zeros_like(difference)
  expected[..., channel] = shifts[:, None, None]
  np.testing.assert_allclose(difference, expected, atol=1e-5)
  _check_uniform(shifts, limit)


@pytest.mark.parametrize(
  ('name', 'limit', 'channel'), [('saturation_scale', 0.5, 1), ('value_scale', 0.5, 2)]
)
def test_a_scale_multiplies_one_channel_of_an_image_by_one_number(colourful, name, limit, channel):
  before, after = _hsv(colourful['input']), _hsv(_changed(colourful, name, limit))
  factors = after[:, 0, 0, channel] / before[:, 0, 0, channel]
  before[..., channel] *= factors[:, None, None]
  np.testing.assert_allclose(after, before, atol=1e-5)
  _check_uniform(np.log(factors), np.log(1 + limit))


def _changed(batch, name, limit):
  return views(views_lib.Augmentation(**{name: limit}), batch, 1)


def _hsv(pixels):
  return colors.rgb_to_hsv(pixels.astype(np.float64) / 255)


def _check_uniform(drawn, limit):
  assert np.abs(drawn).max() < limit + 1e-5
  assert stats.kstest(drawn, stats.uniform(-limit, 2 * limit).cdf).pvalue > 1e-3


def test_mixes_have_the_larger_share_of_their_own_image(batch):
  settings = views_lib.Augmentation(mixup_alpha=0.4)
  shares = []
  for view in range(1, 5):
    own = batch['input'].astype(np.float64)
    others = np.roll(own, -mixes.all_offsets(settings.mix(64), view + 1)[0, view], axis=0)
    view_of = mixed(settings, batch, view)
    direction = own - others
    share = ((view_of - others) * direction).sum((1, 2, 3)) / (direction**2).sum((1, 2, 3))
    np.testing.assert_allclose(view_of, others + share[:, None, None, None] * direction, atol=1e-3)
    shares.extend(share)

  def folded(share):
    return 2 * stats.beta(0.4, 0.4).cdf(share) - 1

  assert stats.kstest(shares, folded).pvalue > 1e-3


def test_a_mix_is_made_of_both_images_views(batch):
  both = views(ALL, batch, 2)  # without partners
  others = np.roll(both, -mixes.all_offsets(ALL.mix(64), 3)[0, 2], axis=0)
  mix = mixed(ALL, batch, 2)
  assert (mix > np.minimum(both, others) - 1e-3).all()
  assert (mix < np.maximum(both, others) + 1e-3).all()
  assert not np.allclose(mix, both, atol=1)


def test_partners_are_other_examples_of_the_set_each_once(batch):
  offsets = mixes.all_offsets(ALL.mix(50), 40)
  partners = np.arange(50)[:, None] + offsets
  np.testing.assert_array_equal(np.sort(partners, axis=0), np.tile(np.arange(50)[:, None], 40))
  assert (offsets[:, 1:] != 0).all()
  assert len(np.unique(offsets[0, 1:] % 50)) > 20
  other = mixes.all_offsets(dataclasses.replace(ALL, seed=1).mix(50), 40)
  assert (other != offsets).any(axis=0).mean() > 0.8
  np.testing.assert_array_equal(mixes.all_offsets(ALL.mix(2), 2)[:, 1], [1, -1])
  of_jax = views_lib.partner_offsets(jnp.asarray(ALL.mix(50)), jnp.full(50, 7))
  np.testing.assert_array_equal(of_jax, offsets[:, 7])
  with pytest.raises(dataset.DataError, match='a set of 1 has nothing to mix'):
    ALL.mix(1)


@pytest.mark.parametrize('name', [field.name for field in dataclasses.fields(OFF)])
def test_every_setting_is_part_of_the_fingerprint(name):
  other = views_lib.Augmentation(**{name: getattr(ALL, name) or 7})
  assert other.fingerprint() != OFF.fingerprint()


@pytest.mark.parametrize(
  ('key', 'value', 'expected'),
  [
    ('crop_padding', -1, '0 to 9'),
    ('crop_padding', 10, '0 to 9'),
    ('crop_min_scale', 0.0, '0.1 to 1'),
    ('crop_min_scale', 1.01, '0.1 to 1'),
    ('hue_shift', 0.6, '0 to 0.5'),
    ('saturation_shift', -0.1, '0 to 1'),
    ('value_shift', 1.5, '0 to 1'),
    ('saturation_scale', float('nan'), '0 or more'),
    ('value_scale', float('inf'), '0 or more'),
    ('mixup_alpha', -1.0, '0 or more'),
    ('seed', -1, '0 to 4294967295'),
  ],
)
def test_a_setting_out_of_range_is_refused_with_its_key(key, value, expected):
  config = dataclasses.asdict(OFF) | {key: value}
  with pytest.raises(dataset.DataError) as caught:
    views_lib.build(config, (12, 10, 3))
  assert str(caught.value) == f'data.augment.{key} is {value}, expected {expected}'


def test_the_defaults_of_a_config_are_off():
  assert views_lib.build(keys.DATA['cifar10']['augment'], (32, 32, 3)) == OFF


def test_settings_in_range_are_taken():
  assert views_lib.build(dataclasses.asdict(ALL), (12, 10, 3)) == ALL


def by_pixel(function, pixels):
  return np.array([function(*pixel) for pixel in pixels.astype(np.float64)])


@pytest.mark.parametrize(
  ('ours', 'theirs'),
  [(views_lib.hsv_from_rgb, colorsys.rgb_to_hsv), (views_lib.rgb_from_hsv, colorsys.hsv_to_rgb)],
)
def test_conversions_are_colorsyss(ours, theirs):
  np.testing.assert_allclose(ours(GRID), by_pixel(theirs, GRID), atol=2e-6)
  image = GRID.reshape(2, 12, 9, 3)
  np.testing.assert_array_equal(ours(image).reshape(-1, 3), ours(GRID))


def test_jitter_scales_then_shifts_within_limits_and_leaves_grey_grey():
  scales = np.array([[1.0, 1.5, 0.7], [1.0, 0.8, 1.2]], np.float32)
  shifts = np.array([[-0.3, 0.2, 0.5], [0.4, -0.3, -0.2]], np.float32)
  found = views_lib.jitter_colours(np.stack([255 * GRID] * 2).reshape(2, 12, 18, 3), scales, shifts)

  def expected(scale, shift):
    def change(*pixel):
      hue, saturation, value = np.array(colorsys.rgb_to_hsv(*pixel)) * scale + shift
      saturation = 0 if len(set(pixel)) == 1 else np.clip(saturation, 0, 1)
      return colorsys.hsv_to_rgb(hue % 1, saturation, np.clip(value, 0, 1))

    return 255 * by_pixel(change, GRID)

  for pixels, scale, shift in zip(found, scales, shifts, strict=True):
    np.testing.assert_allclose(pixels.reshape(-1, 3), expected(scale, shift), atol=1e-3)
