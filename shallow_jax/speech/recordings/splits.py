"""Which recordings of a folder train, validate and test: files of lines `name split`.

The split is one of train, validation, test or `-` for none; in a name `*` stands for anything.
Lines that begin with `#` are comments. A name is one of

  dev-clean/       a folder, from the root on, whose folders are speakers
  falk0            a speaker: elsewhere the first folder below the root
  sx186            a sentence: a recording's name without suffix
  falk0_sx186      an utterance

and without `/` the first of the last three that it fits. An utterance goes where its own line says;
without one, where the lines of its folder, its speaker and its sentence say, if they agree. Where
folders or speakers are given to splits, those without a line are in none: no split shares a speaker
with another by oversight. Where all read the same texts, as in CMU ARCTIC, give a line to speakers
and to sentences: no split then shares either.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
import dataclasses
import fnmatch
import importlib.resources
import os
import pathlib

from shallow_jax.runtime import errors
from shallow_jax.speech.recordings import corpus as corpus_lib
from shallow_jax.speech.recordings import label_text

BUILT_IN = ('cmu_arctic', 'librispeech')

_NO_SPLIT = '-'
_FOLDER = '/'  # the end of a folder's name
_MOST_NAMED = 7  # in a message


@dataclasses.dataclass(frozen=True)
class Recording:
  """An utterance but for its alignment. The names are in lower case."""

  name: str  # `speaker_sentence`
  folder: str  # of its folders, from the root on, the one that has a line; '': none
  speaker: str  # a folder's name
  sentence: str  # the file's name without suffix
  audio: pathlib.Path


@dataclasses.dataclass(frozen=True)
class _Line:
  """One line, its name in lower case, and where it is, for messages."""

  where: str
  name: str
  split: str


@dataclasses.dataclass(frozen=True)
class SplitFile:
  """A split file's lines without the comments.

  Of one that is built in, all speakers that are used have a line, by folder or name, and lines for
  those that are not there are passed over.
  """

  name: str  # for messages
  lines: tuple[_Line, ...]
  is_built_in: bool


def load(name: str | os.PathLike[str]) -> SplitFile:
  """Return the split file of ours that `name` names (one of BUILT_IN), or the one at `name`.

  Raises:
    DataError: it can't be read, or a line is not `name split`.
  """
  if name in BUILT_IN:
    where = f'{name}.split'
    file = importlib.resources.files('shallow_jax.speech.recordings') / 'splits' / where
    return SplitFile(where, tuple(_lines(where, file.read_text('utf-8'))), is_built_in=True)
  try:
    text = pathlib.Path(name).expanduser().read_text('utf-8-sig')
  except (OSError, UnicodeDecodeError) as error:
    reason = getattr(error, 'strerror', None) or 'not UTF-8 text'
    raise errors.DataError(
      f'{name}: {reason}, expected a split file: a file or one of {", ".join(BUILT_IN)}'
    ) from error
  return SplitFile(str(name), tuple(_lines(str(name), text)), is_built_in=False)


def folders(split_file: SplitFile, there: Set[str]) -> dict[str, str]:
  """The split of each folder that has a line.

  Those `there` are from the root on, as `LibriSpeech/dev-clean`, in lower case.

  Raises:
    DataError: there is no such folder, or lines contradict each other.
  """
  assigned: dict[str, str] = {}
  for line in split_file.lines:
    if line.name.endswith(_FOLDER):
      name = line.name.removesuffix(_FOLDER)
      depth = name.count(_FOLDER)
      rows = _fitting(name, {folder for folder in there if folder.count(_FOLDER) == depth})
      if not rows and not split_file.is_built_in:
        raise errors.DataError(f'{line.where}: {line.name!r} is no folder of recordings there')
      _assign(assigned, rows, line)
  return assigned


def splits(
  split_file: SplitFile, recordings: Sequence[Recording], of_folder: Mapping[str, str]
) -> dict[str, str]:
  """The split of each utterance that has one, by its name; `of_folder` is what `folders` gives.

  Raises:
    DataError: a line fits nothing, lines contradict each other, or a split is empty.
  """
  of_speaker, of_sentence, of_name = _assignments(split_file, recordings)
  by_place = {*of_folder.values(), *of_speaker.values()}
  is_by_place = split_file.is_built_in or not by_place.isdisjoint(corpus_lib.SPLITS)
  found = {}
  for row in recordings:
    places = {of_folder.get(row.folder), of_speaker.get(row.speaker)} - {None}
    if row.name in of_name:
      said = {of_name[row.name]}
    elif is_by_place and not places:
      said = {_NO_SPLIT}
    else:
      said = (places | {of_sentence.get(row.sentence)}) - {None}
    if len(said) == 1 and (split := said.pop()) in corpus_lib.SPLITS:
      found[row.name] = split
  _check_none_is_empty(split_file, recordings, found)
  return found


def _assignments(
  split_file: SplitFile, recordings: Sequence[Recording]
) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
  """What the lines say of speakers, of sentences and of utterances."""
  known = (
    {row.speaker for row in recordings},
    {row.sentence for row in recordings},
    {row.name for row in recordings},
  )
  assigned: tuple[dict[str, str], ...] = ({}, {}, {})
  for line in split_file.lines:
    if line.name.endswith(_FOLDER):
      continue
    kind = next((i for i, names in enumerate(known) if _fitting(line.name, names)), None)
    if kind is not None:
      _assign(assigned[kind], _fitting(line.name, known[kind]), line)
    elif not split_file.is_built_in:
      raise errors.DataError(
        f'{line.where}: {line.name!r} is no speaker, sentence or utterance there'
      )
  return assigned[0], assigned[1], assigned[2]


def _assign(assigned: dict[str, str], names: Iterable[str], line: _Line) -> None:
  for name in names:
    if assigned.setdefault(name, line.split) != line.split:
      raise errors.DataError(
        f'{line.where}: {name} is {line.split}, but {assigned[name]} by a line above'
      )


def _check_none_is_empty(
  split_file: SplitFile, recordings: Sequence[Recording], found: Mapping[str, str]
) -> None:
  for split in corpus_lib.SPLITS:
    if split not in found.values():
      names = [line.name for line in split_file.lines if line.split == split]
      expected = f'some that fit {_some(names)}' if names else 'a line for it'
      speakers = _some(sorted({row.speaker for row in recordings}))
      raise errors.DataError(
        f'{split_file.name}: no recording for {split}, expected {expected}; the speakers there are '
        f'{speakers}'
      )


def _some(names: Sequence[str]) -> str:
  more = f' and {len(names) - _MOST_NAMED} more' if len(names) > _MOST_NAMED else ''
  return ', '.join(names[:_MOST_NAMED]) + more


def _fitting(name: str, names: Set[str]) -> list[str]:
  if name in names:
    return [name]
  return fnmatch.filter(names, name) if '*' in name else []


def _lines(where: str, text: str) -> Iterable[_Line]:
  for number, row in enumerate(text.splitlines(), 1):
    fields = row.split()
    if not fields or fields[0].startswith('#'):
      continue
    if len(fields) != 2 or fields[1] not in (*corpus_lib.SPLITS, _NO_SPLIT):
      raise errors.DataError(
        f"{where}, line {number}: {row.strip()!r}, expected 'name split', the split one of "
        f'{", ".join(corpus_lib.SPLITS)}, {_NO_SPLIT}'
      )
    yield _Line(f'{where}, line {number}', label_text.folded(fields[0]), fields[1])
