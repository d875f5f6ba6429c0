"""Runs an experiment: what is due of each network, in the order of the graph.

  results = shallow_jax.run(config, 'runs/digits')

A workdir's layout is described in shallow_jax/runtime/workdir.py.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import logging
import pathlib
from typing import Any

import ml_collections

from shallow_jax import data as data_lib
from shallow_jax import models
from shallow_jax.data import dataset as dataset_lib
from shallow_jax.data import preprocessing
from shallow_jax.models import size as size_lib
from shallow_jax.pipeline import evaluate
from shallow_jax.pipeline import experiment as experiment_lib
from shallow_jax.pipeline import graph
from shallow_jax.pipeline import teacher
from shallow_jax.pipeline import trained
from shallow_jax.pipeline import trainings
from shallow_jax.report import page
from shallow_jax.runtime import host
from shallow_jax.runtime import processes
from shallow_jax.runtime import run_guard
from shallow_jax.runtime import storage
from shallow_jax.runtime import workdir as workdir_lib
from shallow_jax.settings import defaults
from shallow_jax.settings import fingerprints
from shallow_jax.settings import keys

_log = logging.getLogger(__name__)


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
  changed is refused with the keys that differ. A seed that diverged stops only what needs it.

  Args:
    config: an experiment; missing keys take their defaults (shallow_jax.settings.defaults).
    workdir: made if need be; one run at a time.
    only: these networks and what they need; all if empty.
    stage: one arrow of the chain alone: train, logits, evaluate or report.

  Raises:
    experiment.ExperimentError: also once all else is done and the report is written, where networks
      need a seed that diverged.
  """
  host.keep_freed_memory()
  full = defaults.plain(defaults.complete(config))
  defaults.choice(stage, keys.STAGES, '--stage')
  workdir = defaults.local_path(workdir, 'workdir')
  hindered: list[str] = []
  with processes.guard(workdir) as stop:
    if processes.is_first():
      storage.remove_temporary(workdir)
    if stage != 'report':
      for folder, one_split in split_runs(full, workdir):
        experiment = prepare(one_split, folder, only=only, stop=stop)
        hindered += _advance(experiment, graph.order(experiment.networks, only), stage)
    results: dict[str, Any] = {}
    if processes.is_first():
      storage.write_sealed_json(workdir / workdir_lib.CONFIG, full)
      results = page.write(full, workdir, _left_out(full, workdir))
    processes.meet('the report is written')
  if hindered:
    raise experiment_lib.ExperimentError(
      f'not done: {"; ".join(hindered)}. Take a lower optimizer.learning_rate for what diverged '
      'and delete its folder to train it anew; all that does not need it is in '
      f'{workdir / workdir_lib.REPORT}'
    )
  return results


def report_again(workdir: str | pathlib.Path) -> dict[str, Any]:
  """Writes the report of a workdir anew, from its config.json and the results that are there."""
  workdir = defaults.local_path(workdir, 'workdir')
  config = defaults.complete(storage.read_record(workdir / workdir_lib.CONFIG))
  full = defaults.plain(config)
  return page.write(full, workdir, _left_out(full, workdir))


def _left_out(config: Mapping[str, Any], workdir: pathlib.Path) -> dict[str, str]:
  """The networks that were begun under other settings or evaluated on other sets, and which."""
  found: dict[str, str] = {}
  for folder, one_split in split_runs(config, workdir):
    path = folder / workdir_lib.DATA / workdir_lib.FINGERPRINT
    if path.exists():
      described = storage.read_record(path)
      today = _fingerprints(one_split, described)
      changes = _changes(folder, today)
      for name in today.keys() - changes.keys():
        changes[name] = evaluate.other_sets(folder / name, described)
      found |= {name: '; '.join(lines) for name, lines in changes.items() if lines}
  return found


def _fingerprints(
  config: Mapping[str, Any], described: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
  networks, logits = config['networks'], config['logits']
  return {name: graph.fingerprint(networks, name, described, logits) for name in networks}


def _changes(workdir: pathlib.Path, today: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
  """Of each network that was begun under other settings than today's, what differs."""
  paths = {name: workdir / name / workdir_lib.FINGERPRINT for name in today}
  changes = {
    name: fingerprints.differences(storage.read_record(path), today[name])
    for name, path in paths.items()
    if path.exists()
  }
  return {name: lines[:5] for name, lines in changes.items() if lines}


def split_runs(
  config: Mapping[str, Any], workdir: pathlib.Path
) -> Iterator[tuple[pathlib.Path, dict[str, Any]]]:
  """Workdir and config of each run of an experiment: itself, or one for each of its `splits`."""
  if not config['splits']:
    yield workdir, dict(config)
  for split in config['splits']:
    data = dict(config['data'], split_seed=split)
    yield workdir / workdir_lib.split(split), dict(config, data=data, splits=())


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
  order = graph.order(networks, only)

  folder = workdir / workdir_lib.DATA
  dataset = data_lib.load(config['data'], folder / workdir_lib.PREPROCESSING)
  graph.check_examples(networks, dataset)

  described = dataset.fingerprint()
  today = _fingerprints(config, described)
  experiment = experiment_lib.Experiment(
    config, workdir, dataset, today, stop or run_guard.StopRequest()
  )

  lines = [_size_line(experiment, name) for name in order]
  counts = ', '.join(f'{name} {len(split)}' for name, split in dataset.splits.items())
  _log.info('%s: %s; %d classes', dataset.name, counts, len(dataset.class_names))
  for line in lines:
    _log.info('%s', line)
  _check_layouts(experiment, order)

  _refuse_changes(workdir, _changes(workdir, today), order)
  processes.meet('all have read the data and the settings of before')
  if processes.is_first():
    folder.mkdir(parents=True, exist_ok=True)
    storage.write_sealed_json(workdir / workdir_lib.CONFIG, config)
    storage.write_sealed_json(folder / workdir_lib.FINGERPRINT, described)
    storage.write_sealed_json(folder / workdir_lib.NOTES, dataset.notes)
    preprocessing.save(folder / workdir_lib.PREPROCESSING, dataset)
  return experiment


def _advance(experiment: experiment_lib.Experiment, order: Sequence[str], stage: str) -> list[str]:
  """Does what is due of each network; returns which are not done, and why: a seed diverged."""
  hindered: dict[str, str] = {}
  for network in order:
    if _is_done(experiment, network):
      if experiment.config['logits']['keep_members'] and stage in ('all', 'logits'):
        teacher.store_targets(experiment, network)  # it may have been done without
      continue
    if hindrance := _hindrance(experiment, network, hindered):
      hindered[network] = f'{experiment.folder(network)} needs {hindrance}'
      _log.warning('%s is left out: it needs %s', network, hindrance)
      continue
    _begin(experiment, network)
    if stage in ('all', 'logits'):
      teacher.store_targets(experiment, network)
    if stage in ('all', 'train') and not experiment.networks[network]['ensemble']:
      trainings.train_network(experiment, network)
    if stage in ('all', 'evaluate'):
      evaluate.evaluate(experiment, network)
  return list(hindered.values())


def _hindrance(
  experiment: experiment_lib.Experiment, network: str, hindered: Iterable[str]
) -> str | None:
  """What a network needs that is not there: another one that is hindered, or a diverged seed."""
  entry = experiment.networks[network]
  for needed in graph.dependencies(entry):
    if needed in hindered:
      return needed
  members = experiment.members(network) if entry['ensemble'] else []
  for seed in range(0 if entry['ensemble'] else entry['seeds']):
    start = trainings.start_of(experiment, entry, seed)
    members += [*teacher.source_of(experiment, entry, seed).members, *([start] if start else [])]
  for name, seed in members:
    record = trained.record(experiment, name, seed)
    if record['status'] == 'diverged':
      return f'{name}/{seed}, which diverged at step {record["step"]}'
  return None


def _is_done(experiment: experiment_lib.Experiment, network: str) -> bool:
  """Whether a network is finished; refused if who taught or aligned for it has other weights."""
  if not processes.agree(evaluate.is_finished(experiment, network)):
    return False
  entry = experiment.networks[network]
  for seed in range(0 if entry['ensemble'] else entry['seeds']):
    trainings.refuse_other_sources(experiment, network, seed, experiment.folder(network, seed))
  _log.info('%s: finished before', network)
  return True


def _begin(experiment: experiment_lib.Experiment, network: str) -> None:
  """Notes the settings under which a network is begun."""
  if processes.is_first():
    folder = experiment.folder(network)
    folder.mkdir(parents=True, exist_ok=True)
    storage.write_sealed_json(folder / workdir_lib.FINGERPRINT, experiment.fingerprints[network])
  processes.meet(f'{network} is begun')


def _size_line(experiment: experiment_lib.Experiment, name: str) -> str:
  """What is about to be trained; building the nets here finds impossible ones early."""
  entry, dataset = experiment.networks[name], experiment.dataset
  if entry['ensemble']:
    return f'{name:16} ensemble of {", ".join(entry["ensemble"])}'
  module = experiment.module(name)
  size = _checked_size(module, dataset, name)
  for trial in graph.trials(entry):
    model = graph.with_trial(entry, trial)['model']
    if model != entry['model']:
      _checked_size(models.build(model, len(dataset.class_names)), dataset, name)
  weights, biases = size['parameters']['weights'], size['parameters']['biases']
  return (
    f'{name:16} {module.architecture:28} {weights:12,} weights {biases:9,} biases '
    f'{size["hidden_units"]:11,} hidden units  {entry["seeds"]} seeds on {entry["targets"]}'
  )


def _checked_size(module: Any, dataset: dataset_lib.Dataset, name: str) -> Mapping[str, Any]:
  try:
    return size_lib.size(module, dataset.input_shape)
  except ValueError as error:
    raise defaults.ConfigError(f'config.networks.{name}.model: {error}') from error


def _check_layouts(experiment: experiment_lib.Experiment, order: Sequence[str]) -> None:
  """Refuses before the first step what can't be divided over the devices."""
  for name in order:
    entry = experiment.networks[name]
    if entry['model'] is None or entry['fit'] is not None:
      continue
    for size in dict.fromkeys(map(len, trainings.programs(experiment, name))):
      for trial in graph.trials(entry):
        trainings.layout(experiment, name, size, trial)


def _refuse_changes(
  workdir: pathlib.Path, changes: Mapping[str, Sequence[str]], order: Sequence[str]
) -> None:
  """Refuses to go on with networks that were begun under other settings.

  Of those that are not asked for only what they were begun on counts: a workdir has one data set.
  """
  for name, lines in changes.items():
    data = [line for line in lines if line.startswith('data.') and 'data.views' not in line]
    if name in order or data:
      raise experiment_lib.ExperimentError(
        f'{workdir / name} was begun under other settings: '
        f'{"; ".join(lines if name in order else data)}. '
        'Take another --workdir, or delete that folder to train it anew'
      )
    _log.warning('%s: begun under other settings, left out of the report', name)
