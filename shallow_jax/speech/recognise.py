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
from scipy import special

from shallow_jax.runtime import storage
from shallow_jax.speech import hmm
from shallow_jax.speech import phone_errors
from shallow_jax.speech import scoring
from shallow_jax.speech import viterbi
from shallow_jax.speech.recordings import phones as phones_lib

_log = logging.getLogger(__name__)

SETS = ('validation', 'test')
# On validation of the TIMIT sample 1e-3 to 1e-5 are equal within 0.3 points, 1e-2 is far worse.
SMALLEST_POSTERIOR = 1e-4
PARTS = tuple(field.name for field in dataclasses.fields(viterbi.Scales))

Grid = Mapping[str, Sequence[float]]


@dataclasses.dataclass(frozen=True, eq=False)
class Utterances:
  """The utterances of a split, in the order of its rows.

  Utterance i has the rows from offsets[i] up to, and without, offsets[i + 1].
  """

  names: tuple[str, ...]  # unique in the corpus: falk0_sx186
  speakers: tuple[str, ...]  # falk0
  offsets: np.ndarray  # int64 [utterances + 1]
  transcriptions: tuple[np.ndarray, ...]  # each one's label indices, int32 [phones]


@dataclasses.dataclass(frozen=True, eq=False)
class Recognition:
  """What a data set of speech has besides frames."""

  phones: phones_lib.PhoneMap  # class 3 l + s of the data set is state s of label l
  utterances: dict[str, Utterances]  # of 'train', 'validation' and 'test'

  def fingerprint(self) -> dict[str, Any]:
    """All that decoding and scoring depend on, for JSON."""
    return {
      'phones_sha256': storage.sha256_json(list(self.phones.scored.items())),
      'utterances': {
        name: {
          'count': len(rows.names),
          'sha256': storage.sha256_json(vars(rows)),
        }
        for name, rows in self.utterances.items()
      },
    }


@dataclasses.dataclass(frozen=True, eq=False)
class Recognised:
  """What a network recognised, scored."""

  scales: viterbi.Scales  # chosen on validation
  at_edge: tuple[str, ...]  # which of them is the lowest or the highest of those that were tried
  counts: dict[str, np.ndarray]  # by set int32 [conventions, utterances, kinds]: `phone_errors`
  confusion: np.ndarray  # int64 [classes + 1, classes + 1] on test: `scoring.confusion`


def estimate(recognition: Recognition, labels: np.ndarray) -> hmm.Hmm:
  """The HMM of the labels that a network learned from.

  `labels` are the states int [frames] of train, in its rows' order.
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
  scored = {
    name: [
      scoring.count(references[name], found, classes.silence, convention)
      for convention in scoring.CONVENTIONS
    ]
    for name, found in (('validation', tried[best]), ('test', tested))
  }
  _, strict_edits = scored['test'][phone_errors.STRICT]
  return Recognised(
    scales=settings[best],
    at_edge=_at_edge(settings[best], grid),
    counts={name: np.stack([counts for counts, _ in rows]) for name, rows in scored.items()},
    confusion=scoring.confusion(strict_edits, len(classes.names)),
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
  return special.log_softmax(outputs, axis=1).astype(np.float32)


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


def _hypotheses(
  posteriors: Sequence[np.ndarray],
  model: hmm.Hmm,
  settings: Sequence[viterbi.Scales],
  classes: scoring.Classes,
) -> list[scoring.Strings]:
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
