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


def roles_of(networks: Entries, report: Mapping[str, Any], settings: Entries) -> dict[str, str]:
  """Who is headline, teacher, baseline and, by validation, best on labels; '' for nobody.

  Args:
    report: config.report.
    settings: the networks' entries of the config.
  """
  named = {
    role: report[role] if report[role] in networks else ''
    for role in ('headline', 'teacher', 'baseline')
  }
  return named | {'best_on_labels': _best_on_labels(networks, named['headline'], settings)}


def _best_on_labels(networks: Entries, headline: str, settings: Entries) -> str:
  if not headline:
    return ''
  found = {
    name: _unselected_validation(networks[name])
    for name in _alike(networks, headline, settings)
    if targets_lib.are_labels(networks[name]['targets'])
  }
  known = {name: statistics.fmean(values) for name, values in found.items() if values}
  return min(known, key=known.__getitem__) if known else ''


def _unselected_validation(entry: Entry) -> list[float]:
  """The seeds' validation errors, if there are others without that of a search's winner, seed 0.

  It was chosen for just this figure, which is therefore too good, by 0.4 points on digits.
  """
  error = test_error(entry, 'validation')
  by_split = error.get('values_by_split', {'': error['values']})
  searched = entry.get('search_by_split', {'': entry['search']})
  rest = [values[1:] if searched.get(split) else values for split, values in by_split.items()]
  known = [value for values in rest for value in values if value is not None]
  return known or [value for value in error['values'] if value is not None]


def _alike(networks: Entries, headline: str, settings: Entries) -> list[str]:
  """The other networks with the headline's model, whatever their dropout."""
  model = _model(settings[headline])
  return [name for name in networks if name != headline and _model(settings[name]) == model]


def _model(entry: Entry) -> dict[str, Any] | None:
  if entry['model'] is None:
    return None
  return {key: value for key, value in entry['model'].items() if 'dropout' not in key}


def with_others(networks: Entries, roles: Roles, settings: Entries) -> dict[str, dict[str, Any]]:
  """The headline against each other network of its model, and against the baseline."""
  headline, baseline = roles['headline'], roles['baseline']
  if not headline:
    return {}
  alike = _alike(networks, headline, settings)
  others = dict.fromkeys(alike + ([baseline] if baseline else []))
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


def cause(before: Entry, after: Entry) -> str:
  """What differs between two networks' entries of a config, in words: all of it."""
  if after['ensemble'] or before['ensemble'] or before['model']['name'] != after['model']['name']:
    return LEFT
  own, new = before['loss'], after['loss']
  is_hard = [loss['name'].startswith('hard') for loss in (own, new)]
  sets = {*before['examples']} ^ {*after['examples']}
  steps = after['num_steps'] - before['num_steps']
  differs = {
    'the net': before['model'] != after['model'],
    'the loss': _family(own) != _family(new),
    'the targets': before['targets'] != after['targets'] or is_hard[0] != is_hard[1],
    'the unlabelled data': sets == {'unlabelled'},
    'the examples': bool(sets - {'unlabelled'}),
    'more steps': steps > 0,
    'fewer steps': steps < 0,
  }
  others = dict.fromkeys(
    _NAMED_SETTINGS.get(key, key) for key in _different(before, after) if key not in _TOLD
  )
  return ' and '.join([*(name for name, is_so in differs.items() if is_so), *others]) or 'nothing'


def _family(loss: Entry) -> tuple[Any, ...]:
  """What a loss is beside its targets: it has only those settings that do something in it."""
  name = loss['name']
  family = _LOSS_FAMILY.get(name, name)
  own = {'kl': ('temperature',), 'squared': ('normalize',)}.get(family, ())
  return family, *(loss[key] for key in ('label_smoothing', 'label_weight', *own))


# Keys of an entry that `cause` speaks of by itself, or that change nothing in a trained network.
_TOLD = (
  *('model', 'ensemble', 'loss', 'targets', 'examples', 'num_steps'),
  *('label', 'paper', 'seeds', 'seeds_together', 'steps_per_call', 'checkpoint_every_steps'),
)
_NAMED_SETTINGS = {
  'search': 'the rates tried',
  'optimizer.learning_rate': 'the learning rate',
  'batch_size': 'the batch size',
  'views': 'the views',
  'augment': 'the views',
  'init': 'the start',
}


def _different(before: Entry, after: Entry) -> list[str]:
  """The keys in which two entries differ, the optimizer's dotted."""
  keys = [key for key in after if key != 'optimizer' and before.get(key) != after[key]]
  own, new = before['optimizer'], after['optimizer']
  return [*keys, *(f'optimizer.{key}' for key in new if own.get(key) != new[key])]
