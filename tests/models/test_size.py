"""What a net costs: counts against the paper's formulas and by hand, and its time."""

import resource

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shallow_jax import models
from shallow_jax.models import size as size_lib

TIMIT = dict(input_shape=(1845,), num_classes=183)
CIFAR = dict(input_shape=(32, 32, 3), num_classes=10)
IMAGE = (8, 8, 3)
CNN = dict(name='cnn', features=(4, 6), kernel_size=3, dense=(16,))
SHALLOW_CONV = dict(name='shallow_conv', features=4, kernel_size=3, hidden=24, bottleneck=5)


def size(model, *, input_shape, num_classes):
  return size_lib.size(models.build(model, num_classes), input_shape)


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


def test_a_locally_connected_layers_biases_are_biases_and_its_patches_cost_nothing():
  """`16lc` on one map of 30 x 30: 129,600 multiply-adds, 202,500 with patches by convolution."""
  model = dict(name='cnn', features=(), local=(16,), dense=())
  found = size(model, input_shape=(30, 30, 1), num_classes=2)
  places, output = 30 * 30, 30 * 30 * 16 * 2
  weights = places * 9 * 16
  assert weights == 129_600
  assert found['parameters'] == {'weights': weights + output, 'biases': places * 16 + 2}
  assert found['multiply_adds'] == weights + output


def test_batch_normalisation_adds_vectors_and_running_statistics():
  plain, normalised = (
    size_lib.size(models.build(CNN | dict(batch_norm=batch_norm), 4), IMAGE)
    for batch_norm in (False, True)
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
      models.build(SHALLOW_CONV, 4),
      IMAGE,
      64 * 9 * 3 * 4 + 9 * 4 * 5 + 5 * 24 + 24 * 4,
    ),
    (
      models.build(CNN | dict(features=(6, 2)), 4),
      IMAGE,
      64 * 9 * 3 * 6 + 9 * 9 * 6 * 2 + 1 * 2 * 16 + 16 * 4,
    ),
  ],
)
def test_multiply_adds_by_hand(module, input_shape, expected):
  assert size_lib.size(module, input_shape)['multiply_adds'] == expected


def test_latency_is_positive_and_called_at_least_five_times():
  calls = []

  def function(x, y):
    calls.append(isinstance(x, jax.Array))
    return jnp.dot(x, y)

  x = np.ones((8, 8), np.float32)
  assert size_lib.latency_ms(function, x, x, seconds=0) > 0
  assert len(calls) == 6  # one before the clock starts
  assert all(calls)
