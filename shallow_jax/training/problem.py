"""What one seed of a network is fitted to: its net, its examples and their targets."""

from collections.abc import Iterator, Mapping
import dataclasses
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from shallow_jax import models
from shallow_jax.data import dataset as dataset_lib
from shallow_jax.training import losses

_BLOCK_ROWS = 2048  # rows of targets looked at in one go

Statistics = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Problem:
  """What one seed of a network is fitted to.

  Attributes:
    entry: the network's entry of a complete config (shallow_jax.settings.keys.NETWORK).
    initial: its variables before the first step.
    dataset: for the preprocessing; its splits are not looked at.
    examples: arrays to train on: `input`, `id`, `label`, and for students `target`, float32
      [examples, views, classes], or logits/rows.py's TargetsOnDisk.
    validation: the same arrays to select by, with one view.
    seed: draws the order of examples and the dropout.
  """

  entry: Mapping[str, Any]
  module: nn.Module
  initial: models.Variables
  dataset: dataset_lib.Dataset
  examples: Mapping[str, Any]
  validation: Mapping[str, np.ndarray]
  seed: int


def build(
  entry: Mapping[str, Any],
  dataset: dataset_lib.Dataset,
  examples: Mapping[str, Any],
  validation: Mapping[str, np.ndarray],
  *,
  seed: int = 0,
  target_statistics: Statistics | None = None,
  start: models.Variables | None = None,
) -> Problem:
  """Builds and initialises an entry's model for `train.fit`.

  Args, beside what Problem has:
    seed: draws the initial weights, the order of examples and the dropout.
    target_statistics: mean and std [classes] of the targets over the transfer set, for logit L2.
    start: variables of the same model to start from instead of drawn ones. The net begins as the
      function that they are, in the units of its own targets (`models.with_output`).

  Raises:
    dataset.DataError: targets or labels of another length than the inputs, or not finite.
  """
  _check_rows(examples, 'examples')
  _check_rows(validation, 'validation')
  num_classes = len(dataset.class_names)
  module = models.build(entry['model'], num_classes)
  output = output_transform(entry, examples, num_classes, target_statistics)
  key = jax.random.fold_in(jax.random.key(seed), 0)
  initial = models.init(module, key, dataset.input_shape, output)
  if start is not None:
    initial = models.with_output(start, output)
  return Problem(entry, module, initial, dataset, examples, validation, seed)


def output_transform(
  entry: Mapping[str, Any],
  examples: Mapping[str, Any],
  num_classes: int,
  target_statistics: Statistics | None = None,
) -> dict[str, jax.Array]:
  """Mean and std [classes] that a net's outputs are measured in (section 2.2's normalisation).

  The L2 losses regress onto targets of mean 0 and std 1 per class: the logits' own statistics (from
  the logit store), or those of the one-hot labels. The other losses leave outputs as they are.
  """
  name = entry['loss']['name']
  if not entry['loss']['normalize'] or name not in losses.NORMALISED:
    return models.identity_output(num_classes)
  if name == 'logit_l2':
    assert target_statistics is not None
    mean, std = target_statistics
  else:
    blocks = _hard_labels(examples['target']) if name != 'label_l2' else [examples['label']]
    counts = sum(np.bincount(block[block >= 0], minlength=num_classes) for block in blocks)
    mean = counts / max(1, np.sum(counts))
    std = np.sqrt(mean * (1 - mean))
  std = np.where(std > 0, std, 1.0)  # a class that never occurs
  return {'mean': jnp.asarray(mean, jnp.float32), 'std': jnp.asarray(std, jnp.float32)}


def _hard_labels(target: Any) -> Iterator[np.ndarray]:
  """The class of the largest logit in the first view, some examples after the other."""
  for start in range(0, len(target), _BLOCK_ROWS):
    rows = np.arange(start, min(start + _BLOCK_ROWS, len(target)))
    yield target[rows, np.zeros_like(rows)].argmax(axis=-1)


def _check_rows(arrays: Mapping[str, Any], where: str) -> None:
  count = len(arrays['input'])
  for name, array in arrays.items():
    if len(array) != count:
      raise dataset_lib.DataError(f'{where}: {name} has {len(array)} rows, input {count}')
  if isinstance(arrays.get('target'), np.ndarray):  # a store on disk was checked when it was opened
    wrong = np.flatnonzero(~np.isfinite(arrays['target']).all(axis=(1, 2)))
    if wrong.size:
      raise dataset_lib.DataError(
        f'{where}: target is not finite in {wrong.size} rows, the first is {wrong[0]}'
      )
