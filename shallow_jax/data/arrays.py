"""A user's own data, from one .npz file."""

from collections.abc import Mapping
import pathlib
from typing import Any
import zipfile

import numpy as np

from shallow_jax.data import dataset
from shallow_jax.data import preprocessing
from shallow_jax.data import transfer

_REQUIRED = ('train_input', 'train_label', 'test_input', 'test_label')
_OPTIONAL = ('validation_input', 'validation_label', 'unlabelled_input', 'class_names')


def load(config: Mapping[str, Any], constants: pathlib.Path | None = None) -> dataset.Dataset:
  """Load the arrays of `path`, an .npz file.

  It has train_input [examples, ...] (uint8, or numbers that become float32), train_label (integers
  from 0) and the same for test; optionally validation_input and validation_label (else
  `num_validation` are carved out of train), unlabelled_input and class_names.

  Raises:
    DataError: the file is missing, is none, or an array in it is missing or wrong.
  """
  path = dataset.local_path(config['path'], 'path')
  arrays = _read(path)
  given = [name for name in ('train', 'validation', 'test') if f'{name}_input' in arrays]
  inputs = {name: _raw_inputs(path, arrays, name) for name in given}
  labels = {name: _labels(path, arrays, name, len(inputs[name])) for name in given}
  class_names = _class_names(path, arrays, labels['train'])
  classes = 'class_names' if 'class_names' in arrays else 'train_label'
  _check_range(path, labels, len(class_names), f'the classes of {classes}')
  splits = {name: dataset.make_split(inputs[name], labels[name]) for name in given}
  notes: dict[str, Any] = {'source': dataset.printable(path.name)}
  others = sorted(arrays.keys() - {*_REQUIRED, *_OPTIONAL})
  if others:
    notes['arrays_not_read'] = ', '.join(others)
  if 'validation' not in splits:
    carved, copies = dataset.carve_validation(
      splits['train'], config['num_validation'], seed=config['split_seed']
    )
    splits |= carved
    notes |= copies
  if 'unlabelled_input' in arrays:
    pool = dataset.make_split(_raw_inputs(path, arrays, 'unlabelled'), None)
    splits['unlabelled'], counts = transfer.clean_pool(pool, splits)
    notes |= {'pool': f'unlabelled_input of {notes["source"]}', **counts}
  return dataset.Dataset(
    name='arrays',
    class_names=class_names,
    splits=transfer.derive(config['sets'], splits),
    preprocessing=config['preprocessing'],
    constants=preprocessing.fit(config['preprocessing'], splits['train'], constants),
    inputs=preprocessing.Inputs(config['preprocessing']['name']),
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
  except dataset.NO_ARRAYS as error:
    raise dataset.DataError(
      f'{path} is damaged or holds more than plain arrays, expected an .npz '
      f'as numpy.savez writes it ({error})'
    ) from error
  missing = [name for name in _REQUIRED if name not in arrays]
  if 'validation_label' in arrays and 'validation_input' not in arrays:
    missing.append('validation_input')
  if missing:
    raise dataset.DataError(f'{path} lacks {", ".join(missing)}; it has {", ".join(arrays)}')
  return arrays


def _raw_inputs(path: pathlib.Path, arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
  inputs, like = arrays[f'{name}_input'], arrays['train_input']
  if inputs.dtype.kind not in 'buif' or inputs.ndim < 2 or inputs.size == 0:
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
  return labels


def _check_range(
  path: pathlib.Path, labels: Mapping[str, np.ndarray], num_classes: int, classes: str
) -> None:
  for name, array in labels.items():
    wrong = np.flatnonzero((array < 0) | (array >= num_classes))
    if len(wrong):
      raise dataset.DataError(
        f'{path}: {name}_label[{wrong[0]}] is {array[wrong[0]]}, '
        f'expected 0 to {num_classes - 1}, {classes}'
      )


def _class_names(
  path: pathlib.Path, arrays: Mapping[str, np.ndarray], labels: np.ndarray
) -> tuple[str, ...]:
  """Those of the file; without any, a number for each class up to train's largest label."""
  where = f'{path}: train_label'
  if 'class_names' not in arrays:
    num_classes = max(int(labels.max()) + 1, 0)
    dataset.check_classes(labels, num_classes, where)  # before there is a name for each
    return tuple(map(str, range(num_classes)))
  names = arrays['class_names']
  if names.ndim != 1 or names.dtype.kind != 'U' or len(names) < 2:
    raise dataset.DataError(
      f'{path}: class_names is {names.dtype} {list(names.shape)}, '
      'expected two strings or more [classes]'
    )
  if len(set(names.tolist())) < len(names):
    raise dataset.DataError(f'{path}: class_names has a name twice: {", ".join(names)}')
  dataset.check_classes(labels, len(names), where)
  return tuple(map(str, names))
