"""Networks' results compared: the headline with its twins, and what each change takes off."""

from collections.abc import Mapping, Sequence
import itertools
import math
import statistics
from typing import Any

from shallow_jax.report import uncertainty
from shallow_jax.settings import targets as targets_lib

LEFT = 'left to the teacher'  # the cause of the step that no student takes

Entry = Mapping[str, Any]  # of a network in results.json
Entries = Mapping[str, Entry]
Roles = Mapping[str, str]

_LOSS_FAMILY = {
  **dict.fromkeys(('label_l2', 'hard_l2', 'logit_l2'), 'squared'),
  **dict.fromkeys(('cross_entropy', 'hard_cross_entropy'), 'cross-entropy'),
}


def metric(entry: Entry) -> str:
  """Which of a network's metrics is compared: the strict phone error rate where there is one."""
  return 'error' if entry['metrics']['test']['per'] is None else 'per'


def test_error(entry: Entry, split: str = 'test') -> Mapping[str, Any]:
  """A network's mean, std and values in per cent of the metric that is compared."""
  return entry['metrics'][split][metric(entry)]


def values(entry: Entry) -> list[float]:
  """The test errors of the seeds that did not diverge."""
  return [value for value in test_error(entry)['values'] if value is not None]


def finished(networks: Entries) -> dict[str, Entry]:
  """The networks of which a seed did not diverge."""
  return {name: entry for name, entry in networks.items() if values(entry)}


def error_name(networks: Entries) -> str:
  """What the metric that is compared is called."""
  is_speech = any(metric(entry) == 'per' for entry in networks.values())
  return 'phone error rate' if is_speech else 'error'


def difference(first: Entry, second: Entry) -> dict[str, Any] | None:
  """Mean test error of `first` minus that of `second`, in points, with error and 95 % interval.

  Over seeds: s² / n of both added (Welch). Over several splits: from the differences of the means
  by split, as the splits' test sets are the same for both. None if they share no split.
  """
  a, b = _values(first), _values(second)
  common = [split for split in a if a[split] and b.get(split)]
  if not common:
    return None
  by_split = [statistics.fmean(a[split]) - statistics.fmean(b[split]) for split in common]
  if len(common) > 1:
    error, freedom = statistics.stdev(by_split) / math.sqrt(len(common)), len(common) - 1.0
  else:
    error, freedom = uncertainty.welch(a[common[0]], b[common[0]])
  points = statistics.fmean(by_split)
  return {
    'difference': points,
    'standard_error': error,
    'in_standard_errors': points / error if error else None,
    'degrees_of_freedom': freedom,
    'interval': uncertainty.t_interval(points, error, freedom),
    'paired_splits': len(common) if len(common) > 1 else None,
  }


def _values(entry: Entry) -> dict[str, list[float]]:
  """Test errors by split, without those of diverged seeds."""
  error = test_error(entry)
  by_split = error.get('values_by_split', {'': error['values']})
  return {
    split: [value for value in values if value is not None] for split, values in by_split.items()
  }


def roles_of(networks: Entries, settings: Mapping[str, Any]) -> dict[str, str]:
  """Who is headline, teacher, baseline and, by validation, best on labels; '' for nobody."""
  named = {
    role: settings[role] if settings[role] in networks else ''
    for role in ('headline', 'teacher', 'baseline')
  }
  return named | {'best_on_labels': _best_on_labels(networks, named['headline'])}


def _best_on_labels(networks: Entries, headline: str) -> str:
  if not headline:
    return ''
  validation = {
    name: test_error(networks[name], 'validation')['mean']
    for name in _alike(networks, headline)
    if targets_lib.are_labels(networks[name]['targets'])
  }
  known = {name: mean for name, mean in validation.items() if mean is not None}
  return min(known, key=known.__getitem__) if known else ''


def _alike(networks: Entries, headline: str) -> list[str]:
  """The other networks of the headline's architecture."""
  architecture = networks[headline]['architecture']
  return [
    name
    for name, entry in networks.items()
    if name != headline and entry['architecture'] == architecture
  ]


def with_others(networks: Entries, roles: Roles) -> dict[str, dict[str, Any]]:
  """The headline against each other network of its architecture, and against the baseline."""
  headline, baseline = roles['headline'], roles['baseline']
  if not headline:
    return {}
  others = dict.fromkeys(_alike(networks, headline) + ([baseline] if baseline else []))
  compared = {name: _compared(networks, roles, name) for name in others}
  return {name: found for name, found in compared.items() if found is not None}


def _compared(networks: Entries, roles: Roles, name: str) -> dict[str, Any] | None:
  entry, headline = networks[name], networks[roles['headline']]
  found = difference(entry, headline)
  if found is None:
    return None
  mean, reached = test_error(entry)['mean'], test_error(headline)['mean']
  return {
    'headline': roles['headline'],
    'role': 'labels' if targets_lib.are_labels(entry['targets']) else 'control',
    'is_best_on_labels': name == roles['best_on_labels'],
    'ratio': reached / mean if mean else None,
    **found,
    'gap_closed': _gap_closed(networks, roles, name, roles['headline']),
    'own_gap_closed': _gap_closed(networks, roles, roles['best_on_labels'], name),
  }


def _gap_closed(networks: Entries, roles: Roles, start: str, name: str) -> float | None:
  """The share of the way from `start`'s test error to the teacher's that `name` comes."""
  if not start or not roles['teacher']:
    return None
  first, reached, goal = (
    test_error(networks[each])['mean'] for each in (start, name, roles['teacher'])
  )
  if None in (first, reached, goal) or first <= goal:
    return None
  return (first - reached) / (first - goal)


def attribution(
  settings: Mapping[str, Mapping[str, Any]], networks: Entries, chain: Sequence[str]
) -> list[dict[str, Any]]:
  """What each step of the chain takes off the test error; [] while one of it has no result."""
  if any(name not in networks for name in chain):
    return []
  pairs = list(itertools.pairwise(chain))
  found = [
    step for before, after in pairs if (step := difference(networks[before], networks[after]))
  ]
  if len(found) < len(pairs):
    return []
  gap = sum(step['difference'] for step in found)
  return [
    {
      'from': before,
      'to': after,
      'cause': cause(settings[before], settings[after]),
      'change': step['difference'],
      'standard_error': step['standard_error'],
      'share': step['difference'] / gap if gap > 0 else None,
    }
    for (before, after), step in zip(pairs, found, strict=True)
  ]


def cause(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
  """What differs between two networks' entries of a config, in words."""
  if after['ensemble'] or before['ensemble'] or before['model']['name'] != after['model']['name']:
    return LEFT
  own, new = before['loss'], after['loss']
  is_hard = [loss['name'].startswith('hard') for loss in (own, new)]
  differs = {
    'the net': before['model'] != after['model'],
    'the loss': _family(own) != _family(new),
    'the targets': before['targets'] != after['targets'] or is_hard[0] != is_hard[1],
    'the unlabelled data': set(before['examples']) != set(after['examples']),
    'more steps': before['num_steps'] < after['num_steps'],
    'fewer steps': before['num_steps'] > after['num_steps'],
  }
  return ' and '.join(name for name, is_so in differs.items() if is_so) or 'other settings'


def _family(loss: Mapping[str, Any]) -> tuple[Any, ...]:
  name = loss['name']
  return _LOSS_FAMILY.get(name, name), loss['label_smoothing'], loss['label_weight']
