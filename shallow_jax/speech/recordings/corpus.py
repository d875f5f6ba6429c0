"""What every corpus is: utterances with their phones, in splits, each looked at once on loading."""

from collections import Counter
from collections.abc import Container, Iterable, Mapping
import dataclasses
import itertools
import logging
import pathlib
from typing import Any

from shallow_jax.runtime import errors
from shallow_jax.speech.recordings import alignment_files
from shallow_jax.speech.recordings import audio
from shallow_jax.speech.recordings import features
from shallow_jax.speech.recordings import phones

SPLITS = ('train', 'validation', 'test')

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Utterance:
  """One recording and the file that has its phones."""

  name: str  # unique in the corpus, lower case: falk0_sx186
  speaker: str  # falk0
  sentence: str  # what is said; the same for all who say it: sx186
  audio: pathlib.Path
  alignment: pathlib.Path  # as `alignment_files` reads it


@dataclasses.dataclass(frozen=True)
class Corpus:
  """Utterances sorted by name in SPLITS, 'validation' being the dev set.

  The notes are `skipped`, a line on each file that was; `shared_sentences`, how many two splits
  have in common: {'train/validation': 0, ...}; of each split what `alignment_files.COUNTED` names;
  and what the reader adds.
  """

  splits: dict[str, tuple[Utterance, ...]]
  phones: phones.PhoneMap
  notes: dict[str, Any]


class Skipped:
  """What to do about a bad file: raise, or note it and go on without it."""

  def __init__(self, *, skip_bad: bool) -> None:
    self._skip_bad = skip_bad
    self.files: dict[str, str] = {}

  def refuse(self, path: pathlib.Path, line: str) -> None:
    """Raise DataError with `line`, or note it for the file at `path`."""
    if not self._skip_bad:
      raise errors.DataError(line)
    self.files[str(path)] = line


def segments(
  utterance: Utterance, phone_map: phones.PhoneMap, counts: Counter[str] | None = None
) -> list[alignment_files.Segment]:
  """Return an utterance's phones, one right after another over all of its samples.

  `counts` is as in `alignment_files.read`.

  Raises:
    DataError: the audio or the alignment is wrong, or has a phone that the map lacks; there are
      fewer frames than a phone has states.
  """
  num_samples = audio.num_samples(utterance.audio)
  num_frames = features.frames(num_samples)
  if num_frames < phones.STATES_PER_LABEL:
    raise errors.DataError(
      f'{utterance.audio}: {num_samples} samples, {num_frames} frames; expected '
      f'{phones.STATES_PER_LABEL} frames or more, one for each state of a phone'
    )
  found = alignment_files.read(utterance.alignment, num_samples, utterance.audio, counts)
  for segment in found:
    if segment.phone not in phone_map.index:
      raise errors.DataError(
        f'{utterance.alignment}: phone {segment.phone!r} at sample {segment.start:,} is not one '
        f'of the {len(phone_map.labels)} labels of the phone map'
      )
  return found


def build(
  splits: Mapping[str, Iterable[Utterance]],
  phone_map: phones.PhoneMap,
  skipped: Skipped,
  notes: Mapping[str, Any],
) -> Corpus:
  """Return a corpus of which every utterance's header and phones have been read.

  Raises:
    DataError: the first bad file, unless `skipped` notes those; a split that is empty.
  """
  counts = {name: Counter[str]() for name in SPLITS}
  checked = {
    name: tuple(
      utterance
      for utterance in sorted(splits[name], key=lambda utterance: utterance.name)
      if _is_good(utterance, phone_map, skipped, counts[name])
    )
    for name in SPLITS
  }
  of_splits = {key: {name: counts[name][key] for name in SPLITS} for key in alignment_files.COUNTED}
  if any(of_splits[alignment_files.LOST].values()):
    _log.warning(
      'segments of labels lost by rounding to a sample: %s', of_splits[alignment_files.LOST]
    )
  notes = {**notes, **of_splits}
  return _corpus(checked, phone_map, skipped.files, notes)


def kept(corpus: Corpus, names: Container[str], skipped: Skipped) -> Corpus:
  """Return the utterances of these names; the others' files are in `skipped`.

  Raises:
    DataError: a split is empty.
  """
  splits = {
    split: tuple(row for row in rows if row.name in names) for split, rows in corpus.splits.items()
  }
  files = {**corpus.notes['skipped'], **skipped.files}
  return _corpus(splits, corpus.phones, files, corpus.notes)


def _corpus(
  splits: dict[str, tuple[Utterance, ...]],
  phone_map: phones.PhoneMap,
  skipped: Mapping[str, str],
  notes: Mapping[str, Any],
) -> Corpus:
  empty = [name for name, rows in splits.items() if not rows]
  if empty:
    reasons = f'; skipped {len(skipped)}, as {next(iter(skipped.values()))}' if skipped else ''
    raise errors.DataError(f'no utterance for {", ".join(empty)}{reasons}')
  spoken = {name: {row.sentence for row in rows} for name, rows in splits.items()}
  shared = {
    f'{one}/{other}': len(spoken[one] & spoken[other])
    for one, other in itertools.combinations(spoken, 2)
  }
  return Corpus(splits, phone_map, {**notes, 'skipped': dict(skipped), 'shared_sentences': shared})


def _is_good(
  utterance: Utterance, phone_map: phones.PhoneMap, skipped: Skipped, counts: Counter[str]
) -> bool:
  its_counts = Counter[str]()
  try:
    segments(utterance, phone_map, its_counts)
  except errors.DataError as error:
    skipped.refuse(utterance.audio, str(error))
    return False
  counts.update(its_counts)
  return True
