"""A teacher's logits: computed once into stores, and read back as a student's targets."""

from collections.abc import Mapping, Sequence
import pathlib
from typing import Any, NamedTuple

import numpy as np

from shallow_jax.data import dataset as dataset_lib
from shallow_jax.data import preprocessing
from shallow_jax.logits import manifest as logit_manifest
from shallow_jax.logits import predict
from shallow_jax.logits import rows as rows_lib
from shallow_jax.logits import store as logit_store
from shallow_jax.pipeline import experiment as experiment_lib
from shallow_jax.pipeline import graph
from shallow_jax.pipeline import realigned_labels
from shallow_jax.pipeline import trained
from shallow_jax.runtime import metric_writer
from shallow_jax.runtime import processes
from shallow_jax.runtime import storage
from shallow_jax.runtime import workdir as workdir_lib
from shallow_jax.settings import targets as targets_lib

RECOMPUTED_ROWS = 64
# Of the largest logit. Where products are rounded to bfloat16, a TPU's default, digits' four CNNs
# differ by 0.0015 from the same on a CPU; a GPU's TF32 differs less, other rows by tenths.
RECOMPUTED_TOLERANCE = 1e-2

Targets = np.ndarray | rows_lib.TargetsOnDisk


class Source(NamedTuple):
  """Where a seed's targets come from: members of a network, and the hashes of their weights."""

  network: str
  members: tuple[experiment_lib.Member, ...]
  weights: tuple[str, ...]


LABELS = Source('', (), ())  # the corpus's own


def source_of(experiment: experiment_lib.Experiment, entry: Mapping[str, Any], seed: int) -> Source:
  """Whose logits, or whose alignment, seed `seed` of a network learns from; LABELS of neither.

  All members of an ensemble; of a plain network one seed: by its number in `targets`, else the
  student's modulo their number, and of an alignment the first.
  """
  aligner, target = targets_lib.aligner(entry['targets']), targets_lib.target(entry)
  if aligner is not None:
    network, members = aligner, realigned_labels.members(experiment, aligner)
  elif target is not None:
    network, members = target.network, experiment.members(target.network)
    if not experiment.networks[network]['ensemble']:
      members = [members[seed % len(members) if target.seed is None else target.seed]]
  else:
    return LABELS
  return Source(network, tuple(members), tuple(trained.weights_of(experiment, members)))


def store_targets(experiment: experiment_lib.Experiment, network: str) -> None:
  """Stores the logits or the alignment that a network learns from, in any trial, where due."""
  base = experiment.networks[network]
  for trial in graph.trials(base):
    entry = graph.with_trial(base, trial)
    aligner = targets_lib.aligner(entry['targets'])
    if aligner is not None:
      realigned_labels.store(experiment, aligner)
    elif targets_lib.target(entry) is not None:
      for each in dict.fromkeys(source_of(experiment, entry, i) for i in range(entry['seeds'])):
        for logit_set in graph.student_sets(entry):
          store(experiment, each, logit_set)


def store(
  experiment: experiment_lib.Experiment, source: Source, logit_set: graph.LogitSet
) -> pathlib.Path:
  """Computes the shards of a store that are not there yet; returns its folder.

  Of an ensemble also of its members' stores, where they are kept.
  """
  sources = [source]
  if experiment.config['logits']['keep_members'] and len(source.members) > 1:
    pairs = zip(source.members, source.weights, strict=True)
    sources += [Source(member[0], (member,), (weights,)) for member, weights in pairs]
  places = [_place(experiment, each, logit_set) for each in sources]
  if any(
    (folder, each.weights) not in experiment.verified
    and (
      predict.missing_shards(folder, spec) or not processes.agree(logit_store.is_finished(folder))
    )
    for each, (folder, spec) in zip(sources, places, strict=True)
  ):
    _compute(experiment, source, logit_set, places)
  return places[0][0]


def targets(
  experiment: experiment_lib.Experiment, source: Source, sets: Sequence[graph.LogitSet]
) -> tuple[Targets, list[logit_manifest.Manifest]]:
  """Stored logits as targets [examples, views, classes], and what the stores say of them.

  Those that together do not fit into memory stay on disk, and so do those of which several
  processes read each what its devices hold. `logit_store.statistics` of the manifests gives mean
  and deviation [classes].

  Once a run every store is verified, by several processes together, and must be of these very
  members, examples, views and preprocessing; 64 of its rows are computed again.
  """
  places = {each: _place(experiment, source, each) for each in sets}
  new = {
    each: place
    for each, place in places.items()
    if (place[0], source.weights) not in experiment.verified
  }
  with processes.refusing_together(experiment_lib.ExperimentError, logit_manifest.LogitStoreError):
    for folder, spec in new.values():
      if not folder.exists():
        raise experiment_lib.ExperimentError(
          f'{folder}: not there yet; run with --stage=logits first'
        )
      # Each of several processes verifies a part of the store.
      logit_store.verify(folder, expect=spec, share=(processes.index(), processes.count()))
  stores = {
    each: logit_store.opened(folder, memory_limit_bytes=0) for each, (folder, _) in places.items()
  }
  for each, (folder, _) in new.items():
    _check_recomputed(experiment, source, each, folder, stores[each].logits)
    experiment.verified.add((folder, source.weights))
  in_order = [stores[each] for each in sets]
  found: Targets = rows_lib.targets([each.logits for each in in_order])
  if not processes.are_several() and found.nbytes <= logit_store.MEMORY_LIMIT_BYTES:
    found = np.asarray(found)
  return found, [each.manifest for each in in_order]


def _compute(
  experiment: experiment_lib.Experiment,
  source: Source,
  logit_set: graph.LogitSet,
  places: Sequence[tuple[pathlib.Path, logit_manifest.Spec]],
) -> None:
  dataset = _dataset(experiment, logit_set)
  split = dataset.with_partners(logit_set.name, logit_set.views)
  label = f'logits of {source.network} on {logit_set.name}'
  told = (
    metric_writer.Progress(len(split) * logit_set.views, 1, label) if processes.is_first() else None
  )
  with told or metric_writer.Silent() as progress:

    def on_shard(shard: logit_manifest.Shard) -> None:
      progress.update(shard.stop * logit_set.views, '')
      if experiment.stop.requested:
        raise experiment.stop.stopped(f'{label} after row {shard.stop}')

    def on_block(shard: logit_manifest.Shard, done: int) -> None:
      progress.update(shard.start * logit_set.views + done, '')
      # several processes, which stop together, have shards of different lengths
      if not processes.are_several() and experiment.stop.requested:
        raise experiment.stop.stopped(f'{label} within a shard')

    predict.to_store(
      trained.load_members(experiment, source.members),
      dataset,
      split,
      places,
      batch_size=experiment.config['logits']['batch_size'],
      on_shard=on_shard,
      on_block=on_block,
    )


def _dataset(
  experiment: experiment_lib.Experiment, logit_set: graph.LogitSet
) -> dataset_lib.Dataset:
  return preprocessing.augmented(experiment.dataset, dict(logit_set.augment))


def _place(
  experiment: experiment_lib.Experiment, source: Source, logit_set: graph.LogitSet
) -> tuple[pathlib.Path, logit_manifest.Spec]:
  """Where a store lies, and what is in it."""
  is_ensemble = bool(experiment.networks[source.network]['ensemble'])
  owner = experiment.folder(source.network, None if is_ensemble else source.members[0][1])
  dataset, options = _dataset(experiment, logit_set), experiment.config['logits']
  described = dataset.fingerprint()
  is_usual = dataset.augmentation == experiment.dataset.augmentation
  other_views = '' if is_usual else storage.sha256_json(described['views'])[:8]
  name = workdir_lib.logit_set(logit_set.name, logit_set.views, other_views)
  folder = owner / workdir_lib.LOGITS / name
  split = dataset.splits[logit_set.name]
  asked = logit_manifest.Spec(
    views=logit_set.views,
    num_examples=len(split),
    class_names=tuple(dataset.class_names),
    ids_sha256=split.ids_sha256,
    dtype=options['dtype'],
    shard_rows=options['shard_rows'],
    provenance={
      'set': logit_set.name,
      'members': [f'{network}/{seed}' for network, seed in source.members],
      'weights': list(source.weights),
      'preprocessing': described['preprocessing'],
      'view_settings': described['views'] if logit_set.views > 1 else None,
      'logit_batch': options['batch_size'],
    },
  )
  spec = asked.within(logit_manifest.SHARD_BYTES, multiple_of=options['batch_size'])
  if spec != asked:  # one that was begun before shards were limited by their bytes goes on as it is
    there = logit_manifest.spec_there(folder)
    spec = asked if there is not None and there.shard_rows == asked.shard_rows else spec
  return folder, spec


def _check_recomputed(
  experiment: experiment_lib.Experiment,
  source: Source,
  logit_set: graph.LogitSet,
  folder: pathlib.Path,
  logits: Any,
) -> None:
  """Computes seeded rows of the last view again: a store of the right form may hold wrong rows."""
  dataset = _dataset(experiment, logit_set)
  arrays = dataset.with_partners(logit_set.name, logit_set.views).arrays
  count = min(RECOMPUTED_ROWS, len(arrays['id']))
  rows = np.sort(np.random.default_rng(0).choice(len(arrays['id']), count, replace=False))
  again = predict.logits(
    trained.load_members(experiment, source.members),
    dataset,
    arrays,
    batch_size=experiment.config['logits']['batch_size'],
    view=logit_set.views - 1,
    rows=rows,
  ).mean(axis=0)
  stored = np.asarray(logits[logit_set.views - 1, rows], np.float32)
  tolerance = RECOMPUTED_TOLERANCE * max(1.0, float(np.abs(again).max()))
  differing = np.abs(stored - again).max(axis=-1)
  wrong = np.flatnonzero(differing > tolerance)
  if wrong.size:
    raise logit_manifest.LogitStoreError(
      f'{folder}: row {rows[wrong[0]]} is not what its teacher gives for that example: '
      f'they differ by {differing[wrong[0]]:.3g}, expected at most {tolerance:.3g}, room for the '
      f'products of another kind of device ({wrong.size} of {count} rows differ); '
      'delete the folder to compute it again'
    )
