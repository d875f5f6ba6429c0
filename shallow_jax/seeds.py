"""What the seeds of a network of an experiment are fitted to, and on which devices."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from shallow_jax import experiment as experiment_lib
from shallow_jax import graph
from shallow_jax import models
from shallow_jax import parallel
from shallow_jax import problem as problem_lib
from shallow_jax import realigned_labels
from shallow_jax import target_names
from shallow_jax import teacher
from shallow_jax.data import dataset as dataset_lib


def problem(
  experiment: experiment_lib.Experiment, network: str, entry: Mapping[str, Any], seed: int
) -> problem_lib.Problem:
  """A seed's net, its examples and their targets; `entry` has a trial's settings in place."""
  dataset = realigned_labels.dataset(experiment, network)
  sources = teacher.members_for(experiment, entry, seed) if graph.target(entry) else None
  mixed_views = 1 if sources is None else entry['views']  # a mix has logits, but no label
  sets = [dataset.with_partners(name, mixed_views) for name in entry['examples']]
  examples = dataset_lib.concatenate(sets).arrays
  validation = dataset.splits['validation'].arrays
  statistics = None
  if sources is not None:
    *logit_sets, validation_set = graph.student_sets(entry)
    target, statistics = teacher.targets(experiment, *sources, logit_sets)
    examples = dict(examples, target=target)
    target, _ = teacher.targets(experiment, *sources, [validation_set])
    validation = dict(validation, target=np.asarray(target))
  return problem_lib.build(
    entry,
    dataset,
    examples,
    validation,
    seed=seed,
    target_statistics=statistics,
    start=_start(experiment, entry, seed),
  )


def _start(
  experiment: experiment_lib.Experiment, entry: Mapping[str, Any], seed: int
) -> models.Variables | None:
  if not entry['init']:
    return None
  members = experiment.members(entry['init'])
  name, which = members[seed % len(members)]
  return experiment_lib.load_member(experiment, name, which).variables


def target_weights(
  experiment: experiment_lib.Experiment, entry: Mapping[str, Any], seed: int
) -> list[str]:
  """The hashes of the weights that the targets of a network's seed were computed by."""
  aligner = target_names.aligner(entry['targets'])
  if aligner is not None:
    return experiment_lib.weights_of(experiment, realigned_labels.members(experiment, aligner))
  if graph.target(entry) is None:
    return []
  return experiment_lib.weights_of(experiment, teacher.members_for(experiment, entry, seed)[1])


def layout(experiment: experiment_lib.Experiment, network: str) -> parallel.Layout:
  """Where a training of one of its seeds lies; ParallelError for what can't be divided."""
  entry = experiment.networks[network]
  module = models.build(entry['model'], len(experiment.dataset.class_names))
  settings, where = experiment.config['parallel'], f'config.networks.{network}'
  return problem_lib.layout(entry, module, settings, where)


def member_layout(
  experiment: experiment_lib.Experiment, network: str, members: int
) -> parallel.MemberLayout:
  """Where a training of several of its seeds lies; ParallelError for what can't be divided."""
  return parallel.member_layout(
    experiment.config['parallel'],
    members=members,
    batch_size=experiment.networks[network]['batch_size'],
    where=f'config.networks.{network}',
  )
