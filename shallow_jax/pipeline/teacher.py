"""A teacher's logits: computed once into stores, and read back as a student's targets."""

from collections.abc import Mapping, Sequence
import pathlib
from typing import Any

import numpy as np

from shallow_jax.logits import manifest as logit_manifest
from shallow_jax.logits import predict
from shallow_jax.logits import store as logit_store
from shallow_jax.logits import stored_targets
from shallow_jax.pipeline import experiment as experiment_lib
from shallow_jax.pipeline import graph
from shallow_jax.pipeline import trained
from shallow_jax.runtime import metric_writer
from shallow_jax.runtime import processes
from shallow_jax.runtime import workdir as workdir_lib

ALIGNMENT_ROWS = 64
ALIGNMENT_TOLERANCE = 1e-3


def members_for(
  experiment: experiment_lib.Experiment, entry: Mapping[str, Any], seed: int
) -> tuple[str, list[tuple[str, int]]]:
  """The network and the members whose logits seed `seed` of a student learns from.

  All members of an ensemble; of a plain network one seed, the student's modulo their number.
  """
  target = graph.target(entry)
  assert target is not None
  members = experiment.members(target.network)
  if experiment.networks[target.network]['ensemble']:
    return target.network, members
  which = target.seed if target.seed is not None else seed % len(members)
  return target.network, [members[which]]


def store(
  experiment: experiment_lib.Experiment,
  network: str,
  members: Sequence[tuple[str, int]],
  logit_set: graph.LogitSet,
) -> pathlib.Path:
  """Computes the shards of a store that are not there yet; returns its folder."""
  folder = _folder(experiment, network, members, logit_set)
  spec = _spec(experiment, members, logit_set)
  if predict.missing_shards(folder, spec) or not processes.agree(logit_store.is_finished(folder)):
    _compute(experiment, network, members, logit_set, folder, spec)
  return folder


def targets(
  experiment: experiment_lib.Experiment,
  network: str,
  members: Sequence[tuple[str, int]],
  sets: Sequence[graph.LogitSet],
) -> tuple[np.ndarray | stored_targets.StoredTargets, tuple[np.ndarray, np.ndarray]]:
  """Stored logits as targets [examples, views, classes], and their mean and std [classes].

  Those of a store that does not fit into memory stay on disk, and so do those of which several
  processes read each what its devices hold.

  Every store is verified, by several processes together, and must be of these very members,
  examples, views and preprocessing; 64 of its rows are computed again.
  """
  described = [
    (_folder(experiment, network, members, each), _spec(experiment, members, each)) for each in sets
  ]
  with processes.refusing_together(experiment_lib.ExperimentError, logit_manifest.LogitStoreError):
    for folder, spec in described:
      _verify_share(folder, spec)
  limit = 0 if processes.are_several() else logit_store.MEMORY_LIMIT_BYTES
  stores = [logit_store.opened(folder, memory_limit_bytes=limit) for folder, _ in described]
  for logit_set, (folder, _), each in zip(sets, described, stores, strict=True):
    _check_alignment(experiment, members, logit_set, folder, each.logits)
  statistics = logit_store.statistics([each.manifest for each in stores])
  return stored_targets.targets(stores), statistics


def _verify_share(folder: pathlib.Path, spec: logit_manifest.Spec) -> None:
  """Verifies what falls to this process of those that verify a store together."""
  if not folder.exists():
    raise experiment_lib.ExperimentError(f'{folder}: not there yet; run with --stage=logits first')
  share = (processes.index(), processes.count())
  logit_store.verify(folder, expect=spec, share=share)


def _compute(
  experiment: experiment_lib.Experiment,
  network: str,
  members: Sequence[tuple[str, int]],
  logit_set: graph.LogitSet,
  folder: pathlib.Path,
  spec: logit_manifest.Spec,
) -> None:
  split = experiment.dataset.with_partners(*logit_set)
  options = experiment.config['logits']
  keep = options['keep_members'] and len(members) > 1
  member_stores = [
    (
      _folder(experiment, name, [(name, seed)], logit_set),
      _spec(experiment, [(name, seed)], logit_set),
    )
    for name, seed in (members if keep else ())
  ]
  label = f'logits of {network} on {logit_set.name}'
  told = metric_writer.Progress(len(split), 1, label) if processes.is_first() else None
  with told or metric_writer.Silent() as progress:
    predict.to_store(
      [trained.load_member(experiment, *member) for member in members],
      experiment.dataset,
      split,
      [(folder, spec), *member_stores],
      batch_size=options['batch_size'],
      on_shard=lambda shard: _after_shard(experiment, progress, shard, label),
    )


def _after_shard(
  experiment: experiment_lib.Experiment,
  progress: metric_writer.Progress | metric_writer.Silent,
  shard: logit_manifest.Shard,
  label: str,
) -> None:
  progress.update(shard.stop, '')
  if experiment.stop.requested:
    raise experiment.stop.stopped(f'{label} after row {shard.stop}')


def _folder(
  experiment: experiment_lib.Experiment,
  network: str,
  members: Sequence[tuple[str, int]],
  logit_set: graph.LogitSet,
) -> pathlib.Path:
  is_ensemble = bool(experiment.networks[network]['ensemble'])
  owner = experiment.folder(network, None if is_ensemble else members[0][1])
  return owner / workdir_lib.LOGITS / workdir_lib.logit_set(*logit_set)


def _spec(
  experiment: experiment_lib.Experiment,
  members: Sequence[tuple[str, int]],
  logit_set: graph.LogitSet,
) -> logit_manifest.Spec:
  dataset, options = experiment.dataset, experiment.config['logits']
  described = dataset.fingerprint()
  split = dataset.splits[logit_set.name]
  return logit_manifest.Spec(
    views=logit_set.views,
    num_examples=len(split),
    class_names=tuple(dataset.class_names),
    ids_sha256=split.ids_sha256,
    dtype=options['dtype'],
    shard_rows=options['shard_rows'],
    provenance={
      'set': logit_set.name,
      'members': [f'{network}/{seed}' for network, seed in members],
      'weights': trained.weights_of(experiment, members),
      'preprocessing': described['preprocessing'],
      'view_settings': described['views'] if logit_set.views > 1 else None,
      'logit_batch': options['batch_size'],
    },
  )


def _check_alignment(
  experiment: experiment_lib.Experiment,
  members: Sequence[tuple[str, int]],
  logit_set: graph.LogitSet,
  folder: pathlib.Path,
  logits: Any,
) -> None:
  """Computes seeded rows of the last view again: a store of the right form may hold wrong rows."""
  arrays = experiment.dataset.with_partners(*logit_set).arrays
  count = min(ALIGNMENT_ROWS, len(arrays['id']))
  rows = np.sort(np.random.default_rng(0).choice(len(arrays['id']), count, replace=False))
  again = predict.logits(
    [trained.load_member(experiment, *member) for member in members],
    experiment.dataset,
    arrays,
    batch_size=experiment.config['logits']['batch_size'],
    view=logit_set.views - 1,
    rows=rows,
  ).mean(axis=0)
  stored = np.asarray(logits[logit_set.views - 1, rows], np.float32)
  tolerance = ALIGNMENT_TOLERANCE * max(1.0, float(np.abs(again).max()))
  wrong = np.flatnonzero(np.abs(stored - again).max(axis=-1) > tolerance)
  if wrong.size:
    raise logit_manifest.LogitStoreError(
      f'{folder}: row {rows[wrong[0]]} is not what its teacher gives for that example '
      f'({wrong.size} of {count} rows differ); delete the folder to compute it again'
    )
