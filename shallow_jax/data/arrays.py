"""A user's own data, from one .npz file."""

from collections.abc import Mapping
import pathlib
from typing import Any
import zipfile
import zlib

import numpy as np

from shallow_jax.data import dataset
from shallow_jax.data import preprocessing
from shallow_jax.data import transfer

_REQUIRED = ('train_input', 'train_label', 'test_input', 'test_label')


def load(config: Mapping[str, Any], constants: pathlib.Path | None = None) -> dataset.Dataset:
  """Load the arrays of `path`, an .npz file.

  It has train_input [examples, ...] (uint8, or numbers that become float32), train_label (integers
  from 0) and the same for test; optionally validation_input and validation_label (else
  `num_validation` are carved out of train), unlabelled_input and class_names.

  Raises:
    DataError: the file is missing, is none, or an array in it is missing or wrong.
  """
  path = pathlib.Path(config['path']).expanduser()
  arrays = _read(path)
  splits = _splits(path, arrays, config)
  class_names = _class_names(path, arrays)
  notes: dict[str, Any] = {'source': path.name}
  if 'unlabelled_input' in arrays:
    pool = dataset.make_split(_raw_inputs(path, arrays, 'unlabelled'), None)
    splits['unlabelled'], counts = transfer.clean_pool(pool, splits)
    notes |= {'pool': f'unlabelled_input of {path.name}', **counts}
  return dataset.Dataset(
    name='arrays',
    class_names=class_names,
    splits=transfer.derive(config['sets'], splits),
    preprocessing=config['preprocessing'],
    constants=preprocessing.fit(config['preprocessing'], splits['train'], constants),
    inputs=preprocessing.Inputs(tuple(config['preprocessing'].items())),
    input_shape=splits['train'].arrays['input'].shape[1:],
    notes=notes,
  )


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
  if not path.is_file():
    raise dataset.DataError(
      f'data.path: {str(path)!r} is not a file, expected an .npz with {", ".join(_REQUIRED)}'
    )
  if not zipfile.is_zipfile(path):
    raise dataset.DataError(f'{path} is not an .npz file, expected one as numpy.savez writes it')
  try:
    with np.load(path, allow_pickle=False) as file:
      arrays = {name: file[name] for name in file.files}
  except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
    raise dataset.DataError(
      f'{path} is damaged or holds more than plain arrays, expected an .npz '
      f'as numpy.savez writes it ({error})'
    ) from error
  missing = [name for name in _REQUIRED if name not in arrays]
  if missing:
    raise dataset.DataError(f'{path} lacks {", ".join(missing)}; it has {", ".join(arrays)}')
  return arrays


def _splits(
  path: pathlib.Path, arrays: Mapping[str, np.ndarray], config: Mapping[str, Any]
) -> dict[str, dataset.Split]:
  train, test = _split(path, arrays, 'train'), _split(path, arrays, 'test')
  if 'validation_input' in arrays:
    return {'train': train, 'validation': _split(path, arrays, 'validation'), 'test': test}
  splits = dataset.carve_validation(train, config['num_validation'], seed=config['split_seed'])
  return {**splits, 'test': test}


def _split(path: pathlib.Path, arrays: Mapping[str, np.ndarray], name: str) -> dataset.Split:
  inputs = _raw_inputs(path, arrays, name)
  return dataset.make_split(inputs, _labels(path, arrays, name, len(inputs)))


def _raw_inputs(path: pathlib.Path, arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
  inputs, like = arrays[f'{name}_input'], arrays['train_input']
  if inputs.dtype.kind not in 'buif' or inputs.ndim < 2 or len(inputs) == 0:
    raise dataset.DataError(
      f'{path}: {name}_input is {inputs.dtype} {list(inputs.shape)}, '
      'expected numbers [examples, ...]'
    )
  if inputs.shape[1:] != like.shape[1:] or inputs.dtype != like.dtype:
    raise dataset.DataError(
      f'{path}: {name}_input is {inputs.dtype} {list(inputs.shape)}, expected that of train_input: '
      f'{like.dtype} [examples, {", ".join(map(str, like.shape[1:]))}]'
    )
  if inputs.dtype == np.uint8:
    return inputs
  with np.errstate(over='ignore'):  # found below
    inputs = inputs.astype(np.float32)
  _check_finite(path, name, inputs)
  return inputs


def _check_finite(path: pathlib.Path, name: str, inputs: np.ndarray) -> None:
  rows = np.flatnonzero(~np.isfinite(inputs.reshape(len(inputs), -1)).all(axis=1))
  if len(rows):
    first = ', '.join(map(str, rows[:3]))
    raise dataset.DataError(
      f'{path}: {name}_input has NaN or inf in {len(rows)} rows, first '
      f'{first}; expected numbers that float32 can hold'
    )


def _labels(
  path: pathlib.Path, arrays: Mapping[str, np.ndarray], name: str, num_examples: int
) -> np.ndarray:
  if f'{name}_label' not in arrays:
    raise dataset.DataError(f'{path} lacks {name}_label')
  labels = arrays[f'{name}_label']
  if labels.dtype.kind not in 'ui' or labels.shape != (num_examples,):
    raise dataset.DataError(
      f'{path}: {name}_label is {labels.dtype} {list(labels.shape)}, '
      f'expected integers [{num_examples}], one for each input'
    )
  num_classes = len(_class_names(path, arrays))
  wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
  if len(wrong):
    raise dataset.DataError(
      f'{path}: {name}_label[{wrong[0]}] is {labels[wrong[0]]}, expected 0 to {num_classes - 1}'
    )
  return labels


def _class_names(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> tuple[str, ...]:
  """Those of the file; without any, a number for each class up to train's largest label."""
  if 'class_names' not in arrays:
    largest = arrays['train_label'].max(initial=0)
    return tuple(map(str, range(int(largest) + 1)))
  names = arrays['class_names']
  if names.ndim != 1 or names.dtype.kind != 'U' or len(names) < 2:
    raise dataset.DataError(
      f'{path}: class_names is {names.dtype} {list(names.shape)}, '
      'expected two strings or more [classes]'
    )
  return tuple(map(str, names))
