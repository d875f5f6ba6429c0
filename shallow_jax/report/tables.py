"""The report's tables, in markdown. A row is a dict: what a column is called, and its cell."""

from collections.abc import Mapping, Sequence
from typing import Any

from shallow_jax.report import comparison
from shallow_jax.report import texts

Row = Mapping[str, str]
_NOTHING = ('', '–')  # what a cell says that says nothing


def networks_table(results: Mapping[str, Any]) -> str:
  """The networks with all that is known of them."""
  rows = [_network_row(results, name) for name in results['order']]
  return table(rows, drop_empty=True) or 'No network is finished yet.'


def short_table(results: Mapping[str, Any]) -> str:
  """The networks in a table that fits a terminal."""
  rows = [_network_row(results, name) for name in results['order']]
  short = [{head: row[head] for head in _SHORT} for row in rows]
  return table(short, drop_empty=True) or 'No network is finished yet.'


_SHORT = (
  *('network', 'architecture', 'weights', 'targets', 'loss', 'seeds', 'phone error rate %'),
  *('test error %', 'paper', 'flags'),
)


def _network_row(results: Mapping[str, Any], name: str) -> Row:
  entry = results['networks'][name]
  test, has_phones = entry['metrics']['test'], comparison.metric(entry) == 'per'
  times = entry['latency_ms'] or {}
  return {
    'network': name,
    'architecture': entry['architecture'],
    'depth': str(entry['depth']),
    'weights': texts.short_count(entry['parameters']['weights']),
    '× teacher': times_teacher(results, name),
    'targets': entry['targets'],
    'loss': entry['loss'] or '–',
    'seeds': texts.seeds_text(entry),
    'phone error rate %': texts.summary_text(test['per']) if has_phones else '–',
    'frame error %': texts.summary_text(test['error']) if has_phones else '–',
    'test error %': '–' if has_phones else texts.summary_text(test['error']),
    'paper': texts.paper_text(entry),
    'agreement %': f'{entry["fidelity"]["agreement"]:.1f}' if entry['fidelity'] else '–',
    'calibration error %': texts.number(entry['calibration_error'], '.1f'),
    'latency ms, batch 1 / 32 / 256': (
      ' / '.join(f'{times[batch]:.2f}' for batch in sorted(times, key=int)) or '–'
    ),
    'flags': texts.flags_text(entry),
  }


def times_teacher(results: Mapping[str, Any], name: str) -> str:
  """A network's weights divided by those of the network it learns from."""
  networks = results['networks']
  own_teacher = networks[name]['targets'].partition('/')[0]
  teacher = own_teacher if own_teacher in networks else results['roles']['teacher']
  if teacher in ('', name):
    return '–'
  ratio = networks[name]['parameters']['weights'] / networks[teacher]['parameters']['weights']
  return f'{ratio:.2f}' if ratio < 10 else f'{ratio:.0f}'


def paper_table(results: Mapping[str, Any]) -> str:
  """Rows of the paper beside ours; '' if the config names none."""
  entries = [results['networks'][name] for name in results['order']]
  rows = [_paper_row(entry) for entry in entries if entry['paper']]
  return table(rows, ditto=('device', 'command'), drop_empty=True)


def _paper_row(entry: comparison.Entry) -> Row:
  paper, found = entry['paper'], entry['provenance']
  return {
    'row': entry['label'],
    'architecture': entry['architecture'],
    'paper %': texts.paper_text(entry),
    'ours % (seeds)': f'{texts.error_text(entry)} ({texts.seeds_text(entry)})',
    '95 % interval': texts.interval_text(entry['test_interval']),
    'weights by formula': texts.short_count(entry['parameters']['weights']),
    'paper: parameters': paper['parameters'] or '–',
    'hidden units': texts.short_count(entry['hidden_units']),
    'paper: hidden units': paper['hidden_units'] or '–',
    'device': found['device'],
    'command': f'`{texts.command_text(found["command"])}`',
    'time, all seeds': texts.duration(found['wall_seconds']),
  }


def factor_table(sweep: Mapping[str, Any], networks: comparison.Entries) -> str:
  """How many times the x of each net another series needs; '' if the sweep does not ask."""
  rows = [
    {
      'goal': found['against'],
      'network': networks[found['network']]['label'],
      sweep['x_label']: texts.short_count(found['x']),
      'error %': f'{found["error"]:.2f}',
      'by': found['of'],
      'times as many': texts.factor_text(found),
      '95 % interval': texts.factor_interval_text(found['interval']),
    }
    for found in sweep['factors']
  ]
  return table(rows)


def comparison_table(results: Mapping[str, Any]) -> str:
  """The headline's network against the same net taught otherwise."""
  return table([_comparison_row(results, name) for name in results['comparison']], drop_empty=True)


def _comparison_row(results: Mapping[str, Any], name: str) -> Row:
  found, entry = results['comparison'][name], results['networks'][name]
  headline, error_name = results['roles']['headline'], comparison.error_name(results['networks'])
  difference = texts.number(found['difference'], '.2f') + texts.plus_minus(found['standard_error'])
  alone, p_value = _mcnemar_texts(found.get('mcnemar'))
  return {
    'network': name + (' (best on labels)' if found['is_best_on_labels'] else ''),
    'on': entry['targets'],
    f'test {error_name} %': texts.error_text(entry),
    f'errors of {headline} ÷ its errors': texts.number(found['ratio'], '.2f'),
    'difference, points': difference,
    'in standard errors': texts.number(found['in_standard_errors'], '.1f'),
    'difference: 95 % over seeds or splits': _range_text(*(found['interval'] or (None, None))),
    'difference: 95 % over utterances': _bootstrap_text(found.get('bootstrap')),
    f'wrong alone: it / {headline}': alone,
    "McNemar's p": p_value,
    f'gap to the teacher closed by {headline}': texts.per_cent(found['gap_closed']),
  }


def _bootstrap_text(found: Mapping[str, Any] | None) -> str:
  if found is None:
    return '–'
  pairs = f'{found["pairs"]} {"pair" if found["pairs"] == 1 else "pairs"}'
  return f'{_range_text(found["low"], found["high"])} ({pairs})'


def _range_text(low: float | None, high: float | None) -> str:
  return '–' if low is None else f'{texts.number(low, ".2f")} to {texts.number(high, ".2f")}'


def _mcnemar_texts(found: Mapping[str, Any] | None) -> tuple[str, str]:
  if found is None:
    return '–', '–'
  p_value = '< 0.0001' if found['p_value'] < 1e-4 else f'{found["p_value"]:.2g}'
  significant = f'{found["significant_pairs"]} of {found["pairs"]} < 0.05'
  return f'{found["only_first"]} / {found["only_second"]}', f'{p_value} ({significant})'


def attribution_table(steps: Sequence[Mapping[str, Any]]) -> str:
  """What each change of the chain takes off or adds."""
  rows = [
    {
      'from': step['from'],
      'to': step['to'],
      'due to': step['cause'],
      'points': texts.number(step['change'], '.2f'),
      'standard error': texts.number(step['standard_error'], '.2f'),
      'share of the gap': texts.per_cent(step['share']),
    }
    for step in steps
  ]
  return table(rows)


def search_table(results: Mapping[str, Any]) -> str:
  """What was tried and chosen; '' if nothing was searched."""
  rows = []
  for name in results['order']:
    entry = results['networks'][name]
    by_split = entry.get('search_by_split', {'': entry['search']})
    rows += [_search_row(name, split, search) for split, search in by_split.items() if search]
  return table(rows)


def _search_row(name: str, split: str, search: Mapping[str, Any]) -> Row:
  trials = search['trials']
  return {
    'network': name,
    'split': split or '–',
    'trials': str(len(trials)),
    'searched': ', '.join(trials[0]['settings']),
    'value: validation error %': '; '.join(_trial(trial) for trial in trials),
    'chosen': _settings(trials[search['chosen']]),
  }


def _trial(trial: Mapping[str, Any]) -> str:
  if trial['status'] == 'diverged':
    return f'{_settings(trial)}: diverged'
  flag = ' collapsed' if trial['collapsed'] else ''
  return f'{_settings(trial)}: {trial["validation"]["error"]:.2f}{flag}'


def _settings(trial: Mapping[str, Any]) -> str:
  return ', '.join(str(value) for value in trial['settings'].values())


def provenance_table(results: Mapping[str, Any]) -> str:
  """What each network was computed by, and when."""
  rows = [
    {
      'network': name,
      'device': found['device'],
      'date': found['date'],
      'wall seconds': f'{found["wall_seconds"]:,.0f}',
      'commit': (found['commit'] or '–')[:12],
      'config': found['config_hash'][:12],
      'command': f'`{texts.command_text(found["command"])}`',
    }
    for name in results['order']
    for found in [results['networks'][name]['provenance']]
  ]
  return table(rows, ditto=('device', 'date', 'commit', 'command'))


def table(rows: Sequence[Row], *, ditto: Sequence[str] = (), drop_empty: bool = False) -> str:
  """A markdown table whose columns line up as plain text too; '' without rows.

  Args:
    rows: cells by their columns, the same in each row.
    ditto: columns that say ″ where the row above says the same.
    drop_empty: whether columns go in which no row says anything.
  """
  if not rows:
    return ''
  heads = [
    head for head in rows[0] if not drop_empty or any(row[head] not in _NOTHING for row in rows)
  ]
  cells = [[row[head].replace('|', '\\|') for head in heads] for row in rows]
  for i in range(len(cells) - 1, 0, -1):  # from below: compared with what is not yet ″
    for j, head in enumerate(heads):
      if head in ditto and cells[i][j] == cells[i - 1][j]:
        cells[i][j] = '″'
  widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
  return '\n'.join(
    '| ' + ' | '.join(f'{cell:<{w}}' for cell, w in zip(line, widths, strict=True)) + ' |'
    for line in (heads, ['-' * width for width in widths], *cells)
  )
