"""The numbers of a sweep's picture, gathered from results: points, and factors in size."""

from collections.abc import Mapping, Sequence
import statistics
from typing import Any

from shallow_jax.report import comparison
from shallow_jax.report import uncertainty
from shallow_jax.settings import sweep_settings

MIN_NETWORKS = 2  # with a result: fewer are no picture

Settings = Mapping[str, Mapping[str, Any]]  # the networks' entries of the config
Entries = comparison.Entries


def collect(
  sweeps: Sequence[Mapping[str, Any]],
  entries: Settings,
  networks: Entries,
  sizes: Mapping[str, int],
) -> list[dict[str, Any]]:
  """The sweeps that there is something to draw of, for results.json.

  Args:
    networks: of results.json; what has no result yet, or diverged, is left out.
    sizes: how many examples each set has.
  """
  known = comparison.finished(networks)
  found = [_collected(sweep, entries, known, sizes) for sweep in sweeps]
  return [each for each in found if sum(len(s['points']) for s in each['series']) >= MIN_NETWORKS]


def picture(sweep: Mapping[str, Any]) -> str:
  """The file name of a sweep's picture."""
  return f'sweep_{sweep["name"]}.png'


def _collected(
  sweep: Mapping[str, Any], entries: Settings, networks: Entries, sizes: Mapping[str, int]
) -> dict[str, Any]:
  series = [
    {
      'label': label,
      'points': [
        point
        for name in names
        if name in networks and (point := _point(sweep, name, entries, networks, sizes))
      ],
    }
    for label, names in sweep['series']
  ]
  kept = ('name', 'title', 'kind', 'x', 'y', 'log_x', 'diagonal')
  return {
    **{key: sweep[key] for key in kept},
    'x_label': sweep['x_label'] or _x_label(sweep),
    'series': series,
    'references': [name for name in sweep['references'] if name in networks],
    'paper_points': [
      {'label': label, 'points': [list(point) for point in points]}
      for label, points in sweep['paper_points']
    ],
    'factors': _factors(sweep, series),
  }


def _x_label(sweep: Mapping[str, Any]) -> str:
  measured, _, batch = sweep['x'].partition('.')
  known = {**sweep_settings.MEASURED, **sweep_settings.CLOCKS}
  if measured not in known:
    return sweep['x'].rpartition('.')[2].replace('_', ' ')
  return known[measured] + (f', batch {batch}' if batch else '')


def _point(
  sweep: Mapping[str, Any],
  name: str,
  entries: Settings,
  networks: Entries,
  sizes: Mapping[str, int],
) -> dict[str, Any] | None:
  """A network's place in a sweep; None where its x is not known."""
  x = _x(sweep, name, entries, networks, sizes)
  if x is None and sweep['kind'] == 'points':
    return None
  values, std = comparison.values(networks[name]), comparison.test_error(networks[name])['std']
  if sweep['y'] == 'accuracy':
    values = [100 - value for value in values]
  mean = statistics.fmean(values)
  return {'network': name, 'x': x, 'mean': mean, 'std': std, 'values': values}


def _x(
  sweep: Mapping[str, Any],
  name: str,
  entries: Settings,
  networks: Entries,
  sizes: Mapping[str, int],
) -> float | None:
  """A network's x: of a point its own, of a curve how many epochs a step is."""
  entry, key = entries[name], sweep['x']
  if sweep['kind'] == 'bars':
    return None
  if sweep['kind'] == 'curves':
    return entry['batch_size'] / _examples(entry, sizes) if key == 'epochs' else None
  if key == 'parameters':
    return networks[name]['parameters']['weights']
  if key == 'transfer_size':
    return _examples(entry, sizes)
  if key == 'teacher_accuracy':
    return _teacher_accuracy(entry, networks)
  measured = key.partition('.')[0] in sweep_settings.MEASURED
  return sweep_settings.number(networks[name] if measured else entry, key)


def _examples(entry: Mapping[str, Any], sizes: Mapping[str, int]) -> int:
  return sum(sizes[name] for name in entry['examples'])


def _teacher_accuracy(entry: Mapping[str, Any], networks: Entries) -> float | None:
  """In per cent; of the one seed that it learns from, if its targets name one."""
  name, _, seed = entry['targets'].partition('/')
  if name not in networks:
    return None
  error = comparison.test_error(networks[name])
  if not seed:
    return 100 - error['mean']
  by_split = error.get('values_by_split', {'': error['values']}).values()
  known = [values[int(seed)] for values in by_split if values[int(seed)] is not None]
  return 100 - statistics.fmean(known) if known else None


def _factors(sweep: Mapping[str, Any], series: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """What each budget of the `against` series costs the `of` series, by networks' x."""
  if sweep['factor'] is None:
    return []
  by_label = {each['label']: each['points'] for each in series}
  of = [_budget(point) for point in by_label[sweep['factor']['of']]]
  if not of:
    return []
  return [
    {
      'of': sweep['factor']['of'],
      'against': label,
      'network': point['network'],
      'x': point['x'],
      'error': point['mean'],
      **uncertainty.size_factor(of, _budget(point)),
    }
    for label in sweep['factor']['against']
    for point in by_label[label]
  ]


def _budget(point: Mapping[str, Any]) -> uncertainty.Budget:
  return uncertainty.Budget(point['x'], tuple(point['values']))
