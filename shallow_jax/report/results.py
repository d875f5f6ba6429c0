"""What an experiment found, in numbers: result files gathered, pooled and compared."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import pathlib
import statistics
from typing import Any

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

# What becomes of the keys of several splits' results. They must agree on these,
_SAME_IN_ALL_SPLITS = (
  *('kind', 'architecture', 'depth', 'parameters', 'hidden_units', 'multiply_adds', 'bytes'),
  *('targets', 'loss'),
)
# the means of these are shown (of a class, or a batch size, over the splits that have it),
_AVERAGED = ('fidelity', 'error_by_class', 'calibration_error', 'latency_ms', 'alignment')
# these `_pooled` joins each in its own way, these are of today's config, these of one run alone.
_JOINED = ('seeds', 'metrics', 'flags', 'search', 'evaluated_on', 'provenance')
_SHOWN = ('label', 'paper')
_OF_ONE_RUN = ('weights',)
POOLED = (*_SAME_IN_ALL_SPLITS, *_AVERAGED, *_JOINED, *_SHOWN, *_OF_ONE_RUN)


class ResultsError(errors.ExpectedError, RuntimeError):
  """Results that don't fit together; the message is one line."""


def collect(
  config: Mapping[str, Any], workdir: pathlib.Path, left_out: Mapping[str, str] | None = None
) -> dict[str, Any]:
  """Gathers the results of all networks that have one; the content of results.json.

  Beside design.md's contract: `order` (of the networks in the config), `roles`, `comparison` of the
  headline network with the others of its model, `attribution`, `sweeps`, `note`, `left_out`.
  """
  folders = run_folders(config, workdir)
  left_out = left_out or {}
  shown = [name for name in config['networks'] if name not in left_out]
  found = {name: by_split for name in shown if (by_split := _read(folders, name))}
  data, settings = _data(folders), config['report']
  sizes = data.get('sizes', {})
  networks = {
    name: _entry(config['networks'][name], name, by_split, folders, sizes)
    for name, by_split in found.items()
  }
  roles = comparison.roles_of(networks, settings, config['networks'])
  compared = comparison.with_others(networks, roles, config['networks'])
  return {
    'schema_version': SCHEMA_VERSION,
    'experiment': config['name'] or config['data']['name'],
    'versions': _versions(by_split for by_split in found.values()),
    'note': settings['note'],
    'data': data,
    'left_out': dict(left_out),
    'order': list(networks),
    'networks': networks,
    'roles': roles,
    'comparison': _with_tests(compared, folders, found),
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
  """Wilson's 95 % interval of the mean test error, in per cent.

  `count`: the examples of the test set, where the result does not say on how many it was evaluated.
  Of several splits each has that many: their test sets overlap, so they don't count as one. Of
  phones it is the bootstrap's.
  """
  if entry['metrics']['test']['per'] is not None:
    return entry['metrics']['test']['per']['interval']
  mean = entry['metrics']['test']['error']['mean']
  if 'evaluated_on' in entry:
    count = entry['evaluated_on']['sets']['test']['count']
  if not count or mean is None:
    return None
  return [100 * end for end in uncertainty.wilson_interval(mean / 100, count)]


def _single(result: Entry) -> dict[str, Any]:
  provenance = {key: value for key, value in result['provenance'].items() if key != 'versions'}
  kept = {key: value for key, value in result.items() if key not in _OF_ONE_RUN}
  return kept | {'provenance': provenance}


def _pooled(
  name: str, by_split: Entries, phones: Mapping[str, phone_errors.Arrays]
) -> dict[str, Any]:
  """One entry of a network's results, and its phone errors, in several splits."""
  results = list(by_split.values())
  unknown = {key for result in results for key in result} - {*POOLED}
  if unknown:
    raise ResultsError(f'{name}: no rule how splits are pooled for {", ".join(sorted(unknown))}')
  for key in _SAME_IN_ALL_SPLITS:
    texts = {storage.canonical_json(result.get(key)) for result in results}
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
    **{
      key: _averaged(name, key, [result[key] for result in results if key in result])
      for key in _AVERAGED
      if any(key in result for result in results)
    },
    'flags': {
      flag: [f'split-{s}/seed-{seed}' for s, r in by_split.items() for seed in r['flags'][flag]]
      for flag in first['flags']
    },
    'search': None,
    'search_by_split': {split: result['search'] for split, result in by_split.items()},
    **_evaluated_on(results),
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


def _averaged(name: str, key: str, values: Sequence[Any]) -> Any:
  """The mean of the splits' values that are known, of a dict value by value; words must agree."""
  known = [value for value in values if value is not None]
  if not known:
    return None
  if isinstance(known[0], Mapping):
    inner = dict.fromkeys(inner for value in known for inner in value)
    return {
      each: _averaged(name, f'{key}.{each}', [value.get(each) for value in known]) for each in inner
    }
  if isinstance(known[0], list):
    return [_averaged(name, f'{key}[{i}]', each) for i, each in enumerate(zip(*known, strict=True))]
  if isinstance(known[0], str):
    if len({*known}) > 1:
      raise ResultsError(f'{name}: the splits differ in {key}: {", ".join(sorted({*known}))}')
    return known[0]
  return statistics.fmean(known)


def _evaluated_on(results: Sequence[Entry]) -> dict[str, Any]:
  """How many examples the sets have, which must be as many in each split; older ones don't say."""
  known = [result['evaluated_on'] for result in results if 'evaluated_on' in result]
  if len(known) < len(results):
    return {}
  counts = [{name: {'count': each['count']} for name, each in on['sets'].items()} for on in known]
  if any(count != counts[0] for count in counts):
    raise ResultsError(f'splits were evaluated on sets of different sizes: {counts}')
  return {'evaluated_on': {'sets': counts[0]}}


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
