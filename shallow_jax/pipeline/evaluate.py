"""What a finished network is worth: its figures, into `<network>/result.json`.

The test set is read here and nowhere else, once a network is done.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
import logging
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shallow_jax import models
from shallow_jax.data import dataset as dataset_lib
from shallow_jax.logits import metrics
from shallow_jax.logits import predict
from shallow_jax.models import size as size_lib
from shallow_jax.pipeline import experiment as experiment_lib
from shallow_jax.pipeline import graph
from shallow_jax.pipeline import realigned_labels
from shallow_jax.pipeline import teacher
from shallow_jax.pipeline import trained
from shallow_jax.report import predictions
from shallow_jax.runtime import processes
from shallow_jax.runtime import provenance
from shallow_jax.runtime import storage
from shallow_jax.runtime import workdir as workdir_lib
from shallow_jax.speech import recognise
from shallow_jax.training import kmeans_svm

_log = logging.getLogger(__name__)

SETS = ('validation', 'test')

Member = tuple[str, int]
PhoneScorer = Callable[[Mapping[str, np.ndarray]], recognise.Recognised]


def is_finished(experiment: experiment_lib.Experiment, network: str) -> bool:
  """Whether `result.json` is there and was read off the weights that are there now."""
  path = experiment.folder(network) / workdir_lib.RESULT
  if not path.exists():
    return False
  members = experiment.members(network)
  if any(trained.read_trained(experiment.folder(*member)) is None for member in members):
    return False
  found = storage.read_json(path)
  return found['weights'] == trained.weights_of(experiment, members)


def evaluate(experiment: experiment_lib.Experiment, network: str) -> dict[str, Any]:
  """Evaluates all seeds of a network, or an ensemble, and writes its `result.json`."""
  entry = experiment.networks[network]
  runs = _runs(experiment, network)
  # Seeds that learn from one teacher are compared with the same logits.
  logits_of = functools.cache(functools.partial(_logits, experiment))
  per = _phone_scorer(experiment, network)
  found = [_figures(experiment, entry, members, seed, logits_of, per) for seed, members in runs]
  members = experiment.members(network)
  records = [trained.trained_seeds(experiment, name)[seed] for name, seed in members]
  search = _search(experiment.folder(network))
  result: dict[str, Any] = {
    'kind': 'ensemble' if entry['ensemble'] else 'model',
    'label': entry['label'] or network,
    **_description(experiment, members if entry['ensemble'] else members[:1]),
    'targets': _targets(entry),
    'loss': _loss(entry),
    'seeds': [seed for seed, _ in runs],
    'metrics': {
      name: {'error': _over_seeds(found, name, 'error'), 'per': _per(experiment, found, name)}
      for name in SETS
    },
    'fidelity': _mean([each['fidelity'] for each in found if each is not None]),
    'error_by_class': _error_by_class(experiment, found),
    'calibration_error': _over_seeds(found, 'test', 'calibration_error')['mean'],
    'latency_ms': _latency(experiment, members if entry['ensemble'] else members[:1]),
    'flags': {} if entry['ensemble'] else _flags(records),
    'search': search,
    'paper': entry['paper'],
    'provenance': _provenance(experiment, network, records, search),
    'weights': trained.weights_of(experiment, members),
  }
  if per is not None:
    result['alignment'] = realigned_labels.statistics(experiment, network)
  if processes.is_first():
    _save_outcomes(experiment, network, found)
    storage.write_json(experiment.folder(network) / workdir_lib.RESULT, result)
  processes.meet(f'{network} is evaluated')
  for metric, summary in result['metrics']['test'].items():
    if summary is not None:
      _log.info('%s: test %s %s', network, metric, _shown(summary))
  return result


def figures(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
  """Error, also by class, and expected calibration error, in per cent, of logits [n, classes]."""
  return {
    'error': metrics.error(logits, labels),
    'error_by_class': metrics.error_by_class(logits, labels),
    'calibration_error': metrics.calibration_error(logits, labels),
  }


def _runs(experiment: experiment_lib.Experiment, network: str) -> list[tuple[int, list[Member]]]:
  """What is evaluated by itself: an ensemble as a whole, else every seed."""
  members = experiment.members(network)
  if experiment.networks[network]['ensemble']:
    return [(0, members)]
  return [(seed, [(name, seed)]) for name, seed in members]


def _figures(
  experiment: experiment_lib.Experiment,
  entry: Mapping[str, Any],
  members: Sequence[Member],
  seed: int,
  logits_of: Callable[[tuple[Member, ...], str], np.ndarray],
  per: PhoneScorer | None,
) -> dict[str, Any] | None:
  """Figures on validation and test and the fidelity to the teacher; None for a diverged seed."""
  if 'diverged' in trained.weights_of(experiment, members) and not entry['ensemble']:
    return None
  splits = experiment.dataset.splits
  logits = {name: logits_of(tuple(members), name) for name in SETS}
  found: dict[str, Any] = {
    name: figures(logits[name], splits[name].arrays['label']) for name in SETS
  }
  found['predictions'] = logits['test'].argmax(axis=-1)
  found['recognised'] = None if per is None else per(logits)
  found['fidelity'] = None
  if graph.target(entry) is not None:
    _, its_members = teacher.members_for(experiment, entry, seed)
    found['fidelity'] = metrics.fidelity(logits['test'], logits_of(tuple(its_members), 'test'))
  return found


def _logits(
  experiment: experiment_lib.Experiment, members: Sequence[Member], name: str
) -> np.ndarray:
  return predict.logits(
    [trained.load_member(experiment, *member) for member in members],
    experiment.dataset,
    experiment.dataset.splits[name].arrays,
    batch_size=experiment.config['logits']['batch_size'],
  ).mean(axis=0)


def _phone_scorer(experiment: experiment_lib.Experiment, network: str) -> PhoneScorer | None:
  """What scores a network's logits by phones, with the HMM of the labels it learned from."""
  recognition = experiment.dataset.recognition
  if recognition is None:
    return None
  labels = realigned_labels.split(experiment, network, 'train').arrays['label']
  return functools.partial(
    recognise.recognise,
    recognition=recognition,
    model=recognise.estimate(recognition, labels),
    grid=experiment.config['evaluation']['decoding'],
    are_posteriors=graph.estimates_posteriors(experiment.networks, network),
  )


def _per(
  experiment: experiment_lib.Experiment, found: Sequence[Mapping[str, Any] | None], name: str
) -> dict[str, Any] | None:
  """The phone error rates of all seeds on a set; None where the examples are no speech."""
  recognition = experiment.dataset.recognition
  if recognition is None:
    return None
  return recognise.summary(_by_seed(found, 'recognised'), recognition, name)


def _save_outcomes(
  experiment: experiment_lib.Experiment,
  network: str,
  found: Sequence[Mapping[str, Any] | None],
) -> None:
  """Keeps what two networks are compared by: predictions; of speech the errors by utterance."""
  dataset = experiment.dataset
  if dataset.recognition is None:
    labels = dataset.splits['test'].arrays['label']
    predictions.save(experiment.workdir, network, _by_seed(found, 'predictions'), labels)
  else:
    recognised = _by_seed(found, 'recognised')
    recognise.save(experiment.workdir, network, recognised, dataset.recognition)


def _by_seed(found: Sequence[Mapping[str, Any] | None], key: str) -> list[Any]:
  return [None if each is None else each[key] for each in found]


def _description(
  experiment: experiment_lib.Experiment, members: Sequence[Member]
) -> dict[str, Any]:
  """Architecture and size; of an ensemble the sums over its members."""
  modules = [_module(experiment, name) for name, _ in members]
  sizes = [size_lib.size(module, experiment.dataset.input_shape) for module in modules]
  architectures = [module.architecture for module in modules]
  counts = {name: architectures.count(name) for name in dict.fromkeys(architectures)}
  return {
    'architecture': ' + '.join(f'{n} x {name}' if n > 1 else name for name, n in counts.items()),
    'depth': max(module.depth for module in modules),
    'parameters': {
      kind: sum(size['parameters'][kind] for size in sizes) for kind in ('weights', 'biases')
    },
    **{key: sum(size[key] for size in sizes) for key in ('hidden_units', 'multiply_adds', 'bytes')},
  }


def _module(experiment: experiment_lib.Experiment, network: str) -> Any:
  model = experiment.networks[network]['model']
  return models.build(model, len(experiment.dataset.class_names))


def _latency(
  experiment: experiment_lib.Experiment, members: Sequence[Member]
) -> dict[str, float] | None:
  """Milliseconds a call on this device, from raw examples to logits, by batch size."""
  if 'diverged' in trained.weights_of(experiment, members):
    return None
  dataset = experiment.dataset
  loaded = [trained.load_member(experiment, *member) for member in members]
  variables = [member.variables for member in loaded]

  @jax.jit
  def call(variables: Any, constants: Any, raw: Any) -> jax.Array:
    x = dataset.inputs(constants, raw, None)
    outputs = [
      models.apply(member.module, weights, x)
      for member, weights in zip(loaded, variables, strict=True)
    ]
    return sum(outputs[1:], start=outputs[0]) / len(outputs)

  arrays = dataset.splits['test'].arrays
  found = {}
  for batch in experiment.config['evaluation']['latency_batches']:
    rows = np.arange(batch) % len(arrays['id'])
    raw = dataset_lib.take_views(arrays, rows, np.zeros(batch, np.int32))
    raw = jax.tree.map(jnp.asarray, raw)
    found[str(batch)] = size_lib.latency_ms(call, variables, dataset.constants, raw)
  return found


def _targets(entry: Mapping[str, Any]) -> str:
  return f'mean logits of {", ".join(entry["ensemble"])}' if entry['ensemble'] else entry['targets']


def _loss(entry: Mapping[str, Any]) -> str | None:
  if entry['ensemble']:
    return None
  return entry['loss']['name'] if entry['fit'] is None else kmeans_svm.SVM['loss']


def _flags(records: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
  return {
    'collapsed': [seed for seed, record in enumerate(records) if record['collapsed']],
    'diverged': [seed for seed, record in enumerate(records) if record['status'] == 'diverged'],
  }


def _search(folder: pathlib.Path) -> dict[str, Any] | None:
  path = folder / workdir_lib.SEARCH
  return storage.read_json(path) if path.exists() else None


def _over_seeds(
  found: Sequence[Mapping[str, Any] | None], name: str, figure: str
) -> dict[str, Any]:
  return metrics.summary([None if each is None else each[name][figure] for each in found])


def _error_by_class(
  experiment: experiment_lib.Experiment, found: Sequence[Mapping[str, Any] | None]
) -> dict[str, float | None]:
  """The mean test error over seeds within each class, by the class's name."""
  by_seed = [each['test']['error_by_class'] for each in found if each is not None]
  return {
    name: metrics.summary([errors[c] for errors in by_seed])['mean']
    for c, name in enumerate(experiment.dataset.class_names)
  }


def _mean(values: Sequence[Mapping[str, float] | None]) -> dict[str, float] | None:
  known = [value for value in values if value is not None]
  if not known:
    return None
  return {key: float(np.mean([value[key] for value in known])) for key in known[0]}


def _provenance(
  experiment: experiment_lib.Experiment,
  network: str,
  records: Sequence[Mapping[str, Any]],
  search: Mapping[str, Any] | None,
) -> dict[str, Any]:
  is_ensemble = bool(experiment.networks[network]['ensemble'])
  return {
    **provenance.of_this_process(),
    'mesh': None if is_ensemble else records[0].get('mesh'),
    'config_hash': storage.sha256_json(experiment.fingerprints[network]),
    'wall_seconds': 0.0 if is_ensemble else _training_seconds(records, search),
    'examples_per_second': None if is_ensemble else max(r['examples_per_second'] for r in records),
  }


def _training_seconds(
  records: Sequence[Mapping[str, Any]], search: Mapping[str, Any] | None
) -> float:
  """Of all seeds and of the trials that did not become seed 0."""
  trials = search['trials'] if search else []
  losers = [trial for i, trial in enumerate(trials) if search and i != search['chosen']]
  return sum(each['wall_seconds'] for each in [*records, *losers])


def _shown(error: Mapping[str, Any]) -> str:
  if error['mean'] is None:
    return 'unknown, every seed diverged'
  spread = '' if error['std'] is None else f' ± {error["std"]:.2f}'
  return f'{error["mean"]:.2f}{spread} %'
