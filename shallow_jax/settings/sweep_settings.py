"""A sweep of `config.report.sweeps`: several networks in one figure, checked before training."""

from collections.abc import Mapping
import re
from typing import Any

from shallow_jax.settings import targets as targets_lib
from shallow_jax.settings import values as values_lib

SWEEP = dict(
  name='',  # of its figure's file; the key, where `sweeps` is a dict
  title='',
  kind='points',  # error against x, curves of training in one figure, or bars
  series={},  # label -> networks, or networks alone; points of a series are joined
  x='',  # points: of MEASURED, or a number of the entry, 'model.hidden'; curves: of CLOCKS
  x_label='',  # '': the measured one's own
  y='error',  # or accuracy, both in per cent; curves, on validation: or loss, of training too.
  # Of speech points and bars show the phone error rate or 100 less it, curves frames.
  log_x=False,
  diagonal=False,  # the line y = x
  references=(),  # networks whose mean is a line across
  paper_points={},  # label -> ((x, y), ...), or points alone: the paper's, in grey
  factor=None,  # FACTOR: how many times its x a series needs to be as good as others
)
FACTOR = dict(of='', against=())  # labels of series

KINDS = ('points', 'bars', 'curves')
MEASURED = {
  'parameters': 'weights (biases apart)',
  'hidden_units': 'hidden units, counted as in Table 2',
  'multiply_adds': 'multiply-adds an example',
  'latency_ms': 'milliseconds a call',  # with the batch: 'latency_ms.256'
  'transfer_size': 'training examples',
  'teacher_accuracy': "the teacher's test accuracy, %",
}
CLOCKS = {
  'steps': 'step',
  'epochs': 'epoch: passes over its own training set',
  'seconds': 'seconds of training (steps × mean seconds a step, compiling and evaluating included)',
}
MAX_LINES = 7  # that are told apart by colour and marker

Entry = Mapping[str, Any]


def complete(sweeps: Any, networks: Mapping[str, Entry]) -> tuple[dict[str, Any], ...]:
  """Fills in the defaults of the sweeps; what can't be drawn raises ConfigError.

  Args:
    sweeps: a dict by name, or a sequence of dicts with their `name`. Order is kept by making
      tuples of it, `series` and `paper_points`: of dicts it is lost in ConfigDict and JSON.
  """
  if isinstance(sweeps, Mapping):
    sweeps = [
      {'name': name, **values_lib.mapping(sweep, f'config.report.sweeps.{name}')}
      for name, sweep in sweeps.items()
    ]
  full = tuple(_sweep(sweep, networks) for sweep in sweeps)
  names = [sweep['name'] for sweep in full]
  for name in names:
    if names.count(name) > 1:
      raise values_lib.ConfigError(f'config.report.sweeps: {name!r} is there twice')
  return full


def number(entry: Entry, key: str) -> Any:
  """The value at a dotted key of nested dicts; None where there is none."""
  found: Any = entry
  for part in key.split('.'):
    found = found.get(part) if isinstance(found, Mapping) else None
  return found


def networks_of(sweep: Mapping[str, Any]) -> list[str]:
  """All networks of a sweep's series."""
  return [name for _, names in sweep['series'] for name in names]


def _sweep(sweep: Any, networks: Mapping[str, Entry]) -> dict[str, Any]:
  given = values_lib.mapping(sweep, 'config.report.sweeps')
  name = given.get('name', '')
  where = f'config.report.sweeps.{name}'
  if not isinstance(name, str) or not re.fullmatch(r'[\w-]+', name):
    raise values_lib.ConfigError(f'config.report.sweeps: {name!r} is no name for a figure')
  free = ('series', 'paper_points', 'factor')
  full = values_lib.merge(SWEEP, given, where, free=free)
  full['title'] = full['title'] or name.replace('_', ' ')
  full['series'] = _labelled(full['series'], f'{where}.series')
  full['paper_points'] = _labelled(full['paper_points'], f'{where}.paper_points')
  if full['factor'] is not None:
    full['factor'] = values_lib.merge(FACTOR, full['factor'], f'{where}.factor')
  _check_names(full, networks, where)
  _check_axes(full, networks, where)
  _check_factor(full, where)
  return full


def _labelled(given: Any, where: str) -> tuple[tuple[str, tuple[Any, ...]], ...]:
  """Pairs of a label and what it stands for; what has no labels stands under ''."""
  if isinstance(given, Mapping):
    pairs = list(given.items())
  elif given and all(_is_pair(each) for each in given):
    pairs = list(given)
  else:
    pairs = [('', given)] if given else []
  for label, values in pairs:
    if not isinstance(values, (tuple, list)):
      raise values_lib.ConfigError(f'{where}.{label}: expected a tuple, not {values!r}')
  return tuple((str(label), tuple(values)) for label, values in pairs)


def _is_pair(value: Any) -> bool:
  """Whether it is (label, values), as `_labelled` returns it."""
  is_row = isinstance(value, (tuple, list)) and len(value) == 2
  return is_row and isinstance(value[0], str) and isinstance(value[1], (tuple, list))


def _check_names(sweep: Mapping[str, Any], networks: Mapping[str, Entry], where: str) -> None:
  values_lib.choice(sweep['kind'], KINDS, f'{where}.kind')
  names = networks_of(sweep)
  for name in names:
    values_lib.choice(name, list(networks), f'{where}.series')
  for name in sweep['references']:
    values_lib.choice(name, list(networks), f'{where}.references')
  lines = len(names) if sweep['kind'] == 'curves' else len(sweep['series'])
  if not 1 <= lines <= MAX_LINES:
    raise values_lib.ConfigError(f'{where}.series: expected 1 to {MAX_LINES} lines, not {lines}')
  for _, points in sweep['paper_points']:
    for point in points:
      if not isinstance(point, (tuple, list)) or len(point) != 2:
        raise values_lib.ConfigError(f'{where}.paper_points: expected (x, y), not {point!r}')


def _check_axes(sweep: Mapping[str, Any], networks: Mapping[str, Entry], where: str) -> None:
  is_curves = sweep['kind'] == 'curves'
  measures = ('error', 'accuracy', 'loss') if is_curves else ('error', 'accuracy')
  values_lib.choice(sweep['y'], measures, f'{where}.y')
  if is_curves:
    values_lib.choice(sweep['x'], tuple(CLOCKS), f'{where}.x')
  if sweep['y'] == 'loss' and sweep['references']:
    raise values_lib.ConfigError(f'{where}.references: expected none where y is loss')
  for name in networks_of(sweep):
    if is_curves and networks[name]['ensemble']:
      raise values_lib.ConfigError(f'{where}.series: {name!r} is not trained, it has no curve')
    if sweep['kind'] == 'points':
      _check_x(sweep, networks[name], f"{where}.x: {name}'s {sweep['x']}")


def _check_x(sweep: Mapping[str, Any], entry: Entry, what: str) -> None:
  measured = sweep['x'].partition('.')[0]
  if measured == 'teacher_accuracy' and (
    entry['ensemble'] or targets_lib.are_labels(entry['targets'])
  ):
    raise values_lib.ConfigError(f'{what}: it learns from no network')
  if measured == 'transfer_size' and entry['ensemble']:
    raise values_lib.ConfigError(f'{what}: an ensemble is not trained')
  if measured in MEASURED:
    return
  value = number(entry, sweep['x'])
  if not isinstance(value, (int, float)) or isinstance(value, bool):
    known = ', '.join(MEASURED)
    raise values_lib.ConfigError(f'{what} is {value!r}; expected a number, or one of {known}')
  if sweep['log_x'] and value <= 0:
    raise values_lib.ConfigError(
      f'{what} is {value}, which has no place on a logarithmic axis; expected it in `references`'
    )


def _check_factor(sweep: Mapping[str, Any], where: str) -> None:
  factor, labels = sweep['factor'], [label for label, _ in sweep['series']]
  if factor is None:
    return
  if sweep['kind'] != 'points' or sweep['y'] != 'error':
    raise values_lib.ConfigError(f'{where}.factor: expected kind points and y error')
  for label in (factor['of'], *factor['against']):
    values_lib.choice(label, labels, f'{where}.factor')
