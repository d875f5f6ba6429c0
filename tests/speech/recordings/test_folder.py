"""Folders with aligned phones: CMU ARCTIC, LibriSpeech, and split files that are wrong."""

import re
import unicodedata

from made_up import timit_tree
import numpy as np
import pytest
import soundfile

from shallow_jax.runtime import errors
from shallow_jax.speech.recordings import alignment_files
from shallow_jax.speech.recordings import corpus as corpus_lib
from shallow_jax.speech.recordings import folder as folder_corpus
from shallow_jax.speech.recordings import phones

ABSENT = {'train/validation': 0, 'train/test': 0, 'validation/test': 0}


def counts(found):
  return {name: len(rows) for name, rows in found.splits.items()}


def refuse(message, *args, **options):
  with pytest.raises(errors.DataError, match=re.escape(message)):
    folder_corpus.folder(*args, **options)


def write_arctic(folder, voices=('bdl', 'slt', 'rms'), sentences=4):
  for voice in voices:
    for kind in ('wav', 'lab'):
      (folder / f'cmu_us_{voice}_arctic' / kind).mkdir(parents=True)
    for i in range(sentences):
      stem = f'arctic_a000{i + 1}'
      place = folder / f'cmu_us_{voice}_arctic'
      (place / 'wav' / f'{stem}.wav').write_bytes(timit_tree.riff(timit_tree.samples(1600)))
      (place / 'lab' / f'{stem}.lab').write_text('#\n0.05 125 pau\n0.0975 125 ax\n')
  return folder


def write_split(folder, *lines):
  path = folder / 'split.txt'
  path.write_text(''.join(f'{line}\n' for line in lines))
  return path


DISJOINT = (
  '# speakers and sentences',
  'cmu_us_bdl_arctic train',
  'cmu_us_slt_arctic validation',
  'CMU_US_RMS_arctic test',
  'arctic_a0001 train',
  'arctic_a0002 train',
  'arctic_a0003 validation',
  'arctic_a0004 test',
)


def names(found):
  return {name: [row.name for row in rows] for name, rows in found.splits.items()}


@pytest.mark.parametrize(('num_samples', 'num_frames'), [(719, 2), (400, 1)])
def test_an_utterance_needs_a_frame_for_each_state_of_a_phone(tmp_path, num_samples, num_frames):
  folder = write_arctic(tmp_path / 'arctic')
  short = folder / 'cmu_us_bdl_arctic' / 'wav' / 'arctic_a0001.wav'
  label = folder / 'cmu_us_bdl_arctic' / 'lab' / 'arctic_a0001.lab'
  label.write_text('#\n0.025 125 pau\n')
  split, cmu_arctic = write_split(tmp_path, *DISJOINT), phones.load('cmu_arctic')
  short.write_bytes(timit_tree.riff(timit_tree.samples(720)))
  assert counts(folder_corpus.folder(folder, cmu_arctic, split))['train'] == 2
  short.write_bytes(timit_tree.riff(timit_tree.samples(num_samples)))
  line = f'{short}: {num_samples} samples, {num_frames} frames; expected 3 frames or more'
  refuse(line, folder, cmu_arctic, split)
  found = folder_corpus.folder(folder, cmu_arctic, split, skip_bad=True)
  assert counts(found)['train'] == 1
  assert list(found.notes['skipped']) == [str(short)]


def test_arctic_is_split_by_speaker_and_sentence(tmp_path):
  folder = write_arctic(tmp_path / 'arctic')
  found = folder_corpus.folder(folder, phones.load('cmu_arctic'), write_split(tmp_path, *DISJOINT))
  assert names(found) == {
    'train': ['cmu_us_bdl_arctic_arctic_a0001', 'cmu_us_bdl_arctic_arctic_a0002'],
    'validation': ['cmu_us_slt_arctic_arctic_a0003'],
    'test': ['cmu_us_rms_arctic_arctic_a0004'],
  }
  assert found.notes['left_out'] == 8
  assert found.notes['shared_sentences'] == ABSENT
  row = found.splits['test'][0]
  assert row.alignment == folder / 'cmu_us_rms_arctic' / 'lab' / 'arctic_a0004.lab'
  assert corpus_lib.segments(row, found.phones) == [
    alignment_files.Segment(0, 800, 'pau'),
    alignment_files.Segment(800, 1600, 'ax'),
  ]


def test_an_utterances_own_line_counts_more(tmp_path):
  folder = write_arctic(tmp_path / 'arctic')
  lines = ('cmu_us_slt_arctic_arctic_a0001 test', 'cmu_us_rms_arctic_arctic_a0004 -')
  split = write_split(tmp_path, *DISJOINT, *lines)
  found = folder_corpus.folder(folder, phones.load('cmu_arctic'), split)
  assert names(found)['test'] == ['cmu_us_slt_arctic_arctic_a0001']
  assert found.notes['shared_sentences'] == {**ABSENT, 'train/test': 1}


def test_a_star_stands_for_anything(tmp_path):
  folder = write_arctic(tmp_path / 'arctic')
  lines = ('*_bdl_* train', '*_slt_* validation', '*_rms_* test', '*_a0004 -')
  found = folder_corpus.folder(folder, phones.load('cmu_arctic'), write_split(tmp_path, *lines))
  assert counts(found) == {'train': 3, 'validation': 3, 'test': 3}
  assert found.notes['shared_sentences'] == dict.fromkeys(ABSENT, 3)


TEXTGRID = """\
File type = "ooTextFile"
Object class = "TextGrid"
0 0.1 <exists> 1
"IntervalTier" "phones" 0 0.1 3
0 0.03 ""
0.03 0.06 "AH0"
0.06 0.1 "T"
"""


def write_librispeech(folder):
  """Three speakers of two recordings, and the aligner's files in a folder of their own."""
  for speaker in ('84', '174', '1272'):
    place = folder / 'dev-clean' / speaker / '123'
    place.mkdir(parents=True)
    phones_place = folder / 'alignments' / speaker / '123'
    phones_place.mkdir(parents=True)
    for i in range(2):
      stem = f'{speaker}-123-000{i}'
      soundfile.write(place / f'{stem}.flac', timit_tree.samples(1600), 16_000)
      (phones_place / f'{stem}.TextGrid').write_text(TEXTGRID)
  return folder / 'dev-clean', folder / 'alignments'


def test_librispeech_is_read_with_alignments_beside_it(tmp_path):
  folder, alignments = write_librispeech(tmp_path)
  split = write_split(tmp_path, '84 train', '174 validation', '1272 test')
  arpabet = phones.load('arpabet')
  found = folder_corpus.folder(folder, arpabet, split, alignment_dir=alignments)
  assert counts(found) == {'train': 2, 'validation': 2, 'test': 2}
  row = found.splits['train'][1]
  assert (row.name, row.speaker, row.sentence) == ('84_84-123-0001', '84', '84-123-0001')
  assert [segment.phone for segment in corpus_lib.segments(row, arpabet)] == ['sil', 'AH', 'T']

  missing = alignments / '84' / '123' / '84-123-0001.TextGrid'
  missing.unlink()
  line = f'{row.audio}: no alignment in {alignments}, expected the same path with one of .phn'
  refuse(line, folder, arpabet, split, alignment_dir=alignments)
  found = folder_corpus.folder(folder, arpabet, split, alignment_dir=alignments, skip_bad=True)
  assert counts(found) == {'train': 1, 'validation': 2, 'test': 2}
  assert list(found.notes['skipped']) == [str(row.audio)]


def test_one_mlf_may_hold_all_alignments(tmp_path):
  folder, _ = write_librispeech(tmp_path)
  mlf = tmp_path / 'all.mlf'
  entries = (f'"*/{path.stem}.lab"\n0 1000000 sil\n.\n' for path in folder.rglob('*.flac'))
  mlf.write_text('#!MLF!#\n' + ''.join(entries))
  split = write_split(tmp_path, '84 train', '174 validation', '1272 test')
  found = folder_corpus.folder(folder, phones.load('arpabet'), split, alignment_dir=mlf)
  assert counts(found) == {'train': 2, 'validation': 2, 'test': 2}


def write_mlf(folder, voices, name='*/cmu_us_{}_arctic/lab/{}.lab'):
  """All labels of `write_arctic`, whose voices share their names; each voice has its own phone."""
  entries = (
    f'"{name.format(voice, f"arctic_a000{i}")}"\n0 500000 pau\n500000 1000000 {phone}\n.\n'
    for voice, phone in zip(voices, ('ax', 'b', 'ch'), strict=False)
    for i in range(1, 5)
  )
  path = folder / 'all.mlf'
  path.write_text('#!MLF!#\n' + ''.join(entries))
  return path


def test_voices_that_share_all_names_may_share_an_mlf(tmp_path):
  folder, cmu_arctic = write_arctic(tmp_path / 'arctic'), phones.load('cmu_arctic')
  split = write_split(tmp_path, '*_bdl_* train', '*_slt_* validation', '*_rms_* test')
  mlf = write_mlf(tmp_path, ('bdl', 'slt', 'rms'))
  found = folder_corpus.folder(folder, cmu_arctic, split, alignment_dir=mlf)
  assert counts(found) == {'train': 4, 'validation': 4, 'test': 4}
  said = [corpus_lib.segments(rows[0], cmu_arctic)[1].phone for rows in found.splits.values()]
  assert said == ['ax', 'b', 'ch']


def test_an_mlfs_entry_is_of_one_recording_alone(tmp_path):
  folder, cmu_arctic = write_arctic(tmp_path / 'arctic'), phones.load('cmu_arctic')
  split = write_split(tmp_path, *DISJOINT, 'cmu_us_rms_arctic_arctic_a0001 test')
  mlf = write_mlf(tmp_path, ('bdl',))
  paths = [folder / f'cmu_us_{voice}_arctic/wav/arctic_a0001.wav' for voice in ('bdl', 'rms')]
  message = f'{mlf}: line 2: the only entry for {paths[0]} and {paths[1]}, expected one for each'
  refuse(message, folder, cmu_arctic, split, alignment_dir=mlf)
  found = folder_corpus.folder(folder, cmu_arctic, split, alignment_dir=mlf, skip_bad=True)
  assert list(found.notes['skipped']) == list(map(str, paths))
  refuse('one file for all recordings', folder, cmu_arctic, split, alignment_dir=split)


def test_one_file_of_another_unit_is_refused_or_skipped(tmp_path):
  folder, cmu_arctic = write_arctic(tmp_path / 'arctic'), phones.load('cmu_arctic')
  label = folder / 'cmu_us_bdl_arctic' / 'lab' / 'arctic_a0001.lab'
  label.write_text('0 50000 pau\n50000 100000 ax\n')  # in microseconds
  split = write_split(tmp_path, *DISJOINT)
  line = (
    f'{label}: line 2: the labels end after 0.01 s (160 samples), the audio after 0.1 s (1,600 '
  )
  refuse(line, folder, cmu_arctic, split)
  refuse('; the times look like microseconds, expected 100 ns', folder, cmu_arctic, split)
  found = folder_corpus.folder(folder, cmu_arctic, split, skip_bad=True)
  assert names(found)['train'] == ['cmu_us_bdl_arctic_arctic_a0002']
  assert [line[: len(str(label))] for line in found.notes['skipped'].values()] == [str(label)]


def test_segments_that_rounding_takes_are_noted_and_said(tmp_path, caplog):
  folder, cmu_arctic = write_arctic(tmp_path / 'arctic'), phones.load('cmu_arctic')
  split = write_split(tmp_path, *DISJOINT)
  absent = {'train': 0, 'validation': 0, 'test': 0}
  found = folder_corpus.folder(folder, cmu_arctic, split)
  assert found.notes[alignment_files.LOST] == absent and not caplog.records
  label = folder / 'cmu_us_rms_arctic' / 'lab' / 'arctic_a0004.lab'
  label.write_text('#\n0.05 125 pau\n0.05001 125 b\n0.05002 125 b\n0.0975 125 ax\n')
  found = folder_corpus.folder(folder, cmu_arctic, split)
  assert found.notes[alignment_files.LOST] == {**absent, 'test': 2}
  assert "rounding to a sample: {'train': 0, 'validation': 0, 'test': 2}" in caplog.text


@pytest.mark.parametrize('forms', [('NFC', 'NFD'), ('NFD', 'NFC')])
def test_names_with_composed_and_decomposed_letters_are_the_same(tmp_path, forms):
  first, second = (lambda text, form=form: unicodedata.normalize(form, text) for form in forms)
  folder, labels = tmp_path / 'recordings', tmp_path / 'labels'
  for i, speaker in enumerate(('bücker', 'günther', 'jörg')):
    for place, form in ((folder, first), (labels, second)):
      (place / form(speaker)).mkdir(parents=True)
    audio = folder / first(speaker) / first('sätze.wav')
    audio.write_bytes(timit_tree.riff(timit_tree.samples(1600, seed=i)))
    (labels / second(speaker) / second('sätze.phn')).write_text(second('0 800 sil\n800 1600 ä\n'))
  phone_map = tmp_path / 'phones.map'
  phone_map.write_text(first('sil sil\nä eh\n'))
  split = write_split(tmp_path, *map(second, ('bücker train', 'gün* validation', 'jörg test')))
  phone_map = phones.load(phone_map)
  found = folder_corpus.folder(folder, phone_map, split, alignment_dir=labels)
  assert counts(found) == {'train': 1, 'validation': 1, 'test': 1}
  assert phone_map.labels == ('sil', 'ä')


@pytest.mark.parametrize(
  ('lines', 'message'),
  [
    (
      ('cmu_us_bdl_arctic',),
      "line 1: 'cmu_us_bdl_arctic', expected 'name split', the split one of",
    ),
    (('', 'cmu_us_bdl_arctic dev'), "line 2: 'cmu_us_bdl_arctic dev', expected 'name split'"),
    (('bdl train',), "line 1: 'bdl' is no speaker, sentence or utterance there"),
    (('x* train',), "line 1: 'x*' is no speaker, sentence or utterance there"),
    (
      ('cmu_us_bdl_arctic train', 'cmu* test'),
      'line 2: cmu_us_bdl_arctic is test, but train by a line above',
    ),
    (
      ('cmu_us_bdl_arctic train', 'cmu_us_slt_arctic validation', 'arctic_* train'),
      'split.txt: no recording for validation, expected some that fit cmu_us_slt_arctic; the '
      'speakers there are cmu_us_bdl_arctic, cmu_us_rms_arctic, cmu_us_slt_arctic',
    ),
    (
      ('cmu_us_bdl_arctic train',),
      'split.txt: no recording for validation, expected a line for it; the speakers there are cmu_',
    ),
    (('dev-clean/ train',), "line 1: 'dev-clean/' is no folder of recordings there"),
  ],
)
def test_a_split_file_that_is_wrong_is_named(tmp_path, lines, message):
  folder = write_arctic(tmp_path / 'arctic')
  split = write_split(tmp_path, *lines)
  refuse(message, folder, phones.load('cmu_arctic'), split)


def test_a_split_that_is_all_skipped_says_why(tmp_path):
  folder = write_arctic(tmp_path / 'arctic')
  for path in folder.glob('*slt*/lab/*'):
    path.write_text('#\n0.1 125 brth\n')
  split = write_split(tmp_path, *DISJOINT)
  refuse(
    'no utterance for validation; skipped 1, as ',
    folder,
    phones.load('cmu_arctic'),
    split,
    skip_bad=True,
  )


def test_folders_that_cannot_be_read_are_named(tmp_path):
  cmu_arctic = phones.load('cmu_arctic')
  split = write_split(tmp_path, *DISJOINT)
  refuse('holds no recording, expected .wav', tmp_path / 'none', cmu_arctic, split)
  folder = write_arctic(tmp_path / 'arctic')
  refuse('none.txt: ', folder, cmu_arctic, tmp_path / 'none.txt')
  soundfile.write(folder / 'cmu_us_bdl_arctic' / 'arctic_a0001.flac', np.zeros(800), 16_000)
  refuse('both are utterance cmu_us_bdl_arctic_a', folder, cmu_arctic, split)
