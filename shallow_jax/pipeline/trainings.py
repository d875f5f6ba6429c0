"""The trainings of a network: its search and its seeds, and what each is fitted to."""

from collections.abc import Mapping, Sequence
import logging
import pathlib
from typing import Any

import numpy as np

from shallow_jax.data import dataset as dataset_lib
from shallow_jax.logits import store as logit_store
from shallow_jax.pipeline import experiment as experiment_lib
from shallow_jax.pipeline import graph
from shallow_jax.pipeline import realigned_labels
from shallow_jax.pipeline import teacher
from shallow_jax.pipeline import trained
from shallow_jax.runtime import processes
from shallow_jax.runtime import storage
from shallow_jax.runtime import workdir as workdir_lib
from shallow_jax.settings import targets as targets_lib
from shallow_jax.training import feed
from shallow_jax.training import kmeans_svm
from shallow_jax.training import problem as problem_lib
from shallow_jax.training import selection
from shallow_jax.training import train

_log = logging.getLogger(__name__)


def train_network(experiment: experiment_lib.Experiment, network: str) -> None:
  """Trains what is due of a network: the trials of its search, then its other seeds."""
  trial = _search(experiment, network)
  entry = experiment.networks[network]
  seeds = range(entry['seeds'])
  groups = [[seed] for seed in seeds]
  if entry['seeds_together'] and entry['fit'] is None:
    alone = 1 if trial else 0  # the best trial was trained by itself
    groups = [*groups[:alone], [*seeds[alone:]]]
  for group in filter(None, groups):
    folders = [experiment.folder(network, seed) for seed in group]
    _train(experiment, network, group, folders, trial)


def problem(
  experiment: experiment_lib.Experiment,
  network: str,
  entry: Mapping[str, Any],
  seed: int,
  source: teacher.Source,
) -> problem_lib.Problem:
  """A seed's net, its examples and their targets; `entry` has a trial's settings in place."""
  dataset = realigned_labels.dataset(experiment, network)
  on_logits = targets_lib.target(entry) is not None
  mixed_views = entry['views'] if on_logits else 1  # a mix has logits, but no label
  sets = [dataset.with_partners(name, mixed_views) for name in entry['examples']]
  examples = dataset_lib.concatenate(sets).arrays
  validation = dataset.splits['validation'].arrays
  statistics = None
  if on_logits:
    *logit_sets, validation_set = graph.student_sets(entry)
    target, manifests = teacher.targets(experiment, source, logit_sets)
    statistics = logit_store.statistics(manifests)
    examples = dict(examples, target=target)
    target, _ = teacher.targets(experiment, source, [validation_set])
    validation = dict(validation, target=np.asarray(target))
  experiment.nets.clear()  # a teacher's: the memory is the training's now
  start = None
  if entry['init']:
    members = experiment.members(entry['init'])
    start = trained.load_member(experiment, *members[seed % len(members)]).variables
  return problem_lib.build(
    entry,
    dataset,
    examples,
    validation,
    seed=seed,
    target_statistics=statistics,
    start=start,
  )


def layout(experiment: experiment_lib.Experiment, network: str, members: int = 1) -> feed.Layout:
  """Where so many of its seeds lie in one program; ParallelError for what can't be divided."""
  entry = experiment.networks[network]
  settings, where = experiment.config['parallel'], f'config.networks.{network}'
  module = experiment.module(network)
  return feed.lay_out(entry, module, settings, members=members, where=where)


def _search(experiment: experiment_lib.Experiment, network: str) -> dict[str, Any]:
  """The trial that validation prefers, {} without a search. The winner becomes seed 0."""
  entry, folder = experiment.networks[network], experiment.folder(network)
  candidates = graph.trials(entry)
  if candidates == [{}]:
    return {}
  path = folder / workdir_lib.SEARCH
  if not processes.agree(path.exists()):
    folders = [folder / workdir_lib.trial(i) for i in range(len(candidates))]
    for trial, its_folder in zip(candidates, folders, strict=True):
      _train(experiment, network, [0], [its_folder], trial)
    if processes.is_first():
      storage.write_json(path, _choose(entry, candidates, folders))
    processes.meet(f'the search of {network} is done')
  search = storage.read_json(path)
  winner = folder / workdir_lib.trial(search['chosen'])
  if processes.is_first() and winner.exists():
    winner.rename(experiment.folder(network, 0))
  processes.meet(f'the best trial of {network} is its seed 0')
  return search['trials'][search['chosen']]['settings']


def _choose(
  entry: Mapping[str, Any],
  candidates: Sequence[Mapping[str, Any]],
  folders: Sequence[pathlib.Path],
) -> dict[str, Any]:
  """The record of a search: every trial, and which of them validation prefers."""
  trials = []
  for settings, folder in zip(candidates, folders, strict=True):
    record = trained.read_trained(folder)
    assert record is not None
    kept = ('status', 'validation', 'collapsed', 'step', 'wall_seconds')
    trials.append({'settings': dict(settings), **{key: record[key] for key in kept}})
  chosen = min(range(len(trials)), key=lambda i: _rank(entry, trials[i]))
  return {'chosen': chosen, 'trials': trials}


def _rank(entry: Mapping[str, Any], trial: Mapping[str, Any]) -> tuple[float, ...]:
  if trial['status'] == 'diverged':
    return (2,)
  return (int(trial['collapsed']), *selection.rank(entry, trial['validation']))


def _train(
  experiment: experiment_lib.Experiment,
  network: str,
  seeds: Sequence[int],
  folders: Sequence[pathlib.Path],
  trial: Mapping[str, Any],
) -> None:
  """Trains seeds in one program, all of them again where one is missing."""
  entry = graph.with_trial(experiment.networks[network], trial)
  sources = [teacher.source_of(experiment, entry, seed) for seed in seeds]
  if processes.agree(all(trained.read_trained(folder) for folder in folders)):
    for folder, source in zip(folders, sources, strict=True):
      refuse_other_targets(folder, entry, source)
    return
  problems = [
    problem(experiment, network, entry, seed, source)
    for seed, source in zip(seeds, sources, strict=True)
  ]
  settings = ''.join(f' {key.rpartition(".")[2]} {value}' for key, value in trial.items())
  names = [f'{network}/{folder.name}{settings}' for folder in folders]
  label = names[0] if len(names) == 1 else network
  for folder in folders:
    folder.mkdir(parents=True, exist_ok=True)
  if entry['fit'] is None:
    where = layout(experiment, network, len(seeds))
    outcomes = train.fit(problems, folders, label=label, stop=experiment.stop, layout=where)
  else:
    outcomes = [kmeans_svm.fit(problems[0], label=label, stop=experiment.stop)]
  # The first seed last: the checkpoints that all of them go on from are in its folder.
  for i in reversed(range(len(seeds))):
    weights = sources[i].weights
    trained.save_trained(folders[i], outcomes[i], trial=trial, target_weights=weights)
    _log.info('%s: %s', names[i], _described(outcomes[i]))


def refuse_other_targets(
  folder: pathlib.Path, entry: Mapping[str, Any], source: teacher.Source
) -> None:
  """Refuses a finished seed that learned from other weights than those that are there now."""
  record = trained.read_trained(folder)
  if record is not None and record['target_weights'] != list(source.weights):
    raise experiment_lib.ExperimentError(
      f'{folder} learned from other weights of {entry["targets"]} than those that are there now; '
      f'delete {folder.parent} to train it anew'
    )


def _described(outcome: train.Outcome) -> str:
  if outcome.diverged:
    return f'diverged at step {outcome.step}'
  flag = ', COLLAPSED' if outcome.collapsed else ''
  return (
    f'validation error {outcome.validation["error"]:.2f} % at step {outcome.step}{flag}, '
    f'{outcome.wall_seconds:.1f} s, {outcome.examples_per_second:,.0f} examples/s'
  )
