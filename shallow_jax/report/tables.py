"""The report's tables, in markdown, and the texts in their cells."""

from collections.abc import Callable, Mapping, Sequence
import pathlib
from typing import Any

from shallow_jax.report import comparison
from shallow_jax.report.figures import style

Entry = Mapping[str, Any]
Cells = Callable[[Mapping[str, Any], str], str]


def networks_table(results: Mapping[str, Any]) -> str:
  """The networks with all that is known of them."""
  return _networks_table(results, _COLUMNS)


def short_table(results: Mapping[str, Any]) -> str:
  """The networks in a table that fits a terminal."""
  columns = {name: cells for name, cells in _COLUMNS.items() if name in _SHORT}
  return _networks_table(results, columns)


def _networks_table(results: Mapping[str, Any], columns: Mapping[str, Cells]) -> str:
  if not results['networks']:
    return 'No network is finished yet.'
  rows = [[cells(results, name) for cells in columns.values()] for name in results['order']]
  return without_empty_columns(list(columns), rows)


def paper_table(results: Mapping[str, Any]) -> str:
  """Rows of the paper beside ours; '' if the config names none."""
  names = [name for name in results['order'] if results['networks'][name]['paper']]
  rows = dittoed([_paper_row(results['networks'][name]) for name in names], (9, 10))
  heads = (
    'row',
    'architecture',
    'paper %',
    'ours % (seeds)',
    '95 % interval',
    'weights by formula',
    'paper: parameters',
    'hidden units',
    'paper: hidden units',
    'device',
    'command',
    'time, all seeds',
  )
  return without_empty_columns(heads, rows) if rows else ''


def _paper_row(entry: Entry) -> list[str]:
  paper, found = entry['paper'], entry['provenance']
  return [
    entry['label'],
    entry['architecture'],
    paper_text(entry),
    f'{error_text(entry)} ({seeds_text(entry)})',
    interval_text(entry),
    style.short_count(_weights(entry)),
    paper['parameters'] or '–',
    style.short_count(entry['hidden_units']),
    paper['hidden_units'] or '–',
    found['device'],
    f'`{command_text(found["command"])}`',
    duration(found['wall_seconds']),
  ]


def without_empty_columns(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """An aligned table less the columns in which no row says anything."""
  used = [i for i in range(len(heads)) if any(row[i] not in ('', '–') for row in rows)]
  return aligned_table([heads[i] for i in used], [[row[i] for i in used] for row in rows])


def factor_table(sweep: Mapping[str, Any], networks: Mapping[str, Entry]) -> str:
  """How many times the x of each net another series needs; '' if the sweep does not ask."""
  rows = [
    [
      found['against'],
      networks[found['network']]['label'],
      style.short_count(found['x']),
      f'{found["error"]:.2f}',
      found['of'],
      factor_text(found),
      factor_interval_text(found['interval']),
    ]
    for found in sweep['factors']
  ]
  heads = ('goal', 'network', sweep['x_label'], 'error %', 'by', 'times as many', '95 % interval')
  return aligned_table(heads, rows) if rows else ''


def comparison_table(results: Mapping[str, Any]) -> str:
  """The headline's network against the same net taught otherwise."""
  name = results['roles']['headline']
  heads = (
    'network',
    'on',
    f'test {comparison.error_name(results["networks"])} %',
    f'errors of {name} ÷ its errors',
    'difference, points',
    'in standard errors',
    'difference: 95 % over seeds or splits',
    'difference: 95 % over utterances',
    f'wrong alone: it / {name}',
    "McNemar's p",
    f'gap to the teacher closed by {name}',
  )
  rows = [_comparison_row(results, name) for name in results['comparison']]
  return without_empty_columns(heads, rows)


def _comparison_row(results: Mapping[str, Any], name: str) -> list[str]:
  found, entry = results['comparison'][name], results['networks'][name]
  best = ' (best on labels)' if found['is_best_on_labels'] else ''
  error = '' if found['standard_error'] is None else f' ± {found["standard_error"]:.2f}'
  return [
    name + best,
    entry['targets'],
    error_text(entry),
    number(found['ratio'], '.2f'),
    number(found['difference'], '.2f') + error,
    number(found['in_standard_errors'], '.1f'),
    _range_text(*(found['interval'] or (None, None))),
    _bootstrap_text(found.get('bootstrap')),
    *_mcnemar_cells(found.get('mcnemar')),
    per_cent(found['gap_closed']),
  ]


def _bootstrap_text(found: Mapping[str, Any] | None) -> str:
  if found is None:
    return '–'
  pairs = f'{found["pairs"]} {"pair" if found["pairs"] == 1 else "pairs"}'
  return f'{_range_text(found["low"], found["high"])} ({pairs})'


def _range_text(low: float | None, high: float | None) -> str:
  return '–' if low is None else f'{number(low, ".2f")} to {number(high, ".2f")}'


def _mcnemar_cells(found: Mapping[str, Any] | None) -> tuple[str, str]:
  if found is None:
    return '–', '–'
  p_value = '< 0.0001' if found['p_value'] < 1e-4 else f'{found["p_value"]:.2g}'
  significant = f'{found["significant_pairs"]} of {found["pairs"]} < 0.05'
  return f'{found["only_first"]} / {found["only_second"]}', f'{p_value} ({significant})'


def attribution_table(steps: Sequence[Mapping[str, Any]]) -> str:
  """What each change of the chain takes off or adds."""
  rows = [
    [
      step['from'],
      step['to'],
      step['cause'],
      number(step['change'], '.2f'),
      number(step['standard_error'], '.2f'),
      per_cent(step['share']),
    ]
    for step in steps
  ]
  heads = ('from', 'to', 'due to', 'points', 'standard error', 'share of the gap')
  return aligned_table(heads, rows)


def search_table(results: Mapping[str, Any]) -> str:
  """What was tried and chosen; '' if nothing was searched."""
  rows = [row for name in results['order'] for row in _search_rows(name, results['networks'][name])]
  heads = ('network', 'split', 'trials', 'searched', 'value: validation error %', 'chosen')
  return aligned_table(heads, rows) if rows else ''


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


def provenance_table(results: Mapping[str, Any]) -> str:
  """What each network was computed by, and when."""
  rows = dittoed([_provenance_row(results, name) for name in results['order']], (1, 2, 4, 6))
  heads = ('network', 'device', 'date', 'wall seconds', 'commit', 'config', 'command')
  return aligned_table(heads, rows)


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


def seeds_text(entry: Entry) -> str:
  """How many seeds, and of how many splits if there are several."""
  splits = f'{len(entry["splits"])} × ' if 'splits' in entry else ''
  return f'{splits}{len(entry["seeds"])}'


def error_text(entry: Entry) -> str:
  """Mean and standard deviation of the metric that is compared."""
  return summary_text(comparison.test_error(entry))


def summary_text(found: Mapping[str, Any]) -> str:
  """Mean and standard deviation in per cent, without the sign."""
  if found['mean'] is None:
    return 'diverged'
  spread = '' if found['std'] is None else f' ± {found["std"]:.2f}'
  return f'{found["mean"]:.2f}{spread}'


def interval_text(entry: Entry) -> str:
  """The interval of the test error."""
  interval = entry['test_interval']
  return '–' if interval is None else f'{interval[0]:.2f} – {interval[1]:.2f}'


def factor_text(found: Mapping[str, Any]) -> str:
  """A factor in size, or which side of the measured sizes it lies on."""
  text = f'{found["factor"]:.2g}'
  notes = {
    'more than': f'> {text} (not reached within the measured sizes)',
    'at most': f'≤ {text} (by the smallest measured)',
  }
  return notes.get(found['bound'], text)


def factor_interval_text(interval: Sequence[float | None] | None) -> str:
  """The interval of a factor; an end may lie beyond the measured sizes."""
  if interval is None:
    return '–'
  low, high = interval
  if low is None:
    return 'beyond the measured sizes'
  return f'{low:.2g} – {"beyond the measured sizes" if high is None else f"{high:.2g}"}'


def duration(seconds: float) -> str:
  """Wall time in at most two units; a dash for what took none of its own."""
  if not seconds:
    return '–'
  if seconds < 60:
    return f'{seconds:.0f} s'
  hours, minutes = divmod(round(seconds / 60), 60)
  return f'{hours} h {minutes:02} min' if hours else f'{minutes} min'


def paper_text(entry: Entry) -> str:
  """The paper's figure with its source."""
  paper = entry['paper']
  return f'{paper["value"]:g} ({paper["source"]})' if paper else '–'


def flags_text(entry: Entry) -> str:
  """Which seeds collapsed or diverged."""
  raised = {flag: seeds for flag, seeds in entry['flags'].items() if seeds}
  return '; '.join(f'{flag}: {", ".join(map(str, seeds))}' for flag, seeds in raised.items())


def command_text(command: str) -> str:
  """A command as it was given, without where this machine has its programs."""
  program, _, arguments = command.partition(' ')
  known = {'main.py': 'python -m shallow_jax.main', 'shallow-jax': 'shallow-jax'}
  return f'{known.get(pathlib.PurePath(program).name, program)} {arguments}'.strip()


def per_cent(share: float | None) -> str:
  """A share, a dash where there is none."""
  return '–' if share is None else f'{100 * share:.0f} %'.replace('-', '−')


def number(value: float | None, form: str) -> str:
  """A number with a minus sign that is one, a dash where there is none."""
  return '–' if value is None else format(value, form).replace('-', '−')


def _of_entry(show: Callable[[Entry], str]) -> Cells:
  return lambda results, name: show(results['networks'][name])


def times_teacher(results: Mapping[str, Any], name: str) -> str:
  """A network's weights divided by those of the network it learns from."""
  networks = results['networks']
  own_teacher = networks[name]['targets'].partition('/')[0]
  teacher = own_teacher if own_teacher in networks else results['roles']['teacher']
  if teacher in ('', name):
    return '–'
  ratio = _weights(networks[name]) / _weights(networks[teacher])
  return f'{ratio:.2f}' if ratio < 10 else f'{ratio:.0f}'


def _weights(entry: Entry) -> int:
  return entry['parameters']['weights']


def _metric_cells(metric: str, *, is_speech: bool) -> Cells:
  """A metric of the networks that recognise phones, or of those that do not."""

  def cell(entry: Entry) -> str:
    has_phones = comparison.metric(entry) == 'per'
    return summary_text(entry['metrics']['test'][metric]) if has_phones == is_speech else '–'

  return _of_entry(cell)


def _agreement(entry: Entry) -> str:
  return f'{entry["fidelity"]["agreement"]:.1f}' if entry['fidelity'] else '–'


def _calibration(entry: Entry) -> str:
  return number(entry['calibration_error'], '.1f')


def _latency(entry: Entry) -> str:
  times = entry['latency_ms'] or {}
  return ' / '.join(f'{times[batch]:.2f}' for batch in sorted(times, key=int)) or '–'


_COLUMNS: dict[str, Cells] = {
  'network': lambda results, name: name,
  'architecture': _of_entry(lambda entry: entry['architecture']),
  'depth': _of_entry(lambda entry: str(entry['depth'])),
  'weights': _of_entry(lambda entry: style.short_count(_weights(entry))),
  '× teacher': times_teacher,
  'targets': _of_entry(lambda entry: entry['targets']),
  'loss': _of_entry(lambda entry: entry['loss'] or '–'),
  'seeds': _of_entry(seeds_text),
  'phone error rate %': _metric_cells('per', is_speech=True),
  'frame error %': _metric_cells('error', is_speech=True),
  'test error %': _metric_cells('error', is_speech=False),
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
  'phone error rate %',
  'test error %',
  'paper',
  'flags',
)
