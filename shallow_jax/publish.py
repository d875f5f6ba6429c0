"""Reports that ship with the configs: configs/results/<config>/ and the table of configs/README.md.

python -m shallow_jax.publish runs/digits digits
"""

import argparse
from collections.abc import Mapping
import pathlib
import sys
from typing import Any

from shallow_jax import report
from shallow_jax import report_tables
from shallow_jax import results as results_lib
from shallow_jax import storage

CONFIGS = pathlib.Path(__file__).parents[1] / 'configs'
BEGIN, END = '<!-- results:begin -->', '<!-- results:end -->'

Entry = Mapping[str, Any]


class PublishError(RuntimeError):
  """There is no place for the table; the message is one line."""


def publish(workdir: pathlib.Path, name: str, configs: pathlib.Path = CONFIGS) -> None:
  """Copies a report into <configs>/results/<name>/ and rewrites the table of <configs>/README.md.

  Raises:
    PublishError: the README has no place for the table.
    storage.StorageError: there is no report yet.
  """
  results = storage.read_json(workdir / 'report' / 'results.json')
  readme = configs / 'README.md'
  _with_table(readme, '')
  folder = configs / 'results' / name
  folder.mkdir(parents=True, exist_ok=True)
  storage.write_json(folder / 'results.json', results)
  pictures = sorted((workdir / 'report' / 'figures').glob('*.png'))
  report.write_pictures(folder, {path.name: path.read_bytes() for path in pictures})
  storage.write_bytes(readme, _with_table(readme, published_table(published(configs))).encode())


def published(configs: pathlib.Path = CONFIGS) -> dict[str, Any]:
  """The published results by config."""
  paths = sorted((configs / 'results').glob('*/results.json'))
  return {path.parent.name: storage.read_json(path) for path in paths}


def published_table(results: Mapping[str, Mapping[str, Any]]) -> str:
  """The table of configs/README.md: a row a network, from published results by config."""
  heads = (
    'network',
    'config',
    'command',
    'paper %',
    'measured % (seeds)',
    'device',
    'date',
    'verdict',
  )
  rows = [
    _published_row(config, found, name)
    for config, found in results.items()
    for name in found['order']
  ]
  return report_tables.aligned_table(heads, report_tables.dittoed(rows, (2, 5, 6)))


def _published_row(config: str, results: Mapping[str, Any], name: str) -> list[str]:
  entry = results['networks'][name]
  found = entry['provenance']
  return [
    name,
    f'[{config}](results/{config}/results.json)',
    f'`{report_tables.command_text(found["command"])}`',
    report_tables.paper_text(entry),
    f'{report_tables.error_text(entry)} ({report_tables.seeds_text(entry)})',
    found['device'],
    found['date'],
    verdict(results, name),
  ]


def verdict(results: Mapping[str, Any], name: str) -> str:
  """How a network stands to the paper's figure, and to the best net on labels."""
  entry, best = results['networks'][name], results['roles']['best_on_labels']
  parts = [_against_paper(entry), report_tables.flags_text(entry)]
  found = results['comparison'].get(name, {'role': ''})
  if best in results['comparison'] and name == results['roles']['headline']:
    parts.append(_against_best(results['comparison'][best], best))
  elif found['role'] == 'control' and found['own_gap_closed'] is not None:
    share = report_tables.per_cent(found['own_gap_closed'])
    parts.append(f'{share} of the way from {best} to {results["roles"]["teacher"]}')
  return '; '.join(part for part in parts if part) or '–'


def _against_best(found: Mapping[str, Any], best: str) -> str:
  sign = 'below' if found['difference'] > 0 else 'above'
  parts = [f'{abs(found["difference"]):.2f} points {sign} {best}{report.significance(found)}']
  if (found['gap_closed'] or 0) > 0:
    parts.append(f'{report_tables.per_cent(found["gap_closed"])} of its gap to the teacher closed')
  return '; '.join(parts)


def _against_paper(entry: Entry) -> str:
  error, paper = results_lib.test_error(entry), entry['paper']
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
    raise PublishError(f'{readme}: expected the lines {BEGIN} and {END} around its table')
  return f'{before}{BEGIN}\n{text}\n{END}{after}'


def main() -> None:
  """The command that publishes a report."""
  parser = argparse.ArgumentParser(prog='python -m shallow_jax.publish')
  parser.add_argument('workdir', type=pathlib.Path, help='of the run')
  parser.add_argument('name', help='of its folder in configs/results')
  arguments = parser.parse_args()
  try:
    publish(arguments.workdir, arguments.name)
  except (PublishError, storage.StorageError) as error:
    sys.exit(f'shallow_jax.publish: {error}')


if __name__ == '__main__':
  main()
