"""Holds the fingerprint of a network that was begun before against today's (pipeline/graph.py).

What today's has beyond a saved one was not looked at when that was written: it is accepted.
"""

from collections.abc import Mapping
from typing import Any

from shallow_jax import models
from shallow_jax.runtime import storage
from shallow_jax.settings import keys
from shallow_jax.settings import targets as targets_lib

Fingerprint = Mapping[str, Any]


def differences(saved: Fingerprint, today: Fingerprint) -> list[str]:
  """A line for each dotted key in which a network would be another than it was begun as.

  A saved key that decides no weights counts no longer, and a key that a saved entry lacks has its
  default; of the data only what was saved is compared. Seeds are compared as far as both go: a
  network that grew learns in its first seeds from whom it did. Networks needed are compared by
  name, however they were nested (until 2026-12 each held its own).
  """
  before, now = _parts(saved), _parts(today)
  return [
    line
    for name in sorted(before.keys() | now.keys())
    for line in storage.differences(*_comparable(before.get(name), now.get(name), name))
  ]


def _parts(fingerprint: Fingerprint) -> dict[str, dict[str, Any]]:
  """The parts by name, the network's own as ''; each once."""
  found = {}

  def take(name: str, part: Fingerprint) -> None:
    needs = part.get('needs', {})
    found[name] = {key: value for key, value in part.items() if key not in ('needs', 'seeds')}
    # before 2026-12 their number; None where `targets` names the seed
    found[name].setdefault('members', {key: need.get('seeds') for key, need in needs.items()})
    for key, need in needs.items():
      if key not in found:
        take(key, need)

  take('', fingerprint)
  return found


def _comparable(
  before: dict[str, Any] | None, now: dict[str, Any] | None, name: str
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Both parts, at the place where a reader finds them, without what makes no difference."""
  if before is not None and now is not None:
    is_ensemble = bool(now['entry']['ensemble'])
    pairs = {
      needed: _seeds(
        before['members'].get(needed), now['members'].get(needed), is_ensemble=is_ensemble
      )
      for needed in before['members'].keys() | now['members'].keys()
    }
    if 'data' in before and 'data' in now:
      data = _read(before), _read(now)
      before, now = dict(before, data=data[0]), dict(now, data=_known(data[1], data[0]))
    before = dict(
      before,
      entry=_entry(before['entry']),
      members={key: pair[0] for key, pair in pairs.items() if key in before['members']},
    )
    now = dict(
      now,
      entry=_entry(now['entry']),
      members={key: pair[1] for key, pair in pairs.items() if key in now['members']},
    )
  before, now = before or {}, now or {}
  return (before, now) if not name else ({'needs': {name: before}}, {'needs': {name: now}})


def _seeds(
  before: list[int] | int | None, now: list[int] | None, *, is_ensemble: bool
) -> tuple[list[int], list[int]]:
  """Which seeds were and are learned from: all by an ensemble, else as far as both go."""
  now = now or []
  if isinstance(before, int):
    before = [*range(before)] if is_ensemble else [i % before for i in range(len(now))]
  before = before or []
  both = None if is_ensemble else min(len(before), len(now))
  return before[:both], now[:both]


def _entry(entry: Mapping[str, Any]) -> dict[str, Any]:
  """What decides weights, and the defaults of what was no key yet."""
  classes = keys.NETWORK.classes
  found = {
    **{key: value for key, value in keys.NETWORK.items() if classes[key] == 'weights'},
    **{key: value for key, value in entry.items() if classes.get(key, 'weights') == 'weights'},
  }
  for key in ('loss', 'optimizer'):
    found[key] = {**keys.NETWORK[key], **found[key]}
  if found['model'] is not None:
    found['model'] = {**models.arguments(found['model']['name']), **found['model']}
  return _without_searched(found, found['search'])


def _without_searched(settings: Mapping[str, Any], search: Mapping[str, Any]) -> dict[str, Any]:
  """Settings without the values that each trial of a search puts its own in the place of."""
  return {
    key: _without_searched(value, search[key]) if isinstance(search.get(key), Mapping) else value
    for key, value in settings.items()
    if key not in search or isinstance(search[key], Mapping)
  }


def _read(part: Fingerprint) -> dict[str, Any]:
  """The data of a part, without the labels of examples that only logits were learned of.

  Until 2026-12 those of sets made of train were hidden.
  """
  entry, data = part['entry'], part['data']
  weights = entry['loss']['label_weight'], *entry['search'].get('loss', {}).get('label_weight', ())
  targets = entry['targets'], *entry['search'].get('targets', ())
  if any(map(targets_lib.are_labels, targets)) or any(weights):
    return data
  splits = {
    name: {key: value for key, value in split.items() if key != 'labels_sha256'}
    if name not in ('train', 'validation', 'test')
    else split
    for name, split in data['splits'].items()
  }
  return {**data, 'splits': splits}


def _known(now: Any, saved: Any) -> Any:
  """`now` without the keys that `saved` lacks, at any depth."""
  if not isinstance(now, Mapping) or not isinstance(saved, Mapping):
    return now
  return {key: _known(value, saved[key]) for key, value in now.items() if key in saved}
