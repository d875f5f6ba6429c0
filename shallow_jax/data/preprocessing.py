"""What is done to raw inputs before a network sees them: fitted on train, applied on the device.

  standardise  each channel (each feature of vectors) by its mean and deviation over train
  per_image    each image by its own mean and deviation (Urban et al., ICLR 2017)
  gcn_zca      each image by its own mean and deviation, then ZCA whitening over train

The paper says nothing of it; contrast normalisation and ZCA were usual on CIFAR-10 at the time.
"""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shallow_jax.data import dataset
from shallow_jax.data import views as views_lib
from shallow_jax.runtime import storage

NAMES = ('standardise', 'per_image', 'gcn_zca')

_CHUNK = 4096  # examples
# A deviation below this share of the mean is that of a constant: float32 rounds by 1e-7, sums by 3.
_CONSTANT = 5e-7


def fit(
  config: Mapping[str, Any], train: dataset.Split, saved: pathlib.Path | None = None
) -> dataset.Arrays:
  """Returns the constants of a preprocessing, fitted on train.

  Args:
    config: `name` and `zca_epsilon`, which is added to the variances that ZCA scales to 1.
    train: the only split that is looked at.
    saved: a file of `save`: its constants are taken where they were fitted to just this. A run goes
      on with the bits it began with, though linear algebra's last ones differ between machines.

  Raises:
    DataError: an unknown name.
  """
  if config['name'] not in NAMES:
    raise dataset.DataError(
      f'data.preprocessing.name is {config["name"]!r}, expected one of {", ".join(NAMES)}'
    )
  inputs = train.arrays['input']
  found = None if saved is None else _kept(saved, config, train)
  if found is not None:
    return found
  if config['name'] == 'standardise':
    return fit_standardise(inputs)
  if config['name'] == 'per_image':
    return {}
  return fit_zca(inputs, config['zca_epsilon'])


def save(path: pathlib.Path, fitted: dataset.Dataset) -> None:
  """Writes the constants of a data set, for `fit` to take another time."""
  key = _fitted_to(fitted.preprocessing, fitted.splits['train'])
  storage.keep_arrays(path, fitted.constants, key)


def apply(name: str, constants: Mapping[str, jax.Array], inputs: jax.Array) -> jax.Array:
  """Inputs [batch, ..., channels] of any dtype as the network's float32 ones, of the same shape."""
  if name == 'standardise':
    return standardise(constants, inputs)
  if name == 'per_image':
    return normalise_contrast(inputs)
  return whiten(constants, normalise_contrast(inputs))


@dataclasses.dataclass(frozen=True)
class Inputs:
  """`Dataset.inputs`: views of raw examples, then preprocessed.

  Equal ones share the programs compiled for them, of several splits too.

  Attributes:
    preprocessing: its name, one of NAMES.
    augmentation: how views are made; None: every view is the example as it is.
  """

  preprocessing: str
  augmentation: views_lib.Augmentation | None = None

  def __call__(
    self,
    constants: Mapping[str, jax.Array],
    raw: Mapping[str, jax.Array],
    view: jax.Array | None,
  ) -> jax.Array:
    """Returns the network's float32 inputs; see `Dataset.inputs`."""
    pixels = raw['input']
    if view is not None and self.augmentation is not None:
      pixels = views_lib.augment(self.augmentation, raw, view)
    return apply(self.preprocessing, constants, pixels)


def augmented(
  found: dataset.Dataset, changes: Mapping[str, Any], where: str = 'augment'
) -> dataset.Dataset:
  """A data set whose views are made in another way: by data.augment with these changes.

  Raises:
    DataError: its examples have no views, or a number is out of range; `where` the changes are.
  """
  if not changes:
    return found
  if found.augmentation is None:
    raise dataset.DataError(f'{where}: {found.name} has no augmented views, expected {{}}')
  settings = {**dataclasses.asdict(found.augmentation), **changes}
  augmentation = views_lib.build(settings, found.input_shape, where)
  inputs = Inputs(found.preprocessing['name'], augmentation)
  return dataclasses.replace(found, augmentation=augmentation, inputs=inputs)


def fit_standardise(inputs: np.ndarray) -> dict[str, np.ndarray]:
  """Returns the mean and deviation of inputs [examples, ..., channels], float32 [channels].

  Images have one of each a channel, vectors one a feature, in whatever unit: only what is constant,
  but for rounding, gets a deviation of 1.
  """
  mean, std = _moments(inputs)
  std = np.where(_is_constant(mean, std), 1.0, std)
  return {'mean': mean.astype(np.float32), 'std': std.astype(np.float32)}


def constant_features(constants: dataset.Arrays, inputs: np.ndarray) -> list[int]:
  """Which channels of train's inputs [examples, ..., channels] `standardise` can't scale."""
  found = np.flatnonzero(constants.get('std', np.empty(0)) == 1)
  return found[_is_constant(*_moments(inputs[..., found]))].tolist() if len(found) else []


def _moments(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Mean and deviation of each channel, float64 [channels]."""
  channels = inputs.shape[-1]
  num_features = int(np.prod(inputs.shape[1:]))
  mean = _by_channel(_mean(inputs), channels)
  centre = np.tile(mean, num_features // channels)
  squares = []
  for chunk in _chunks(inputs):
    x = chunk - centre
    squares.append(np.square(x, out=x).sum(axis=0))
  return mean, np.sqrt(_by_channel(np.sum(squares, axis=0) / len(inputs), channels))


def _is_constant(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
  # below float32's smallest a device takes it for 0
  return (std <= _CONSTANT * np.abs(mean)) | (std < np.finfo(np.float32).tiny)


def standardise(constants: Mapping[str, jax.Array], inputs: jax.Array) -> jax.Array:
  """Scale inputs [batch, ..., channels] to float32 with mean 0 and deviation 1 on train."""
  axes = range(inputs.ndim - 1)
  mean = jnp.expand_dims(constants['mean'], axes)
  std = jnp.expand_dims(constants['std'], axes)
  return (inputs.astype(jnp.float32) - mean) / std


def normalise_contrast(inputs: jax.Array) -> jax.Array:
  """Scale each input [batch, ...] to mean 0 and deviation 1 over its own values (GCN), float32.

  An input of one value only becomes 0.
  """
  x = inputs.astype(jnp.float32)
  axes = tuple(range(1, x.ndim))
  mean = x.mean(axis=axes, keepdims=True)
  x = x - mean
  deviation = jnp.sqrt(jnp.square(x).mean(axis=axes, keepdims=True))
  is_constant = deviation <= _CONSTANT * jnp.abs(mean)
  return jnp.where(is_constant, 0, x / jnp.where(is_constant, 1, deviation))


def fit_zca(inputs: np.ndarray, epsilon: float) -> dict[str, np.ndarray]:
  """Returns float32 `mean` [features] and `zca` [features, features] of inputs [examples, ...].

  With the covariance U diag(s) Uᵀ of the contrast-normalised inputs: zca = U diag((s + ε)^-½) Uᵀ
  (Bell & Sejnowski 1997).
  """
  mean = _mean(inputs, _normalised)
  chunks = (_normalised(chunk) for chunk in _chunks(inputs))
  moment = sum((chunk.T @ chunk).astype(np.float64) for chunk in chunks) / len(inputs)
  variances, directions = np.linalg.eigh(moment - np.outer(mean, mean))
  scales = 1 / np.sqrt(np.maximum(variances, 0) + epsilon)
  zca = (directions * scales) @ directions.T
  return {'mean': mean.astype(np.float32), 'zca': zca.astype(np.float32)}


def whiten(constants: Mapping[str, jax.Array], inputs: jax.Array) -> jax.Array:
  """Removes what train's inputs [batch, ...] have in common, pixel from pixel (ZCA)."""
  x = inputs.reshape(len(inputs), -1) - constants['mean'][None]
  return (x @ constants['zca']).reshape(inputs.shape)


def _kept(
  path: pathlib.Path, config: Mapping[str, Any], train: dataset.Split
) -> dataset.Arrays | None:
  """The constants that `save` kept at `path`, if they were fitted to just this."""
  # those of before said nothing of shape and dtype
  older = storage.sha256_json({**config, 'train': train.ids_sha256})
  try:
    found = storage.kept_arrays(path, _fitted_to(config, train))
    if found is None:
      found = storage.kept_arrays(path, older)
  except storage.StorageError as error:
    raise dataset.DataError(f'{error}; delete it to fit it anew') from error
  shape = train.form['shape']
  length = shape[-1] if config['name'] == 'standardise' else np.prod(shape)
  return found if all(len(array) == length for array in (found or {}).values()) else None


def _fitted_to(config: Mapping[str, Any], train: dataset.Split) -> str:
  return storage.sha256_json({**config, 'train': train.ids_sha256, **train.form})


def _chunks(inputs: np.ndarray) -> Iterator[np.ndarray]:
  """Rows [some, features]: a float copy of all of CIFAR-10 would take a gigabyte.

  Chunk by chunk, as images whose planes lie one after the other in memory are copied by a reshape.
  """
  for start in range(0, len(inputs), _CHUNK):
    chunk = inputs[start : start + _CHUNK]
    yield chunk.reshape(len(chunk), -1)


def _mean(
  inputs: np.ndarray, prepare: Callable[[np.ndarray], np.ndarray] = lambda chunk: chunk
) -> np.ndarray:
  """The mean over examples of each feature, float64."""
  sums = (prepare(chunk).sum(axis=0, dtype=np.float64) for chunk in _chunks(inputs))
  return np.asarray(sum(sums) / len(inputs))


def _normalised(chunk: np.ndarray) -> np.ndarray:
  """`normalise_contrast` on the host."""
  x = chunk.astype(np.float32)
  mean = x.mean(axis=1, keepdims=True)
  x -= mean
  deviation = np.sqrt(np.square(x).mean(axis=1, keepdims=True))
  is_constant = deviation <= np.float32(_CONSTANT) * np.abs(mean)
  return np.where(is_constant, 0, x / np.where(is_constant, np.float32(1), deviation))


def _by_channel(means: np.ndarray, channels: int) -> np.ndarray:
  return means.reshape(-1, channels).mean(axis=0)
