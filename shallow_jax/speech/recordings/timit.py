"""TIMIT as the LDC ships it, and the 16 of its speakers that are free.

The protocol: Halberstadt (1998), "Heterogeneous acoustic measurements and multiple classifiers for
speech recognition", whose dev set is the field's: train without the two sentences that all speakers
say (SA), 50 dev and 24 core test speakers.
"""

from collections.abc import Iterable
import importlib.resources
import os
import pathlib
import re

from shallow_jax.runtime import errors
from shallow_jax.speech.recordings import corpus as corpus_lib
from shallow_jax.speech.recordings import phones

NUM_ROTATIONS = 8  # of the sample: one for each dialect region

_SENTENCE = re.compile(r's[ix]\d+')  # of SA1 and SA2 no use is made
_SAMPLE_SPEAKER = re.compile(r'(?:train/)?dr([1-8])[-/]([fm][a-z]{3}\d)')
_NUM_SENTENCES = 8  # of a speaker, besides SA1 and SA2
_AUDIO_SUFFIXES = ('.wav', '.wav.wav')  # the first that is there; some copies have both
_PARTS = {  # each split's part of the corpus and its speakers
  'train': ('train', 'train_spk.list'),
  'validation': ('test', 'dev_spk.list'),
  'test': ('test', 'test_spk.list'),
}
_WHAT_TIMIT_IS = """\
TIMIT is a corpus of read English with phones timed by hand. The Linguistic Data Consortium licenses
it: LDC93S1, https://catalog.ldc.upenn.edu/LDC93S1. Expected: TRAIN/ and TEST/, in them DR1 to DR8,
a folder for each speaker, and there SX*.WAV and SX*.PHN; all upper or all lower case.
Without a licence: CMU ARCTIC, http://festvox.org/cmu_arctic/, is free and has phone times too; read
it as a folder with the phone map cmu_arctic."""


def timit(data_dir: str | os.PathLike[str], *, skip_bad: bool = False) -> corpus_lib.Corpus:
  """Return TIMIT: 3,696 utterances of 462 speakers, 400 of 50, 192 of 24.

  Args:
    data_dir: the folder that holds TRAIN and TEST, or the one above it.
    skip_bad: leave out utterances that are damaged or lack a file, and note them.

  Raises:
    DataError: there is no TIMIT, it lacks a speaker or it has a bad file.
  """
  folders = _timit_parts(pathlib.Path(data_dir).expanduser())
  speakers = {part: _speaker_folders(folder) for part, folder in folders.items()}
  lists = importlib.resources.files('shallow_jax.speech.recordings') / 'timit'
  listed = {split: (lists / file).read_text('ascii').split() for split, (_, file) in _PARTS.items()}
  for part, folder in folders.items():
    expected = [name for split in _PARTS if _PARTS[split][0] == part for name in listed[split]]
    missing = sorted(set(expected) - speakers[part].keys())
    if missing:
      more = f' and {len(missing) - 5} more' if len(missing) > 5 else ''
      raise errors.DataError(
        f'{folder} lacks {len(missing)} of the {len(expected)} speakers that are used: '
        f'{", ".join(missing[:5])}{more}'
      )
  skipped = corpus_lib.Skipped(skip_bad=skip_bad)
  splits = {
    split: [
      row for name in listed[split] for row in _utterances(name, speakers[part][name], skipped)
    ]
    for split, (part, _) in _PARTS.items()
  }
  return corpus_lib.build(splits, phones.load('timit'), skipped, {'source': f'TIMIT in {data_dir}'})


def sample(
  data_dir: str | os.PathLike[str], rotation: int = 0, *, skip_bad: bool = False
) -> corpus_lib.Corpus:
  """Return the free sample of TIMIT: 12 speakers to train, 2 to validate, 2 to test.

  A woman and a man of each of 8 dialect regions. Rotation r tests the woman of region r + 1 and the
  man of region r + 5, counted in a circle, and validates on those of the regions after: over the 8
  rotations each speaker is tested once, and every region stays in train. No two speakers share a
  sentence, SA1 and SA2 aside.

  `data_dir` holds dr1-fvmh0 and 15 more, or TRAIN with DR1/FVMH0 and so on; `skip_bad` is as in
  `timit`.

  Raises:
    DataError: a speaker is missing, a file is bad, or there is no such rotation.
  """
  if rotation not in range(NUM_ROTATIONS):
    raise errors.DataError(f'rotation is {rotation!r}, expected 0 to {NUM_ROTATIONS - 1}')
  root = pathlib.Path(data_dir).expanduser()
  found = [
    (match, entry)
    for entry in (*root.glob('*'), *root.glob('*/*/*'))
    if (match := _SAMPLE_SPEAKER.fullmatch(entry.relative_to(root).as_posix().lower()))
  ]
  speakers = {(int(match[1]), match[2][0]): (match[2], entry) for match, entry in found}
  if {len(found), len(speakers)} != {2 * NUM_ROTATIONS}:
    raise errors.DataError(
      f'{root} holds {len(found)} speakers, expected the 16 of the TIMIT sample: folders '
      f'dr1-fvmh0, dr1-mcpm0 and so on, a woman and a man of each dialect region'
    )
  tested, validated = (
    {(1 + (rotation + i) % 8, 'f'), (1 + (rotation + i + 4) % 8, 'm')} for i in (0, 1)
  )
  keys = {
    'train': speakers.keys() - tested - validated,
    'validation': validated,
    'test': tested,
  }
  skipped = corpus_lib.Skipped(skip_bad=skip_bad)
  splits = {
    split: [row for key in sorted(keys[split]) for row in _utterances(*speakers[key], skipped)]
    for split in keys
  }
  notes = {'source': f'the 16-speaker sample of TIMIT in {data_dir}', 'rotation': rotation}
  return corpus_lib.build(splits, phones.load('timit'), skipped, notes)


def _timit_parts(data_dir: pathlib.Path) -> dict[str, pathlib.Path]:
  """The folders of 'train' and 'test': in this one, or in one in it."""
  if not data_dir.is_dir():
    raise errors.DataError(f'{data_dir} is not a folder. {_WHAT_TIMIT_IS}')
  for folder in (data_dir, *_folders(data_dir)):
    parts = {entry.name.lower(): entry for entry in _folders(folder)}
    if {'train', 'test'} <= parts.keys():
      return {part: parts[part] for part in ('train', 'test')}
  raise errors.DataError(f'{data_dir} holds no TRAIN and TEST. {_WHAT_TIMIT_IS}')


def _speaker_folders(part: pathlib.Path) -> dict[str, pathlib.Path]:
  """The folders in DR1 to DR8, by their names in lower case."""
  return {
    speaker.name.lower(): speaker
    for region in _folders(part)
    if re.fullmatch(r'dr[1-8]', region.name.lower())
    for speaker in _folders(region)
  }


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
  return sorted(entry for entry in folder.glob('*') if entry.is_dir())


def _utterances(
  speaker: str, place: pathlib.Path, skipped: corpus_lib.Skipped
) -> Iterable[corpus_lib.Utterance]:
  """A speaker's utterances without SA1 and SA2."""
  files: dict[str, dict[str, pathlib.Path]] = {}
  for path in sorted(place.iterdir()):
    sentence, dot, suffix = path.name.lower().partition('.')
    kind = dot + suffix
    if _SENTENCE.fullmatch(sentence) and kind in (*_AUDIO_SUFFIXES, '.phn'):
      files.setdefault(sentence, {}).setdefault(kind, path)
  found = []
  for sentence, by_suffix in files.items():
    recordings = [by_suffix[suffix] for suffix in _AUDIO_SUFFIXES if suffix in by_suffix]
    alignment = by_suffix.get('.phn')
    if recordings and alignment:
      name = f'{speaker}_{sentence}'
      found.append(corpus_lib.Utterance(name, speaker, sentence, recordings[0], alignment))
    else:
      (there,) = list(by_suffix.values())[:1]
      skipped.refuse(there, f'{there}: no .{"PHN" if recordings else "WAV"} beside it')
  if len(files) != _NUM_SENTENCES:
    skipped.refuse(
      place, f'{place} holds {len(files)} sentences besides SA, expected {_NUM_SENTENCES}'
    )
  return found
