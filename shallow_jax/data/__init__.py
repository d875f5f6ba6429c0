"""Data sets by name, and what is remarkable about the one that was loaded."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import itertools
import logging
import pathlib
from typing import Any

import numpy as np

from shallow_jax.data import arrays
from shallow_jax.data import cifar
from shallow_jax.data import dataset
from shallow_jax.data import digits
from shallow_jax.data import preprocessing
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

_LABELLED = ('train', 'validation', 'test')
_NAMED = 8  # classes or features
_FEW = 10  # examples that say nothing of a spread
_SAMPLE = 1000  # examples that say how widely a split's values are spread
_FAR = 10.0  # times train's range or spread, from which on a split is in another unit

_log = logging.getLogger(__name__)


def load(config: Mapping[str, Any], constants: pathlib.Path | None = None) -> dataset.Dataset:
  """Load the data set that a complete config.data describes (shallow_jax/settings/keys.py).

  `constants` is a file of `preprocessing.save`, taken instead of fitting where it is of this data.
  What is remarkable about the data, such as examples that two splits share, is logged and noted.

  Raises:
    DataError: an unknown name, or data that is missing or wrong; one line that says what to do.
  """
  if config['name'] not in LOADERS:
    known = ', '.join(LOADERS)
    raise dataset.DataError(f'data.name is {config["name"]!r}, expected one of {known}')
  loaded = LOADERS[config['name']](config, constants)
  if loaded.recognition is not None:  # of speech: frames, which stand by themselves
    return loaded
  found = _remarkable(loaded)
  for key, value in found.items():
    _log.warning('%s: %s: %s', loaded.name, key.replace('_', ' '), value)
  return dataclasses.replace(loaded, notes={**loaded.notes, **found})


def _remarkable(loaded: dataset.Dataset) -> dict[str, str]:
  """What may make results other than they seem, in words, for the log and for reports."""
  train = loaded.splits['train']
  labels, names = train.arrays['label'], loaded.class_names
  absent = np.flatnonzero(np.bincount(labels, minlength=len(names)) == 0)
  labelled = {name: loaded.splits[name] for name in _LABELLED[1:]}
  unlearned = {name: np.isin(split.arrays['label'], absent) for name, split in labelled.items()}
  constant = preprocessing.constant_features(loaded.constants, train.arrays['input'])
  found = {
    'arrays_not_read': loaded.notes.get('arrays_not_read', ''),
    'copies_left_out': ', '.join(_counted(loaded.notes.get('copies_left_out', {}))),
    'shared_examples': ', '.join(_counted(_shared(loaded.splits))),
    'classes_without_examples_in_train': _few([names[c] for c in absent], len(names)),
    'of_classes_that_train_lacks': ', '.join(
      _counted({name: int(rows.sum()) for name, rows in unlearned.items()})
    ),
    'of_a_single_class': ', '.join(
      f'{name} ({names[split.arrays["label"][0]]})'
      for name, split in labelled.items()
      if len(np.unique(split.arrays['label'])) == 1
    ),
    'constant_features': _few(constant, train.form['shape'][-1]),
    'another_scale': '; '.join(_other_scales(loaded.splits)),
  }
  return {key: text for key, text in found.items() if text}


def _counted(counts: Mapping[str, int]) -> list[str]:
  return [f'{count:,} of {name}' for name, count in counts.items() if count]


def _few(found: Sequence[Any], total: int) -> str:
  """How many were found and which; '' for none."""
  dots = ', ...' if len(found) > _NAMED else ''
  which = ', '.join(map(str, found[:_NAMED]))
  return f'{len(found):,} of {total:,} ({which}{dots})' if found else ''


def _shared(splits: Mapping[str, dataset.Split]) -> dict[str, int]:
  """How many examples of the one labelled split stand, byte for byte, in the other."""
  hashes = {name: dataset.hashes(splits[name]) for name in _LABELLED}
  return {
    f'{name} in {other}': int(np.isin(hashes[name], hashes[other]).sum())
    for other, name in itertools.combinations(_LABELLED, 2)
  }


def _other_scales(splits: Mapping[str, dataset.Split]) -> Iterator[str]:
  """Names splits with a channel far outside of train's range, or of a far smaller spread in all."""
  low, high = _range(splits['train'])
  spread = _spread(splits['train'])
  for name in ('validation', 'test', 'unlabelled'):
    if name not in splits or len(splits[name]) < _FEW:
      continue
    least, most = _range(splits[name])
    reach = _FAR * (high - low)
    is_far = ((least < low - reach) | (most > high + reach)) & (high > low)
    varies = spread > 0
    share = _spread(splits[name])[varies] / spread[varies]
    if is_far.any() or (share.size and _FAR**2 * np.square(share).mean() < 1):
      worst = np.argmax(is_far if is_far.any() else spread)
      yield (
        f'{name} holds {least[worst]:.4g} to {most[worst]:.4g} where train holds '
        f'{low[worst]:.4g} to {high[worst]:.4g} (channel {worst})'
      )


def _range(split: dataset.Split) -> tuple[np.ndarray, np.ndarray]:
  """The least and the largest value of each channel, float64 [channels]."""
  inputs = split.arrays['input']
  rows, channels = inputs.reshape(len(inputs), -1), inputs.shape[-1]
  least, most = rows.min(axis=0).reshape(-1, channels), rows.max(axis=0).reshape(-1, channels)
  return least.min(axis=0).astype(np.float64), most.max(axis=0).astype(np.float64)


def _spread(split: dataset.Split) -> np.ndarray:
  """The standard deviation of each channel over some examples, float64 [channels]."""
  inputs = split.arrays['input'][:_SAMPLE]  # sorted by hash: as good as drawn
  return inputs.reshape(-1, inputs.shape[-1]).std(axis=0, dtype=np.float64)
