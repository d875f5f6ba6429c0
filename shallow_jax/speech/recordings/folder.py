"""Any folder of recordings with time-aligned phones, by a split file: CMU ARCTIC, LibriSpeech."""

from collections.abc import Container, Iterable, Mapping
import contextlib
import os
import pathlib

from shallow_jax.runtime import errors
from shallow_jax.speech.recordings import alignment_files
from shallow_jax.speech.recordings import corpus as corpus_lib
from shallow_jax.speech.recordings import label_text
from shallow_jax.speech.recordings import mlf
from shallow_jax.speech.recordings import phones
from shallow_jax.speech.recordings import splits as split_files

AUDIO_SUFFIXES = ('.wav', '.flac', '.sph')


def folder(
  data_dir: str | os.PathLike[str],
  phone_map: phones.PhoneMap,
  split_file: str | os.PathLike[str],
  *,
  alignment_dir: str | os.PathLike[str] | None = None,
  skip_bad: bool = False,
) -> corpus_lib.Corpus:
  """Return the recordings below a folder that a split file gives to a split.

  The first folder below `data_dir` is the speaker, unless the split file names folders of speakers;
  the recording's name without suffix is the sentence, `speaker_sentence` the utterance; all in
  lower case. An alignment has its recording's relative path but for the suffix, with `lab` for a
  last folder `wav`:

    CMU ARCTIC   cmu_us_slt_arctic/wav/arctic_a0001.wav, cmu_us_slt_arctic/lab/arctic_a0001.lab
    LibriSpeech  dev-clean/84/121123/84-121123-0000.flac, and the same with .TextGrid, there or in
                 `alignment_dir`

  Args:
    data_dir: the folder of the speakers, or of folders of speakers.
    phone_map: of the labels in the alignments.
    split_file: a file as `split_files` reads it, or one of split_files.BUILT_IN.
    alignment_dir: where the alignments are, if not in `data_dir`; or one .mlf with all of them.
    skip_bad: leave out utterances that are damaged or lack an alignment, and note them.

  Raises:
    DataError: there is no recording, a line of the split file is wrong, a split is empty, or a file
      is bad.
  """
  root = pathlib.Path(data_dir).expanduser()
  found = split_files.load(split_file)
  paths = audio_files(root)
  if not paths:
    raise errors.DataError(
      f'{root} holds no recording, expected {", ".join(AUDIO_SUFFIXES)} in a folder for each '
      f'speaker; CMU ARCTIC is free: http://festvox.org/cmu_arctic/'
    )
  of_folder = split_files.folders(found, _folders(root, paths))
  recordings = _recordings(root, paths, of_folder)
  split_of = split_files.splits(found, recordings, of_folder)
  place = pathlib.Path(alignment_dir).expanduser() if alignment_dir else root
  if place.is_file() and place.suffix.lower() != '.mlf':
    raise errors.DataError(f'{place}: one file for all recordings, expected an .mlf or a folder')
  alignments = _alignments(place)
  skipped = corpus_lib.Skipped(skip_bad=skip_bad)
  splits: dict[str, list[corpus_lib.Utterance]] = {name: [] for name in corpus_lib.SPLITS}
  used = [row for row in recordings if row.name in split_of]
  ambiguous = _entries_of_several(place, used) if place.is_file() else {}
  for row in used:
    if row.name in ambiguous:
      skipped.refuse(row.audio, ambiguous[row.name])
      continue
    alignment = place if place.is_file() else _alignment(root, row.audio, alignments)
    if alignment:
      utterance = corpus_lib.Utterance(row.name, row.speaker, row.sentence, row.audio, alignment)
      splits[split_of[row.name]].append(utterance)
    else:
      skipped.refuse(
        row.audio,
        f'{row.audio}: no alignment in {place}, expected the same path with one of '
        f'{", ".join(alignment_files.SUFFIXES)}',
      )
  notes = {
    'source': f'recordings in {data_dir}',
    'split_file': found.name,
    'left_out': len(recordings) - len(used),
  }
  return corpus_lib.build(splits, phone_map, skipped, notes)


def audio_files(root: pathlib.Path) -> list[pathlib.Path]:
  """Return the recordings in a folder and in the folders inside of it, by path."""
  return sorted(
    path
    for path in root.rglob('*')
    if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith('.')
  )


def _folders(root: pathlib.Path, paths: Iterable[pathlib.Path]) -> set[str]:
  """All folders of recordings from the root on: `dev-clean`, `dev-clean/84`; in lower case."""
  lowest = {path.relative_to(root).parent for path in paths}
  return {
    label_text.folded(folder.as_posix())
    for each in lowest
    for folder in (each, *each.parents)
    if folder.parts
  }


def _recordings(
  root: pathlib.Path, paths: Iterable[pathlib.Path], of_folder: Container[str]
) -> list[split_files.Recording]:
  by_name: dict[str, split_files.Recording] = {}
  for path in paths:
    places = [label_text.folded(part) for part in path.relative_to(root).parts[:-1]]
    depths = (i for i in range(1, len(places)) if '/'.join(places[:i]) in of_folder)
    depth = next(depths, 0)
    speaker = places[depth] if places else label_text.folded(root.resolve().name)
    sentence = label_text.folded(path.stem)
    row = split_files.Recording(
      f'{speaker}_{sentence}', '/'.join(places[:depth]), speaker, sentence, path
    )
    other = by_name.setdefault(row.name, row)
    if other is not row:
      raise errors.DataError(f'{other.audio} and {path}: both are utterance {row.name}')
  return list(by_name.values())


def _alignments(place: pathlib.Path) -> dict[str, pathlib.Path]:
  """The files with phones below a folder, by their paths in it without suffix, in lower case."""
  order = {suffix: i for i, suffix in enumerate(alignment_files.SUFFIXES)}
  found = [path for path in place.rglob('*') if path.suffix.lower() in order]
  found.sort(key=lambda path: order[path.suffix.lower()], reverse=True)
  return {_key(path.relative_to(place)): path for path in found}


def _entries_of_several(
  place: pathlib.Path, rows: Iterable[split_files.Recording]
) -> dict[str, str]:
  """The utterances that share an .mlf's entry with another, and a line on each."""
  found: dict[tuple[str, str], list[split_files.Recording]] = {}
  for row in rows:
    with contextlib.suppress(label_text.FormatError):  # raised again when the labels are read
      found.setdefault((row.sentence, mlf.entry(place, row.audio).where), []).append(row)
  return {
    row.name: f'{place}: {where}: the only entry for {rows[0].audio} and {rows[1].audio}, expected '
    'one for each, in its folder'
    for (_, where), rows in found.items()
    if len(rows) > 1
    for row in rows
  }


def _alignment(
  root: pathlib.Path, recording: pathlib.Path, alignments: Mapping[str, pathlib.Path]
) -> pathlib.Path | None:
  relative = recording.relative_to(root)
  beside = relative.parent.with_name('lab') if relative.parent.name == 'wav' else relative.parent
  return alignments.get(_key(relative)) or alignments.get(_key(beside / relative.name))


def _key(relative: pathlib.Path) -> str:
  return label_text.folded(relative.with_suffix('').as_posix())
