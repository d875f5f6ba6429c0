"""Networks: counts against the paper's formulas, modes, and the bottleneck that can be merged."""

import resource

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shallow_jax import models
from shallow_jax.models import layers
from shallow_jax.models import size as size_lib

TIMIT = dict(input_shape=(1845,), num_classes=183)
CIFAR = dict(input_shape=(32, 32, 3), num_classes=10)
IMAGE = (8, 8, 3)


def size(model, *, input_shape, num_classes):
  return size_lib.size(models.build(model, num_classes), input_shape)


def small(name, **changes):
  """Returns a small module of each kind for images [8, 8, 3] and 4 classes."""
  options = dict(
    dnn=dict(hidden=(16, 12)),
    shallow=dict(hidden=24, bottleneck=5),
    cnn=dict(features=(4, 6), kernel_size=3, dense=(16,)),
    shallow_conv=dict(features=4, kernel_size=3, hidden=24, bottleneck=5),
    single_layer=dict(features=6, patch_size=3),
  )[name]
  return models.build(dict(name=name, **options | changes), 4)


def images(count=6):
  return np.random.default_rng(1).normal(size=(count, *IMAGE)).astype(np.float32)


def initialised(module):
  """Returns variables whose logits and biases are not near 0."""
  variables = models.init(module, jax.random.key(0), IMAGE)
  leaves, tree = jax.tree.flatten(variables['params'])
  rng = np.random.default_rng(2)
  leaves = [rng.normal(scale=0.5, size=leaf.shape).astype(np.float32) for leaf in leaves]
  return variables | {'params': jax.tree.unflatten(tree, leaves)}


# Table 1's and Table 2's rows: weights by formula, and as the paper (or paper.md) rounds them.
COUNTS = [
  ('SNN-8k', dict(name='shallow', hidden=8000), TIMIT, 1845 * 8000 + 8000 * 183, '16.2M'),
  ('SNN-50k', dict(name='shallow', hidden=50_000), TIMIT, 50_000 * (1845 + 183), '101.4M'),
  (
    'DNN',
    dict(name='dnn', hidden=(2000, 2000, 2000)),
    TIMIT,
    1845 * 2000 + 2 * 2000**2 + 2000 * 183,
    '12.1M',
  ),
  (
    'SNN-MIMIC-8k',
    dict(name='shallow', hidden=8000, bottleneck=250),
    TIMIT,
    250 * (1845 + 8000) + 8000 * 183,
    '3.9M',
  ),
  (
    'SNN-MIMIC-400k',
    dict(name='shallow', hidden=400_000, bottleneck=250),
    TIMIT,
    250 * (1845 + 400_000) + 400_000 * 183,
    '173.7M',
  ),
  (
    'CIFAR-10 DNN',
    dict(name='dnn', hidden=(2000, 2000)),
    CIFAR,
    3072 * 2000 + 2000**2 + 2000 * 10,
    '10.2M',
  ),
  (
    'SNN-CNN-MIMIC-30k, 64 maps',
    dict(name='shallow_conv', features=64),
    CIFAR,
    75 * 64 + 225 * 64 * 1200 + 1200 * 30_000 + 30_000 * 10,
    '53.6M',
  ),
  (
    'SNN-CNN-MIMIC-30k, 128 maps',
    dict(name='shallow_conv', features=128),
    CIFAR,
    75 * 128 + 225 * 128 * 1200 + 1200 * 30_000 + 30_000 * 10,
    '70.9M',
  ),
  (
    'teacher CNN',
    dict(name='cnn', features=(128, 128, 128)),
    CIFAR,
    75 * 128 + 2 * 25 * 128**2 + 3 * 3 * 128 * 1000 + 1000 * 10,
    '2.0M',
  ),
]


@pytest.mark.parametrize(
  ('model', 'data', 'weights', 'rounded'),
  [row[1:] for row in COUNTS],
  ids=[row[0] for row in COUNTS],
)
def test_weights_are_the_papers_by_formula(model, data, weights, rounded):
  counted = size(model, **data)['parameters']['weights']
  assert counted == weights
  assert f'{counted / 1e6:.1f}M' == rounded


@pytest.mark.parametrize(
  ('model', 'data', 'units'),
  [
    (dict(name='shallow', hidden=8000), TIMIT, 8000),
    (dict(name='shallow', hidden=8000, bottleneck=250), TIMIT, 8250),
    (dict(name='dnn', hidden=(2000, 2000, 2000)), TIMIT, 6000),
    (dict(name='shallow_conv', features=64), CIFAR, 111_136),
    (dict(name='shallow_conv', features=128), CIFAR, 191_072),
    (
      dict(name='cnn', features=(128, 128, 128)),
      CIFAR,
      128 * (32**2 + 15**2 + 15**2 + 7**2 + 7**2 + 3**2) + 1000,
    ),
  ],
)
def test_hidden_units_are_counted_as_in_table_2(model, data, units):
  assert size(model, **data)['hidden_units'] == units


def test_biases_are_counted_apart_and_bytes_have_both():
  found = size(dict(name='shallow', hidden=8000, bottleneck=250), **TIMIT)
  assert found['parameters']['biases'] == 8000 + 183
  assert found['bytes'] == 4 * sum(found['parameters'].values())


def test_batch_normalisation_adds_vectors_and_running_statistics():
  plain, normalised = (
    size_lib.size(small('cnn', batch_norm=batch_norm), IMAGE) for batch_norm in (False, True)
  )
  maps = 4 + 6
  assert normalised['parameters']['weights'] == plain['parameters']['weights']
  # scale and bias instead of the convolution's bias; and mean and var, which no gradient moves
  assert normalised['parameters']['biases'] == plain['parameters']['biases'] + maps
  assert normalised['bytes'] == plain['bytes'] + 4 * (maps + 2 * maps)


def test_counting_allocates_nothing():
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  size(dict(name='shallow', hidden=4_000_000, bottleneck=250), **TIMIT)  # 7 GB of parameters
  grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
  assert grown < 100 * 1024  # KiB


@pytest.mark.parametrize(
  ('module', 'input_shape', 'expected'),
  [
    (models.build(dict(name='dnn', hidden=(5, 4)), 2), (3,), 3 * 5 + 5 * 4 + 4 * 2),
    (models.build(dict(name='shallow', hidden=7), 2), (2, 3), 6 * 7 + 7 * 2),
    (
      models.build(dict(name='shallow', hidden=7, bottleneck=2), 3),
      (6,),
      6 * 2 + 2 * 7 + 7 * 3,
    ),
    # 8 x 8 -> pool -> 3 x 3; the first convolution takes 3 channels, the second 6
    (
      small('shallow_conv'),
      IMAGE,
      64 * 9 * 3 * 4 + 9 * 4 * 5 + 5 * 24 + 24 * 4,
    ),
    (
      small('cnn', features=(6, 2)),
      IMAGE,
      64 * 9 * 3 * 6 + 9 * 9 * 6 * 2 + 1 * 2 * 16 + 16 * 4,
    ),
  ],
)
def test_multiply_adds_by_hand(module, input_shape, expected):
  assert size_lib.size(module, input_shape)['multiply_adds'] == expected


@pytest.mark.parametrize(
  ('model', 'architecture', 'depth'),
  [
    (dict(name='shallow', hidden=8000), '8k', 1),
    (dict(name='shallow', hidden=500), '500', 1),
    (dict(name='shallow', hidden=400_000, bottleneck=250), '250L-400k', 1),
    (dict(name='dnn', hidden=(2000, 2000, 2000)), '2k-2k-2k', 3),
    (dict(name='cnn', features=[128, 128, 128]), '128c-p-128c-p-128c-p-1000fc', 4),
    (dict(name='cnn', features=(64, 32), convs_per_stage=2, dense=()), '64c-64c-p-32c-32c-p-fc', 4),
    (dict(name='shallow_conv'), '64c-p-1200L-30k', 2),
    (dict(name='shallow_conv', features=128), '128c-p-1200L-30k', 2),
    (dict(name='shallow_conv', bottleneck=0), '64c-p-30k', 2),
  ],
)
def test_architectures_read_as_in_the_paper(model, architecture, depth):
  module = models.build(model, 10)
  assert (module.architecture, module.depth) == (architecture, depth)


@pytest.mark.parametrize('name', ['shallow', 'shallow_conv'])
def test_a_merged_bottleneck_gives_the_same_logits(name):
  module, plain = small(name), small(name, bottleneck=0)
  variables = initialised(module)
  rng = np.random.default_rng(0)
  variables['batch_stats'] = jax.tree.map(
    lambda leaf: jnp.asarray(rng.uniform(0.5, 2, leaf.shape), jnp.float32), variables['batch_stats']
  )
  params = layers.merge_bottleneck(variables['params'], variables['batch_stats'])
  merged = variables | {'params': params}
  expected_shapes = models.init(plain, jax.random.key(0), IMAGE)
  chex.assert_trees_all_equal_shapes(merged['params'], expected_shapes['params'])
  expected = models.apply(module, variables, images())
  assert np.abs(expected).max() > 1
  np.testing.assert_allclose(models.apply(plain, merged, images()), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
  ('name', 'limit'), [('shallow', 24), ('shallow_conv', 24)], ids=['dense', 'conv']
)
def test_a_bottleneck_wider_than_the_layer_is_refused_in_one_line(name, limit):
  module = small(name, bottleneck=limit + 1)
  with pytest.raises(ValueError, match=f'a bottleneck of {limit + 1} is wider') as caught:
    size_lib.size(module, IMAGE)
  assert f'expected at most {limit}' in str(caught.value)
  assert '\n' not in str(caught.value)
  size_lib.size(small(name, bottleneck=limit), IMAGE)


@pytest.mark.parametrize(
  ('name', 'rate'),
  [
    ('dnn', 'dropout'),
    ('dnn', 'input_dropout'),
    ('shallow', 'dropout'),
    ('shallow', 'input_dropout'),
    ('cnn', 'dropout'),
    ('shallow_conv', 'dropout'),
    ('shallow_conv', 'input_dropout'),
  ],
)
def test_dropout_is_on_in_training_and_off_in_evaluation(name, rate):
  module, without = small(name, **{rate: 0.5}), small(name)
  variables, x = initialised(module), images()
  evaluated = models.apply(module, variables, x)
  first, second = (
    models.apply_train(module, variables, x, jax.random.key(seed))[0] for seed in (0, 1)
  )
  again, _ = models.apply_train(module, variables, x, jax.random.key(0))
  assert np.abs(first - second).max() > 0.1
  assert np.abs(first - evaluated).max() > 0.1
  np.testing.assert_array_equal(first, again)
  np.testing.assert_array_equal(evaluated, models.apply(without, variables, x))


@pytest.mark.parametrize('name', [name for name in models.MODELS if name != 'speech_cnn'])
def test_without_dropout_both_modes_agree(name):
  module = small(name, **({'batch_norm': False} if name == 'shallow_conv' else {}))
  variables = initialised(module)
  trained, batch_stats = models.apply_train(module, variables, images(), jax.random.key(0))
  np.testing.assert_array_equal(trained, models.apply(module, variables, images()))
  assert not batch_stats


def test_training_updates_the_running_statistics():
  module = small('cnn', batch_norm=True)
  variables = initialised(module)
  _, updated = models.apply_train(module, variables, images(), jax.random.key(0))
  conv = layers.Conv(4, 3, use_bias=False)
  maps = np.asarray(conv.apply({'params': variables['params']['Conv_0']}, images()), np.float64)
  expected = {
    'mean': 0.9 * 0 + 0.1 * maps.mean(axis=(0, 1, 2)),
    'var': 0.9 * 1 + 0.1 * maps.var(axis=(0, 1, 2)),
  }
  actual = updated['BatchNorm_0']
  np.testing.assert_allclose(actual['mean'], expected['mean'], rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(actual['var'], expected['var'], rtol=1e-4)
  chex.assert_trees_all_equal_shapes(updated, variables['batch_stats'])


def test_evaluation_uses_the_running_statistics():
  module = small('cnn', batch_norm=True)
  variables = initialised(module)
  trained, updated = models.apply_train(module, variables, images(), jax.random.key(0))
  before = models.apply(module, variables, images())
  after = models.apply(module, variables | {'batch_stats': updated}, images())
  assert np.abs(before - after).max() > 0.1
  assert np.abs(before - trained).max() > 0.1
  # an example's logits do not depend on the others in its batch
  alone = models.apply(module, variables, images()[:1])
  np.testing.assert_allclose(alone, before[:1], rtol=1e-5, atol=1e-5)


def test_the_output_transform_turns_normalised_logits_back():
  module = small('shallow')
  mean, std = np.float32([1, -2, 3, 0]), np.float32([2, 0.5, 1, 10])
  drawn = models.init(module, jax.random.key(3), IMAGE)
  variables = models.init(module, jax.random.key(3), IMAGE, dict(mean=mean, std=std))
  chex.assert_trees_all_equal(variables['params'], drawn['params'])
  raw = module.apply({'params': variables['params']}, images(), train=False)
  np.testing.assert_array_equal(models.apply(module, drawn, images()), raw)
  expected = np.asarray(raw, np.float64) * std + mean
  trained, _ = models.apply_train(module, variables, images(), jax.random.key(0))
  for actual in (models.apply(module, variables, images()), trained):
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)
    assert actual.dtype == jnp.float32


def test_a_wide_students_first_logits_are_small():
  x = np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32)
  module = models.build(dict(name='shallow', hidden=2000, bottleneck=32), 10)
  logits = models.apply(module, models.init(module, jax.random.key(0), (64,)), x)
  assert 0 < np.abs(logits).max() < 0.1


def test_arguments_are_those_a_config_sets():
  assert models.arguments('shallow') == dict(
    hidden=2000, bottleneck=0, dropout=0.0, input_dropout=0.0, output_init_scale=0.01
  )
  for name in models.MODELS:
    assert hash(models.build(dict(models.arguments(name), name=name), 10))
