"""Any folder of recordings with time-aligned phones, by a split file: CMU ARCTIC, LibriSpeech."""

from collections.abc import Iterable, Mapping, Sequence, Set
import dataclasses
import fnmatch
import os
import pathlib

from shallow_jax import errors
from shallow_jax.speech import alignment_files
from shallow_jax.speech import phones
from shallow_jax.speech import utterances

_AUDIO_SUFFIXES = ('.wav', '.flac', '.sph')
_NO_SPLIT = '-'


@dataclasses.dataclass(frozen=True)
class _Recording:
  """An utterance but for its alignment."""

  name: str
  speaker: str
  sentence: str
  audio: pathlib.Path


def folder(
  data_dir: str | os.PathLike[str],
  phone_map: phones.PhoneMap,
  split_file: str | os.PathLike[str],
  *,
  alignment_dir: str | os.PathLike[str] | None = None,
  skip_bad: bool = False,
) -> utterances.Corpus:
  """Return the recordings below a folder that a split file gives to a split.

  The first folder below `data_dir` is the speaker, the recording's name without suffix the
  sentence, `speaker_sentence` the utterance; all in lower case. An alignment has its recording's
  relative path but for the suffix, with `lab` for a last folder `wav`:

    CMU ARCTIC   cmu_us_slt_arctic/wav/arctic_a0001.wav, cmu_us_slt_arctic/lab/arctic_a0001.lab
    LibriSpeech  84/121123/84-121123-0000.flac, and in `alignment_dir` the same with .TextGrid

  The split file has lines `name split`, the split one of train, validation, test or `-` for none.
  A name is a speaker, or else a sentence, or else an utterance; `*` stands for anything. An
  utterance goes where its own line says; without one, where the lines of its speaker and its
  sentence say, if they agree. Where all read the same texts, as in CMU ARCTIC, give a line to
  speakers and to sentences: no split then shares either with another. Lines that begin with `#` are
  comments.

  Args:
    data_dir: the folder of the speakers.
    phone_map: of the labels in the alignments.
    split_file: as above.
    alignment_dir: where the alignments are, if not in `data_dir`; or one .mlf with all of them.
    skip_bad: leave out utterances that are damaged or lack an alignment, and note them.

  Raises:
    DataError: there is no recording, a line of the split file is wrong, a split is empty, or a file
      is bad.
  """
  root = pathlib.Path(data_dir).expanduser()
  recordings = _recordings(root)
  split_of = _splits(pathlib.Path(split_file).expanduser(), recordings)
  place = pathlib.Path(alignment_dir).expanduser() if alignment_dir else root
  alignments = _alignments(place)
  skipped = utterances.Skipped(skip_bad=skip_bad)
  splits: dict[str, list[utterances.Utterance]] = {name: [] for name in utterances.SPLITS}
  for row in recordings:
    if row.name not in split_of:
      continue
    alignment = place if place.is_file() else _alignment(root, row.audio, alignments)
    if alignment:
      utterance = utterances.Utterance(row.name, row.speaker, row.sentence, row.audio, alignment)
      splits[split_of[row.name]].append(utterance)
    else:
      skipped.refuse(
        row.audio,
        f'{row.audio}: no alignment in {place}, expected the same path with one of '
        f'{", ".join(alignment_files.SUFFIXES)}',
      )
  notes = {'source': f'recordings in {data_dir}', 'left_out': len(recordings) - len(split_of)}
  return utterances.build(splits, phone_map, skipped, notes)


def _recordings(root: pathlib.Path) -> list[_Recording]:
  by_name: dict[str, _Recording] = {}
  for path in sorted(root.rglob('*')):
    if path.suffix.lower() not in _AUDIO_SUFFIXES or path.name.startswith('.'):
      continue
    folders = path.relative_to(root).parts[:-1]
    speaker = (folders[0] if folders else root.resolve().name).lower()
    sentence = path.stem.lower()
    row = _Recording(f'{speaker}_{sentence}', speaker, sentence, path)
    other = by_name.setdefault(row.name, row)
    if other is not row:
      raise errors.DataError(f'{other.audio} and {path}: both are utterance {row.name}')
  if not by_name:
    raise errors.DataError(
      f'{root} holds no recording, expected {", ".join(_AUDIO_SUFFIXES)} in a folder for each '
      f'speaker; CMU ARCTIC is free: http://festvox.org/cmu_arctic/'
    )
  return list(by_name.values())


def _alignments(place: pathlib.Path) -> dict[str, pathlib.Path]:
  """The files with phones below a folder, by their paths in it without suffix, in lower case."""
  order = {suffix: i for i, suffix in enumerate(alignment_files.SUFFIXES)}
  found = [path for path in place.rglob('*') if path.suffix.lower() in order]
  found.sort(key=lambda path: order[path.suffix.lower()], reverse=True)
  return {_key(path.relative_to(place)): path for path in found}


def _alignment(
  root: pathlib.Path, recording: pathlib.Path, alignments: Mapping[str, pathlib.Path]
) -> pathlib.Path | None:
  relative = recording.relative_to(root)
  beside = relative.parent.with_name('lab') if relative.parent.name == 'wav' else relative.parent
  return alignments.get(_key(relative)) or alignments.get(_key(beside / relative.name))


def _key(relative: pathlib.Path) -> str:
  return relative.with_suffix('').as_posix().lower()


def _splits(split_file: pathlib.Path, recordings: Sequence[_Recording]) -> dict[str, str]:
  """The split of each utterance that has one."""
  by_speaker, by_sentence, by_name = _assignments(split_file, recordings)
  splits = {}
  for row in recordings:
    if row.name in by_name:
      said = {by_name[row.name]}
    else:
      said = {by_speaker.get(row.speaker), by_sentence.get(row.sentence)} - {None}
    if len(said) == 1 and (split := said.pop()) in utterances.SPLITS:
      splits[row.name] = split
  return splits


def _assignments(
  split_file: pathlib.Path, recordings: Sequence[_Recording]
) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
  """What the lines say of speakers, of sentences and of utterances."""
  known = (
    {row.speaker for row in recordings},
    {row.sentence for row in recordings},
    {row.name for row in recordings},
  )
  assigned: tuple[dict[str, str], ...] = ({}, {}, {})
  for where, name, split in _lines(split_file):
    kind = next((i for i, names in enumerate(known) if _fitting(name, names)), None)
    if kind is None:
      raise errors.DataError(f'{where}: {name!r} is no speaker, sentence or utterance there')
    said = assigned[kind]
    for row in _fitting(name, known[kind]):
      if said.setdefault(row, split) != split:
        raise errors.DataError(f'{where}: {row} is {split}, but {said[row]} by a line above')
  return assigned[0], assigned[1], assigned[2]


def _fitting(name: str, names: Set[str]) -> list[str]:
  if name in names:
    return [name]
  return fnmatch.filter(names, name) if '*' in name else []


def _lines(split_file: pathlib.Path) -> Iterable[tuple[str, str, str]]:
  """Where each line is, for messages, its name in lower case and its split."""
  try:
    text = split_file.read_text('utf-8-sig')
  except (OSError, UnicodeDecodeError) as error:
    raise errors.DataError(f'{split_file}: {error}, expected a split file') from error
  for number, line in enumerate(text.splitlines(), 1):
    fields = line.split()
    where = f'{split_file}, line {number}'
    if not fields or fields[0].startswith('#'):
      continue
    if len(fields) != 2 or fields[1] not in (*utterances.SPLITS, _NO_SPLIT):
      raise errors.DataError(
        f"{where}: {line.strip()!r}, expected 'name split', the split one of "
        f'{", ".join(utterances.SPLITS)}, {_NO_SPLIT}'
      )
    yield where, fields[0].lower(), fields[1]
