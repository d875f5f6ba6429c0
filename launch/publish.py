#!/usr/bin/env python3
"""Reports that ship with the configs: configs/results/<config>/, and the pages filled from them.

  python launch/publish.py WORKDIR CONFIG
  python launch/publish.py runs/digits digits

configs/README.md has a table for each; the pages claims.md and inconsistencies.md there have single
values in their text.
"""

import argparse
from collections.abc import Callable, Mapping
import pathlib
import re
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # a checkout need not be installed

from shallow_jax.report import comparison
from shallow_jax.report import page
from shallow_jax.report import tables
from shallow_jax.report import texts
from shallow_jax.runtime import errors
from shallow_jax.runtime import storage
from shallow_jax.runtime import workdir as workdir_lib

CONFIGS = pathlib.Path(__file__).parents[1] / 'configs'
PAGES = ('claims.md', 'inconsistencies.md')
BEGIN, END = '<!-- results:begin -->', '<!-- results:end -->'
VALUE = re.compile(r'(<!-- ours:([\w-]+)/([\w-]+) ([^>]+?) -->)(.*?)(<!-- end -->)', re.DOTALL)
NOT_RUN = 'not run here yet'


class PublishError(errors.ExpectedError, RuntimeError):
  """A page that can't be filled; the message is one line."""


def publish(workdir: pathlib.Path, name: str, configs: pathlib.Path = CONFIGS) -> None:
  """Copies a report into <configs>/results/<name>/ and fills the pages of <configs> anew.

  Raises:
    PublishError: the README has no place for the tables, or a page asks for what there is not.
    storage.StorageError: there is no report yet, or it was changed.
  """
  results = storage.read_record(workdir / workdir_lib.REPORT / workdir_lib.RESULTS)
  readme = configs / 'README.md'
  pages = {path: path.read_text() for path in pages_of(configs)}
  with_tables(readme, '')
  for text in pages.values():
    filled(text, {name: results})
  folder = configs / 'results' / name
  folder.mkdir(parents=True, exist_ok=True)
  storage.write_json(folder / 'results.json', results)
  pictures = sorted((workdir / workdir_lib.REPORT / workdir_lib.FIGURES).glob('*.png'))
  page.write_pictures(folder, {path.name: path.read_bytes() for path in pictures})
  everything = published(configs)
  storage.write_bytes(readme, with_tables(readme, published_tables(everything)).encode())
  for path, text in pages.items():
    storage.write_bytes(path, filled(text, everything).encode())


def pages_of(configs: pathlib.Path = CONFIGS) -> list[pathlib.Path]:
  """The pages of <configs> with values in their text."""
  return [configs / name for name in PAGES if (configs / name).exists()]


def published(configs: pathlib.Path = CONFIGS) -> dict[str, Any]:
  """The published results by config."""
  paths = sorted((configs / 'results').glob('*/results.json'))
  return {path.parent.name: storage.read_json(path) for path in paths}


def filled(text: str, results: Mapping[str, Mapping[str, Any]]) -> str:
  """A page's text with each of its values as published now.

  A value stands in `<!-- ours:CONFIG/NETWORK WHAT -->here<!-- end -->`. WHAT: `error`, `weights`,
  `hidden_units`, `times_teacher`, `against_paper`, or `nearer A B`, two errors in per cent.

  Args:
    text: of the page.
    results: the published ones by config; what is not among them is `not run here yet`.

  Raises:
    PublishError: a value of another name.
  """
  return VALUE.sub(lambda match: f'{match[1]}{_value(match, results)}{match[6]}', text)


def _value(match: re.Match[str], results: Mapping[str, Mapping[str, Any]]) -> str:
  _, config, network, what, _, _ = match.groups()
  name, *arguments = what.split()
  if name not in _VALUES:
    raise PublishError(f'{match[1]}: unknown {what!r}; expected one of {", ".join(_VALUES)}')
  found = results.get(config, {'networks': {}})
  if network not in found['networks']:
    return NOT_RUN
  return _VALUES[name](found, network, *arguments)


def _error(results: Mapping[str, Any], name: str) -> str:
  entry = results['networks'][name]
  seeds = texts.seeds_text(entry)
  return f'{texts.error_text(entry)} % ({seeds} {"seed" if seeds == "1" else "seeds"})'


def _nearer(results: Mapping[str, Any], name: str, first: str, second: str) -> str:
  mean = comparison.test_error(results['networks'][name])['mean']
  if mean is None:
    return 'near neither'
  near, far = sorted((first, second), key=lambda value: abs(mean - float(value)))
  return f'nearer to {near} than to {far}'


_VALUES: dict[str, Callable[..., str]] = {
  'error': _error,
  'weights': lambda results, name: texts.short_count(
    results['networks'][name]['parameters']['weights']
  ),
  'hidden_units': lambda results, name: texts.short_count(
    results['networks'][name]['hidden_units']
  ),
  'times_teacher': tables.times_teacher,
  'against_paper': lambda results, name: _against_paper(results['networks'][name]),
  'nearer': _nearer,
}


def published_tables(results: Mapping[str, Mapping[str, Any]]) -> str:
  """The tables of configs/README.md: a section each config, a row each network."""
  return '\n\n'.join(_section(config, found) for config, found in results.items())


def _section(config: str, results: Mapping[str, Any]) -> str:
  """A config's title, where its values come from, and its rows."""
  entries = {name: results['networks'][name] for name in results['order']}
  origins = [
    f'- `{texts.command_text(found["command"])}` on {found["device"]}, {found["date"]}'
    for found in (entry['provenance'] for entry in entries.values())
  ]
  rows = [
    {
      'network': name,
      'architecture': entry['architecture'],
      'paper %': texts.paper_text(entry),
      'measured % (seeds)': f'{texts.error_text(entry)} ({texts.seeds_text(entry)})',
      'verdict': verdict(results, name),
    }
    for name, entry in entries.items()
  ]
  lines = [
    f'### {config}',
    f'{results["experiment"]}. {results["note"]}'.strip(),
    '\n'.join(dict.fromkeys(origins)),  # once for all the networks that share them
    tables.table(rows, drop_empty=True),
    f'Figures and all numbers: [results/{config}](results/{config}).',
  ]
  return '\n\n'.join(lines)


def verdict(results: Mapping[str, Any], name: str) -> str:
  """How a network stands to the paper's value, and to the best net on labels."""
  entry, best = results['networks'][name], results['roles']['best_on_labels']
  parts = [_against_paper(entry), texts.flags_text(entry)]
  found = results['comparison'].get(name, {'role': ''})
  if best in results['comparison'] and name == results['roles']['headline']:
    parts.append(_against_best(results['comparison'][best], best))
  elif found['role'] == 'control' and found['own_gap_closed'] is not None:
    share = texts.per_cent(found['own_gap_closed'])
    parts.append(f'{share} of the way from {best} to {results["roles"]["teacher"]}')
  return '; '.join(part for part in parts if part) or '–'


def _against_best(found: Mapping[str, Any], best: str) -> str:
  sign = 'below' if found['difference'] > 0 else 'above'
  parts = [f'{abs(found["difference"]):.2f} points {sign} {best}{page.significance(found)}']
  if (found['gap_closed'] or 0) > 0:
    parts.append(f'{texts.per_cent(found["gap_closed"])} of its gap to the teacher closed')
  return '; '.join(parts)


def _against_paper(entry: comparison.Entry) -> str:
  error, paper = comparison.test_error(entry), entry['paper']
  if paper is None or error['mean'] is None:
    return ''
  points = error['mean'] - paper['value']
  if error['std'] is not None and abs(points) <= 2 * error['std']:
    return "the paper's, within 2 standard deviations"
  return f'{abs(points):.2f} points {"above" if points > 0 else "below"} the paper'


def with_tables(page: pathlib.Path, text: str, begin: str = BEGIN, end: str = END) -> str:
  """A page's text with `text` between its lines `begin` and `end`.

  Raises:
    PublishError: it has not these two lines.
  """
  old = page.read_text() if page.exists() else ''
  before, found_begin, rest = old.partition(begin)
  _, found_end, after = rest.partition(end)
  if not (found_begin and found_end):
    raise PublishError(f'{page}: expected the lines {begin} and {end} around its tables')
  return f'{before}{begin}\n{text}\n{end}{after}'


def main() -> None:
  """The command that publishes a report."""
  parser = argparse.ArgumentParser(prog='python launch/publish.py')
  parser.add_argument('workdir', type=pathlib.Path, help='of the run')
  parser.add_argument('name', help='of its folder in configs/results')
  arguments = parser.parse_args()
  try:
    publish(arguments.workdir, arguments.name)
  except errors.ExpectedError as error:
    sys.exit(f'launch/publish.py: {error}')


if __name__ == '__main__':
  main()
