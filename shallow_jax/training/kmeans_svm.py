"""Fits a single-layer net without gradient descent: k-means centroids, then a linear SVM.

Coates, Ng & Lee, AISTATS 2011, section 3: patches of train, contrast-normalised and whitened, are
clustered; a linear SVM, one class against the rest, is fitted to the standardised features of all
of train. Both by scikit-learn on the CPU, the features by the net itself on whatever JAX runs on.

liblinear wants float64 and makes a copy of 16 bytes a value: 24 bytes x examples x 4 x features in
all, 17 GB for 4000 features and 45,000 images.
"""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import logging
import time
from typing import Any
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from sklearn import cluster
from sklearn import exceptions
from sklearn import svm

from shallow_jax.data import dataset as dataset_lib
from shallow_jax.models import single_layer
from shallow_jax.runtime import metric_writer
from shallow_jax.runtime import run_guard
from shallow_jax.training import problem as problem_lib
from shallow_jax.training import selection
from shallow_jax.training import train

_log = logging.getLogger(__name__)

Whitening = tuple[np.ndarray, np.ndarray]

ZCA_EPSILON = 0.1  # added to the variances that whitening scales to 1, as in Coates' code
FEATURE_EPSILON = 0.01  # added to a feature's variance before it is scaled to 1, likewise

# Random patches as first centroids: k-means++ takes far longer for 800 of them, and the squared
# distances are hardly smaller after as many epochs.
KMEANS: dict[str, Any] = dict(
  init='random', n_init=1, batch_size=4096, max_iter=10, max_no_improvement=None
)

# With far more images than features the dual is still faster than the primal here, and liblinear's
# own tolerance gives hardly other validation errors than scikit-learn's 0.0001.
SVM: dict[str, Any] = dict(loss='squared_hinge', dual=True, tol=0.1, max_iter=1000)

_BLOCK = 256  # images


def fit(
  problem: problem_lib.Problem, *, label: str = '', stop: run_guard.StopRequest | None = None
) -> train.Outcome:
  """Fits one seed: it draws the patches, the first centroids and the SVM's order of examples.

  The log says what is done and how long each part took. Nothing is saved on the way: a stop
  request is heeded between two parts (run_guard.Stopped), and the seed then starts again.

  Args:
    problem: with a `single_layer` model; its entry's `fit` has `num_patches` and `svm_c`.

  Raises:
    dataset.DataError: a class that has no example.
  """
  _check_classes(problem)
  started = time.perf_counter()
  stages = _Stages(label, stop or run_guard.StopRequest())
  settings, module = problem.entry['fit'], problem.module
  with stages.stage(f'{settings["num_patches"]:,} patches'):
    patches = sample_patches(problem, settings['num_patches'])
    kernel, bias = fit_whitening(patches)
    patches = (patches @ kernel + bias).astype(np.float32)
  with stages.stage(f'{module.features:,} centroids'):
    kmeans = cluster.MiniBatchKMeans(module.features, random_state=problem.seed, **KMEANS)
    centroids = kmeans.fit(patches).cluster_centers_
  triangle = {'whitening': {'kernel': kernel, 'bias': bias}, 'centroids': centroids}
  triangle = jax.tree.map(np.float32, triangle)
  features = _features(problem, triangle, stages)
  mean, scale = standardise(features)
  weights, biases = _fit_svm(problem, features, stages)
  kernel = weights / scale[:, None]
  output = {'kernel': kernel, 'bias': biases - mean @ kernel}
  params = {'triangle': triangle, 'Output_0': {'output': jax.tree.map(np.float32, output)}}
  return _outcome(problem, params, started)


def sample_patches(problem: problem_lib.Problem, count: int) -> np.ndarray:
  """Patches at random places of random examples, contrast-normalised: float32 [count, D]."""
  size = problem.module.patch_size
  height, width = problem.dataset.input_shape[:2]
  rng = np.random.default_rng(problem.seed)
  example = np.sort(rng.integers(len(problem.examples['id']), size=count))
  top = rng.integers(height - size + 1, size=count)
  left = rng.integers(width - size + 1, size=count)
  i, j = np.ogrid[:size, :size]
  drawn = []
  for rows, images in _mapped(problem, lambda x: x):
    each = slice(*np.searchsorted(example, (rows.start, rows.stop)))
    row, y, x = (which[each, None, None] for which in (example, top, left))
    drawn.append(images[row - rows.start, y + i, x + j].reshape(row.size, -1))
  return np.asarray(single_layer.normalise_contrast(jnp.asarray(np.concatenate(drawn))))


def fit_whitening(patches: np.ndarray) -> Whitening:
  """The ZCA whitening of patches [n, D] as kernel [D, D] and bias [D]: patches @ kernel + bias.

  With the covariance U diag(s) Uᵀ the kernel is U diag((s + ε)^-½) Uᵀ.
  """
  mean = patches.mean(axis=0, dtype=np.float64)
  variances, directions = np.linalg.eigh(np.cov(patches, rowvar=False, dtype=np.float64))
  kernel = (directions / np.sqrt(variances + ZCA_EPSILON)) @ directions.T
  return kernel, -mean @ kernel


def standardise(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Scales float64 features [n, d] to mean 0 and variance 1, in place; returns mean and scale."""
  mean = features.mean(axis=0)
  features -= mean
  variance = np.einsum('nd,nd->d', features, features) / len(features)
  scale = np.sqrt(variance + FEATURE_EPSILON)
  features /= scale
  return mean, scale


def _check_classes(problem: problem_lib.Problem) -> None:
  names = problem.dataset.class_names
  counts = np.bincount(problem.examples['label'], minlength=len(names))
  if not counts.all():
    raise dataset_lib.DataError(
      f'class {names[counts.argmin()]!r} has no example in {", ".join(problem.entry["examples"])}; '
      'an SVM of one class against the rest needs some of each'
    )


@dataclasses.dataclass(frozen=True)
class _Stages:
  """The parts of a fit, between which it may be stopped."""

  label: str
  stop: run_guard.StopRequest

  @contextlib.contextmanager
  def stage(self, name: str) -> Iterator[None]:
    """Logs a part with its time once it is done."""
    started = time.perf_counter()
    yield
    _log.info('%s: %s, %.1f s', self.label, name, time.perf_counter() - started)
    self.check(f'after {name}')

  def check(self, where: str) -> None:
    """Raises run_guard.Stopped where somebody asked for a stop."""
    if self.stop.requested:
      raise self.stop.stopped(f'{self.label} {where}')


def _features(problem: problem_lib.Problem, triangle: Any, stages: _Stages) -> np.ndarray:
  """The features of all examples, float64 [n, 4 * features]."""
  module = problem.module
  layer = single_layer.TriangleFeatures(module.features, module.patch_size)
  count = len(problem.examples['id'])
  features = np.empty((count, 4 * module.features))
  with metric_writer.Progress(count, 1, f'{stages.label} features') as progress:
    for rows, values in _mapped(problem, lambda x: layer.apply({'params': triangle}, x)):
      features[rows] = values
      progress.update(rows.stop)
      stages.check('in the features')
  return features


def _fit_svm(
  problem: problem_lib.Problem, features: np.ndarray, stages: _Stages
) -> tuple[np.ndarray, np.ndarray]:
  """A linear SVM for each class against the rest: weights [d, classes] and biases [classes]."""
  names, found = problem.dataset.class_names, []
  with metric_writer.Progress(len(names), len(features), f'{stages.label} SVM') as progress:
    for c, name in enumerate(names):
      machine = svm.LinearSVC(C=problem.entry['fit']['svm_c'], random_state=problem.seed, **SVM)
      with warnings.catch_warnings():
        warnings.simplefilter('ignore', exceptions.ConvergenceWarning)  # told below, by class
        found.append(machine.fit(features, problem.examples['label'] == c))
      if machine.n_iter_ >= SVM['max_iter']:
        _log.warning('%s: the SVM of %s has not converged', stages.label, name)
      progress.update(c + 1)
      stages.check('in the SVM')
  weights = np.concatenate([machine.coef_ for machine in found])
  return weights.T, np.concatenate([machine.intercept_ for machine in found])


def _outcome(problem: problem_lib.Problem, params: Any, started: float) -> train.Outcome:
  variables = dict(problem.initial, params=params)
  figures, collapsed = selection.evaluate(problem, variables)
  seconds = time.perf_counter() - started
  rate = len(problem.examples['id']) / seconds
  return train.Outcome(variables, 0, figures, collapsed, seconds, rate)


def _mapped(
  problem: problem_lib.Problem, function: Callable[[jax.Array], Any]
) -> Iterator[tuple[slice, np.ndarray]]:
  """Blocks of examples, each with a function of its inputs [rows, height, width, channels]."""
  dataset, count = problem.dataset, len(problem.examples['id'])
  constants = jax.device_put(dataset.constants)
  compiled = jax.jit(lambda constants, raw: function(dataset.inputs(constants, raw, None)))
  for start in range(0, count, _BLOCK):
    rows = slice(start, min(start + _BLOCK, count))
    padded = np.arange(start, start + _BLOCK) % count  # one program serves the last block too
    values = compiled(constants, dataset_lib.take(problem.examples, padded))
    yield rows, np.asarray(values)[: rows.stop - start]
