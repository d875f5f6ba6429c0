"""What an experiment found, for readers: results.json, report.md and its pictures."""

from collections.abc import Iterable, Mapping, Sequence
import pathlib
from typing import Any

from shallow_jax.report import comparison
from shallow_jax.report import phone_tables
from shallow_jax.report import results as results_lib
from shallow_jax.report import sweeps
from shallow_jax.report import tables
from shallow_jax.report import texts
from shallow_jax.report.figures import confusion
from shallow_jax.report.figures import networks as network_figures
from shallow_jax.report.figures import style
from shallow_jax.report.figures import sweeps as sweep_figures
from shallow_jax.runtime import storage
from shallow_jax.runtime import workdir as workdir_lib

PAPER_PICTURE = 'against_the_paper.png'


def write(
  config: Mapping[str, Any], workdir: pathlib.Path, left_out: Mapping[str, str] | None = None
) -> dict[str, Any]:
  """Writes <workdir>/report/ and returns the content of its results.json.

  Networks without a result.json are left out, and those in `left_out`: they are others than the
  config says, in what stands beside their names. `config` is complete, as plain dicts.

  Raises:
    results.ResultsError: the splits' results are of different experiments.
    storage.StorageError: a file is damaged or can't be written.
  """
  results = results_lib.collect(config, workdir, left_out or {})
  folder = workdir / workdir_lib.REPORT / workdir_lib.FIGURES
  folder.mkdir(parents=True, exist_ok=True)
  drawn = pictures(results, list(results_lib.run_folders(config, workdir).values()))
  write_pictures(folder, drawn)
  storage.write_sealed_json(folder.parent / workdir_lib.RESULTS, results)
  text = markdown(results, [f'{workdir_lib.FIGURES}/{name}' for name in drawn])
  storage.write_bytes(folder.parent / workdir_lib.REPORT_TEXT, text.encode())
  return results


def pictures(results: Mapping[str, Any], folders: Sequence[pathlib.Path]) -> dict[str, bytes]:
  """All pictures that there is something to draw for, as PNG bytes by file name.

  Args:
    results: as results.collect returns them.
    folders: of the experiment's runs, one a split: curves and confusions are read there.
  """
  drawn = {
    'error_by_network.png': network_figures.error_by_network(results),
    'error_against_parameters.png': network_figures.error_against_parameters(results),
    'learning_curves.png': network_figures.learning_curves(results, folders),
    'attribution.png': network_figures.attribution(results),
    PAPER_PICTURE: network_figures.against_the_paper(results),
    'phone_confusion.png': confusion.figure(results, folders),
    **{
      sweeps.picture(sweep): sweep_figures.figure(results, sweep, folders)
      for sweep in results['sweeps']
    },
  }
  return {name: style.png(figure) for name, figure in drawn.items() if figure is not None}


def write_pictures(folder: pathlib.Path, drawn: Mapping[str, bytes]) -> None:
  """Writes the pictures and removes others, which belong to an earlier report."""
  for name, data in drawn.items():
    storage.write_bytes(folder / name, data)
  for path in folder.glob('*.png'):
    if path.name not in drawn:
      path.unlink()


def markdown(results: Mapping[str, Any], paths: Sequence[str] = ()) -> str:
  """The report, with the pictures at these paths."""
  stems = {path: pathlib.Path(path).stem.replace('_', ' ') for path in paths}
  shown = {pathlib.Path(path).name: f'![{stem}]({path})' for path, stem in stems.items()}
  versions = ', '.join(f'{name} {version}' for name, version in results['versions'].items())
  elsewhere = {PAPER_PICTURE, *(sweeps.picture(sweep) for sweep in results['sweeps'])}
  sections = [
    f'# {results["experiment"]}',
    results['note'],
    _data_text(results['data']),
    tables.networks_table(results),
    _notes(results),
    _left_out_text(results),
    _comparison_text(results),
    _attribution_text(results),
    phone_tables.text(results),
    _paper_text(results, shown),
    '\n'.join(text for name, text in shown.items() if name not in elsewhere),
    _sweeps_text(results, shown),
    _section('## Search: what validation chose', tables.search_table(results)),
    _section('## Where the results come from', tables.provenance_table(results), f'{versions}.'),
  ]
  return _joined(sections) + '\n'


def _joined(sections: Iterable[str]) -> str:
  """The sections that there are, a line apart."""
  return '\n\n'.join(section for section in sections if section)


def _section(heading: str, *parts: str) -> str:
  """The parts that there are under a heading; '' where the first is not."""
  return _joined([heading, *parts]) if parts[0] else ''


def _paper_text(results: Mapping[str, Any], shown: Mapping[str, str]) -> str:
  is_speech = comparison.error_name(results['networks']) != 'error'
  note = _PAPER_NOTE.format(interval=_UTTERANCES if is_speech else _WILSON)
  table, picture = tables.paper_table(results), shown.get(PAPER_PICTURE, '')
  return _section('## Against the paper', table, note, picture)


_PAPER_NOTE = (
  'Ours: mean ± standard deviation over seeds, the chance in training. 95 % interval: {interval}, '
  'the chance in drawing a test set of that size. Weights are counted by formula, '
  "biases apart; an ensemble's are the sums over its members. ″: as above."
)
_WILSON = "Wilson's, of the mean error"
_UTTERANCES = 'of the phone error rate, utterances drawn anew'


def _sweeps_text(results: Mapping[str, Any], shown: Mapping[str, str]) -> str:
  """Each sweep with its picture, and the factors in size that it asks for."""
  sections = ['## Sweeps']
  for sweep in results['sweeps']:
    table = tables.factor_table(sweep, results['networks'])
    note = _FACTOR_NOTE if table else ''
    sections += [f'### {sweep["title"]}', shown.get(sweeps.picture(sweep), ''), table, note]
  return _joined(sections) if results['sweeps'] else ''


_FACTOR_NOTE = (
  'For each net: how many times its size another series needs for the same mean error, on lines '
  'between the measured sizes over the logarithm of the size. Interval: 95 %, from the spread of '
  "the seeds by Student's t; none where a size has fewer than three seeds."
)


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


def _left_out_text(results: Mapping[str, Any]) -> str:
  left_out = results.get('left_out', {})  # not in results published before 2026-12
  return '\n'.join(
    f'Left out: {name}, which was begun or evaluated under other settings ({lines}).'
    for name, lines in left_out.items()
  )


_ON_ONE_HOT = ('label_l2', 'hard_l2')
_REGRESSION_NOTE = (
  'Outputs of label_l2 and hard_l2 are regressions onto 0 and 1, not logits: their calibration '
  'error, that of a softmax over them, says little.'
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
    parts = [v if isinstance(v, str) else f'{v:,} of {name}' for name, v in value.items()]
    value = ', '.join(parts) or 'none'
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
  errors = 'errors' if comparison.error_name(networks) == 'error' else 'phone errors'
  error, ratio = texts.error_text, texts.number(found['ratio'], '.2f')
  closed = ''
  if (found['gap_closed'] or 0) > 0:
    closed = (
      f' It closes {texts.per_cent(found["gap_closed"])} of the gap to {roles["teacher"]} '
      f'({error(networks[roles["teacher"]])} %).'
    )
  return (
    f'{name} makes {error(networks[name])} % {errors}, the best net on labels (chosen by '
    f'validation), {best}, {error(networks[best])} %: {abs(found["difference"]):.2f} points '
    f'{fewer}{significance(found)}, {ratio} times as many.{closed}'
  )


def significance(found: Mapping[str, Any]) -> str:
  """The size of a difference in its standard errors, in brackets, and whether it tells anything."""
  if found['in_standard_errors'] is None:
    return ''
  splits = found['paired_splits']
  over = f'paired by split, {splits} splits' if splits else 'over seeds'
  low, high = found['interval']
  told = '; the 95 % interval spans 0: no ranking' if low < 0 < high else ''
  return f' ({abs(found["in_standard_errors"]):.1f} standard errors, {over}{told})'


def _comparison_text(results: Mapping[str, Any]) -> str:
  if not results['comparison']:
    return ''
  compared = results['comparison'].values()
  return _joined(
    [
      f'## {results["roles"]["headline"]} against the same net taught otherwise',
      headline(results),
      _controls_text(results),
      tables.comparison_table(results),
      _MCNEMAR_NOTE if any(found.get('mcnemar') for found in compared) else '',
      _BOOTSTRAP_NOTE if any(found.get('bootstrap') for found in compared) else '',
    ]
  )


_MCNEMAR_NOTE = (
  "McNemar's exact test on the test set, seed i of one net against seed i of the other. Shown is "
  'the pair of the median p; in brackets, how many pairs have p < 0.05. Seeds are not pooled, as '
  'their errors on an example go together. The test speaks of these very nets, the standard '
  'errors of others trained like them.'
)


_BOOTSTRAP_NOTE = (
  '95 % over utterances: test utterances drawn anew with replacement for both nets together, seed '
  'i of one against seed i of the other, the pairs pooled. It speaks of these very nets, the '
  'standard errors of others trained like them.'
)


def _controls_text(results: Mapping[str, Any]) -> str:
  """How far the controls come, and which of them is ahead of the headline."""
  controls = {k: v for k, v in results['comparison'].items() if v['role'] == 'control'}
  if not controls:
    return ''
  networks, roles = results['networks'], results['roles']
  reached = ', '.join(
    f'{name} {texts.error_text(networks[name])} %{texts.in_brackets(found["own_gap_closed"])}'
    for name, found in controls.items()
  )
  brackets = ''
  if any(found['own_gap_closed'] is not None for found in controls.values()):
    brackets = f' (in brackets: of the gap from {roles["best_on_labels"]} to {roles["teacher"]})'
  ahead = [name for name, found in controls.items() if found['difference'] < 0]
  verdict = (
    f'Fewer errors than {roles["headline"]} on average: {", ".join(ahead)}.'
    if ahead
    else f'None makes fewer errors than {roles["headline"]} on average.'
  )
  return f'The other nets taught by a network reach{brackets}: {reached}. {verdict}'


def _attribution_text(results: Mapping[str, Any]) -> str:
  steps = results['attribution']
  if not steps:
    return ''
  first, last = steps[0]['from'], steps[-1]['to']
  parts = ', '.join(
    f'{step["cause"]} {texts.number(step["change"], ".2f")} ({texts.per_cent(step["share"])})'
    for step in steps
  )
  gap = texts.number(sum(step['change'] for step in steps), '.2f')
  negative = ' A negative part adds errors.' if any(step['change'] < 0 for step in steps) else ''
  sentence = f'From {first} to {last} it is {gap} points; of them, step by step: {parts}.{negative}'
  return _section('## What the gain is due to', sentence, tables.attribution_table(steps))
