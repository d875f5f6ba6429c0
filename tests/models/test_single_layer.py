"""Single-layer features against loops in NumPy, and what is counted of the net."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shallow_jax import models
from shallow_jax.models import single_layer
from shallow_jax.models import size as size_lib

SIZE, CENTROIDS = 3, 7


def images(count=6, height=9, width=8):
  x = np.random.default_rng(0).normal(size=(count, height, width, 2))
  x[0, :4, :4] = 1  # patches of one value
  return x.astype(np.float32)


@pytest.fixture(scope='module')
def layer():
  """A layer and its parameters, drawn so that no part of it is the identity."""
  rng = np.random.default_rng(1)
  features = SIZE * SIZE * 2
  whitening = dict(kernel=rng.normal(size=(features, features)), bias=rng.normal(size=features))
  params = dict(whitening=whitening, centroids=rng.normal(size=(CENTROIDS, features)))
  params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
  return single_layer.TriangleFeatures(CENTROIDS, SIZE), params


def features_by_loops(x, params):
  """Coates, Ng & Lee 2011, patch by patch and centroid by centroid, in float64."""
  kernel, bias = (np.asarray(params['whitening'][name], np.float64) for name in ('kernel', 'bias'))
  centroids = np.asarray(params['centroids'], np.float64)
  rows, columns = x.shape[1] - SIZE + 1, x.shape[2] - SIZE + 1
  found = np.zeros((len(x), 2, 2, len(centroids)))
  for n, image in enumerate(x.astype(np.float64)):
    for row in range(rows):
      for column in range(columns):
        patch = image[row : row + SIZE, column : column + SIZE].ravel()
        patch = (patch - patch.mean()) / np.sqrt(patch.var() + single_layer.CONTRAST_EPSILON)
        z = patch @ kernel + bias
        distances = np.array([np.linalg.norm(z - centroid) for centroid in centroids])
        quadrant = int(row >= (rows + 1) // 2), int(column >= (columns + 1) // 2)
        found[n][quadrant] += np.maximum(0, distances.mean() - distances)
  return found.reshape(len(x), -1)


@pytest.mark.parametrize('shape', [(9, 8), (8, 8), (4, 5)], ids=str)
def test_features_are_those_of_loops(layer, shape):
  module, params = layer
  x = images(6, *shape)  # more than are worked on at once, and a remainder
  actual = jax.jit(module.apply)({'params': params}, x)
  expected = features_by_loops(x, params)
  assert actual.shape == (6, 4 * CENTROIDS)
  assert (expected > 0).mean() > 0.3
  np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_an_images_features_do_not_depend_on_its_batch(layer):
  module, params = layer
  apply = jax.jit(module.apply)
  whole = apply({'params': params}, images())
  for n in range(6):
    alone = apply({'params': params}, images()[n : n + 1])
    np.testing.assert_allclose(alone[0], whole[n], rtol=1e-5, atol=1e-5)


def test_a_patch_at_a_centroid_is_at_no_distance():
  centroids = np.random.default_rng(2).normal(size=(200, 108)).astype(np.float32)
  found = np.asarray(single_layer.triangle(centroids, centroids))
  distances = np.linalg.norm(centroids[:, None] - centroids[None], axis=-1)
  np.testing.assert_allclose(np.diag(found), distances.mean(axis=1), atol=0.02)
  assert np.isfinite(found).all()


def test_scores_are_linear_in_the_features():
  module = models.build(dict(name='single_layer', features=CENTROIDS, patch_size=SIZE), 4)
  x = images()
  variables = jax.jit(lambda: models.init(module, jax.random.key(0), x.shape[1:]))()
  params = variables['params']
  triangle = single_layer.TriangleFeatures(CENTROIDS, SIZE)
  features = jax.jit(triangle.apply)({'params': params['triangle']}, x)
  output = params['Output_0']['output']
  expected = features @ output['kernel'] + output['bias'][None]
  scores = jax.jit(lambda: models.apply(module, variables, x))()
  np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-4)


def test_the_row_of_table_2_is_counted_by_formula():
  module = models.build(dict(name='single_layer'), 10)
  found = size_lib.size(module, (32, 32, 3))
  assert (module.architecture, module.depth) == ('4000c-p-svm', 1)
  assert found['parameters'] == dict(weights=108**2 + 4000 * 108 + 4 * 4000 * 10, biases=108 + 10)
  assert found['hidden_units'] == 4000 * 27**2 + 4 * 4000  # 2.9 of the paper's 3.7M
  assert found['multiply_adds'] == 27**2 * (108**2 + 4000 * 108) + 4 * 4000 * 10


@pytest.mark.parametrize('shape', [(64,), (8, 8), (6, 6, 3)], ids=str)
def test_inputs_without_patches_are_refused_in_one_line(shape):
  module = models.build(dict(name='single_layer', features=5), 10)
  with pytest.raises(ValueError, match='patches of 6x6 need images') as caught:
    size_lib.size(module, shape)
  assert '\n' not in str(caught.value)
