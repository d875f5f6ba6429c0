"""Preprocessing against plain linear algebra and scikit-learn, and its constants on disk."""

import jax
import numpy as np
import pytest
from sklearn import decomposition

from shallow_jax import data
from shallow_jax import models
from shallow_jax.data import dataset
from shallow_jax.data import preprocessing
from shallow_jax.logits import predict
from shallow_jax.runtime import storage

ZCA = dict(name='gcn_zca', zca_epsilon=0.1)


def images(count=900, shape=(6, 5, 3)):
  """Images whose pixels have much in common with their neighbours, in 7 to 250."""
  rng = np.random.default_rng(0)
  mixing = rng.normal(size=(90, 90)) + 3
  x = rng.normal(size=(count, 90)) @ mixing
  x = (x - x.min()) / (x.max() - x.min())
  return (7 + 243 * x).astype(np.uint8).reshape(count, *shape)


def applied(config, constants, inputs):
  with jax.numpy_rank_promotion('raise'):
    apply = jax.jit(lambda constants, x: preprocessing.apply(config['name'], constants, x))
    return np.asarray(apply(constants, inputs))


@pytest.mark.parametrize('shape', [(2500, 4, 5, 3), (2500, 6)])
def test_standardise_fits_the_mean_and_deviation_by_channel(shape):
  inputs = np.random.default_rng(0).normal(300, 7, shape).astype(np.float32)
  rows = inputs.reshape(-1, shape[-1]).astype(np.float64)
  constants = preprocessing.fit_standardise(inputs)
  np.testing.assert_allclose(constants['mean'], rows.mean(axis=0), rtol=1e-6)
  np.testing.assert_allclose(constants['std'], rows.std(axis=0), rtol=1e-6)


def test_per_image_gives_every_image_mean_0_and_deviation_1():
  x = images()
  x[3] = 77
  constants = preprocessing.fit(dict(name='per_image'), dataset.make_split(x, None))
  assert constants == {}
  rows = applied(dict(name='per_image'), constants, x).reshape(len(x), -1)
  np.testing.assert_allclose(rows.mean(axis=1), 0, atol=1e-5)
  deviations = np.delete(rows.std(axis=1), 3)
  np.testing.assert_allclose(deviations, 1, rtol=1e-5)
  np.testing.assert_array_equal(rows[3], 0)


@pytest.mark.parametrize('scale', [1e-30, 1e-12, 1e-7, 1.0, 1e7, 1e30])
def test_features_are_scaled_to_the_same_in_whatever_unit(scale):
  x = np.random.default_rng(0).normal(3, [0.01, 1, 50], (500, 3))
  expected = (x - x.mean(axis=0)) / x.std(axis=0)
  inputs = (x * scale).astype(np.float32)
  constants = preprocessing.fit_standardise(inputs)
  assert preprocessing.constant_features(constants, inputs) == []
  found = applied(dict(name='standardise'), constants, inputs)
  np.testing.assert_allclose(found, expected, atol=3e-4)


@pytest.mark.parametrize('scale', [1e-12, 1e-7, 1.0, 1e7])
def test_what_is_constant_but_for_rounding_stays_so_in_whatever_unit(scale):
  """0.1 for all; 1 with and without float32's last bit; 0; and a feature that varies by 1e-5."""
  x = np.random.default_rng(0).normal(1, 1e-5, (400, 5)).astype(np.float32)
  x[:, 0], x[:, 1], x[:, 2] = 0.1, 1, 0
  x[::2, 1] = np.nextafter(np.float32(1), np.float32(2))
  x *= np.float32(scale)
  constants = preprocessing.fit_standardise(x)
  assert preprocessing.constant_features(constants, x) == [0, 1, 2]
  np.testing.assert_array_equal(constants['std'][:3], 1)
  np.testing.assert_allclose(constants['std'][3:], 1e-5 * scale, rtol=0.1)


def test_a_feature_of_deviation_1_is_no_constant_one():
  x = np.array([[-1, 4], [1, 4], [-1, 4], [1, 4]], np.float32)
  constants = preprocessing.fit_standardise(x)
  np.testing.assert_array_equal(constants['std'], [1, 1])
  assert preprocessing.constant_features(constants, x) == [1]


@pytest.mark.parametrize('scale', [1e-9, 1.0, 1e6])
def test_images_are_scaled_to_the_same_in_whatever_unit(scale):
  x = np.random.default_rng(0).uniform(0.2, 0.9, (9, 8, 8, 3)).astype(np.float32)
  x[4] = 0.1
  expected = normalised(np.delete(x, 4, axis=0)).reshape(-1, 8, 8, 3)
  scaled = x * np.float32(scale)
  for found in (
    applied(dict(name='per_image'), {}, scaled),
    preprocessing._normalised(scaled.reshape(9, -1)).reshape(x.shape),
  ):
    np.testing.assert_allclose(np.delete(found, 4, axis=0), expected, atol=1e-4)
    np.testing.assert_array_equal(found[4], 0)


def normalised(x):
  rows = x.reshape(len(x), -1).astype(np.float64)
  return (rows - rows.mean(axis=1, keepdims=True)) / rows.std(axis=1, keepdims=True)


def test_zca_equals_plain_linear_algebra():
  x = images()
  constants = preprocessing.fit_zca(x, 0.1)
  rows = normalised(x)
  left, singular, _ = np.linalg.svd((rows - rows.mean(axis=0)).T / np.sqrt(len(rows)))
  expected = left @ np.diag(1 / np.sqrt(singular**2 + 0.1)) @ left.T
  np.testing.assert_allclose(constants['zca'], expected, atol=1e-5)
  whitened = applied(ZCA, constants, x).reshape(len(x), -1)
  np.testing.assert_allclose(whitened, (rows - rows.mean(axis=0)) @ expected, atol=1e-4)


def test_zca_is_scikit_learns_whitening_turned_back():
  """Without a regulariser, on rows of full rank: PCA's whitened scores times its directions."""
  x = images()
  found = preprocessing.fit_zca(x, 1e-6)
  rows = normalised(x)
  # contrast normalisation takes away one direction of 90
  pca = decomposition.PCA(n_components=89, whiten=True, svd_solver='full').fit(rows)
  expected = pca.transform(rows) @ pca.components_ * np.sqrt(len(rows) / (len(rows) - 1))
  config = dict(name='gcn_zca', zca_epsilon=1e-6)
  actual = applied(config, found, x).reshape(len(x), -1)
  np.testing.assert_allclose(actual, expected, atol=2e-2)
  assert np.abs(np.cov(actual.T) - np.cov(expected.T)).max() < 1e-2


def test_zca_takes_more_than_one_chunk():
  x = images(count=4096 + 800)
  parts = preprocessing.fit_zca(x, 0.1)
  rows = normalised(x)
  np.testing.assert_allclose(parts['mean'], rows.mean(axis=0), atol=1e-5)
  variances, directions = np.linalg.eigh(np.cov(rows.T, bias=True))
  expected = (directions / np.sqrt(np.maximum(variances, 0) + 0.1)) @ directions.T
  np.testing.assert_allclose(parts['zca'], expected, atol=1e-5)


def test_an_unknown_preprocessing_is_refused():
  train = dataset.make_split(images(), None)
  with pytest.raises(dataset.DataError, match="is 'zca', expected one of standardise, per_image"):
    preprocessing.fit(dict(name='zca'), train)


DIGITS = dict(
  name='digits',
  split_seed=0,
  num_train=400,
  num_validation=100,
  num_unlabelled=297,
  num_test=1000,
  preprocessing=ZCA,
  sets={},
)


def test_saved_constants_are_taken_where_they_were_fitted_to_just_this(tmp_path):
  path = tmp_path / 'preprocessing.npz'
  first = data.load(DIGITS, path)
  preprocessing.save(path, first)
  with np.load(path) as file:
    saved = dict(file)
  saved['mean'] += 1  # a mark
  np.savez(path, **saved)
  again = data.load(DIGITS, path)
  np.testing.assert_array_equal(again.constants['mean'], first.constants['mean'] + 1)
  for changed in ({'split_seed': 1}, {'preprocessing': {**ZCA, 'zca_epsilon': 0.2}}):
    other = data.load({**DIGITS, **changed}, path)
    assert np.abs(other.constants['mean'] - saved['mean']).max() > 0.5


def test_a_damaged_file_of_constants_is_named(tmp_path):
  path = tmp_path / 'preprocessing.npz'
  preprocessing.save(path, data.load(DIGITS))
  path.write_bytes(path.read_bytes()[:-100])
  with pytest.raises(dataset.DataError, match=r'preprocessing.npz: damaged .* delete it'):
    data.load(DIGITS, path)


def test_the_fingerprint_tells_settings_and_constants(tmp_path):
  one = data.load(DIGITS).fingerprint()['preprocessing']
  other = data.load({**DIGITS, 'preprocessing': dict(name='per_image')}).fingerprint()
  assert one['name'] == 'gcn_zca' and set(one['constants']) == {'mean', 'zca'}
  assert other['preprocessing'] == {'name': 'per_image', 'constants': {}}


@pytest.mark.parametrize('name', ['standardise', 'per_image', 'gcn_zca'])
def test_constants_and_fingerprint_belong_to_shape_and_dtype_too(name, tmp_path):
  """Inputs of the same bytes have the same ids."""
  settings = dict(name=name, zca_epsilon=0.1)
  x = np.random.default_rng(0).normal(3, 1, (20, 48)).astype(np.float32)
  own = dict(train_label=np.arange(20) % 2, test_label=np.arange(20) % 2)
  config = dict(
    name='arrays', path=str(tmp_path / 'x.npz'), num_validation=5, split_seed=0, sets={}
  )
  config['preprocessing'] = settings
  fingerprints, kept = [], tmp_path / 'kept.npz'
  for inputs in (x, x.reshape(-1, 6, 8, 1), x.reshape(-1, 8, 6, 1), x.view(np.uint8)):
    np.savez(config['path'], train_input=inputs, test_input=inputs[::-1], **own)
    loaded, fresh = data.load(config, kept), data.load(config)
    for array, expected in zip(loaded.constants.values(), fresh.constants.values(), strict=True):
      np.testing.assert_array_equal(array, expected)
    preprocessing.save(kept, loaded)
    fingerprints.append(loaded.fingerprint()['splits']['train'])
  assert fingerprints[1]['shape'] == [6, 8, 1] and fingerprints[3]['dtype'] == 'uint8'
  assert len({print_['ids_sha256'] for print_ in fingerprints}) == 1
  assert len({str(print_) for print_ in fingerprints}) == 4


def test_constants_of_before_are_taken_where_they_fit(tmp_path):
  """Their key said nothing of shape and dtype."""
  path, first = tmp_path / 'preprocessing.npz', data.load(DIGITS)
  key = storage.sha256_json({**ZCA, 'train': first.splits['train'].ids_sha256})
  marked = {name: array + 1 for name, array in first.constants.items()}
  storage.keep_arrays(path, marked, key)
  np.testing.assert_array_equal(data.load(DIGITS, path).constants['mean'], marked['mean'])
  storage.keep_arrays(path, {name: array[:48] for name, array in marked.items()}, key)
  np.testing.assert_array_equal(data.load(DIGITS, path).constants['mean'], first.constants['mean'])


def test_data_sets_of_equal_settings_share_their_compiled_programs():
  first, second = data.load(DIGITS), data.load(DIGITS | dict(split_seed=1))
  assert first.inputs == second.inputs and hash(first.inputs) == hash(second.inputs)
  module = models.build(dict(name='shallow', hidden=4), 10)
  assert predict.compiled(module, first.inputs) is predict.compiled(module, second.inputs)
