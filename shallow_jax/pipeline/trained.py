"""The weights of a network's seeds that are finished."""

from collections.abc import Mapping, Sequence
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shallow_jax import models
from shallow_jax.logits import predict
from shallow_jax.pipeline import experiment as experiment_lib
from shallow_jax.runtime import checkpoint
from shallow_jax.runtime import processes
from shallow_jax.runtime import storage
from shallow_jax.runtime import workdir as workdir_lib
from shallow_jax.training import train

Record = Mapping[str, Any]  # the content of a trained.json


def save_trained(
  folder: pathlib.Path,
  outcome: train.Outcome,
  *,
  trial: Mapping[str, Any],
  target_weights: Sequence[str],
  init_weights: Sequence[str],
) -> None:
  """Keeps a finished seed: its weights, then `trained.json`, which says that it is finished.

  Args:
    folder: of the seed.
    outcome: how its training ended.
    trial: the settings of its search.
    target_weights: hashes of the weights whose logits or alignment it learned from.
    init_weights: hash of those that it started from; none if they were drawn.
  """
  if outcome.variables is not None:
    variables = jax.device_get(outcome.variables)  # equal in every process
    checkpoint.save(folder / workdir_lib.WEIGHTS, outcome.step, variables, notes={}, keep=1)
  record = {
    'status': 'diverged' if outcome.diverged else 'trained',
    'step': outcome.step,
    'validation': dict(outcome.validation),
    'collapsed': outcome.collapsed,
    'trial': dict(trial),
    'wall_seconds': outcome.wall_seconds,
    'examples_per_second': outcome.examples_per_second,
    'weights_sha256': None if outcome.variables is None else _weights_sha256(outcome.variables),
    'target_weights': list(target_weights),
    'init_weights': list(init_weights),
    'mesh': outcome.mesh,
  }
  if processes.is_first():
    storage.write_sealed_json(folder / workdir_lib.TRAINED, record)
    checkpoint.remove_all(folder / workdir_lib.CHECKPOINTS)
  processes.meet(f'{folder.name} is trained')


def read_trained(folder: pathlib.Path) -> Record | None:
  """What `save_trained` wrote, None where the seed is not finished."""
  path = folder / workdir_lib.TRAINED
  if not path.exists():
    return None
  file = path.stat()  # another one from the moment that it is written anew
  return _read(path, file.st_ino, file.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _read(path: pathlib.Path, inode: int, time: int) -> Record:
  return storage.read_record(path)


def record(experiment: experiment_lib.Experiment, network: str, seed: int) -> Record:
  """What is known of a finished seed; ExperimentError where it is not trained yet."""
  folder = experiment.folder(network, seed)
  found = read_trained(folder)
  if found is None:
    raise experiment_lib.ExperimentError(f'{folder}: not trained yet; run with --stage=train first')
  return found


def weights_of(
  experiment: experiment_lib.Experiment, members: Sequence[experiment_lib.Member]
) -> list[str]:
  """The hashes that tell whose logits these are, member by member."""
  return [record(experiment, *member)['weights_sha256'] or 'diverged' for member in members]


def load_member(experiment: experiment_lib.Experiment, network: str, seed: int) -> predict.Member:
  """A finished seed, ready to predict.

  Raises:
    ExperimentError: it diverged, is not trained, or its weights are not those that it was trained
      to, by their hash in trained.json.
    checkpoint.CheckpointError: its weights are damaged.
  """
  folder = experiment.folder(network, seed)
  its_record = record(experiment, network, seed)
  if its_record['status'] == 'diverged':
    raise experiment_lib.ExperimentError(f'{folder}: this seed diverged and has no logits to give')
  module = experiment.module(network)
  template = _template(module, experiment.dataset.input_shape)
  restored = checkpoint.restore_newest(folder / workdir_lib.WEIGHTS, template)
  if restored is None:
    raise experiment_lib.ExperimentError(
      f'{folder}: its weights are missing; delete the folder to train it again'
    )
  if _weights_sha256(restored[0]) != its_record['weights_sha256']:
    raise experiment_lib.ExperimentError(
      f'{folder / workdir_lib.WEIGHTS}: other weights than those that {workdir_lib.TRAINED} is of; '
      f'put its own back, or delete {folder} to train it again'
    )
  return predict.Member(module, restored[0])


def load_members(
  experiment: experiment_lib.Experiment, members: Sequence[experiment_lib.Member]
) -> list[predict.Member]:
  """As `load_member`; they stay in memory until others are asked for, or until a training begins.

  Weights that were trained anew have another hash and are restored.
  """
  weights = weights_of(experiment, members)
  keys = [(experiment.folder(*each), sha) for each, sha in zip(members, weights, strict=True)]
  known = {key: experiment.nets[key] for key in keys if key in experiment.nets}
  experiment.nets.clear()
  for member, key in zip(members, keys, strict=True):
    experiment.nets[key] = known.get(key) or load_member(experiment, *member)
  return [experiment.nets[key] for key in keys]


@functools.lru_cache(maxsize=64)
def _template(module: Any, input_shape: tuple[int, ...]) -> Any:
  return jax.eval_shape(lambda: models.init(module, jax.random.key(0), input_shape))


def _weights_sha256(variables: models.Variables) -> str:
  leaves = jax.tree_util.tree_leaves_with_path(variables)
  return storage.sha256_arrays(
    {jax.tree_util.keystr(path): np.asarray(jnp.asarray(leaf)) for path, leaf in leaves}
  )
