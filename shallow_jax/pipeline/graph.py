"""The graph of networks: who needs whom, in which order, and what their weights depend on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from shallow_jax import models
from shallow_jax.data import dataset as dataset_lib
from shallow_jax.data import preprocessing
from shallow_jax.data import views as views_lib
from shallow_jax.settings import defaults
from shallow_jax.settings import keys
from shallow_jax.settings import targets as targets_lib
from shallow_jax.training import losses
from shallow_jax.training import optimizer

Networks = Mapping[str, Mapping[str, Any]]


class LogitSet(NamedTuple):
  """A set of the data in a number of views, over which a network's logits are stored.

  `augment` has the items in which the views are made otherwise than data.augment says.
  """

  name: str
  views: int
  augment: tuple[tuple[str, Any], ...] = ()


def aligner(networks: Networks, name: str) -> str | None:
  """The network that realigned the labels that a network, or who taught it, learned from.

  None where they are the corpus's own. Of an ensemble they are its first network's.
  """
  entry = networks[name]
  if entry['ensemble']:
    return aligner(networks, entry['ensemble'][0])
  teacher = targets_lib.target(entry)
  return (
    targets_lib.aligner(entry['targets']) if teacher is None else aligner(networks, teacher.network)
  )


def estimates_posteriors(networks: Networks, name: str) -> bool:
  """Whether a network's outputs are posteriors by what it was fitted to, rather than logits."""
  members = networks[name]['ensemble'] or [name]
  return all(networks[member]['loss']['name'] in losses.ON_ONE_HOT for member in members)


def dependencies(entry: Mapping[str, Any]) -> list[str]:
  """The networks that must be finished before this one, or before one of its trials."""
  needed = [*entry['ensemble']]
  for targets in tried(entry, 'targets'):
    teacher = targets_lib.target({'targets': targets})
    needed += [teacher.network if teacher else targets_lib.aligner(targets) or '']
  return [name for name in (*needed, *tried(entry, 'init')) if name]


def tried(entry: Mapping[str, Any], key: str) -> list[Any]:
  """The values of a key of an entry in its trials: its own without a search over it."""
  return list(dict.fromkeys(entry['search'].get(key, [entry[key]])))


def order(networks: Networks, only: Sequence[str] = ()) -> list[str]:
  """The networks named by `only` (all, if empty) and what they need, dependencies first.

  Raises defaults.ConfigError for an unknown network and for a cycle, which it spells out.
  """
  done: list[str] = []

  def visit(name: str, path: list[str]) -> None:
    if name in path:
      cycle = ' -> '.join([*path[path.index(name) :], name])
      raise defaults.ConfigError(f'config.networks: a cycle, {cycle}')
    if name in done:
      return
    for needed in dependencies(networks[name]):
      visit(needed, [*path, name])
    done.append(name)

  for name in only:
    defaults.choice(name, list(networks), '--only')
  for name in only or networks:
    visit(name, [])
  return done


def check_names(networks: Networks) -> None:
  """Refuses a graph that can't run: unknown names, losses without targets, cycles."""
  for name, entry in networks.items():
    where = f'config.networks.{name}'
    for trial in trials(entry):
      changed, here = with_trial(entry, trial), f'{where}.search' if trial else where
      defaults.check_values(changed, here)
      _check_targets(networks, changed, here)
    for member in entry['ensemble']:
      defaults.choice(member, list(networks), f'{where}.ensemble')
      if networks[member]['ensemble']:
        raise defaults.ConfigError(f'{where}.ensemble: {member!r} is an ensemble itself')
  order(networks)


def check_examples(networks: Networks, dataset: dataset_lib.Dataset) -> None:
  """Refuses networks that can't be trained on the data: unknown sets, no labels, too few."""
  for name, entry in networks.items():
    if entry['model'] is not None:
      for trial in trials(entry):
        here = f'config.networks.{name}{".search" if trial else ""}'
        _check_examples(with_trial(entry, trial), dataset, here)


def student_sets(entry: Mapping[str, Any]) -> list[LogitSet]:
  """The sets that a student learns from, and the one it is selected by."""
  augment = tuple(entry['augment'].items()) if entry['views'] > 1 else ()
  learned = [LogitSet(name, entry['views'], augment) for name in entry['examples']]
  return [*learned, LogitSet('validation', 1)]


def fingerprint(
  networks: Networks, name: str, dataset: Mapping[str, Any], logits: Mapping[str, Any]
) -> dict[str, Any]:
  """All that a network's weights depend on, for JSON (held to another by fingerprints.differences).

  Its own part: the keys of its entry that decide weights, the data that it sees, and of the
  networks that it depends on the seeds. Beside it under `needs`, by name, the parts of all networks
  that it depends on, directly or through others. `logits` is the config of the stores that students
  read.
  """
  ancestors = order(networks, [name])[:-1]
  return _part(networks, name, dataset, logits) | {
    'needs': {needed: _part(networks, needed, dataset, logits) for needed in ancestors}
  }


def _part(
  networks: Networks, name: str, dataset: Mapping[str, Any], logits: Mapping[str, Any]
) -> dict[str, Any]:
  entry = networks[name]
  classes = keys.NETWORK.classes
  found: dict[str, Any] = {
    'entry': {
      key: value
      for key, value in entry.items()
      if classes[key] == 'weights' and key != 'augment'  # which is in the data's views
    }
  }
  if entry['model'] is not None:
    sets = dict.fromkeys(name for names in tried(entry, 'examples') for name in names)
    found['data'] = {
      'name': dataset['name'],
      'class_names': dataset['class_names'],
      'preprocessing': dataset['preprocessing'],
      'splits': {key: dataset['splits'][key] for key in [*sets, 'validation']},
      'views': {**dataset['views'], **entry['augment']} if max(tried(entry, 'views')) > 1 else None,
    }
  if any(targets_lib.target({'targets': each}) for each in tried(entry, 'targets')):
    found['logits_dtype'] = logits['dtype']
  if (entry['model'] or {}).get('local'):
    # until 2026-12 `lc` layers started with smaller weights, and weight decay took their biases too
    found['locally_connected'] = "He's initialisation by a filter's inputs"
  found['members'] = {
    needed: _members(networks, entry, needed) for needed in dict.fromkeys(dependencies(entry))
  }
  return found


def _members(networks: Networks, entry: Mapping[str, Any], needed: str) -> list[int]:
  """Which seeds of `needed` an entry depends on.

  All that an ensemble averages; of what a network learns or starts from one for each of its own
  seeds; none where it is an ensemble, or where `targets` itself says which seed it is.
  """
  count = networks[needed]['seeds']
  if entry['ensemble']:
    return [*range(count)]
  in_turn = needed in (*tried(entry, 'init'), *tried(entry, 'targets'))
  if not in_turn or networks[needed]['ensemble']:
    return []
  return [seed % count for seed in range(entry['seeds'])]


def trials(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
  """The settings that `search` asks for, as flat dicts of dotted keys; [{}] without a search."""
  combinations: list[dict[str, Any]] = [{}]
  for key, values in _leaves(entry['search'], ''):
    combinations = [{**chosen, key: value} for chosen in combinations for value in values]
  return combinations


def with_trial(entry: Mapping[str, Any], trial: Mapping[str, Any]) -> dict[str, Any]:
  """The entry with a trial's settings in place; a rate of 0 becomes its model's own."""
  changed = _with_values(entry, trial)
  if trial and not changed['optimizer']['learning_rate']:
    rate = optimizer.default_rate(changed['model'])
    changed['optimizer'] = {**changed['optimizer'], 'learning_rate': rate}
  return changed


def _with_values(settings: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
  changed = dict(settings)
  for key, value in values.items():
    outer, _, inner = key.partition('.')
    changed[outer] = _with_values(changed[outer], {inner: value}) if inner else value
  return changed


def _leaves(search: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Sequence[Any]]]:
  for key, value in search.items():
    if isinstance(value, Mapping):
      yield from _leaves(value, f'{prefix}{key}.')
    else:
      yield prefix + key, value


def _check_targets(networks: Networks, entry: Mapping[str, Any], where: str) -> None:
  name, slash, seed = entry['targets'].partition('/')
  on_labels, who_aligns = targets_lib.are_labels(entry['targets']), targets_lib.aligner(name)
  if who_aligns is not None:
    defaults.choice(
      entry['targets'], [f'{targets_lib.ALIGNMENT}{each}' for each in networks], f'{where}.targets'
    )
  elif not on_labels:
    defaults.choice(name, [*networks] if slash else ['labels', *networks], f'{where}.targets')
  if slash:
    _check_seed(networks[name], name, seed, f'{where}.targets: {entry["targets"]!r}')
  if entry['init']:
    defaults.choice(entry['init'], list(networks), f'{where}.init')
    if networks[entry['init']]['model'] != entry['model']:
      raise defaults.ConfigError(f'{where}.init: {entry["init"]!r} has another model')
  if entry['seeds_together']:
    _check_shared_targets(networks, entry, where)
  on_logits = entry['loss']['name'] in losses.ON_LOGITS
  if entry['model'] is not None and on_logits == on_labels:
    raise defaults.ConfigError(
      f'{where}: loss {entry["loss"]["name"]!r} does not fit targets {entry["targets"]!r}'
    )


def _check_shared_targets(networks: Networks, entry: Mapping[str, Any], where: str) -> None:
  teacher = targets_lib.target(entry)
  if teacher is None or teacher.seed is not None or networks[teacher.network]['ensemble']:
    return
  if networks[teacher.network]['seeds'] > 1:
    raise defaults.ConfigError(
      f'{where}.seeds_together: seeds of {teacher.network} teach one seed each; expected an '
      f'ensemble or one of its seeds as targets, such as {teacher.network}/0'
    )


def _check_seed(teacher: Mapping[str, Any], name: str, seed: str, what: str) -> None:
  if teacher['ensemble']:
    raise defaults.ConfigError(f'{what}, but {name} is an ensemble and has no seeds')
  if not (seed.isascii() and seed.isdigit()):
    raise defaults.ConfigError(f"{what}; expected {name!r} or one of its seeds, as in '{name}/0'")
  if int(seed) >= teacher['seeds']:
    raise defaults.ConfigError(f'{what}, but {name} has {teacher["seeds"]} seeds')


def _check_examples(entry: Mapping[str, Any], dataset: dataset_lib.Dataset, where: str) -> None:
  count = 0
  needs_labels = targets_lib.target(entry) is None
  if targets_lib.aligner(entry['targets']) is not None:
    _check_alignment(entry, dataset, where)
  for name in entry['examples']:
    defaults.choice(name, list(dataset.splits), f'{where}.examples')
    split = dataset.splits[name]
    count += len(split)
    if name in ('validation', 'test'):
      raise defaults.ConfigError(f'{where}.examples: {name!r} is never trained on')
    if needs_labels and (split.arrays['label'] < 0).any():
      raise defaults.ConfigError(f'{where}.examples: {name!r} has examples without a label')
  labels = np.concatenate([dataset.splits[name].arrays['label'] for name in entry['examples']])
  if needs_labels and len(np.unique(labels)) == 1:
    raise defaults.ConfigError(
      f'{where}.examples: all are of one class; expected at least two to tell apart'
    )
  if entry['loss']['label_weight'] and not needs_labels and labels.max() < 0:
    raise defaults.ConfigError(
      f'{where}.loss.label_weight: no example of {", ".join(entry["examples"])} has a label; '
      'expected 0'
    )
  _check_views(entry, dataset, where)
  if entry['batch_size'] < models.smallest_batch(entry['model']):
    raise defaults.ConfigError(
      f'{where}.batch_size: {entry["batch_size"]}, expected 2 or more: batch_norm makes one '
      'example like any other'
    )
  if entry['batch_size'] > count:
    raise defaults.ConfigError(
      f'{where}.batch_size: {entry["batch_size"]} is larger than the data, {count} examples'
    )


def _check_views(entry: Mapping[str, Any], dataset: dataset_lib.Dataset, where: str) -> None:
  """Refuses views that would all be equal, settings without views, and labels of mixed ones."""
  views = preprocessing.augmented(dataset, entry['augment'], f'{where}.augment').augmentation
  if entry['augment'] and entry['views'] == 1:
    raise defaults.ConfigError(f'{where}.augment: views is 1, each example as it is; expected {{}}')
  if entry['views'] == 1:
    return
  on_labels = targets_lib.target(entry) is None  # where nothing is mixed
  if views is None or views == views_lib.Augmentation(
    seed=views.seed, mixup_alpha=views.mixup_alpha if on_labels else 0.0
  ):
    raise defaults.ConfigError(
      f'{where}.views: nothing is augmented, {entry["views"]} views would be equal; expected 1'
    )
  if views.mixup_alpha and not on_labels and entry['loss']['label_weight']:
    raise defaults.ConfigError(
      f'{where}.loss.label_weight: a view that mixes two examples has no label; expected 0, or '
      'augment.mixup_alpha=0'
    )


def _check_alignment(entry: Mapping[str, Any], dataset: dataset_lib.Dataset, where: str) -> None:
  if dataset.recognition is None:
    raise defaults.ConfigError(
      f'{where}.targets: {entry["targets"]!r} needs speech; {dataset.name} has no phones to align'
    )
  if tuple(entry['examples']) != ('train',):
    raise defaults.ConfigError(
      f"{where}.examples: expected ('train',), which is what {entry['targets']!r} has labels of"
    )
