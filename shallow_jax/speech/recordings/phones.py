"""The phone labels of a corpus, and which of TIMIT's 39 classes each is scored as.

A map's file has a line `label class` for each label, in the order of the network's outputs, or
`label -` where the label is deleted before scoring. Lines that begin with `# ` are comments.
Labels are kept in Unicode's normal form C, as those of alignments are.
The 39 classes: Lee and Hon (1989), "Speaker-independent phone recognition using hidden Markov
models", where `sil` takes in closures, pauses and epenthetic silence.
"""

import dataclasses
import functools
import importlib.resources
import os
import pathlib

from shallow_jax.runtime import errors
from shallow_jax.speech.recordings import label_text

CLASSES = tuple(
  """
  aa ae ah aw ay b ch d dh dx eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh sil t th uh uw v w
  y z""".split()
)
SILENCE = 'sil'  # the class; also the label of what a TextGrid leaves empty
STATES_PER_LABEL = 3  # state s of label l has index STATES_PER_LABEL * l + s
DELETED = '-'
BUILT_IN = ('timit', 'cmu_arctic', 'arpabet')


@dataclasses.dataclass(frozen=True)
class PhoneMap:
  """A corpus's labels and their classes.

  Attributes:
    labels: what the alignments say and the network tells apart, each with STATES_PER_LABEL states.
      TIMIT has 61, so 183 states.
    scored: the class in CLASSES of each label; None is deleted before scoring, as TIMIT's q.
  """

  labels: tuple[str, ...]
  scored: dict[str, str | None]

  @functools.cached_property
  def index(self) -> dict[str, int]:
    """Each label's place in `labels`."""
    return {label: i for i, label in enumerate(self.labels)}


def load(name: str | os.PathLike[str]) -> PhoneMap:
  """Return the map of ours that `name` names (one of BUILT_IN), or the one in the file `name`.

  Raises:
    DataError: naming the file and the line where it is wrong.
  """
  if name in BUILT_IN:
    file = importlib.resources.files('shallow_jax.speech.recordings') / 'phone_maps' / f'{name}.map'
    return _parse(f'{name}.map', file.read_text('utf-8'))
  try:
    text = pathlib.Path(name).read_text('utf-8-sig')
  except OSError as error:
    raise errors.DataError(
      f'{name}: {error.strerror}, expected a phone map: a file or one of {", ".join(BUILT_IN)}'
    ) from error
  except UnicodeDecodeError as error:
    raise errors.DataError(f'{name}: not UTF-8 text, expected a phone map') from error
  return _parse(str(name), text)


def _parse(where: str, text: str) -> PhoneMap:
  scored: dict[str, str | None] = {}
  for number, line in enumerate(text.splitlines(), 1):
    fields = line.split()
    if not fields or fields[0] == '#':
      continue
    if len(fields) != 2:
      raise errors.DataError(
        f"{where}, line {number}: {line.strip()!r}, expected 'label class', "
        f"or 'label {DELETED}' for a label that is deleted before scoring"
      )
    label, phone_class = label_text.composed(fields[0]), fields[1]
    if label in scored:
      raise errors.DataError(f'{where}, line {number}: label {label!r} is there twice')
    if phone_class not in (*CLASSES, DELETED):
      raise errors.DataError(
        f'{where}, line {number}: class {phone_class!r}, expected {DELETED} or one of the 39: '
        f'{" ".join(CLASSES)}'
      )
    scored[label] = None if phone_class == DELETED else phone_class
  if SILENCE not in scored.values():
    raise errors.DataError(
      f"{where}: {len(scored)} labels, none of class {SILENCE}; expected a line 'label class' each"
    )
  return PhoneMap(tuple(scored), scored)
