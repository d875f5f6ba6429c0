"""Completes a config by the defaults of keys.py, and refuses what can't be run.

A config file calls `experiment` with what differs; `complete` does the same for a plain dict. Both
refuse a name that there is not, with the nearest one that is.
"""

from collections.abc import Mapping, Sequence
import re
from typing import Any

import ml_collections

from shallow_jax import models
from shallow_jax.runtime import parallel
from shallow_jax.settings import keys
from shallow_jax.settings import ranges
from shallow_jax.settings import sweep_settings
from shallow_jax.settings import values as values_lib
from shallow_jax.training import losses
from shallow_jax.training import optimizer

# Settings of a loss that others would leave unused.
ONLY_OF = {
  'temperature': ('kl',),
  'normalize': losses.NORMALISED,
  'label_smoothing': ('cross_entropy',),
}

# What all trials of a search have in common: who is compared, and by what.
NOT_SEARCHED = (
  *('seeds', 'seeds_together', 'select', 'label', 'paper', 'search', 'ensemble'),
  'checkpoint_every_steps',
)

ConfigError = values_lib.ConfigError
choice = values_lib.choice
local_path = values_lib.local_path


def experiment(
  *, data: Mapping[str, Any], networks: Mapping[str, Any], **changes: Any
) -> ml_collections.ConfigDict:
  """A complete experiment as a ConfigDict, ready for overrides from the command line."""
  return complete(dict(data=data, networks=networks, **changes))


def complete(config: Mapping[str, Any] | ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """Fills in every default; an unknown key or a wrong type raises ConfigError."""
  config = config.to_dict() if isinstance(config, ml_collections.ConfigDict) else config
  full = values_lib.merge(keys.EXPERIMENT, config, 'config', free=('data', 'networks', 'report'))
  full['data'] = _data(full['data'])
  if full['splits'] and 'split_seed' not in full['data']:
    raise ConfigError(
      f'config.splits: data {full["data"]["name"]!r} has no split_seed; expected ()'
    )
  full['networks'] = {
    _network_name(name): _network(entry, full['data'].get('augment', {}), f'config.networks.{name}')
    for name, entry in values_lib.mapping(full['networks'], 'config.networks').items()
  }
  choice(full['parallel']['compile'], parallel.COMPILE, 'config.parallel.compile')
  choice(full['logits']['dtype'], ('float32', 'float16'), 'config.logits.dtype')
  for part, values in full['evaluation']['decoding'].items():
    if not values or not all(type(value) in (int, float) for value in values):
      where = f'config.evaluation.decoding.{part}'
      raise ConfigError(f'{where}: expected one number or several, not {values!r}')
  for part in ('data', 'logits', 'parallel', 'evaluation'):
    ranges.check(full[part], f'config.{part}')
  ranges.check({'splits': full['splits']}, 'config')
  full['order'] = full['order'] or tuple(full['networks'])
  if sorted(full['order']) != sorted(full['networks']):
    names = ', '.join(full['networks'])
    raise ConfigError(f'config.order: expected every network once, {names}')
  full['report'] = _report(full['report'], full['networks'])
  return ml_collections.ConfigDict(full, type_safe=True, convert_dict=True)


def plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """A complete config as plain dicts, its networks in `order` (a ConfigDict sorts its keys).

  Here a rate of 0 becomes the model's own, after every override of its width; where a search tries
  models or rates, graph.with_trial does it trial by trial.
  """
  found = config.to_dict()
  found['networks'] = {name: found['networks'][name] for name in found['order']}
  for entry in found['networks'].values():
    searched = 'model' in entry['search']
    if entry['model'] is not None and not entry['optimizer']['learning_rate'] and not searched:
      entry['optimizer']['learning_rate'] = optimizer.default_rate(entry['model'])
  return found


def variants(variant: str, known: Sequence[str]) -> list[str]:
  """The variants that a config's `:a,b` names."""
  chosen = [name for name in variant.split(',') if name]
  for name in chosen:
    choice(name, known, 'variant')
  return chosen


def _data(config: Mapping[str, Any]) -> dict[str, Any]:
  name = values_lib.mapping(config, 'config.data').get('name', '')
  choice(name, list(keys.DATA), 'config.data.name')
  defaults = dict(keys.DATA[name], name=name, preprocessing=keys.PREPROCESSING, sets={})
  full = values_lib.merge(defaults, config, 'config.data', free=('sets',))
  for key, value in full.items():
    if isinstance(value, str) and value:
      values_lib.local_path(value, f'config.data.{key}')
  full['sets'] = {
    key: _derived_set(entry, f'config.data.sets.{key}')
    for key, entry in values_lib.mapping(full['sets'], 'config.data.sets').items()
  }
  return full


def _derived_set(entry: Mapping[str, Any], where: str) -> dict[str, Any]:
  full = values_lib.merge(keys.DERIVED_SET, entry, where, free=('munge',))
  if full['munge'] is not None:
    full['munge'] = values_lib.merge(keys.MUNGE, full['munge'], f'{where}.munge')
  return full


def _network(entry: Mapping[str, Any], augment: Mapping[str, Any], where: str) -> dict[str, Any]:
  full = values_lib.merge(
    keys.NETWORK, entry, where, free=('model', 'augment', 'fit', 'search', 'paper')
  )
  if (full['model'] is None) == (not full['ensemble']):
    raise ConfigError(f'{where}: expected exactly one of model and ensemble')
  if full['model'] is not None:
    name = values_lib.mapping(full['model'], f'{where}.model').get('name', '')
    choice(name, list(models.MODELS), f'{where}.model.name')
    arguments = dict(models.arguments(name), name=name)
    full['model'] = values_lib.merge(arguments, full['model'], f'{where}.model')
  merged = values_lib.merge(augment, full['augment'], f'{where}.augment')
  full['augment'] = {key: merged[key] for key in full['augment']}
  full['fit'] = _fit(full, f'{where}.fit')
  if full['paper'] is not None:
    full['paper'] = values_lib.merge(keys.PAPER, full['paper'], f'{where}.paper')
  full['search'] = _search(full['search'], full, f'{where}.search')
  _check_searched(full, f'{where}.search')
  check_values(full, where)
  return full


def check_values(entry: Mapping[str, Any], where: str) -> None:
  """Refuses names that there are not and numbers out of range, in an entry of the right types."""
  choice(entry['loss']['name'], losses.ON_LABELS + losses.ON_LOGITS, f'{where}.loss.name')
  choice(entry['optimizer']['schedule'], optimizer.SCHEDULES, f'{where}.optimizer.schedule')
  choice(entry['compute_dtype'], ('float32', 'bfloat16'), f'{where}.compute_dtype')
  choice(entry['select'], ('error', 'loss', 'last'), f'{where}.select')
  if entry['seeds_together'] and entry['stop_after_evaluations']:
    raise ConfigError(
      f'{where}.stop_after_evaluations: seeds that are trained together stop together; expected 0'
    )
  ranges.check(entry, where)
  _check_steps(entry, where)
  _check_loss(entry['loss'], f'{where}.loss')
  if entry['fit'] is not None:
    _check_fit(entry, where)


def _network_name(name: str) -> str:
  if not isinstance(name, str) or name == 'labels' or not re.fullmatch(r'[\w-]+', name):
    raise ConfigError(
      f'config.networks: {name!r} is no name for a network; expected letters, digits, - and _, '
      "and not 'labels'"
    )
  return name


def _report(report: Mapping[str, Any], networks: Mapping[str, Any]) -> dict[str, Any]:
  full = values_lib.merge(keys.EXPERIMENT['report'], report, 'config.report', free=('sweeps',))
  for name in full['attribution']:
    choice(name, list(networks), 'config.report.attribution')
  for role in ('baseline', 'headline', 'teacher'):
    if full[role]:
      choice(full[role], list(networks), f'config.report.{role}')
  full['sweeps'] = sweep_settings.complete(full['sweeps'], networks)
  return full


def _fit(entry: Mapping[str, Any], where: str) -> dict[str, Any] | None:
  if entry['model'] is not None and entry['model']['name'] == 'single_layer':
    return values_lib.merge(keys.FIT, {} if entry['fit'] is None else entry['fit'], where)
  if entry['fit'] is not None:
    raise ConfigError(f'{where}: only a single_layer model has it, the others learn by gradient')
  return None


def _check_fit(entry: Mapping[str, Any], where: str) -> None:
  for key in ('targets', 'loss', 'init', 'views'):
    if entry[key] != keys.NETWORK[key]:
      raise ConfigError(
        f'{where}.{key}: a single_layer model is fitted to labels by k-means and an SVM; expected '
        f'{keys.NETWORK[key]!r}, not {entry[key]!r}'
      )
  patches, features = entry['fit']['num_patches'], entry['model']['features']
  if patches < features:
    raise ConfigError(f'{where}.fit.num_patches: {patches} are less than the {features} features')


def _search(search: Any, entry: Mapping[str, Any], where: str) -> dict[str, Any]:
  found: dict[str, Any] = {}
  for key, value in values_lib.mapping(search, where).items():
    here = f'{where}.{key}'
    if key not in entry:
      raise ConfigError(f'{where}: unknown key {key!r}{values_lib.suggestion(key, entry)}')
    if isinstance(entry[key], Mapping):
      found[key] = _search(value, entry[key], here)
    elif not isinstance(value, (tuple, list)) or not value:
      raise ConfigError(f'{here}: expected a tuple of values to try, not {value!r}')
    else:
      found[key] = tuple(values_lib.typed(entry[key], each, here) for each in value)
  return found


def _check_loss(loss: Mapping[str, Any], where: str) -> None:
  for key, names in ONLY_OF.items():
    if loss[key] != keys.NETWORK['loss'][key] and loss['name'] not in names:
      raise ConfigError(
        f'{where}.{key}: {loss[key]} does nothing in {loss["name"]!r}, it is of '
        f'{", ".join(names)}; expected {keys.NETWORK["loss"][key]}'
      )


def _check_steps(entry: Mapping[str, Any], where: str) -> None:
  for key in ('num_steps', 'evaluate_every_steps', 'checkpoint_every_steps'):
    if entry[key] % entry['steps_per_call']:
      steps = entry['steps_per_call']
      raise ConfigError(f'{where}.{key}: {entry[key]} is not a multiple of steps_per_call, {steps}')


def _check_searched(entry: Mapping[str, Any], where: str) -> None:
  """Refuses trials that can't be compared, or would not be trials."""
  search = entry['search']
  for key in NOT_SEARCHED:
    if key in search:
      raise ConfigError(f'{where}.{key}: it is not searched over, all trials have one')
  if search and entry['ensemble']:
    raise ConfigError(f'{where}: an ensemble is not trained; expected {{}}')
  scaled = entry['loss']['name'] in losses.NORMALISED and entry['loss']['normalize']
  for key in ('loss', 'targets', *(('examples', 'views') if scaled else ())):
    if entry['select'] == 'loss' and search.get(key):
      raise ConfigError(
        f"{where}.{key}: select='loss' would compare losses of different scales; expected "
        "select='error'"
      )
