"""Scikit-learn's 1,797 real handwritten digits, 8 x 8 pixels: an experiment in minutes."""

from collections.abc import Mapping
import pathlib
from typing import Any

import numpy as np
from sklearn import datasets

from shallow_jax.data import dataset
from shallow_jax.data import preprocessing
from shallow_jax.data import transfer


def load(config: Mapping[str, Any], constants: pathlib.Path | None = None) -> dataset.Dataset:
  """Load the digits: uint8 [8, 8, 1] of 0 to 16, split by a seed into four disjoint parts."""
  counts = {
    'train': config['num_train'],
    'validation': config['num_validation'],
    'unlabelled': config['num_unlabelled'],
    'test': config['num_test'],
  }
  source = 'load_digits of scikit-learn'
  pixels, labels = datasets.load_digits(return_X_y=True)
  images = np.reshape(pixels, (-1, 8, 8, 1)).astype(np.uint8)
  digits = dataset.make_split(images, np.asarray(labels))
  splits = dataset.carve(digits, counts, seed=config['split_seed'], source=source)
  return dataset.Dataset(
    name='digits',
    class_names=tuple('0123456789'),
    splits=transfer.derive(config['sets'], splits),
    preprocessing=config['preprocessing'],
    constants=preprocessing.fit(config['preprocessing'], splits['train'], constants),
    inputs=preprocessing.Inputs(config['preprocessing']['name']),
    input_shape=(8, 8, 1),
    notes={'source': source, 'pool': 'digits whose labels were thrown away'},
  )
