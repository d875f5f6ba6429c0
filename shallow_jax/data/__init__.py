"""Data sets by name."""

from collections.abc import Mapping
import pathlib
from typing import Any

from shallow_jax.data import arrays
from shallow_jax.data import cifar
from shallow_jax.data import dataset
from shallow_jax.data import digits
from shallow_jax.data import speech

LOADERS = {
  'digits': digits.load,
  'cifar10': cifar.load,
  'cifar100': cifar.load,
  'arrays': arrays.load,
  'timit': speech.load,
  'timit_sample': speech.load,
  'speech': speech.load,
}


def load(config: Mapping[str, Any], constants: pathlib.Path | None = None) -> dataset.Dataset:
  """Load the data set that a complete config.data describes (shallow_jax/settings/keys.py).

  `constants` is a file of `preprocessing.save`, taken instead of fitting where it is of this data.

  Raises:
    DataError: an unknown name, or data that is missing or wrong; one line that says what to do.
  """
  if config['name'] not in LOADERS:
    known = ', '.join(LOADERS)
    raise dataset.DataError(f'data.name is {config["name"]!r}, expected one of {known}')
  return LOADERS[config['name']](config, constants)
