"""What an experiment found: results.json, report.md and figures, from its networks' result files.

Reads files only: it can be called at any time, for any part of a run.

  python -m shallow_jax.report --publish runs/digits digits    a report into configs/results/digits
"""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
import itertools
import math
import pathlib
import statistics
import sys
from typing import Any

from shallow_jax import figures
from shallow_jax import storage

SCHEMA_VERSION = 1
CONFIGS = pathlib.Path(__file__).parents[1] / 'configs'
BEGIN, END = '<!-- results:begin -->', '<!-- results:end -->'

Entry = Mapping[str, Any]
Entries = Mapping[str, Entry]
Roles = Mapping[str, str]
Cells = Callable[[Mapping[str, Any], str], str]

# The runs of several splits must agree on these.
_SAME_IN_ALL_SPLITS = (
  'kind', 'architecture', 'depth', 'parameters', 'hidden_units', 'targets', 'loss'
)
_LOSS_FAMILY = {'label_l2': 'squared', 'hard_l2': 'squared', 'logit_l2': 'squared',
                'cross_entropy': 'cross-entropy', 'hard_cross_entropy': 'cross-entropy'}


class ReportError(RuntimeError):
  """Results that don't fit together or can't be published; the message is one line."""


def write(config: Mapping[str, Any], workdir: pathlib.Path) -> dict[str, Any]:
  """Writes <workdir>/report/ and returns the content of its results.json.

  Args:
    config: the complete experiment, as plain dicts.
    workdir: of the experiment; networks without a result.json are left out.

  Raises:
    ReportError: the splits' results are of different experiments.
    storage.StorageError: a file is damaged or can't be written.
  """
  results = collect(config, workdir)
  folder = workdir / 'report' / 'figures'
  folder.mkdir(parents=True, exist_ok=True)
  pictures = figures.draw(results, list(run_folders(config, workdir).values()))
  _write_pictures(folder, pictures)
  storage.write_json(workdir / 'report' / 'results.json', results)
  text = markdown(results, [f'figures/{name}' for name in pictures])
  storage.write_bytes(workdir / 'report' / 'report.md', text.encode())
  return results


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
  error = figures.test_error(entry)
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
      raise ReportError(f'{name}: the splits differ in {key}: {", ".join(sorted(texts))}')
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
    name: figures.test_error(networks[name], 'validation')['mean']
    for name in _alike(networks, headline) if networks[name]['targets'] == 'labels'
  }
  known = {name: mean for name, mean in validation.items() if mean is not None}
  return min(known, key=known.__getitem__) if known else ''


def _alike(networks: Entries, headline: str) -> list[str]:
  """The other networks of the headline's architecture."""
  architecture = networks[headline]['architecture']
  return [
    name for name, entry in networks.items()
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
  mean, reached = figures.test_error(entry)['mean'], figures.test_error(headline)['mean']
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
    figures.test_error(networks[each])['mean'] for each in (start, name, roles['teacher'])
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
    return figures.LEFT
  own, new = before['loss'], after['loss']
  is_hard = [loss['name'].startswith('hard') for loss in (own, new)]
  differs = {
    'the net': before['model'] != after['model'],
    'the loss': _family(own) != _family(new),
    'the targets': before['targets'] != after['targets'] or is_hard[0] != is_hard[1],
    'the unlabelled data': set(before['examples']) != set(after['examples']),
  }
  return ' and '.join(name for name, is_so in differs.items() if is_so) or 'other settings'


def _family(loss: Entry) -> tuple[Any, ...]:
  name = loss['name']
  return _LOSS_FAMILY.get(name, name), loss['label_smoothing'], loss['label_weight']


def table(results: Mapping[str, Any]) -> str:
  """The networks in a table that fits a terminal."""
  columns = {name: cells for name, cells in _COLUMNS.items() if name in _SHORT}
  return _networks_table(results, columns)


def markdown(results: Mapping[str, Any], pictures: Sequence[str] = ()) -> str:
  """The report, with pictures by their paths."""
  sections = [
    f'# {results["experiment"]}',
    _data_text(results['data']),
    _networks_table(results, _COLUMNS),
    _notes(results),
    _comparison_text(results),
    _attribution_text(results),
    '\n'.join(f'![{pathlib.Path(path).stem.replace("_", " ")}]({path})' for path in pictures),
    _search_text(results),
    _provenance_text(results),
  ]
  return '\n\n'.join(section for section in sections if section) + '\n'


def _notes(results: Mapping[str, Any]) -> str:
  """How to read the table of networks."""
  if not results['networks']:
    return ''
  regression = any(entry['loss'] in _ON_ONE_HOT for entry in results['networks'].values())
  return (
    'Errors in per cent, mean ± standard deviation over seeds (n × m: n splits of m seeds); an '
    "ensemble's is that of its averaged logits. Depth: nonlinear layers on the longest path. × "
    'teacher: weights divided by those of the network it learns from (on labels: of the teacher); '
    'above 1 it is the larger one. Agreement: share of test examples with the same prediction as '
    "the teacher's. Latency: a call on the device named below, from raw examples to logits."
  ) + (f' {_REGRESSION_NOTE}' if regression else '')


_ON_ONE_HOT = ('label_l2', 'hard_l2')
_REGRESSION_NOTE = (
  'Outputs of label_l2 and hard_l2 are regressions onto 0 and 1, not logits: their calibration '
  'error, that of a softmax over them, says little.'
)


def _networks_table(results: Mapping[str, Any], columns: Mapping[str, Cells]) -> str:
  if not results['networks']:
    return 'No network is finished yet.'
  rows = [[cells(results, name) for cells in columns.values()] for name in results['order']]
  used = [i for i in range(len(columns)) if any(row[i] not in ('', '–') for row in rows)]
  heads = list(columns)
  return _table([heads[i] for i in used], [[row[i] for i in used] for row in rows])


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A markdown table whose columns line up as plain text too."""
  cells = [[cell.replace('|', '\\|') for cell in row] for row in rows]
  widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
  lines = [heads, ['-' * width for width in widths], *cells]
  return '\n'.join(
    '| ' + ' | '.join(f'{cell:<{w}}' for cell, w in zip(line, widths, strict=True)) + ' |'
    for line in lines
  )


def _dittoed(rows: Sequence[Sequence[str]], columns: Sequence[int]) -> list[list[str]]:
  """The rows with ″ in those columns where the row above says the same."""
  above = [None, *rows[:-1]]
  return [
    ['″' if i in columns and last and last[i] == cell else cell for i, cell in enumerate(row)]
    for last, row in zip(above, rows, strict=True)
  ]


def _of_entry(show: Callable[[Entry], str]) -> Cells:
  return lambda results, name: show(results['networks'][name])


def _times_teacher(results: Mapping[str, Any], name: str) -> str:
  networks = results['networks']
  own_teacher = networks[name]['targets'].partition('/')[0]
  teacher = own_teacher if own_teacher in networks else results['roles']['teacher']
  if teacher in ('', name):
    return '–'
  ratio = _weights(networks[name]) / _weights(networks[teacher])
  return f'{ratio:.2f}' if ratio < 10 else f'{ratio:.0f}'


def _weights(entry: Entry) -> int:
  return entry['parameters']['weights']


def _seeds(entry: Entry) -> str:
  splits = f'{len(entry["splits"])} × ' if 'splits' in entry else ''
  return f'{splits}{len(entry["seeds"])}'


def _error(entry: Entry) -> str:
  error = figures.test_error(entry)
  if error['mean'] is None:
    return 'diverged'
  spread = '' if error['std'] is None else f' ± {error["std"]:.2f}'
  return f'{error["mean"]:.2f}{spread}'


def _paper(entry: Entry) -> str:
  paper = entry['paper']
  return f'{paper["value"]:g} ({paper["source"]})' if paper else '–'


def _agreement(entry: Entry) -> str:
  return f'{entry["fidelity"]["agreement"]:.1f}' if entry['fidelity'] else '–'


def _calibration(entry: Entry) -> str:
  return _number(entry['calibration_error'], '.1f')


def _latency(entry: Entry) -> str:
  times = entry['latency_ms'] or {}
  return ' / '.join(f'{times[batch]:.2f}' for batch in sorted(times, key=int)) or '–'


def _flags(entry: Entry) -> str:
  raised = {flag: seeds for flag, seeds in entry['flags'].items() if seeds}
  return '; '.join(f'{flag}: {", ".join(map(str, seeds))}' for flag, seeds in raised.items())


def _number(value: float | None, form: str) -> str:
  return '–' if value is None else format(value, form).replace('-', '−')


def _per_cent(share: float | None) -> str:
  return '–' if share is None else f'{100 * share:.0f} %'.replace('-', '−')


_COLUMNS: dict[str, Cells] = {
  'network': lambda results, name: name,
  'architecture': _of_entry(lambda entry: entry['architecture']),
  'depth': _of_entry(lambda entry: str(entry['depth'])),
  'weights': _of_entry(lambda entry: figures.short_count(_weights(entry))),
  '× teacher': _times_teacher,
  'targets': _of_entry(lambda entry: entry['targets']),
  'loss': _of_entry(lambda entry: entry['loss'] or '–'),
  'seeds': _of_entry(_seeds),
  'test error %': _of_entry(_error),
  'paper': _of_entry(_paper),
  'agreement %': _of_entry(_agreement),
  'calibration error %': _of_entry(_calibration),
  'latency ms, batch 1 / 32 / 256': _of_entry(_latency),
  'flags': _of_entry(_flags),
}
_SHORT = (
  'network', 'architecture', 'weights', 'targets', 'loss', 'seeds', 'test error %', 'paper', 'flags'
)


_SETS = ('train', 'validation', 'test', 'unlabelled')


def _data_text(data: Mapping[str, Any]) -> str:
  if not data:
    return ''
  order = [name for name in _SETS if name in data['sizes']]
  order += [name for name in data['sizes'] if name not in _SETS]
  sizes = ', '.join(f'{name} {data["sizes"][name]:,}' for name in order)
  text = [f'Data: {data["name"]}, {data["num_classes"]} classes; examples: {sizes}.']
  if data['splits']:
    text.append(f'Pooled over {len(data["splits"])} splits of it ({", ".join(data["splits"])}).')
  known = ('name', 'num_classes', 'sizes', 'splits')
  text += [f'{_note(key, value)}.' for key, value in data.items() if key not in known]
  return ' '.join(text)


def _note(key: str, value: Any) -> str:
  words = key.replace('_', ' ').capitalize()
  if isinstance(value, Mapping):
    value = ', '.join(f'{count:,} of {name}' for name, count in value.items())
  return f'{words}: {value}'


def headline(results: Mapping[str, Any]) -> str:
  """The claim in one sentence with its numbers; '' while a network of it has no result."""
  roles = results['roles']
  found = results['comparison'].get(roles['best_on_labels'])
  if found is None:
    return ''
  networks = results['networks']
  name, best = found['headline'], roles['best_on_labels']
  fewer = 'fewer' if found['difference'] > 0 else 'more'
  closed = '' if not (found['gap_closed'] or 0) > 0 else (
    f' It closes {_per_cent(found["gap_closed"])} of the gap to {roles["teacher"]} '
    f'({_error(networks[roles["teacher"]])} %).'
  )
  return (
    f'{name} makes {_error(networks[name])} % errors, the best net on labels (chosen by '
    f'validation), {best}, {_error(networks[best])} %: {abs(found["difference"]):.2f} points '
    f'{fewer}{_significance(found)}, {_number(found["ratio"], ".2f")} times as many.{closed}'
  )


def _significance(found: Mapping[str, Any]) -> str:
  if found['in_standard_errors'] is None:
    return ''
  splits = found['paired_splits']
  over = f'paired by split, {splits} splits' if splits else 'over seeds'
  return f' ({abs(found["in_standard_errors"]):.1f} standard errors, {over})'


def _comparison_text(results: Mapping[str, Any]) -> str:
  if not results['comparison']:
    return ''
  rows = [_comparison_row(results, name) for name in results['comparison']]
  name = results['roles']['headline']
  heads = ('network', 'on', 'test error %', f'errors of {name} ÷ its errors', 'difference, points',
           'in standard errors', f'gap to the teacher closed by {name}')
  sections = [f'## {name} against the same net taught otherwise', headline(results),
              _controls_text(results), _table(heads, rows)]
  return '\n\n'.join(section for section in sections if section)


def _comparison_row(results: Mapping[str, Any], name: str) -> list[str]:
  found, entry = results['comparison'][name], results['networks'][name]
  best = ' (best on labels)' if found['is_best_on_labels'] else ''
  error = '' if found['standard_error'] is None else f' ± {found["standard_error"]:.2f}'
  return [
    name + best, entry['targets'], _error(entry), _number(found['ratio'], '.2f'),
    _number(found['difference'], '.2f') + error, _number(found['in_standard_errors'], '.1f'),
    _per_cent(found['gap_closed']),
  ]


def _controls_text(results: Mapping[str, Any]) -> str:
  """How far the controls come, and which of them is ahead of the headline."""
  controls = {k: v for k, v in results['comparison'].items() if v['role'] == 'control'}
  if not controls:
    return ''
  networks, roles = results['networks'], results['roles']
  reached = ', '.join(
    f'{name} {_error(networks[name])} %{_in_brackets(found["own_gap_closed"])}'
    for name, found in controls.items()
  )
  has_gap = any(found['own_gap_closed'] is not None for found in controls.values())
  brackets = (
    f' (in brackets: of the gap from {roles["best_on_labels"]} to {roles["teacher"]})'
    if has_gap else ''
  )
  ahead = [name for name, found in controls.items() if found['difference'] < 0]
  verdict = (
    f'Fewer errors than {roles["headline"]} on average: {", ".join(ahead)}.' if ahead
    else f'None makes fewer errors than {roles["headline"]} on average.'
  )
  return f'The other nets taught by a network reach{brackets}: {reached}. {verdict}'


def _in_brackets(share: float | None) -> str:
  return '' if share is None else f' ({_per_cent(share)})'


def _attribution_text(results: Mapping[str, Any]) -> str:
  steps = results['attribution']
  if not steps:
    return ''
  first, last = steps[0]['from'], steps[-1]['to']
  parts = ', '.join(
    f'{step["cause"]} {_number(step["change"], ".2f")} ({_per_cent(step["share"])})'
    for step in steps
  )
  gap = sum(step['change'] for step in steps)
  negative = ' A negative part adds errors.' if any(step['change'] < 0 for step in steps) else ''
  sentence = (
    f'From {first} to {last} it is {_number(gap, ".2f")} points; of them, one change at a time: '
    f'{parts}.{negative}'
  )
  rows = [
    [step['from'], step['to'], step['cause'], _number(step['change'], '.2f'),
     _number(step['standard_error'], '.2f'), _per_cent(step['share'])]
    for step in steps
  ]
  heads = ('from', 'to', 'due to', 'points', 'standard error', 'share of the gap')
  return '\n\n'.join(['## What the gain is due to', sentence, _table(heads, rows)])


def _search_text(results: Mapping[str, Any]) -> str:
  rows = [
    row for name in results['order'] for row in _search_rows(name, results['networks'][name])
  ]
  if not rows:
    return ''
  heads = ('network', 'split', 'trials', 'searched', 'value: validation error %', 'chosen')
  return '\n\n'.join(['## Search: what validation chose', _table(heads, rows)])


def _search_rows(name: str, entry: Entry) -> list[list[str]]:
  by_split = entry.get('search_by_split', {'': entry['search']})
  return [
    [name, split or '–', str(len(search['trials'])), ', '.join(search['trials'][0]['settings']),
     '; '.join(_trial(trial) for trial in search['trials']),
     _settings(search['trials'][search['chosen']])]
    for split, search in by_split.items() if search
  ]


def _trial(trial: Mapping[str, Any]) -> str:
  if trial['status'] == 'diverged':
    return f'{_settings(trial)}: diverged'
  flag = ' collapsed' if trial['collapsed'] else ''
  return f'{_settings(trial)}: {trial["validation"]["error"]:.2f}{flag}'


def _settings(trial: Mapping[str, Any]) -> str:
  return ', '.join(str(value) for value in trial['settings'].values())


def _provenance_text(results: Mapping[str, Any]) -> str:
  if not results['networks']:
    return ''
  rows = _dittoed([_provenance_row(results, name) for name in results['order']], (1, 2, 4, 6))
  heads = ('network', 'device', 'date', 'wall seconds', 'commit', 'config', 'command')
  versions = ', '.join(f'{name} {version}' for name, version in results['versions'].items())
  return '\n\n'.join(['## Where the figures come from', _table(heads, rows), f'{versions}.'])


def _provenance_row(results: Mapping[str, Any], name: str) -> list[str]:
  found = results['networks'][name]['provenance']
  return [
    name, found['device'], found['date'], f'{found["wall_seconds"]:,.0f}',
    (found['commit'] or '–')[:12], found['config_hash'][:12], f'`{_command(found["command"])}`',
  ]


def _command(command: str) -> str:
  """A command as it was given, without where this machine has its programs."""
  program, _, arguments = command.partition(' ')
  known = {'main.py': 'python -m shallow_jax.main', 'shallow-jax': 'shallow-jax'}
  return f'{known.get(pathlib.PurePath(program).name, program)} {arguments}'.strip()


def publish(workdir: pathlib.Path, name: str, configs: pathlib.Path = CONFIGS) -> None:
  """Copies a report into <configs>/results/<name>/ and rewrites the table of <configs>/README.md.

  Raises:
    ReportError: the README has no place for the table.
    storage.StorageError: there is no report yet.
  """
  results = storage.read_json(workdir / 'report' / 'results.json')
  readme = configs / 'README.md'
  _with_table(readme, '')
  folder = configs / 'results' / name
  folder.mkdir(parents=True, exist_ok=True)
  storage.write_json(folder / 'results.json', results)
  pictures = sorted((workdir / 'report' / 'figures').glob('*.png'))
  _write_pictures(folder, {path.name: path.read_bytes() for path in pictures})
  storage.write_bytes(readme, _with_table(readme, published_table(published(configs))).encode())


def published(configs: pathlib.Path = CONFIGS) -> dict[str, Any]:
  """The published results by config."""
  paths = sorted((configs / 'results').glob('*/results.json'))
  return {path.parent.name: storage.read_json(path) for path in paths}


def published_table(results: Mapping[str, Mapping[str, Any]]) -> str:
  """The table of configs/README.md: a row a network, from published results by config."""
  heads = (
    'network', 'config', 'command', 'paper %', 'measured % (seeds)', 'device', 'date', 'verdict'
  )
  rows = [
    _published_row(config, found, name)
    for config, found in results.items() for name in found['order']
  ]
  return _table(heads, _dittoed(rows, (2, 5, 6)))


def _published_row(config: str, results: Mapping[str, Any], name: str) -> list[str]:
  entry = results['networks'][name]
  found = entry['provenance']
  return [
    name, f'[{config}](results/{config}/results.json)', f'`{_command(found["command"])}`',
    _paper(entry), f'{_error(entry)} ({_seeds(entry)})', found['device'], found['date'],
    verdict(results, name),
  ]


def verdict(results: Mapping[str, Any], name: str) -> str:
  """How a network stands to the paper's figure, and to the best net on labels."""
  entry, best = results['networks'][name], results['roles']['best_on_labels']
  parts = [_against_paper(entry), _flags(entry)]
  found = results['comparison'].get(name, {'role': ''})
  if best in results['comparison'] and name == results['roles']['headline']:
    parts.append(_against_best(results['comparison'][best], best))
  elif found['role'] == 'control' and found['own_gap_closed'] is not None:
    share = _per_cent(found['own_gap_closed'])
    parts.append(f'{share} of the way from {best} to {results["roles"]["teacher"]}')
  return '; '.join(part for part in parts if part) or '–'


def _against_best(found: Mapping[str, Any], best: str) -> str:
  sign = 'below' if found['difference'] > 0 else 'above'
  parts = [f'{abs(found["difference"]):.2f} points {sign} {best}{_significance(found)}']
  if (found['gap_closed'] or 0) > 0:
    parts.append(f'{_per_cent(found["gap_closed"])} of its gap to the teacher closed')
  return '; '.join(parts)


def _against_paper(entry: Entry) -> str:
  error, paper = figures.test_error(entry), entry['paper']
  if paper is None or error['mean'] is None:
    return ''
  points = error['mean'] - paper['value']
  if error['std'] is not None and abs(points) <= 2 * error['std']:
    return "the paper's, within 2 standard deviations"
  return f'{abs(points):.2f} points {"above" if points > 0 else "below"} the paper'


def _with_table(readme: pathlib.Path, text: str) -> str:
  """The README's text with `text` between the two marks."""
  old = readme.read_text() if readme.exists() else ''
  before, begin, rest = old.partition(BEGIN)
  _, end, after = rest.partition(END)
  if not (begin and end):
    raise ReportError(f'{readme}: expected the lines {BEGIN} and {END} around its table')
  return f'{before}{BEGIN}\n{text}\n{END}{after}'


def _write_pictures(folder: pathlib.Path, pictures: Mapping[str, bytes]) -> None:
  """Writes the pictures and removes others, which belong to an earlier report."""
  for name, data in pictures.items():
    storage.write_bytes(folder / name, data)
  for path in folder.glob('*.png'):
    if path.name not in pictures:
      path.unlink()


def main() -> None:
  """The command that publishes a report."""
  parser = argparse.ArgumentParser(prog='python -m shallow_jax.report')
  parser.add_argument(
    '--publish', nargs=2, metavar=('WORKDIR', 'CONFIG_NAME'), required=True,
    help='copy a report to configs/results/CONFIG_NAME and rewrite the table in configs/README.md',
  )
  workdir, name = parser.parse_args().publish
  try:
    publish(pathlib.Path(workdir), name)
  except (ReportError, storage.StorageError) as error:
    sys.exit(f'shallow_jax.report: {error}')


if __name__ == '__main__':
  main()
