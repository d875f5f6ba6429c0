"""What an experiment found, in numbers: result files gathered, pooled and compared; and curves.

Curves of training are read from the metrics.jsonl that each seed leaves; they are only drawn.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import json
import pathlib
import statistics
from typing import Any

import numpy as np

from shallow_jax.report import comparison
from shallow_jax.report import predictions
from shallow_jax.report import sweeps
from shallow_jax.report import uncertainty
from shallow_jax.runtime import errors
from shallow_jax.runtime import storage
from shallow_jax.runtime import workdir as workdir_lib
from shallow_jax.speech import phone_errors

SCHEMA_VERSION = 1

Entry = comparison.Entry
Entries = comparison.Entries
Curve = tuple[np.ndarray, np.ndarray]

# The runs of several splits must agree on these.
_SAME_IN_ALL_SPLITS = 'kind architecture depth parameters hidden_units targets loss'.split()


class ResultsError(errors.ExpectedError, RuntimeError):
  """Results that don't fit together; the message is one line."""


def collect(config: Mapping[str, Any], workdir: pathlib.Path) -> dict[str, Any]:
  """Gathers the results of all networks that have one; the content of results.json.

  Beside design.md's contract: `order` (of the networks in the config), `roles`, `comparison` of the
  headline network with the others of its architecture, `attribution`, `sweeps`, `note`.
  """
  folders = run_folders(config, workdir)
  found = {name: by_split for name in config['networks'] if (by_split := _read(folders, name))}
  data, settings = _data(folders), config['report']
  sizes = data.get('sizes', {})
  networks = {
    name: _entry(config['networks'][name], name, by_split, folders, sizes)
    for name, by_split in found.items()
  }
  roles = comparison.roles_of(networks, settings)
  return {
    'schema_version': SCHEMA_VERSION,
    'experiment': config['name'] or config['data']['name'],
    'versions': _versions(by_split for by_split in found.values()),
    'note': settings['note'],
    'data': data,
    'order': list(networks),
    'networks': networks,
    'roles': roles,
    'comparison': _with_tests(comparison.with_others(networks, roles), folders, found),
    'attribution': comparison.attribution(config['networks'], networks, settings['attribution']),
    'sweeps': sweeps.collect(settings['sweeps'], config['networks'], networks, sizes),
  }


def _with_tests(
  compared: Entries, folders: Mapping[str, pathlib.Path], found: Mapping[str, Entries]
) -> dict[str, dict[str, Any]]:
  """Adds a test of each network (`first`) against the headline (`second`) on the test set.

  McNemar's by example; where there are phones, a bootstrap by utterance.
  """

  def tests(*both: str) -> dict[str, Any]:
    if comparison.metric(next(iter(found[both[0]].values()))) == 'error':
      wrong = [_kept(predictions.wrong, 'error', folders, name, found[name]) for name in both]
      return {'mcnemar': predictions.mcnemar(*wrong)}
    phones = [_kept(phone_errors.read, 'per', folders, name, found[name]) for name in both]
    return {'bootstrap': phone_errors.difference(*phones)}

  return {name: {**each, **tests(name, each['headline'])} for name, each in compared.items()}


def _kept(
  read: Callable[..., Any],
  metric: str,
  folders: Mapping[str, pathlib.Path],
  name: str,
  by_split: Entries,
) -> dict[str, Any]:
  """By split what a network keeps beside its results, read and checked against their `metric`."""
  found = {
    split: read(folders[split], name, result['metrics']['test'][metric]['values'])
    for split, result in by_split.items()
    if result['metrics']['test'][metric] is not None
  }
  return {split: each for split, each in found.items() if each is not None}


def run_folders(config: Mapping[str, Any], workdir: pathlib.Path) -> dict[str, pathlib.Path]:
  """The folders of an experiment's runs by split; of one run alone under ''."""
  if not config['splits']:
    return {'': workdir}
  return {str(split): workdir / workdir_lib.split(split) for split in config['splits']}


def _read(folders: Mapping[str, pathlib.Path], name: str) -> dict[str, dict[str, Any]]:
  paths = {split: folder / name / workdir_lib.RESULT for split, folder in folders.items()}
  return {split: storage.read_record(path) for split, path in paths.items() if path.exists()}


def _entry(
  settings: Mapping[str, Any],
  name: str,
  by_split: Entries,
  folders: Mapping[str, pathlib.Path],
  sizes: Mapping[str, int],
) -> dict[str, Any]:
  """A network's entry in results.json; what is only for show comes from the config of today."""
  if '' in by_split:
    entry = _single(by_split[''])
  else:
    entry = _pooled(name, by_split, _kept(phone_errors.read, 'per', folders, name, by_split))
  return entry | {
    'label': settings['label'] or name,
    'paper': settings['paper'],
    'test_interval': _interval(entry, sizes.get('test')),
  }


def _interval(entry: Entry, count: int | None) -> list[float] | None:
  """Wilson's 95 % interval of the mean test error, in per cent; `count` examples in the test set.

  Of several splits each has that many: their test sets overlap, so they don't count as one. Of
  phones it is the bootstrap's.
  """
  if entry['metrics']['test']['per'] is not None:
    return entry['metrics']['test']['per']['interval']
  mean = entry['metrics']['test']['error']['mean']
  if not count or mean is None:
    return None
  return [100 * end for end in uncertainty.wilson_interval(mean / 100, count)]


def _single(result: Entry) -> dict[str, Any]:
  provenance = {key: value for key, value in result['provenance'].items() if key != 'versions'}
  kept = {key: value for key, value in result.items() if key != 'weights'}
  return kept | {'provenance': provenance}


def _pooled(
  name: str, by_split: Entries, phones: Mapping[str, phone_errors.Arrays]
) -> dict[str, Any]:
  """One entry of a network's results, and its phone errors, in several splits."""
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
      | {
        'per': _pooled_per(
          {s: r['metrics'][split]['per'] for s, r in by_split.items()}, phones, split
        )
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


def _pooled_per(
  by_split: Mapping[str, Entry | None], phones: Mapping[str, phone_errors.Arrays], name: str
) -> dict[str, Any] | None:
  """The phone error rates on the set `name`; the splits' utterances count as one set's."""
  known = {split: per for split, per in by_split.items() if per is not None}
  if not known:
    return None
  rates = list(known.values())
  summaries = [
    key for key, value in rates[0].items() if isinstance(value, Mapping) and 'values' in value
  ]
  speakers = {speaker: None for per in rates for speaker in per['by_speaker']}
  return {
    **(_pooled_summary(known) or {}),
    **{key: _pooled_summary({split: known[split][key] for split in known}) for key in summaries},
    'interval': phone_errors.interval_of_runs(list(phones.values()), name),
    'by_speaker': {each: _mean(per['by_speaker'].get(each) for per in rates) for each in speakers},
    'num_utterances': sum(per['num_utterances'] for per in rates),
    'scales': [scales for per in rates for scales in per['scales']],
    'at_edge': sorted({part for per in rates for part in per['at_edge']}),
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
  return {key: statistics.fmean(each[key] for each in known) for key in known[0]} if known else None


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
    if not (folder / workdir_lib.DATA / workdir_lib.NOTES).exists():
      continue
    described = storage.read_record(folder / workdir_lib.DATA / workdir_lib.FINGERPRINT)
    return {
      **storage.read_record(folder / workdir_lib.DATA / workdir_lib.NOTES),
      'name': described['name'],
      'num_classes': len(described['class_names']),
      'sizes': {name: split['count'] for name, split in described['splits'].items()},
      'splits': [split for split in folders if split],
    }
  return {}


def read_curve(
  folders: Sequence[pathlib.Path], kind: str = 'validation', value: str = 'error'
) -> Curve | None:
  """Steps [evaluations] and values [seeds, evaluations] of a network; None if it has none.

  A seed that stopped early keeps its last value; one that diverged is left out.

  Args:
    kind: `validation` or `train`.
    value: `error`, in per cent, of validation; `loss` of either.
  """
  seeds = [_lines(path) for path in _metric_files(folders)]
  by_step = [
    {line['step']: line[value] for line in lines if line['kind'] == kind}
    for lines in seeds
    if not any('nonfinite' in line for line in lines)
  ]
  found = [each for each in by_step if each]
  if not found:
    return None
  steps = sorted({step for each in found for step in each})
  return np.array(steps), np.array([[_last_at(each, step) for step in steps] for each in found])


def _last_at(by_step: Mapping[int, float], step: int) -> float:
  before = [known for known in by_step if known <= step]
  return by_step[max(before)] if before else float('nan')


def seconds_per_step(folders: Sequence[pathlib.Path]) -> float | None:
  """The mean over a network's finished seeds, compiling and evaluating included."""
  seeds = [(path.parent / workdir_lib.TRAINED, _lines(path)) for path in _metric_files(folders)]
  return _mean(
    storage.read_record(trained)['wall_seconds'] / lines[-1]['step']
    for trained, lines in seeds
    if lines and trained.exists()
  )


def _metric_files(folders: Sequence[pathlib.Path]) -> list[pathlib.Path]:
  pattern = f'{workdir_lib.EVERY_SEED}/{workdir_lib.METRICS}'
  return [path for folder in folders for path in sorted(folder.glob(pattern))]


def _lines(path: pathlib.Path) -> list[dict[str, Any]]:
  return [json.loads(line) for line in path.read_text().splitlines()]
