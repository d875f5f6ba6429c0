"""CIFAR-10 with CIFAR-100 or anything as a pool: binary version, TFDS, leaks, damaged folders."""

import os
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
from PIL import Image
import pytest

from shallow_jax import data
from shallow_jax.data import cifar
from shallow_jax.data import dataset

UNPACK = pathlib.Path(__file__).parents[3] / 'shared' / 'data' / 'unpack.py'  # the real images

PUBLISHED = {  # of CIFAR-10, split_seed 0: by name the beginning of the sha256 of its ids
  'train': 'd6954524fbd1',
  'validation': 'bcf076cb16d9',
  'test': '96be32aa1ae6',
}


def config(folder, **changes):
  settings = dict(
    name='cifar10',
    data_dir=str(folder),
    num_validation=50,
    split_seed=0,
    pool='cifar100',
    pool_dir='',
    near_duplicate_correlation=0.7,
    max_train=0,
    max_test=0,
    max_pool=0,
    augment=dict(flip=True, crop_padding=4, seed=0),
    preprocessing=dict(name='standardise'),
    sets={},
  )
  return {**settings, **changes}


def counts(loaded):
  return {name: len(split) for name, split in loaded.splits.items()}


@pytest.fixture(scope='module')
def small(cifar_folder):
  return data.load(config(cifar_folder))


@pytest.fixture
def damaged(cifar_folder, tmp_path):
  """A copy that a test may spoil."""
  return pathlib.Path(shutil.copytree(cifar_folder, tmp_path / 'copy'))


def test_validation_is_carved_and_the_leaks_are_dropped(small):
  assert counts(small) == {'train': 450, 'validation': 50, 'test': 100, 'unlabelled': 598}
  assert small.notes == {
    'pool': (
      'CIFAR-100, 600 images; for CIFAR-10 the paper had 1M of 80 Million Tiny Images, '
      'withdrawn in 2020'
    ),
    'leaks_dropped': {'validation': 0, 'test': 2},
    'near_duplicates_dropped': {'validation': 0, 'test': 0},
    'duplicates_dropped': {'train': 0, 'unlabelled': 0},
  }
  assert set(small.splits['unlabelled'].arrays['label']) == {-1}
  assert small.class_names[3] == 'cat'


def test_pixels_and_labels_are_those_of_the_records(cifar_folder, small):
  record = np.fromfile(cifar_folder / 'cifar-10-batches-bin' / 'test_batch.bin', np.uint8)[:3073]
  image = record[1:].reshape(3, 32, 32).transpose(1, 2, 0)
  test = small.splits['test'].arrays
  (row,) = np.flatnonzero((test['id'] == dataset.ids(image[None])).all(axis=1))
  np.testing.assert_array_equal(test['input'][row], image)
  assert test['label'][row] == record[0]
  assert test['input'].dtype == np.uint8


def test_inputs_are_standardised_by_channel(small):
  raw = jax.device_put(small.splits['train'].arrays)
  with jax.numpy_rank_promotion('raise'):
    inputs = jax.jit(small.inputs)(small.constants, raw, None)
  np.testing.assert_allclose(inputs.mean(axis=(0, 1, 2)), 0, atol=1e-4)
  np.testing.assert_allclose(inputs.std(axis=(0, 1, 2)), 1, atol=1e-4)


def test_view_0_of_the_inputs_is_no_view_and_view_1_another(small):
  raw = dataset.take(small.splits['test'].arrays, np.arange(20))
  inputs = jax.jit(small.inputs)
  as_is = inputs(small.constants, raw, None)
  views = [inputs(small.constants, raw, np.full(20, view, np.int32)) for view in (0, 1)]
  np.testing.assert_array_equal(views[0], as_is)
  assert not np.array_equal(views[1], as_is)


@pytest.mark.parametrize('folder', ['.', 'cifar-10-batches-bin'])
def test_the_archives_folder_or_the_one_above_will_do(cifar_folder, small, folder):
  settings = config(cifar_folder / folder, near_duplicate_correlation=0.0)
  assert data.load(settings).fingerprint() == small.fingerprint()


def test_splits_do_not_depend_on_the_order_of_the_files(damaged, small):
  folder = damaged / 'cifar-10-batches-bin'
  first, second = folder / 'data_batch_1.bin', folder / 'data_batch_2.bin'
  first.rename(folder / 'x')
  second.rename(first)
  (folder / 'x').rename(second)
  settings = config(damaged, near_duplicate_correlation=0.0)
  assert data.load(settings).fingerprint() == small.fingerprint()


def test_limits_cut_the_splits_after_the_pool_was_cleaned(cifar_folder, small):
  cut = data.load(config(cifar_folder, max_train=100, max_test=30, max_pool=70))
  assert counts(cut) == {'train': 100, 'validation': 50, 'test': 30, 'unlabelled': 70}
  assert cut.notes == small.notes


def pool_records(folder):
  """CIFAR-100's records under `folder`, train then test."""
  files = [folder / 'cifar-100-binary' / name for name in ('train.bin', 'test.bin')]
  return np.concatenate([np.fromfile(file, np.uint8).reshape(-1, 3074) for file in files])


@pytest.fixture(scope='module')
def pool_images(cifar_folder):
  return pool_records(cifar_folder)[:, 2:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def same_but_for_the_pools_name(loaded, other):
  assert loaded.splits['unlabelled'].ids_sha256 == other.splits['unlabelled'].ids_sha256
  assert {**loaded.notes, 'pool': ''} == {**other.notes, 'pool': ''}


def test_a_folder_of_images_is_a_pool_as_good(cifar_folder, small, pool_images, tmp_path):
  for i, image in enumerate(pool_images):
    Image.fromarray(image).save(tmp_path / f'{i}.png')
  loaded = data.load(config(cifar_folder, pool='images', pool_dir=str(tmp_path)))
  same_but_for_the_pools_name(loaded, small)
  assert loaded.notes['pool'].startswith(f'images in the folder {tmp_path.name}, 600 images; for')


def test_an_array_file_is_a_pool_as_good(cifar_folder, small, pool_images, tmp_path):
  np.save(tmp_path / 'pool.npy', pool_images)
  loaded = data.load(config(cifar_folder, pool='arrays', pool_dir=str(tmp_path / 'pool.npy')))
  same_but_for_the_pools_name(loaded, small)
  assert type(loaded.splits['unlabelled'].arrays['input']) is np.ndarray
  (tmp_path / 'pool.npy').unlink()


@pytest.mark.slow
def test_a_tfds_set_is_a_pool_as_good(cifar_folder, small, tmp_path):
  cifar.prepare_tfds('cifar100', str(cifar_folder), str(tmp_path))
  for pool in ('tfds:cifar100', 'cifar100'):
    loaded = data.load(config(cifar_folder, pool=pool, pool_dir=str(tmp_path)))
    same_but_for_the_pools_name(loaded, small)


def test_near_duplicates_of_validation_and_test_are_dropped_and_counted(damaged, small):
  held_out = [small.splits[name].arrays['input'] for name in ('validation', 'test')]
  copies = np.stack(
    [
      held_out[0][3][:, ::-1],
      held_out[1][5] // 2 + 60,
      np.roll(held_out[1][6], 1, axis=0),
    ]
  )
  file = damaged / 'cifar-100-binary' / 'train.bin'
  records = np.fromfile(file, np.uint8).reshape(-1, 3074)
  records[:3, 2:] = copies.transpose(0, 3, 1, 2).reshape(3, -1)
  records.tofile(file)
  loaded = data.load(config(damaged))
  assert loaded.notes['leaks_dropped'] == {'validation': 0, 'test': 2}
  assert loaded.notes['near_duplicates_dropped'] == {'validation': 1, 'test': 2}
  assert len(loaded.splits['unlabelled']) == 595
  unsearched = data.load(config(damaged, near_duplicate_correlation=0.0))
  assert 'near_duplicates_dropped' not in unsearched.notes
  assert len(unsearched.splits['unlabelled']) == 598


def test_cifar_100_has_a_pool_of_cifar_10(cifar_folder):
  loaded = data.load(config(cifar_folder, name='cifar100', pool='cifar10'))
  assert counts(loaded) == {'train': 450, 'validation': 50, 'test': 100, 'unlabelled': 598}
  assert (len(loaded.class_names), loaded.class_names[99]) == (100, 'worm')
  assert set(loaded.splits['train'].arrays['label']) <= set(range(100))
  assert {label // 10 for label in loaded.splits['train'].arrays['label']} == set(range(10))


@pytest.mark.slow
@pytest.mark.parametrize('name', ['cifar10', 'cifar100'])
def test_tfds_prepared_from_the_archive_gives_the_same_data(cifar_folder, tmp_path, name):
  cifar.prepare_tfds(name, str(cifar_folder), str(tmp_path))
  binary = data.load(config(cifar_folder, name=name, pool=''))
  tfds = data.load(config(tmp_path, name=name, pool=''))
  assert tfds.fingerprint() == binary.fingerprint()


@pytest.mark.slow
@pytest.mark.skipif(not UNPACK.exists(), reason='needs the real images')
def test_the_two_real_leaks_are_found(tmp_path):
  subprocess.run([sys.executable, UNPACK, tmp_path, 'cifar10', 'cifar100'], check=True)
  real = data.load(config(tmp_path, num_validation=5000))
  assert real.notes['leaks_dropped'] == {'validation': 0, 'test': 2}
  assert real.notes['near_duplicates_dropped'] == {'validation': 1, 'test': 0}
  # 60,000 less those, one image of train and 26 that CIFAR-100 holds twice
  assert counts(real) == {'train': 45_000, 'validation': 5000, 'test': 10_000, 'unlabelled': 59_970}
  np.testing.assert_allclose(real.constants['mean'], [125.3, 122.9, 113.9], atol=0.1)


@pytest.mark.slow
@pytest.mark.skipif(not UNPACK.exists(), reason='needs the real images')
def test_cifar_10s_splits_are_those_of_the_published_results(tmp_path):
  subprocess.run([sys.executable, UNPACK, tmp_path, 'cifar10'], check=True)
  real = data.load(config(tmp_path, num_validation=5000, pool=''))
  found = {name: split.ids_sha256[:12] for name, split in real.splits.items()}
  assert found == PUBLISHED
  assert real.notes == {}


def test_missing_files_are_named(damaged):
  for name in ('data_batch_2.bin', 'test_batch.bin'):
    (damaged / 'cifar-10-batches-bin' / name).unlink()
  refuse(config(damaged), r'batches-bin lacks data_batch_2.bin, test_batch.bin of 6 .*tar.gz')


@pytest.mark.parametrize(
  ('size', 'message'),
  [
    (3073 * 99, r'data_batch_4.bin holds 99 images, expected 100 as in the other files'),
    (
      3073 * 99 + 5,
      r'data_batch_4.bin holds 304,232 bytes, .* of 3,073 \(30,730,000 for all 10,000',
    ),
    (0, r'data_batch_4.bin holds 0 bytes'),
  ],
)
def test_a_file_cut_short_is_named(damaged, size, message):
  with open(damaged / 'cifar-10-batches-bin' / 'data_batch_4.bin', 'r+b') as file:
    file.truncate(size)
  refuse(config(damaged), message)


def test_a_label_that_is_none_is_named(damaged):
  path = damaged / 'cifar-10-batches-bin' / 'data_batch_3.bin'
  content = bytearray(path.read_bytes())
  content[3073 * 7] = 10
  path.write_bytes(content)
  refuse(config(damaged), r'data_batch_3.bin: record 7 has label 10, expected 0 to 9')


def spoil(folder, file, change):
  path = folder / 'cifar-10-batches-bin' / file
  records = np.fromfile(path, np.uint8).reshape(-1, 3073)
  change(records)
  records.tofile(path)


def test_files_that_are_copies_of_each_other_are_named(damaged):
  folder = damaged / 'cifar-10-batches-bin'
  shutil.copy(folder / 'data_batch_2.bin', folder / 'data_batch_4.bin')
  copied = (
    r'data_batch_4.bin holds 100 images of data_batch_2.bin too, expected 100 .* unpack https'
  )
  refuse(config(damaged), copied)


def test_a_test_file_that_holds_images_of_train_is_named(damaged):
  train = np.fromfile(damaged / 'cifar-10-batches-bin' / 'data_batch_1.bin', np.uint8)

  def copy(records):
    records[50:] = train.reshape(-1, 3073)[:50]

  spoil(damaged, 'test_batch.bin', copy)
  refuse(config(damaged), r'test_batch.bin holds 50 images of data_batch_1.bin too')


@pytest.mark.parametrize(
  ('first', 'value', 'found'),
  [
    (0, 0, '50 images of one colour'),
    (1, 0, '50 images of one colour'),
    (1, None, 'more than once'),
  ],
)
def test_a_file_with_a_hole_is_named(damaged, first, value, found):
  def empty(records):
    records[50:, first:] = records[3, first:] if value is None else value

  spoil(damaged, 'data_batch_5.bin', empty)
  refuse(config(damaged), rf'data_batch_5.bin holds .*{found}, expected 100 that no')


def test_a_single_class_is_refused(damaged):
  def same(records):
    records[:, 0] = 3

  for i in range(1, 6):
    spoil(damaged, f'data_batch_{i}.bin', same)
  refuse(config(damaged), r'train has the class 3 alone, expected two classes or more')


def test_a_class_that_train_lacks_is_told(damaged):
  def without_3(records):
    records[records[:, 0] == 3, 0] = 4

  for i in range(1, 6):
    spoil(damaged, f'data_batch_{i}.bin', without_3)
  notes = data.load(config(damaged, pool='')).notes
  assert notes['classes_without_examples_in_train'] == '1 of 10 (cat)'
  assert notes['of_classes_that_train_lacks'] == '10 of test'


@pytest.mark.parametrize(
  ('name', 'file', 'found'),
  [
    ('cifar10', 'cifar-10-batches-py/data_batch_1', r"CIFAR-10's python version"),
    ('cifar10', 'data_batch_1', r"CIFAR-10's python version"),
    ('cifar10', 'cifar-10-batches-mat/test_batch.mat', r"CIFAR-10's Matlab version"),
    ('cifar10', 'cifar-10-binary.tar.gz', r"CIFAR-10's archive, not unpacked"),
    ('cifar100', 'cifar-100-python/train', r"CIFAR-100's python version"),
    ('cifar100', 'meta', r"CIFAR-100's python version"),
  ],
)
def test_another_version_is_recognised_as_such(tmp_path, name, file, found):
  (tmp_path / file).parent.mkdir(exist_ok=True)
  (tmp_path / file).write_bytes(b'')
  how = r'expected .*cifar-10.*-bin.*/ \(curl -L https'
  refuse(config(tmp_path, name=name), rf'data.data_dir: {tmp_path} has {found}, {how}')


def test_missing_data_says_how_to_get_it(tmp_path, cifar_folder):
  how = r'cifar-10-batches-bin/ \(curl -L https://.*/cifar-10-binary.tar.gz .* TFDS'
  refuse(config(''), rf"data.data_dir is '', expected .*{how}")
  refuse(config(tmp_path / 'none'), rf'none is not a folder, expected .*{how}')
  refuse(config(tmp_path), rf'data.data_dir: {tmp_path} has no data .*{how}')
  refuse(config(cifar_folder, pool_dir=str(tmp_path)), r'data.pool_dir: .*cifar-100-binary/')


def test_a_tfds_folder_that_is_incomplete_is_refused(tmp_path):
  (tmp_path / 'cifar10' / '3.0.2').mkdir(parents=True)
  refuse(config(tmp_path), r'cifar10: TFDS did not read train')


@pytest.mark.parametrize('pool', ['cifar10', 'tiny', 'tfds:'])
def test_an_unknown_pool_is_refused(cifar_folder, pool):
  expected = "'cifar100', 'images', 'arrays', 'tfds:NAME', or '' for none"
  refuse(config(cifar_folder, pool=pool), f"data.pool is '{pool}', expected {expected}")


@pytest.mark.parametrize(
  ('size', 'message'),
  [
    (3074 * 499, r'train.bin holds 499 images, expected 500 as in the other files'),
    (3074 * 499 + 1, r'train.bin holds 1,533,927 bytes, expected a multiple of 3,074'),
  ],
)
def test_a_pools_file_cut_short_is_named(damaged, size, message):
  os.truncate(damaged / 'cifar-100-binary' / 'train.bin', size)
  refuse(config(damaged), message)


def test_a_pools_image_of_another_size_is_named(cifar_folder, tmp_path):
  Image.new('RGB', (96, 96)).save(tmp_path / 'large.png')
  settings = config(cifar_folder, pool='images', pool_dir=str(tmp_path))
  refuse(settings, r'large.png is RGB, 96 x 96 pixels, expected RGB, 32 x 32')
  refuse({**settings, 'pool_dir': ''}, r"data.pool_dir is '', expected where the pool 'images' is")


def test_a_pool_of_nothing_new_is_refused(cifar_folder, small, tmp_path):
  known = [small.splits[name].arrays['input'] for name in ('train', 'validation', 'test')]
  np.savez(tmp_path / 'known.npz', np.concatenate(known))
  settings = config(cifar_folder, pool='arrays', pool_dir=str(tmp_path / 'known.npz'))
  refuse(settings, r'the pool has 600 examples and all stand in train, validation or test')


@pytest.mark.parametrize('correlation', [-0.1, 1.5, float('nan')])
def test_a_correlation_that_is_none_is_refused(cifar_folder, correlation):
  settings = config(cifar_folder, near_duplicate_correlation=correlation)
  refuse(settings, f'data.near_duplicate_correlation is {correlation}, expected 0 to 1')


def refuse(settings, message):
  with pytest.raises(dataset.DataError, match=message) as error:
    data.load(settings)
  assert '\n' not in str(error.value)
