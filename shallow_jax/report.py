"""What an experiment found, for readers: results.json, report.md and figures."""

from collections.abc import Callable, Mapping, Sequence
import pathlib
from typing import Any

from shallow_jax import figures
from shallow_jax import results as results_lib
from shallow_jax import storage

Entry = Mapping[str, Any]
Cells = Callable[[Mapping[str, Any], str], str]


def write(config: Mapping[str, Any], workdir: pathlib.Path) -> dict[str, Any]:
  """Writes <workdir>/report/ and returns the content of its results.json.

  Args:
    config: the complete experiment, as plain dicts.
    workdir: of the experiment; networks without a result.json are left out.

  Raises:
    results.ResultsError: the splits' results are of different experiments.
    storage.StorageError: a file is damaged or can't be written.
  """
  results = results_lib.collect(config, workdir)
  folder = workdir / 'report' / 'figures'
  folder.mkdir(parents=True, exist_ok=True)
  pictures = figures.draw(results, list(results_lib.run_folders(config, workdir).values()))
  write_pictures(folder, pictures)
  storage.write_json(workdir / 'report' / 'results.json', results)
  text = markdown(results, [f'figures/{name}' for name in pictures])
  storage.write_bytes(workdir / 'report' / 'report.md', text.encode())
  return results


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
  return aligned_table([heads[i] for i in used], [[row[i] for i in used] for row in rows])


def aligned_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A markdown table whose columns line up as plain text too."""
  cells = [[cell.replace('|', '\\|') for cell in row] for row in rows]
  widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
  lines = [heads, ['-' * width for width in widths], *cells]
  return '\n'.join(
    '| ' + ' | '.join(f'{cell:<{w}}' for cell, w in zip(line, widths, strict=True)) + ' |'
    for line in lines
  )


def dittoed(rows: Sequence[Sequence[str]], columns: Sequence[int]) -> list[list[str]]:
  """The rows with ″ in those columns where the row above says the same."""
  above = [None, *rows][: len(rows)]
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


def seeds_text(entry: Entry) -> str:
  """How many seeds, and of how many splits if there are several."""
  splits = f'{len(entry["splits"])} × ' if 'splits' in entry else ''
  return f'{splits}{len(entry["seeds"])}'


def error_text(entry: Entry) -> str:
  """Mean and standard deviation in per cent, without the sign."""
  error = results_lib.test_error(entry)
  if error['mean'] is None:
    return 'diverged'
  spread = '' if error['std'] is None else f' ± {error["std"]:.2f}'
  return f'{error["mean"]:.2f}{spread}'


def paper_text(entry: Entry) -> str:
  """The paper's figure with its source."""
  paper = entry['paper']
  return f'{paper["value"]:g} ({paper["source"]})' if paper else '–'


def _agreement(entry: Entry) -> str:
  return f'{entry["fidelity"]["agreement"]:.1f}' if entry['fidelity'] else '–'


def _calibration(entry: Entry) -> str:
  return _number(entry['calibration_error'], '.1f')


def _latency(entry: Entry) -> str:
  times = entry['latency_ms'] or {}
  return ' / '.join(f'{times[batch]:.2f}' for batch in sorted(times, key=int)) or '–'


def flags_text(entry: Entry) -> str:
  """Which seeds collapsed or diverged."""
  raised = {flag: seeds for flag, seeds in entry['flags'].items() if seeds}
  return '; '.join(f'{flag}: {", ".join(map(str, seeds))}' for flag, seeds in raised.items())


def _number(value: float | None, form: str) -> str:
  return '–' if value is None else format(value, form).replace('-', '−')


def per_cent(share: float | None) -> str:
  """A share, a dash where there is none."""
  return '–' if share is None else f'{100 * share:.0f} %'.replace('-', '−')


_COLUMNS: dict[str, Cells] = {
  'network': lambda results, name: name,
  'architecture': _of_entry(lambda entry: entry['architecture']),
  'depth': _of_entry(lambda entry: str(entry['depth'])),
  'weights': _of_entry(lambda entry: figures.short_count(_weights(entry))),
  '× teacher': _times_teacher,
  'targets': _of_entry(lambda entry: entry['targets']),
  'loss': _of_entry(lambda entry: entry['loss'] or '–'),
  'seeds': _of_entry(seeds_text),
  'test error %': _of_entry(error_text),
  'paper': _of_entry(paper_text),
  'agreement %': _of_entry(_agreement),
  'calibration error %': _of_entry(_calibration),
  'latency ms, batch 1 / 32 / 256': _of_entry(_latency),
  'flags': _of_entry(flags_text),
}
_SHORT = (
  'network',
  'architecture',
  'weights',
  'targets',
  'loss',
  'seeds',
  'test error %',
  'paper',
  'flags',
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
  closed = (
    ''
    if not (found['gap_closed'] or 0) > 0
    else (
      f' It closes {per_cent(found["gap_closed"])} of the gap to {roles["teacher"]} '
      f'({error_text(networks[roles["teacher"]])} %).'
    )
  )
  return (
    f'{name} makes {error_text(networks[name])} % errors, the best net on labels (chosen by '
    f'validation), {best}, {error_text(networks[best])} %: {abs(found["difference"]):.2f} points '
    f'{fewer}{significance(found)}, {_number(found["ratio"], ".2f")} times as many.{closed}'
  )


def significance(found: Mapping[str, Any]) -> str:
  """The size of a difference in its standard errors, in brackets."""
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
  heads = (
    'network',
    'on',
    'test error %',
    f'errors of {name} ÷ its errors',
    'difference, points',
    'in standard errors',
    f'gap to the teacher closed by {name}',
  )
  sections = [
    f'## {name} against the same net taught otherwise',
    headline(results),
    _controls_text(results),
    aligned_table(heads, rows),
  ]
  return '\n\n'.join(section for section in sections if section)


def _comparison_row(results: Mapping[str, Any], name: str) -> list[str]:
  found, entry = results['comparison'][name], results['networks'][name]
  best = ' (best on labels)' if found['is_best_on_labels'] else ''
  error = '' if found['standard_error'] is None else f' ± {found["standard_error"]:.2f}'
  return [
    name + best,
    entry['targets'],
    error_text(entry),
    _number(found['ratio'], '.2f'),
    _number(found['difference'], '.2f') + error,
    _number(found['in_standard_errors'], '.1f'),
    per_cent(found['gap_closed']),
  ]


def _controls_text(results: Mapping[str, Any]) -> str:
  """How far the controls come, and which of them is ahead of the headline."""
  controls = {k: v for k, v in results['comparison'].items() if v['role'] == 'control'}
  if not controls:
    return ''
  networks, roles = results['networks'], results['roles']
  reached = ', '.join(
    f'{name} {error_text(networks[name])} %{_in_brackets(found["own_gap_closed"])}'
    for name, found in controls.items()
  )
  has_gap = any(found['own_gap_closed'] is not None for found in controls.values())
  brackets = (
    f' (in brackets: of the gap from {roles["best_on_labels"]} to {roles["teacher"]})'
    if has_gap
    else ''
  )
  ahead = [name for name, found in controls.items() if found['difference'] < 0]
  verdict = (
    f'Fewer errors than {roles["headline"]} on average: {", ".join(ahead)}.'
    if ahead
    else f'None makes fewer errors than {roles["headline"]} on average.'
  )
  return f'The other nets taught by a network reach{brackets}: {reached}. {verdict}'


def _in_brackets(share: float | None) -> str:
  return '' if share is None else f' ({per_cent(share)})'


def _attribution_text(results: Mapping[str, Any]) -> str:
  steps = results['attribution']
  if not steps:
    return ''
  first, last = steps[0]['from'], steps[-1]['to']
  parts = ', '.join(
    f'{step["cause"]} {_number(step["change"], ".2f")} ({per_cent(step["share"])})'
    for step in steps
  )
  gap = sum(step['change'] for step in steps)
  negative = ' A negative part adds errors.' if any(step['change'] < 0 for step in steps) else ''
  sentence = (
    f'From {first} to {last} it is {_number(gap, ".2f")} points; of them, one change at a time: '
    f'{parts}.{negative}'
  )
  rows = [
    [
      step['from'],
      step['to'],
      step['cause'],
      _number(step['change'], '.2f'),
      _number(step['standard_error'], '.2f'),
      per_cent(step['share']),
    ]
    for step in steps
  ]
  heads = ('from', 'to', 'due to', 'points', 'standard error', 'share of the gap')
  return '\n\n'.join(['## What the gain is due to', sentence, aligned_table(heads, rows)])


def _search_text(results: Mapping[str, Any]) -> str:
  rows = [row for name in results['order'] for row in _search_rows(name, results['networks'][name])]
  if not rows:
    return ''
  heads = ('network', 'split', 'trials', 'searched', 'value: validation error %', 'chosen')
  return '\n\n'.join(['## Search: what validation chose', aligned_table(heads, rows)])


def _search_rows(name: str, entry: Entry) -> list[list[str]]:
  by_split = entry.get('search_by_split', {'': entry['search']})
  return [
    [
      name,
      split or '–',
      str(len(search['trials'])),
      ', '.join(search['trials'][0]['settings']),
      '; '.join(_trial(trial) for trial in search['trials']),
      _settings(search['trials'][search['chosen']]),
    ]
    for split, search in by_split.items()
    if search
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
  rows = dittoed([_provenance_row(results, name) for name in results['order']], (1, 2, 4, 6))
  heads = ('network', 'device', 'date', 'wall seconds', 'commit', 'config', 'command')
  versions = ', '.join(f'{name} {version}' for name, version in results['versions'].items())
  return '\n\n'.join(['## Where the figures come from', aligned_table(heads, rows), f'{versions}.'])


def _provenance_row(results: Mapping[str, Any], name: str) -> list[str]:
  found = results['networks'][name]['provenance']
  return [
    name,
    found['device'],
    found['date'],
    f'{found["wall_seconds"]:,.0f}',
    (found['commit'] or '–')[:12],
    found['config_hash'][:12],
    f'`{command_text(found["command"])}`',
  ]


def command_text(command: str) -> str:
  """A command as it was given, without where this machine has its programs."""
  program, _, arguments = command.partition(' ')
  known = {'main.py': 'python -m shallow_jax.main', 'shallow-jax': 'shallow-jax'}
  return f'{known.get(pathlib.PurePath(program).name, program)} {arguments}'.strip()


def write_pictures(folder: pathlib.Path, pictures: Mapping[str, bytes]) -> None:
  """Writes the pictures and removes others, which belong to an earlier report."""
  for name, data in pictures.items():
    storage.write_bytes(folder / name, data)
  for path in folder.glob('*.png'):
    if path.name not in pictures:
      path.unlink()
