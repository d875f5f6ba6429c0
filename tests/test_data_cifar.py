"""CIFAR-10 with CIFAR-100 as a pool: the binary version, TFDS, and damaged folders."""

import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from shallow_jax import data
from shallow_jax.data import cifar
from shallow_jax.data import dataset

UNPACK = pathlib.Path(__file__).parents[2] / 'shared' / 'data' / 'unpack.py'  # the real images


def config(folder, **changes):
  settings = dict(
    name='cifar10',
    data_dir=str(folder),
    num_validation=50,
    split_seed=0,
    pool='cifar100',
    pool_dir='',
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
    'pool': 'CIFAR-100',
    'leaks_dropped': {'validation': 0, 'test': 2},
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
  assert data.load(config(cifar_folder / folder)).fingerprint() == small.fingerprint()


def test_splits_do_not_depend_on_the_order_of_the_files(damaged, small):
  folder = damaged / 'cifar-10-batches-bin'
  first, second = folder / 'data_batch_1.bin', folder / 'data_batch_2.bin'
  first.rename(folder / 'x')
  second.rename(first)
  (folder / 'x').rename(second)
  assert data.load(config(damaged)).fingerprint() == small.fingerprint()


def test_limits_cut_the_splits_after_the_pool_was_cleaned(cifar_folder, small):
  cut = data.load(config(cifar_folder, max_train=100, max_test=30, max_pool=70))
  assert counts(cut) == {'train': 100, 'validation': 50, 'test': 30, 'unlabelled': 70}
  assert cut.notes == small.notes


def test_cifar_100_has_a_pool_of_cifar_10(cifar_folder):
  loaded = data.load(config(cifar_folder, name='cifar100', pool='cifar10'))
  assert counts(loaded) == {'train': 450, 'validation': 50, 'test': 100, 'unlabelled': 598}
  assert (len(loaded.class_names), loaded.class_names[99]) == (100, 'worm')
  assert set(loaded.splits['train'].arrays['label']) == set(range(0, 100, 10))


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
  # 60,000 less the leaks, one image of train and 26 that CIFAR-100 holds twice
  assert counts(real) == {'train': 45_000, 'validation': 5000, 'test': 10_000, 'unlabelled': 59_971}
  np.testing.assert_allclose(real.constants['mean'], [125.3, 122.9, 113.9], atol=0.1)


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


def test_missing_data_says_how_to_get_it(tmp_path, cifar_folder):
  how = r'cifar-10-batches-bin/ \(curl -L https://.*/cifar-10-binary.tar.gz .* TFDS'
  refuse(config(''), rf"data.data_dir is '', expected .*{how}")
  refuse(config(tmp_path / 'none'), rf'none is not a folder, expected .*{how}')
  refuse(config(tmp_path), rf'data.data_dir: {tmp_path} has no data .*{how}')
  refuse(config(cifar_folder, pool_dir=str(tmp_path)), r'data.pool_dir: .*cifar-100-binary/')


def test_a_tfds_folder_that_is_incomplete_is_refused(tmp_path):
  (tmp_path / 'cifar10' / '3.0.2').mkdir(parents=True)
  refuse(config(tmp_path), r'cifar10: TFDS did not read train')


@pytest.mark.parametrize('pool', ['cifar10', 'tiny'])
def test_an_unknown_pool_is_refused(cifar_folder, pool):
  refuse(config(cifar_folder, pool=pool), f"data.pool is '{pool}', expected 'cifar100', or ''")


def refuse(settings, message):
  with pytest.raises(dataset.DataError, match=message) as error:
    data.load(settings)
  assert '\n' not in str(error.value)
