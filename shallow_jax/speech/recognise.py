"""From a network's logits over frames to the phones that it recognises, and its errors.

What a score's parts weigh is chosen on the validation set by phone error rate, strict convention.
The test set is decoded once, with what was chosen.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import itertools
import logging
import pathlib
from typing import Any

import numpy as np

from shallow_jax.speech import edit_distance
from shallow_jax.speech import hmm
from shallow_jax.speech import phone_errors
from shallow_jax.speech import recognition as recognition_lib
from shallow_jax.speech import scoring
from shallow_jax.speech import viterbi
from shallow_jax.speech.recordings import phones as phones_lib

_log = logging.getLogger(__name__)

SETS = ('validation', 'test')
# On validation of the TIMIT sample 1e-3 to 1e-5 are equal within 0.3 points, 1e-2 is far worse.
SMALLEST_POSTERIOR = 1e-4
PARTS = tuple(field.name for field in dataclasses.fields(viterbi.Scales))

Grid = Mapping[str, Sequence[float]]
Recognition = recognition_lib.Recognition


@dataclasses.dataclass(frozen=True, eq=False)
class Recognised:
  """What a network recognised, scored.

  Attributes:
    scales: chosen on validation.
    at_edge: which of them is the first or the last value of those that were tried.
    counts: by set int32 [conventions, utterances, kinds], see `phone_errors`.
    confusion: int64 [classes + 1, classes + 1] on test, as `scoring.confusion` returns it.
  """

  scales: viterbi.Scales
  at_edge: tuple[str, ...]
  counts: dict[str, np.ndarray]
  confusion: np.ndarray


def estimate(recognition: Recognition, labels: np.ndarray) -> hmm.Hmm:
  """The HMM of the labels that a network learned from.

  Args:
    recognition: of the data set.
    labels: states int [frames] of train, in its rows' order.
  """
  train = recognition.utterances['train']
  return hmm.estimate(
    by_utterance(labels, train.offsets),
    train.transcriptions,
    len(recognition.phones.labels),
    boundary(recognition),
  )


def boundary(recognition: Recognition) -> int:
  """The label of silence that begins most training utterances: h# in TIMIT."""
  phones = recognition.phones
  firsts = [labels[0] for labels in recognition.utterances['train'].transcriptions]
  begun = np.bincount(firsts, minlength=len(phones.labels))
  is_silence = [phones.scored[label] == phones_lib.SILENCE for label in phones.labels]
  return int(np.argmax(np.where(is_silence, begun, -1)))


def recognise(
  outputs: Mapping[str, np.ndarray],
  recognition: Recognition,
  model: hmm.Hmm,
  grid: Grid,
  *,
  are_posteriors: bool = False,
) -> Recognised:
  """Decodes and scores a network's outputs.

  Args:
    outputs: [frames, states] of 'validation' and 'test', in their rows' order.
    recognition: of the data set.
    model: the HMM of the labels that the network learned from.
    grid: values to try for each of PARTS (config.evaluation.decoding).
    are_posteriors: see `log_posteriors`.
  """
  classes = _classes(recognition)
  posteriors = {
    name: by_utterance(
      log_posteriors(rows, are_posteriors=are_posteriors), recognition.utterances[name].offsets
    )
    for name, rows in outputs.items()
  }
  references = {
    name: [classes.of(labels) for labels in recognition.utterances[name].transcriptions]
    for name in outputs
  }
  settings = [
    viterbi.Scales(*values) for values in itertools.product(*(grid[part] for part in PARTS))
  ]
  tried = _hypotheses(posteriors['validation'], model, settings, classes)
  wrong = [
    scoring.num_errors(references['validation'], each, classes.silence).sum() for each in tried
  ]
  best = int(np.argmin(wrong))  # the first of equal ones
  (tested,) = _hypotheses(posteriors['test'], model, settings[best : best + 1], classes)
  hypotheses = {'validation': tried[best], 'test': tested}
  return Recognised(
    scales=settings[best],
    at_edge=_at_edge(settings[best], grid),
    counts={
      name: _counts(references[name], found, classes.silence) for name, found in hypotheses.items()
    },
    confusion=scoring.confusion(references['test'], tested, len(classes.names)),
  )


def by_utterance(rows: np.ndarray, offsets: np.ndarray) -> list[np.ndarray]:
  """Each utterance's part of a split's rows [frames, ...]."""
  return np.split(rows, offsets[1:-1])


def log_posteriors(outputs: np.ndarray, *, are_posteriors: bool = False) -> np.ndarray:
  """Log posteriors float32 [frames, states] of a net's outputs of that shape.

  Outputs are logits, unless the net was fitted to one-hot labels by L2: then they estimate the
  posteriors themselves (Richard & Lippmann 1991), if with some negative ones.
  """
  if are_posteriors:
    outputs = np.log(np.maximum(outputs, SMALLEST_POSTERIOR))
  return log_softmax(outputs)


def log_softmax(logits: np.ndarray) -> np.ndarray:
  """Log posteriors float32 [frames, states], of logits of that shape."""
  shifted = (logits - logits.max(axis=1, keepdims=True)).astype(np.float32)
  return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def save(
  workdir: pathlib.Path,
  network: str,
  found: Sequence[Recognised | None],
  recognition: Recognition,
) -> None:
  """Keeps the errors of each utterance beside the network's result (`phone_errors`)."""
  described: dict[str, Any] = {'classes': _classes(recognition).names}
  for name in SETS:
    utterances = recognition.utterances[name]
    described[f'{name}_utterances'] = utterances.names
    described[f'{name}_speakers'] = utterances.speakers
  rows = [None if each is None else {**each.counts, 'confusion': each.confusion} for each in found]
  phone_errors.save(workdir, network, rows, described)


def _classes(recognition: Recognition) -> scoring.Classes:
  phones = recognition.phones
  return scoring.classes(phones.labels, phones.scored, phones_lib.SILENCE)


def _counts(
  references: edit_distance.Strings, hypotheses: edit_distance.Strings, silence: int
) -> np.ndarray:
  """int32 [conventions, utterances, kinds]."""
  return np.array(
    [
      [dataclasses.astuple(each) for each in scoring.count(references, hypotheses, silence, name)]
      for name in phone_errors.CONVENTIONS
    ],
    np.int32,
  )


def _hypotheses(
  posteriors: Sequence[np.ndarray],
  model: hmm.Hmm,
  settings: Sequence[viterbi.Scales],
  classes: scoring.Classes,
) -> list[edit_distance.Strings]:
  """The scored classes of each utterance, for one setting after the other."""
  _, paths = viterbi.decode(posteriors, model, settings)
  return [
    [classes.of(viterbi.transcribe(path[setting])) for path in paths]
    for setting in range(len(settings))
  ]


def _at_edge(scales: viterbi.Scales, grid: Grid) -> tuple[str, ...]:
  chosen = dataclasses.asdict(scales)
  found = tuple(
    part
    for part in PARTS
    if len(grid[part]) > 1 and chosen[part] in (min(grid[part]), max(grid[part]))
  )
  for part in found:
    _log.warning(
      'validation prefers %s %g, at the edge of what was tried: widen '
      'config.evaluation.decoding.%s (%s)',
      part,
      chosen[part],
      part,
      ', '.join(f'{value:g}' for value in grid[part]),
    )
  return found
