"""The trainings of a network: its search and its seeds, and what each is fitted to."""

from collections.abc import Mapping, Sequence
import logging
import pathlib
from typing import Any

import numpy as np

from shallow_jax import models
from shallow_jax.data import dataset as dataset_lib
from shallow_jax.data import preprocessing
from shallow_jax.logits import store as logit_store
from shallow_jax.pipeline import experiment as experiment_lib
from shallow_jax.pipeline import graph
from shallow_jax.pipeline import realigned_labels
from shallow_jax.pipeline import teacher
from shallow_jax.pipeline import trained
from shallow_jax.runtime import checkpoint
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
  for seed in range(experiment.networks[network]['seeds']):
    refuse_other_sources(experiment, network, seed, experiment.folder(network, seed))
  for seeds in programs(experiment, network):
    folders = [experiment.folder(network, seed) for seed in seeds]
    _train(experiment, network, seeds, folders, trial)


def programs(experiment: experiment_lib.Experiment, network: str) -> list[list[int]]:
  """The seeds that are not trained yet, by the program that trains them.

  Where seeds are trained together, more of them in a config of later are a program of their own,
  and those whose program was interrupted go on in one of the same size.
  """
  entry = experiment.networks[network]
  alone, together = range(entry['seeds']), range(0)
  if entry['seeds_together'] and entry['fit'] is None:
    first = int(graph.trials(entry) != [{}])  # the best trial was trained by itself
    alone, together = alone[:first], alone[first:]

  def due(seeds: Sequence[int]) -> list[int]:
    return [i for i in seeds if trained.read_trained(experiment.folder(network, i)) is None]

  begun, new = [], due(together)
  if new:
    folder = experiment.folder(network, new[0]) / workdir_lib.CHECKPOINTS
    notes = checkpoint.newest_notes(folder) or {'seeds': []}
    begun = notes.get('seeds', [*together])  # a checkpoint of before does not say
    new = [seed for seed in new if seed not in begun]
  found = [*([seed] for seed in due(alone)), begun, new]
  return processes.agree([seeds for seeds in found if seeds])


def problems(
  experiment: experiment_lib.Experiment,
  network: str,
  entry: Mapping[str, Any],
  seeds: Sequence[int],
  source: teacher.Source,
) -> list[problem_lib.Problem]:
  """Seeds' nets, and the examples and targets that are theirs together.

  `entry` has a trial's settings in place.
  """
  dataset = realigned_labels.dataset(experiment, network)
  dataset = preprocessing.augmented(dataset, entry['augment'])
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
  starts = [start_of(experiment, entry, seed) for seed in seeds]
  return [
    problem_lib.build(
      entry,
      dataset,
      examples,
      validation,
      seed=seed,
      target_statistics=statistics,
      start=None if start is None else trained.load_member(experiment, *start).variables,
    )
    for seed, start in zip(seeds, starts, strict=True)
  ]


def start_of(
  experiment: experiment_lib.Experiment, entry: Mapping[str, Any], seed: int
) -> experiment_lib.Member | None:
  """Whose weights a seed starts from: of `init` its seed modulo their number; None: drawn ones."""
  members = experiment.members(entry['init']) if entry['init'] else [None]
  return members[seed % len(members)]


def layout(
  experiment: experiment_lib.Experiment,
  network: str,
  members: int = 1,
  trial: Mapping[str, Any] | None = None,
) -> feed.Layout:
  """Where so many of its seeds lie in one program; ParallelError for what can't be divided."""
  entry = graph.with_trial(experiment.networks[network], trial or {})
  settings, where = experiment.config['parallel'], f'config.networks.{network}'
  module = models.build(entry['model'], len(experiment.dataset.class_names))
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
      if processes.agree(trained.read_trained(its_folder) is not None):
        refuse_other_sources(experiment, network, 0, its_folder, trial)
      else:
        _train(experiment, network, [0], [its_folder], trial)
    if processes.is_first():
      storage.write_sealed_json(path, _choose(entry, candidates, folders))
    processes.meet(f'the search of {network} is done')
  search = storage.read_record(path)
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
  return {'chosen': selection.best_trial(entry, trials), 'trials': trials}


def _train(
  experiment: experiment_lib.Experiment,
  network: str,
  seeds: Sequence[int],
  folders: Sequence[pathlib.Path],
  trial: Mapping[str, Any],
) -> None:
  """Trains seeds in one program, and keeps those that were not kept before."""
  entry = graph.with_trial(experiment.networks[network], trial)
  (source,) = dict.fromkeys(teacher.source_of(experiment, entry, seed) for seed in seeds)
  if entry['init']:
    _refuse_another_beginning(experiment, network)
  fitted = problems(experiment, network, entry, seeds, source)
  settings = ''.join(f' {key.rpartition(".")[2]} {value}' for key, value in trial.items())
  names = [f'{network}/{folder.name}{settings}' for folder in folders]
  label = names[0] if len(names) == 1 else network
  for folder in folders:
    folder.mkdir(parents=True, exist_ok=True)
  if entry['fit'] is None:
    where = layout(experiment, network, len(seeds), trial)
    outcomes = train.fit(fitted, folders, label=label, stop=experiment.stop, layout=where)
  else:
    outcomes = [kmeans_svm.fit(fitted[0], label=label, stop=experiment.stop)]
  # The first seed last: the checkpoints that all of them go on from are in its folder.
  for i in reversed(range(len(seeds))):
    if processes.agree(trained.read_trained(folders[i]) is None):
      trained.save_trained(
        folders[i],
        outcomes[i],
        trial=trial,
        target_weights=source.weights,
        init_weights=_init_weights(experiment, entry, seeds[i]),
      )
      _log.info('%s: %s', names[i], _described(outcomes[i]))


def refuse_other_sources(
  experiment: experiment_lib.Experiment,
  network: str,
  seed: int,
  folder: pathlib.Path,
  trial: Mapping[str, Any] | None = None,
) -> None:
  """Refuses a finished seed, or trial, that learned or started from other weights than are there.

  `folder` is where it lies.
  """
  entry = graph.with_trial(experiment.networks[network], trial or {})
  record = trained.read_trained(folder)
  if record is None:
    return
  weights = list(teacher.source_of(experiment, entry, seed).weights)
  start = _init_weights(experiment, entry, seed)
  for done, of, then, now in (
    ('learned', entry['targets'], record['target_weights'], weights),
    ('started', entry['init'], record.get('init_weights', start), start),  # older ones don't say
  ):
    if then != now:
      raise experiment_lib.ExperimentError(
        f'{folder} {done} from other weights of {of} than those that are there now; '
        f'delete {folder.parent} to train it anew'
      )


def _init_weights(
  experiment: experiment_lib.Experiment, entry: Mapping[str, Any], seed: int
) -> list[str]:
  start = start_of(experiment, entry, seed)
  return [] if start is None else trained.weights_of(experiment, [start])


def _refuse_another_beginning(experiment: experiment_lib.Experiment, network: str) -> None:
  """Refuses to add to seeds that began with the params of `init`, but not as the same function.

  So did those whose record does not say what they started from.
  """
  for path in sorted(experiment.folder(network).glob(f'*/{workdir_lib.TRAINED}')):
    if 'init_weights' not in (trained.read_trained(path.parent) or {}):
      raise experiment_lib.ExperimentError(
        f'{path.parent} was trained by an older version, whose init gave no logits, and has no '
        f'init_weights; its other seeds would begin otherwise: delete {path.parents[1]} to train '
        'it anew'
      )


def _described(outcome: train.Outcome) -> str:
  if outcome.diverged:
    return f'diverged at step {outcome.step}'
  flag = ', COLLAPSED' if outcome.collapsed else ''
  return (
    f'validation error {outcome.validation["error"]:.2f} % at step {outcome.step}{flag}, '
    f'{outcome.wall_seconds:.1f} s, {outcome.examples_per_second:,.0f} examples/s'
  )
