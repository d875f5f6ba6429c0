"""Runs an experiment: what is due of each network, in the order of the graph.

  results = pipeline.run(config, 'runs/digits')

A workdir's layout is described in shallow_jax/experiment.py.
"""

from collections.abc import Iterator, Mapping, Sequence
import logging
import pathlib
from typing import Any

import ml_collections

from shallow_jax import data as data_lib
from shallow_jax import defaults
from shallow_jax import evaluate
from shallow_jax import experiment as experiment_lib
from shallow_jax import graph
from shallow_jax import host_memory
from shallow_jax import kmeans_svm
from shallow_jax import metrics
from shallow_jax import models
from shallow_jax import processes
from shallow_jax import realigned_labels
from shallow_jax import report
from shallow_jax import run_guard
from shallow_jax import seeds
from shallow_jax import selection
from shallow_jax import storage
from shallow_jax import target_names
from shallow_jax import teacher
from shallow_jax import train
from shallow_jax import train_together
from shallow_jax.data import dataset as dataset_lib
from shallow_jax.data import preprocessing

_log = logging.getLogger(__name__)

STAGES = ('all', 'train', 'logits', 'evaluate', 'report')


def run(
  config: Mapping[str, Any] | ml_collections.ConfigDict,
  workdir: str | pathlib.Path,
  *,
  only: Sequence[str] = (),
  stage: str = 'all',
) -> dict[str, Any]:
  """Does all that is due and returns the results (the content of report/results.json).

  Of several processes, which all call it on the same workdir, the first one gets the results.

  Finished networks are skipped, an interrupted one goes on where it was, one whose settings have
  changed is refused with the keys that differ.

  Args:
    config: an experiment; missing keys take their defaults (shallow_jax.defaults).
    workdir: made if need be; one run at a time.
    only: these networks and what they need; all if empty.
    stage: one arrow of the chain alone: train, logits, evaluate or report.
  """
  host_memory.keep_freed_memory()
  full = defaults.plain(defaults.complete(config))
  defaults.choice(stage, STAGES, '--stage')
  workdir = defaults.local_path(workdir, 'workdir')
  with processes.guard(workdir) as stop:
    if processes.is_first():
      storage.remove_temporary(workdir)
    if stage != 'report':
      for folder, one_split in split_runs(full, workdir):
        experiment = prepare(one_split, folder, only=only, stop=stop)
        for network in graph.order(experiment.networks, only):
          _advance(experiment, network, stage)
    results: dict[str, Any] = {}
    if processes.is_first():
      storage.write_json(workdir / 'config.json', full)
      results = report.write(full, workdir)
    processes.meet('the report is written')
    return results


def report_again(workdir: str | pathlib.Path) -> dict[str, Any]:
  """Writes the report of a workdir anew, from its config.json and the results that are there."""
  workdir = defaults.local_path(workdir, 'workdir')
  config = defaults.complete(storage.read_json(workdir / 'config.json'))
  return report.write(defaults.plain(config), workdir)


def split_runs(
  config: Mapping[str, Any], workdir: pathlib.Path
) -> Iterator[tuple[pathlib.Path, dict[str, Any]]]:
  """Workdir and config of each run of an experiment: itself, or one for each of its `splits`."""
  if not config['splits']:
    yield workdir, dict(config)
  for split in config['splits']:
    data = dict(config['data'], split_seed=split)
    yield workdir / f'split-{split}', dict(config, data=data, splits=())


def prepare(
  config: Mapping[str, Any],
  workdir: pathlib.Path,
  *,
  only: Sequence[str] = (),
  stop: run_guard.StopRequest | None = None,
) -> experiment_lib.Experiment:
  """Loads the data and checks all that can be checked before the first step; trains nothing."""
  networks, logits = config['networks'], config['logits']
  if logits['shard_rows'] % logits['batch_size']:
    raise defaults.ConfigError(
      f'config.logits: shard_rows {logits["shard_rows"]} is not a multiple of batch_size '
      f'{logits["batch_size"]}'
    )
  graph.check_names(networks)
  constants = workdir / 'data' / 'preprocessing.npz'
  dataset = data_lib.load(config['data'], constants)
  graph.check_examples(networks, dataset)
  described = dataset.fingerprint()
  fingerprints = {name: graph.fingerprint(networks, name, described, logits) for name in networks}
  experiment = experiment_lib.Experiment(
    config, workdir, dataset, fingerprints, stop or run_guard.StopRequest()
  )
  order = graph.order(networks, only)
  _log_sizes(experiment, order)
  _check_layouts(experiment, order)
  _refuse_changes(experiment, order)
  processes.meet('all have read the data and the settings of before')
  if processes.is_first():
    workdir.mkdir(exist_ok=True)
    storage.write_json(workdir / 'config.json', config)
    _save_data(workdir / 'data', dataset, described)
  return experiment


def train_network(experiment: experiment_lib.Experiment, network: str) -> None:
  """Trains what is due of a network: the trials of its search, then its other seeds."""
  trial = _search(experiment, network)
  entry = experiment.networks[network]
  if entry['seeds_together'] and entry['fit'] is None:
    first = 1 if trial else 0  # the best trial was trained by itself
    _train_together(experiment, network, range(first, entry['seeds']), trial)
  for seed in range(entry['seeds']):
    folder = experiment.folder(network, seed)
    _train_seed(experiment, network, seed, folder, trial)


def store_targets(experiment: experiment_lib.Experiment, network: str) -> None:
  """Stores the logits or the alignment that a network learns from, where it is not there yet."""
  entry = experiment.networks[network]
  aligner = target_names.aligner(entry['targets'])
  if aligner is not None:
    realigned_labels.store(experiment, aligner)
  if graph.target(entry) is None:
    return
  for seed in range(entry['seeds']):
    name, members = teacher.members_for(experiment, entry, seed)
    for logit_set in graph.student_sets(entry):
      teacher.store(experiment, name, members, logit_set)


def _advance(experiment: experiment_lib.Experiment, network: str, stage: str) -> None:
  """Does a network's part of a stage; of all stages one after the other."""
  entry = experiment.networks[network]
  if processes.agree(evaluate.is_finished(experiment, network)):
    _refuse_stale(experiment, network)
    _log.info('%s: finished before', network)
    return
  _begin(experiment, network)
  if stage in ('all', 'logits'):
    store_targets(experiment, network)
  if stage in ('all', 'train') and not entry['ensemble']:
    train_network(experiment, network)
  if stage in ('all', 'evaluate'):
    evaluate.evaluate(experiment, network)


def _refuse_stale(experiment: experiment_lib.Experiment, network: str) -> None:
  """Refuses a finished network whose teacher, or who aligned for it, has other weights by now."""
  entry = experiment.networks[network]
  if entry['ensemble']:
    return
  for seed in range(entry['seeds']):
    weights = seeds.target_weights(experiment, entry, seed)
    _refuse_other_targets(experiment.folder(network, seed), entry, weights)


def _log_sizes(experiment: experiment_lib.Experiment, order: Sequence[str]) -> None:
  """Says what is about to be trained; building the nets here finds impossible ones early."""
  dataset = experiment.dataset
  lines = [_size_line(experiment, name) for name in order]
  counts = ', '.join(f'{name} {len(split)}' for name, split in dataset.splits.items())
  _log.info('%s: %s', dataset.name, counts)
  for line in lines:
    _log.info('%s', line)


def _size_line(experiment: experiment_lib.Experiment, name: str) -> str:
  entry, dataset = experiment.networks[name], experiment.dataset
  if entry['ensemble']:
    return f'{name:16} ensemble of {", ".join(entry["ensemble"])}'
  module = models.build(entry['model'], len(dataset.class_names))
  try:
    size = metrics.size(module, dataset.input_shape)
  except ValueError as error:
    raise defaults.ConfigError(f'config.networks.{name}.model: {error}') from error
  weights, biases = size['parameters']['weights'], size['parameters']['biases']
  return (
    f'{name:16} {module.architecture:28} {weights:12,} weights {biases:9,} biases '
    f'{size["hidden_units"]:11,} hidden units  {entry["seeds"]} seeds on {entry["targets"]}'
  )


def _check_layouts(experiment: experiment_lib.Experiment, order: Sequence[str]) -> None:
  """Refuses before the first step what can't be divided over the devices."""
  for name in order:
    entry = experiment.networks[name]
    if entry['model'] is None or entry['fit'] is not None:
      continue
    together = entry['seeds'] - (graph.trials(entry) != [{}])
    if entry['seeds_together'] and together:
      seeds.member_layout(experiment, name, together)
    if not entry['seeds_together'] or together < entry['seeds']:
      seeds.layout(experiment, name)


def _refuse_changes(experiment: experiment_lib.Experiment, order: Sequence[str]) -> None:
  """Refuses to go on with networks that were begun under other settings, all of them at once."""
  for name in order:
    path = experiment.folder(name) / 'fingerprint.json'
    if not path.exists():
      continue
    different = storage.differences(storage.read_json(path), experiment.fingerprints[name])
    if different:
      raise experiment_lib.ExperimentError(
        f'{path.parent} was begun under other settings: {"; ".join(different[:5])}. '
        'Take another --workdir, or delete that folder to train it anew'
      )


def _save_data(
  folder: pathlib.Path, dataset: dataset_lib.Dataset, described: Mapping[str, Any]
) -> None:
  folder.mkdir(exist_ok=True)
  storage.write_json(folder / 'fingerprint.json', described)
  storage.write_json(folder / 'notes.json', dataset.notes)
  preprocessing.save(folder / 'preprocessing.npz', dataset)


def _begin(experiment: experiment_lib.Experiment, network: str) -> None:
  folder = experiment.folder(network)
  if processes.is_first():
    folder.mkdir(parents=True, exist_ok=True)
    storage.write_json(folder / 'fingerprint.json', experiment.fingerprints[network])
  processes.meet(f'{network} is begun')


def _search(experiment: experiment_lib.Experiment, network: str) -> dict[str, Any]:
  """The trial that validation prefers, {} without a search. The winner becomes seed 0."""
  entry, folder = experiment.networks[network], experiment.folder(network)
  candidates = graph.trials(entry)
  if candidates == [{}]:
    return {}
  path = folder / 'search.json'
  if not processes.agree(path.exists()):
    folders = [folder / f'trial-{i}' for i in range(len(candidates))]
    for trial, its_folder in zip(candidates, folders, strict=True):
      _train_seed(experiment, network, 0, its_folder, trial)
    if processes.is_first():
      storage.write_json(path, _choose(entry, candidates, folders))
    processes.meet(f'the search of {network} is done')
  search = storage.read_json(path)
  winner = folder / f'trial-{search["chosen"]}'
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
    record = experiment_lib.read_trained(folder)
    assert record is not None
    kept = ('status', 'validation', 'collapsed', 'step', 'wall_seconds')
    trials.append({'settings': dict(settings), **{key: record[key] for key in kept}})
  chosen = min(range(len(trials)), key=lambda i: _rank(entry, trials[i]))
  return {'chosen': chosen, 'trials': trials}


def _rank(entry: Mapping[str, Any], trial: Mapping[str, Any]) -> tuple[float, ...]:
  if trial['status'] == 'diverged':
    return (2,)
  return (int(trial['collapsed']), *selection.rank(entry, trial['validation']))


def _train_seed(
  experiment: experiment_lib.Experiment,
  network: str,
  seed: int,
  folder: pathlib.Path,
  trial: Mapping[str, Any],
) -> None:
  entry = graph.with_trial(experiment.networks[network], trial)
  weights = seeds.target_weights(experiment, entry, seed)
  if processes.agree(experiment_lib.read_trained(folder) is not None):
    _refuse_other_targets(folder, entry, weights)
    return
  problem = seeds.problem(experiment, network, entry, seed)
  settings = ''.join(f' {key.rpartition(".")[2]} {value}' for key, value in trial.items())
  label = f'{network}/{folder.name}{settings}'
  folder.mkdir(parents=True, exist_ok=True)
  if entry['fit'] is None:
    layout = seeds.layout(experiment, network)
    outcome = train.fit(problem, folder, label=label, stop=experiment.stop, layout=layout)
  else:
    outcome = kmeans_svm.fit(problem, label=label, stop=experiment.stop)
  experiment_lib.save_trained(folder, outcome, trial=trial, target_weights=weights)
  _log.info('%s: %s', label, _described(outcome))


def _train_together(
  experiment: experiment_lib.Experiment,
  network: str,
  which: Sequence[int],
  trial: Mapping[str, Any],
) -> None:
  """Trains seeds in one program, all of them again where one is missing."""
  folders = [experiment.folder(network, seed) for seed in which]
  if processes.agree(all(experiment_lib.read_trained(folder) for folder in folders)):
    return
  entry = graph.with_trial(experiment.networks[network], trial)
  weights = [seeds.target_weights(experiment, entry, seed) for seed in which]
  problems = [seeds.problem(experiment, network, entry, seed) for seed in which]
  for folder in folders:
    folder.mkdir(parents=True, exist_ok=True)
  layout = seeds.member_layout(experiment, network, len(which))
  outcomes = train_together.fit(
    problems, folders, label=network, stop=experiment.stop, layout=layout
  )
  # The first seed last: the checkpoints that all of them go on from are in its folder.
  for folder, outcome, its_weights in reversed([*zip(folders, outcomes, weights, strict=True)]):
    experiment_lib.save_trained(folder, outcome, trial=trial, target_weights=its_weights)
    _log.info('%s/%s: %s', network, folder.name, _described(outcome))


def _refuse_other_targets(
  folder: pathlib.Path, entry: Mapping[str, Any], weights: Sequence[str]
) -> None:
  record = experiment_lib.read_trained(folder)
  if record is not None and record['target_weights'] != list(weights):
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
