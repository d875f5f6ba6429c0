"""What an experiment found, in numbers: result files gathered, pooled and compared."""

from collections.abc import Iterable, Mapping, Sequence
import itertools
import json
import math
import pathlib
import statistics
from typing import Any

import numpy as np

from shallow_jax import storage

SCHEMA_VERSION = 1
LEFT = 'left to the teacher'  # the cause of the step that no student takes

Entry = Mapping[str, Any]
Entries = Mapping[str, Entry]
Roles = Mapping[str, str]
Curves = tuple[np.ndarray, np.ndarray]

# The runs of several splits must agree on these.
_SAME_IN_ALL_SPLITS = (
  'kind',
  'architecture',
  'depth',
  'parameters',
  'hidden_units',
  'targets',
  'loss',
)
_LOSS_FAMILY = {
  'label_l2': 'squared',
  'hard_l2': 'squared',
  'logit_l2': 'squared',
  'cross_entropy': 'cross-entropy',
  'hard_cross_entropy': 'cross-entropy',
}


class ResultsError(RuntimeError):
  """Results that don't fit together; the message is one line."""


def collect(config: Mapping[str, Any], workdir: pathlib.Path) -> dict[str, Any]:
  """Gathers the results of all networks that have one; the content of results.json.

  Beside design.md's contract: `order` (of the networks in the config), `roles`, `comparison` of the
  headline network with the others of its architecture, `attribution`.
  """
  folders = run_folders(config, workdir)
  found = {name: by_split for name in config['networks'] if (by_split := _read(folders, name))}
  networks = {
    name: _entry(config['networks'][name], name, by_split) for name, by_split in found.items()
  }
  roles = _roles(networks, config['report'])
  return {
    'schema_version': SCHEMA_VERSION,
    'experiment': config['name'] or config['data']['name'],
    'versions': _versions(by_split for by_split in found.values()),
    'data': _data(folders),
    'order': list(networks),
    'networks': networks,
    'roles': roles,
    'comparison': _comparison(networks, roles),
    'attribution': _attribution(config['networks'], networks, config['report']['attribution']),
  }


def run_folders(config: Mapping[str, Any], workdir: pathlib.Path) -> dict[str, pathlib.Path]:
  """The folders of an experiment's runs by split; of one run alone under ''."""
  if not config['splits']:
    return {'': workdir}
  return {str(split): workdir / f'split-{split}' for split in config['splits']}


def test_error(entry: Entry, split: str = 'test') -> Mapping[str, Any]:
  """A network's mean, std and values, in per cent: phone error rate for speech, else error."""
  return entry['metrics'][split]['per'] or entry['metrics'][split]['error']


def read_curves(folders: Sequence[pathlib.Path]) -> Curves | None:
  """Steps [evaluations] and validation errors in per cent [seeds, evaluations] of a network.

  A seed that stopped early keeps its last error; one that diverged is left out.
  """
  paths = [path for folder in folders for path in sorted(folder.glob('seed-*/metrics.jsonl'))]
  seeds = [found for path in paths if (found := _read_seed(path))]
  if not seeds:
    return None
  steps = sorted({step for seed in seeds for step in seed})
  rows = [[_last_at(seed, step) for step in steps] for seed in seeds]
  return np.array(steps), np.array(rows)


def _read_seed(path: pathlib.Path) -> dict[int, float]:
  """Validation error by step; empty if the seed diverged."""
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  if any('nonfinite' in line for line in lines):
    return {}
  return {line['step']: line['error'] for line in lines if line['kind'] == 'validation'}


def _last_at(seed: Mapping[int, float], step: int) -> float:
  before = [known for known in seed if known <= step]
  return seed[max(before)] if before else float('nan')


def difference(first: Entry, second: Entry) -> dict[str, Any] | None:
  """Mean test error of `first` minus that of `second`, in points, with its standard error.

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
    error, freedom = _welch(a[common[0]], b[common[0]])
  points = statistics.fmean(by_split)
  return {
    'difference': points,
    'standard_error': error,
    'in_standard_errors': points / error if error else None,
    'degrees_of_freedom': freedom,
    'paired_splits': len(common) if len(common) > 1 else None,
  }


def _values(entry: Entry) -> dict[str, list[float]]:
  """Test errors by split, without those of diverged seeds."""
  error = test_error(entry)
  by_split = error.get('values_by_split', {'': error['values']})
  return {
    split: [value for value in values if value is not None] for split, values in by_split.items()
  }


def _welch(a: Sequence[float], b: Sequence[float]) -> tuple[float | None, float | None]:
  """The standard error of a difference of means and its degrees of freedom (Welch 1947)."""
  if len(a) < 2 or len(b) < 2:
    return None, None
  first, second = statistics.variance(a) / len(a), statistics.variance(b) / len(b)
  if not first + second:
    return 0.0, None
  spread = first**2 / (len(a) - 1) + second**2 / (len(b) - 1)
  return math.sqrt(first + second), (first + second) ** 2 / spread


def _read(folders: Mapping[str, pathlib.Path], name: str) -> dict[str, dict[str, Any]]:
  paths = {split: folder / name / 'result.json' for split, folder in folders.items()}
  return {split: storage.read_json(path) for split, path in paths.items() if path.exists()}


def _entry(settings: Entry, name: str, by_split: Entries) -> dict[str, Any]:
  """A network's entry in results.json; what is only for show comes from the config of today."""
  entry = _single(by_split['']) if '' in by_split else _pooled(name, by_split)
  return entry | {'label': settings['label'] or name, 'paper': settings['paper']}


def _single(result: Entry) -> dict[str, Any]:
  provenance = {key: value for key, value in result['provenance'].items() if key != 'versions'}
  kept = {key: value for key, value in result.items() if key != 'weights'}
  return kept | {'provenance': provenance}


def _pooled(name: str, by_split: Entries) -> dict[str, Any]:
  """One entry of a network's results in several splits."""
  results = list(by_split.values())
  for key in _SAME_IN_ALL_SPLITS:
    texts = {storage.canonical_json(result[key]) for result in results}
    if len(texts) > 1:
      raise ResultsError(f'{name}: the splits differ in {key}: {", ".join(sorted(texts))}')
  first = _single(results[0])
  return first | {
    'splits': list(by_split),
    'seeds': sorted({seed for result in results for seed in result['seeds']}),
    'metrics': {
      split: {
        key: _pooled_summary({s: result['metrics'][split][key] for s, result in by_split.items()})
        for key in metric
      }
      for split, metric in first['metrics'].items()
    },
    'fidelity': _mean_by_key([result['fidelity'] for result in results]),
    'calibration_error': _mean([result['calibration_error'] for result in results]),
    'latency_ms': _mean_by_key([result['latency_ms'] for result in results]),
    'flags': {
      flag: [f'split-{s}/seed-{seed}' for s, r in by_split.items() for seed in r['flags'][flag]]
      for flag in first['flags']
    },
    'search_by_split': {split: result['search'] for split, result in by_split.items()},
    'provenance': _pooled_provenance([_single(result)['provenance'] for result in results]),
  }


def _pooled_summary(by_split: Mapping[str, Entry | None]) -> dict[str, Any] | None:
  known = {split: summary for split, summary in by_split.items() if summary is not None}
  if not known:
    return None
  values = [value for summary in known.values() for value in summary['values']]
  finite = [value for value in values if value is not None]
  return {
    'mean': statistics.fmean(finite) if finite else None,
    'std': statistics.stdev(finite) if len(finite) > 1 else None,
    'values': values,
    'values_by_split': {split: summary['values'] for split, summary in known.items()},
  }


def _pooled_provenance(provenances: Sequence[Entry]) -> dict[str, Any]:
  def joined(key: str) -> str | None:
    return ', '.join(dict.fromkeys(each[key] for each in provenances if each[key])) or None

  return dict(
    provenances[0],
    device=joined('device'),
    commit=joined('commit'),
    command=joined('command'),
    config_hash=storage.sha256_json([each['config_hash'] for each in provenances]),
    date=max(each['date'] for each in provenances),
    wall_seconds=sum(each['wall_seconds'] for each in provenances),
    examples_per_second=_mean([each['examples_per_second'] for each in provenances]),
  )


def _mean(values: Iterable[float | None]) -> float | None:
  known = [value for value in values if value is not None]
  return statistics.fmean(known) if known else None


def _mean_by_key(values: Iterable[Mapping[str, float] | None]) -> dict[str, float] | None:
  known = [value for value in values if value is not None]
  if not known:
    return None
  return {key: statistics.fmean(value[key] for value in known) for key in known[0]}


def _versions(networks: Iterable[Entries]) -> dict[str, str]:
  """Package versions; all of them where networks were evaluated under different ones."""
  found: dict[str, dict[str, None]] = {}
  for by_split in networks:
    for result in by_split.values():
      for package, version in result['provenance']['versions'].items():
        found.setdefault(package, {})[version] = None
  return {package: ', '.join(versions) for package, versions in found.items()}


def _data(folders: Mapping[str, pathlib.Path]) -> dict[str, Any]:
  """The first run's notes on its data, its sizes, and which splits there are."""
  for folder in folders.values():
    if not (folder / 'data' / 'notes.json').exists():
      continue
    described = storage.read_json(folder / 'data' / 'fingerprint.json')
    return {
      **storage.read_json(folder / 'data' / 'notes.json'),
      'name': described['name'],
      'num_classes': len(described['class_names']),
      'sizes': {name: split['count'] for name, split in described['splits'].items()},
      'splits': [split for split in folders if split],
    }
  return {}


def _roles(networks: Entries, settings: Mapping[str, Any]) -> dict[str, str]:
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
    if networks[name]['targets'] == 'labels'
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


def _comparison(networks: Entries, roles: Roles) -> dict[str, dict[str, Any]]:
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
    'role': 'labels' if entry['targets'] == 'labels' else 'control',
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


def _attribution(
  settings: Entries, networks: Entries, chain: Sequence[str]
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


def _family(loss: Entry) -> tuple[Any, ...]:
  name = loss['name']
  return _LOSS_FAMILY.get(name, name), loss['label_smoothing'], loss['label_weight']
