"""What a finished network is worth: its scores, into `<network>/result.json`.

The test set is read here and nowhere else, once a network is done.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
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
from shallow_jax.report import texts
from shallow_jax.runtime import host
from shallow_jax.runtime import processes
from shallow_jax.runtime import storage
from shallow_jax.runtime import workdir as workdir_lib
from shallow_jax.settings import targets as targets_lib
from shallow_jax.speech import phone_errors
from shallow_jax.speech import recognise
from shallow_jax.training import kmeans_svm

_log = logging.getLogger(__name__)

SETS = ('validation', 'test')

Members = Sequence[experiment_lib.Member]
PhoneScorer = Callable[[Mapping[str, np.ndarray]], recognise.Recognised]


def is_finished(experiment: experiment_lib.Experiment, network: str) -> bool:
  """Whether `result.json` is there and says what the weights, sets and settings of today give.

  Where not, `evaluate` is due: a result that was read off another test set is not shown beside
  those of this one.
  """
  path = experiment.folder(network) / workdir_lib.RESULT
  if not path.exists():
    return False
  members = experiment.members(network)
  if any(trained.read_trained(experiment.folder(*member)) is None for member in members):
    return False
  result = storage.read_record(path)
  if result['weights'] != trained.weights_of(experiment, members):
    return False
  if 'evaluated_on' not in result:
    different = ['its result does not say on which examples it was']
  else:
    different = storage.differences(result['evaluated_on'], _evaluated_on(experiment))
  if different:
    _log.info('%s: to be evaluated again, %s', network, '; '.join(different[:3]))
  return not different


def other_sets(folder: pathlib.Path, described: Mapping[str, Any]) -> list[str]:
  """In what the sets that a network's result was read off differ from those of the data now.

  `described` is the fingerprint of the data. An older result does not say.
  """
  path = folder / workdir_lib.RESULT
  evaluated_on = storage.read_record(path).get('evaluated_on') if path.exists() else None
  if evaluated_on is None:
    return []
  now = {name: described['splits'][name] for name in SETS}
  return storage.differences({'sets': evaluated_on['sets']}, {'sets': now})


def evaluate(experiment: experiment_lib.Experiment, network: str) -> dict[str, Any]:
  """Evaluates all seeds of a network, or an ensemble as a whole, and writes its `result.json`."""
  entry, dataset = experiment.networks[network], experiment.dataset
  members = experiment.members(network)
  is_ensemble = bool(entry['ensemble'])
  runs = {0: members} if is_ensemble else {member[1]: [member] for member in members}
  # Seeds that learn from one teacher are compared with the same logits.
  logits_of = functools.cache(functools.partial(_logits, experiment))
  per = _phone_scorer(experiment, network)
  found = [_run(experiment, network, seed, which, logits_of, per) for seed, which in runs.items()]
  records = [trained.record(experiment, *member) for member in members]
  path = experiment.folder(network) / workdir_lib.SEARCH
  search = storage.read_record(path) if path.exists() else None
  mean_of = f'mean logits of {", ".join(entry["ensemble"])}'
  loss = entry['loss']['name'] if entry['fit'] is None else kmeans_svm.SVM['loss']
  one = runs[0]  # all of an ensemble, else one of the seeds, which are of one size
  recognised = _by_seed(found, 'recognised')
  result: dict[str, Any] = {
    'kind': 'ensemble' if is_ensemble else 'model',
    'label': entry['label'] or network,
    **_description(experiment, one),
    'targets': mean_of if is_ensemble else entry['targets'],
    'loss': None if is_ensemble else loss,
    'seeds': [*runs],
    'metrics': {
      name: {
        'error': metrics.summary(_by_seed(_by_seed(found, name), 'error')),
        'per': _phone_summary(recognised, dataset.recognition, name),
      }
      for name in SETS
    },
    'fidelity': _mean(_by_seed(found, 'fidelity')),
    'error_by_class': _error_by_class(found, dataset.class_names),
    'calibration_error': metrics.summary(_by_seed(_by_seed(found, 'test'), 'calibration_error'))[
      'mean'
    ],
    'latency_ms': _latency(experiment, one),
    'flags': {} if is_ensemble else _flags(records),
    'search': search,
    'paper': entry['paper'],
    'provenance': _provenance(experiment, network, records, search),
    'evaluated_on': _evaluated_on(experiment),
    'weights': trained.weights_of(experiment, members),
  }
  if per is not None:
    result['alignment'] = realigned_labels.statistics(experiment, network)
  if processes.is_first():
    # What two networks are compared by: predictions; of speech the errors by utterance.
    if dataset.recognition is None:
      labels = dataset.splits['test'].arrays['label']
      predictions.save(experiment.workdir, network, _by_seed(found, 'predictions'), labels)
    else:
      recognise.save(experiment.workdir, network, recognised, dataset.recognition)
    storage.write_sealed_json(experiment.folder(network) / workdir_lib.RESULT, result)
  processes.meet(f'{network} is evaluated')
  for metric, summary in result['metrics']['test'].items():
    if summary is not None:
      _log.info('%s: test %s %s %%', network, metric, texts.summary_text(summary))
  return result


def scores(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
  """Error, also by class, and expected calibration error, in per cent, of logits [n, classes]."""
  return {
    'error': metrics.error(logits, labels),
    'error_by_class': metrics.error_by_class(logits, labels),
    'calibration_error': metrics.calibration_error(logits, labels),
  }


def _evaluated_on(experiment: experiment_lib.Experiment) -> dict[str, Any]:
  """All that a result depends on beside the weights, for JSON."""
  described = experiment.dataset.fingerprint()
  settings = dict(experiment.config['evaluation'])
  if experiment.dataset.recognition is None:
    del settings['decoding']
  return {
    'sets': {name: described['splits'][name] for name in SETS},
    'recognition': described.get('recognition'),
    'settings': settings,
  }


def _run(
  experiment: experiment_lib.Experiment,
  network: str,
  seed: int,
  members: Members,
  logits_of: Callable[[tuple[experiment_lib.Member, ...], str], np.ndarray],
  per: PhoneScorer | None,
) -> dict[str, Any] | None:
  """Scores on validation and test and the fidelity to the teacher; None for a diverged seed."""
  entry = experiment.networks[network]
  if 'diverged' in trained.weights_of(experiment, members) and not entry['ensemble']:
    return None
  logits = {name: logits_of(tuple(members), name) for name in SETS}
  found: dict[str, Any] = {
    name: scores(logits[name], experiment.dataset.splits[name].arrays['label']) for name in SETS
  }
  found['predictions'] = logits['test'].argmax(axis=-1)
  found['recognised'] = None if per is None else per(logits)
  found['fidelity'] = None
  if targets_lib.target(entry) is not None:
    its_teacher = teacher.source_of(experiment, entry, seed).members
    found['fidelity'] = metrics.fidelity(logits['test'], logits_of(its_teacher, 'test'))
  return found


def _by_seed(found: Sequence[Mapping[str, Any] | None], key: str) -> list[Any]:
  """A value of every seed; None of one that diverged."""
  return [None if each is None else each[key] for each in found]


def _mean(values: Sequence[Mapping[str, float | None] | None]) -> dict[str, float | None] | None:
  known = [value for value in values if value is not None]
  if not known:
    return None
  return {key: metrics.summary([value[key] for value in known])['mean'] for key in known[0]}


def _error_by_class(
  found: Sequence[Mapping[str, Any] | None], class_names: Sequence[str]
) -> dict[str, float | None]:
  """The mean test error over seeds within each class, by the class's name."""
  by_seed = [each['test']['error_by_class'] for each in found if each is not None]
  return {
    name: metrics.summary([errors[c] for errors in by_seed])['mean']
    for c, name in enumerate(class_names)
  }


def _logits(experiment: experiment_lib.Experiment, members: Members, name: str) -> np.ndarray:
  """The mean of the members' logits over a set."""
  return predict.logits(
    trained.load_members(experiment, members),
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


def _phone_summary(
  found: Sequence[recognise.Recognised | None],
  recognition: recognise.Recognition | None,
  name: str,
) -> dict[str, Any] | None:
  """What result.json says of the phone errors on a set; None where the examples are no speech.

  Mean, standard deviation and values over the seeds of the strict rate, of the other two
  conventions, and of each kind of error, all in per cent of the reference's phones; `found` is
  None for a diverged seed.
  """
  if recognition is None:
    return None
  utterances = recognition.utterances[name]
  counts = [None if each is None else each.counts[name] for each in found]
  known = [each for each in counts if each is not None]
  strict, optional, removed = (
    metrics.summary([None if each is None else phone_errors.rate(each[i]) for each in counts])
    for i in range(len(phone_errors.CONVENTIONS))
  )
  return {
    **strict,
    'optional_silence': optional,
    'without_silence': removed,
    **{
      kind: metrics.summary(
        [None if each is None else phone_errors.share(each[0], kind) for each in counts]
      )
      for kind in phone_errors.ERRORS
    },
    'interval': phone_errors.interval(known),
    'by_speaker': phone_errors.by_speaker(known, utterances.speakers),
    'num_utterances': len(utterances.names),
    'scales': [None if each is None else dataclasses.asdict(each.scales) for each in found],
    'at_edge': sorted({part for each in found if each is not None for part in each.at_edge}),
  }


def _description(experiment: experiment_lib.Experiment, members: Members) -> dict[str, Any]:
  """Architecture and size; of an ensemble the sums over its members."""
  modules: list[Any] = [experiment.module(name) for name, _ in members]
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


def _latency(experiment: experiment_lib.Experiment, members: Members) -> dict[str, float] | None:
  """Milliseconds a call on this device, from raw examples to logits, by batch size."""
  if 'diverged' in trained.weights_of(experiment, members):
    return None
  dataset = experiment.dataset
  loaded = trained.load_members(experiment, members)
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


def _flags(records: Sequence[trained.Record]) -> dict[str, list[int]]:
  return {
    'collapsed': [seed for seed, record in enumerate(records) if record['collapsed']],
    'diverged': [seed for seed, record in enumerate(records) if record['status'] == 'diverged'],
  }


def _provenance(
  experiment: experiment_lib.Experiment,
  network: str,
  records: Sequence[trained.Record],
  search: Mapping[str, Any] | None,
) -> dict[str, Any]:
  """What made the network, and how long that took, trials that did not become seed 0 included."""
  is_ensemble = bool(experiment.networks[network]['ensemble'])
  trials = search['trials'] if search else []
  losers = [trial for i, trial in enumerate(trials) if search and i != search['chosen']]
  seconds = sum(each['wall_seconds'] for each in [*records, *losers])
  return {
    **host.provenance(),
    'mesh': None if is_ensemble else records[0].get('mesh'),
    'config_hash': storage.sha256_json(experiment.fingerprints[network]),
    'wall_seconds': 0.0 if is_ensemble else seconds,
    'examples_per_second': None if is_ensemble else max(r['examples_per_second'] for r in records),
  }
