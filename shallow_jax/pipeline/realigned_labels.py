"""A network's alignment of the training labels: computed once, and what other networks learn from.

<workdir>/<network>/alignment/<set>.npy    int32 [frames], in the split's order
<workdir>/<network>/alignment/manifest.json, written last

Of a plain network seed 0 aligns, of an ensemble its mean logits: all that learn from the alignment
learn from the same one. Test is never realigned: errors on its frames, and those in a result on
validation's, are against the corpus's segments in thirds.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import logging
import math
import pathlib
from typing import Any

import numpy as np

from shallow_jax.data import dataset as dataset_lib
from shallow_jax.logits import predict
from shallow_jax.pipeline import experiment as experiment_lib
from shallow_jax.pipeline import graph
from shallow_jax.pipeline import trained
from shallow_jax.runtime import processes
from shallow_jax.runtime import storage
from shallow_jax.runtime import workdir as workdir_lib
from shallow_jax.speech import hmm
from shallow_jax.speech import recognise
from shallow_jax.speech import viterbi
from shallow_jax.speech.recordings import phones

_log = logging.getLogger(__name__)

SETS = ('train', 'validation')

_FRAMES_AT_ONCE = 100_000  # whose logits are in memory
_VERSION = 1


def split(experiment: experiment_lib.Experiment, network: str, name: str) -> dataset_lib.Split:
  """A split with the labels that a network, or whoever taught it, learned from."""
  found = experiment.dataset.splits[name]
  aligner = graph.aligner(experiment.networks, network)
  if aligner is None or name not in SETS:
    return found
  return dataclasses.replace(
    found, arrays={**found.arrays, 'label': load(experiment, aligner, name)}
  )


def dataset(experiment: experiment_lib.Experiment, network: str) -> dataset_lib.Dataset:
  """The data set with those labels."""
  found = experiment.dataset
  if graph.aligner(experiment.networks, network) is None:
    return found
  splits = {name: split(experiment, network, name) for name in found.splits}
  return dataclasses.replace(found, splits=splits)


def members(experiment: experiment_lib.Experiment, aligner: str) -> list[experiment_lib.Member]:
  """Whose mean logits align: all members of an ensemble, else seed 0."""
  found = experiment.members(aligner)
  return found if experiment.networks[aligner]['ensemble'] else found[:1]


def store(experiment: experiment_lib.Experiment, aligner: str) -> None:
  """Computes a network's alignment, unless it is there and of the weights that are there now.

  Raises:
    ExperimentError: it is of other weights; the network is not trained, or diverged.
    storage.StorageError: it is damaged.
  """
  folder = _folder(experiment, aligner)
  if processes.agree((folder / workdir_lib.MANIFEST).exists()):
    for name in SETS:
      load(experiment, aligner, name)
    return
  _log.info('%s: aligning %s', aligner, ' and '.join(SETS))
  before = {name: split(experiment, aligner, name).arrays['label'] for name in SETS}
  model = recognise.estimate(_recognition(experiment), before['train'])
  aligned, kept = {}, {}
  for name in SETS:
    aligned[name], kept[name] = _aligned(experiment, aligner, name, before[name], model)
  if processes.is_first():
    _write(experiment, aligner, before, aligned, kept)
  processes.meet(f'{aligner} has aligned')
  done = _manifest(experiment, aligner)['statistics']
  _log.info('%s: %.1f %% of the frames have another state', aligner, done['changed'])


def _write(
  experiment: experiment_lib.Experiment,
  aligner: str,
  before: Mapping[str, np.ndarray],
  aligned: Mapping[str, np.ndarray],
  kept: Mapping[str, int],
) -> None:
  folder = _folder(experiment, aligner)
  folder.mkdir(parents=True, exist_ok=True)
  for name, labels in aligned.items():
    storage.write_array(folder / f'{name}.npy', labels)
  done = _statistics(experiment, before['train'], aligned['train'], kept)
  manifest = {
    'version': _VERSION,
    **_expected(experiment, aligner),
    'sha256_by_set': {name: storage.sha256_file(folder / f'{name}.npy') for name in SETS},
    'statistics': done,
  }
  storage.write_sealed_json(folder / workdir_lib.MANIFEST, manifest)


def load(experiment: experiment_lib.Experiment, aligner: str, name: str) -> np.ndarray:
  """The labels int32 [frames] of a set by a network's alignment, verified.

  Raises:
    ExperimentError: they are not there, or of other weights or frames.
    storage.StorageError: a file is damaged.
  """
  manifest = _manifest(experiment, aligner)
  path = _folder(experiment, aligner) / f'{name}.npy'
  try:
    return storage.read_array(path, manifest['sha256_by_set'][name])
  except storage.StorageError as error:
    raise storage.StorageError(f'{error}; delete {path.parent} to align anew') from error


def statistics(experiment: experiment_lib.Experiment, network: str) -> dict[str, Any] | None:
  """What the alignment that a network's labels come from did; None where they are the corpus's."""
  aligner = graph.aligner(experiment.networks, network)
  if aligner is None:
    return None
  return {'by': aligner, **_manifest(experiment, aligner)['statistics']}


def _manifest(experiment: experiment_lib.Experiment, aligner: str) -> dict[str, Any]:
  folder = _folder(experiment, aligner)
  if not (folder / workdir_lib.MANIFEST).exists():
    raise experiment_lib.ExperimentError(f'{folder}: not there yet; run with --stage=logits first')
  manifest = storage.read_sealed_json(folder / workdir_lib.MANIFEST)
  for key, value in _expected(experiment, aligner).items():
    if manifest.get(key) != value:
      raise experiment_lib.ExperimentError(
        f'{folder} is of other {key} than those that are there now; delete it, and the networks '
        'that learned from it, to align anew'
      )
  return manifest


def _expected(experiment: experiment_lib.Experiment, aligner: str) -> dict[str, Any]:
  """What an alignment belongs to."""
  return {
    'weights': trained.weights_of(experiment, members(experiment, aligner)),
    'frames': {name: experiment.dataset.splits[name].ids_sha256 for name in SETS},
    'utterances': _recognition(experiment).fingerprint(),
  }


def _aligned(
  experiment: experiment_lib.Experiment,
  aligner: str,
  name: str,
  before: np.ndarray,
  model: hmm.Hmm,
) -> tuple[np.ndarray, int]:
  """A set's labels int32 [frames], and how many utterances were too short and kept theirs."""
  utterances = _recognition(experiment).utterances[name]
  nets = trained.load_members(experiment, members(experiment, aligner))
  found: list[np.ndarray] = []
  num_kept = 0
  for first, last in _parts(utterances.offsets):
    offsets = utterances.offsets[first : last + 1]
    outputs = predict.logits(
      nets,
      experiment.dataset,
      experiment.dataset.splits[name].arrays,
      batch_size=experiment.config['logits']['batch_size'],
      rows=np.arange(offsets[0], offsets[-1]),
    ).mean(axis=0)
    log_posteriors = recognise.log_posteriors(
      outputs, are_posteriors=graph.estimates_posteriors(experiment.networks, aligner)
    )
    states, kept = viterbi.realign(
      recognise.by_utterance(log_posteriors, offsets - offsets[0]),
      utterances.transcriptions[first:last],
      recognise.by_utterance(before[offsets[0] : offsets[-1]], offsets - offsets[0]),
      model,
    )
    found += states
    num_kept += len(kept)
    if experiment.stop.requested:
      raise experiment.stop.stopped(f'{aligner} while aligning {name}')
  return np.concatenate(found).astype(np.int32), num_kept


def _parts(offsets: np.ndarray) -> Iterator[tuple[int, int]]:
  """Runs of utterances [first, last) of about _FRAMES_AT_ONCE frames."""
  first = 0
  while first < len(offsets) - 1:
    last = int(np.searchsorted(offsets, offsets[first] + _FRAMES_AT_ONCE, side='right')) - 1
    last = max(last, first + 1)
    yield first, last
    first = last


def _statistics(
  experiment: experiment_lib.Experiment,
  before: np.ndarray,
  after: np.ndarray,
  kept: Mapping[str, int],
) -> dict[str, Any]:
  """What an alignment did to train, for JSON.

  `changed`: the frames with another state than before, in per cent. `shift`: the mean distance in
  frames between where a label begins now and in the corpus; null if no utterance tells. `shares`:
  how the frames of all labels are divided among their states, in per cent; `shares_by_label` of
  each. `kept`: utterances that were too short, by set.
  """
  recognition = _recognition(experiment)
  offsets = recognition.utterances['train'].offsets
  corpus = experiment.dataset.splits['train'].arrays['label']
  change = hmm.compare(
    recognise.by_utterance(before, offsets),
    recognise.by_utterance(after, offsets),
    [_starts(states) for states in recognise.by_utterance(corpus, offsets)],
    len(recognition.phones.labels),
  )
  counts = np.bincount(after % phones.STATES_PER_LABEL, minlength=phones.STATES_PER_LABEL)
  return {
    'changed': 100.0 * change.changed,
    'shift': change.shift if math.isfinite(change.shift) else None,
    'shares': (100.0 * counts / counts.sum()).tolist(),
    'shares_by_label': {
      label: (100.0 * row).tolist()
      for label, row in zip(recognition.phones.labels, change.shares, strict=True)
      if np.isfinite(row).all()
    },
    'kept': dict(kept),
  }


def _starts(states: np.ndarray) -> np.ndarray:
  """Where labels begin in the corpus, from segments in thirds, int [labels that have a frame].

  A label begins where another follows, or where the state falls. One without a frame is not seen;
  its utterance then has fewer beginnings than labels, and `hmm.compare` leaves it out.
  """
  labels, states = np.divmod(states, phones.STATES_PER_LABEL)
  begins = (np.diff(labels, prepend=-1) != 0) | (np.diff(states, prepend=0) < 0)
  return np.flatnonzero(begins)


def _recognition(experiment: experiment_lib.Experiment) -> recognise.Recognition:
  found = experiment.dataset.recognition
  assert found is not None  # graph.check_examples refuses an alignment of other data
  return found


def _folder(experiment: experiment_lib.Experiment, aligner: str) -> pathlib.Path:
  return experiment.folder(aligner) / workdir_lib.ALIGNMENT
