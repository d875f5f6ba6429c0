"""Corpora: TIMIT's tree, its free sample, and folders of anything else with aligned phones."""

import os
import pathlib
import re
import shutil
import zipfile

from made_up import timit_tree
import numpy as np
import pytest
import soundfile

from shallow_jax.runtime import errors
from shallow_jax.speech.recordings import audio
from shallow_jax.speech.recordings import corpus as corpus_lib
from shallow_jax.speech.recordings import phones
from shallow_jax.speech.recordings import timit

SAMPLE = pathlib.Path(__file__).parents[4] / 'shared' / 'data' / 'timit_sample.zip'
CORE_TEST = """
  dab0 wbt0 elc0 tas1 wew0 pas0 jmp0 lnt0 pkt0 lll0 tls0 jlm0 bpm0 klt0 nlp0 cmj0 jdh0 mgd0 grt0
  njm0 dhc0 jln0 pam0 mld0""".split()  # Table 1 of TIMIT's testset.doc
ABSENT = {'train/validation': 0, 'train/test': 0, 'validation/test': 0}


def counts(found):
  return {name: len(rows) for name, rows in found.splits.items()}


def speakers(found, split):
  return {row.speaker for row in found.splits[split]}


def refuse(message, read, *args, **options):
  with pytest.raises(errors.DataError, match=re.escape(message)) as caught:
    read(*args, **options)
  return str(caught.value)


def replace(path, data):
  """Writes a new file: those of the made-up tree are hard links."""
  path.unlink()
  path.write_bytes(data)


# ---- TIMIT ----


@pytest.fixture(scope='module')
def upper(tmp_path_factory):
  return timit_tree.write(tmp_path_factory.mktemp('timit') / 'TIMIT', duplicates=True)


@pytest.fixture(scope='module')
def upper_corpus(upper):
  return timit.timit(upper)


@pytest.fixture
def lower(tmp_path):
  return timit_tree.write(tmp_path / 'timit', upper=False)


def test_the_made_up_tree_is_all_of_timit(upper):
  recordings = list(upper.rglob('*.WAV'))
  assert len(recordings) == len(list(upper.rglob('*.WAV.wav'))) == 6300
  assert len({path.parent.name for path in recordings}) == 630
  assert len({path.parent.name for path in (upper / 'TEST').rglob('*.WAV')}) == 168


def test_timit_has_3696_400_and_192_utterances(upper_corpus):
  assert counts(upper_corpus) == {'train': 3696, 'validation': 400, 'test': 192}
  assert {name: len(speakers(upper_corpus, name)) for name in corpus_lib.SPLITS} == {
    'train': 462,
    'validation': 50,
    'test': 24,
  }
  assert upper_corpus.phones == phones.timit()
  assert upper_corpus.notes['skipped'] == {}


def test_dev_and_core_test_share_115_sentences_and_train_none(upper_corpus):
  assert upper_corpus.notes['shared_sentences'] == {**ABSENT, 'validation/test': 115}


def test_the_core_test_set_is_that_of_timits_documentation(upper_corpus):
  assert {name[1:] for name in speakers(upper_corpus, 'test')} == set(CORE_TEST)
  assert sum(name[0] == 'f' for name in speakers(upper_corpus, 'test')) == 8


def test_an_utterance_has_a_name_and_its_files(upper, upper_corpus):
  rows = {row.name: row for split in upper_corpus.splits.values() for row in split}
  assert len(rows) == 3696 + 400 + 192
  row = rows['mdab0_sx49']
  place = next((upper / 'TEST').glob('DR?/MDAB0'))
  assert row == timit.Utterance(
    'mdab0_sx49', 'mdab0', 'sx49', place / 'SX49.WAV', place / 'SX49.PHN'
  )
  assert not {row.sentence for row in rows.values()} & {'sa1', 'sa2'}
  assert [row.name for row in upper_corpus.splits['test']] == sorted(
    row.name for row in upper_corpus.splits['test']
  )


def test_lower_case_and_the_folder_above_will_do(lower, upper_corpus):
  found = timit.timit(lower.parent)
  assert {row.audio.suffix for row in found.splits['test']} == {'.wav'}
  names = {name: [row.name for row in rows] for name, rows in found.splits.items()}
  assert names == {name: [row.name for row in rows] for name, rows in upper_corpus.splits.items()}


def test_frames_are_counted_from_the_headers(upper_corpus):
  frames = {
    name: sum(1 + (audio.num_samples(row.audio) - 400) // 160 for row in rows)
    for name, rows in upper_corpus.splits.items()
  }
  of_lengths = [1 + (length - 400) // 160 for length in timit_tree.LENGTHS]
  read = upper_corpus.splits['test'][0]
  assert len(audio.read(read.audio)) in timit_tree.LENGTHS
  assert min(of_lengths) * 3696 < frames['train'] < max(of_lengths) * 3696


def test_what_is_said_are_segments_over_all_samples(upper_corpus):
  row = upper_corpus.splits['test'][0]
  found = corpus_lib.segments(row, upper_corpus.phones)
  length = audio.num_samples(row.audio)
  assert found == [
    timit.Segment(0, 200, 'h#'),
    timit.Segment(200, 600, 'ih'),
    timit.Segment(600, length, 'h#'),
  ]
  labels = phones.timit().labels
  assert corpus_lib.transcription(found, upper_corpus.phones) == [
    labels.index(phone) for phone in ('h#', 'ih', 'h#')
  ]


def test_a_copy_with_the_second_kind_of_audio_alone_will_do(lower):
  for path in list(lower.rglob('s*.wav')):
    os.rename(path, path.with_name(f'{path.stem.upper()}.WAV.wav'))
  assert counts(timit.timit(lower)) == {'train': 3696, 'validation': 400, 'test': 192}


def test_a_missing_speaker_is_named(lower):
  (place,) = lower.glob('train/dr?/faem0')
  place.rename(place.with_name('x'))
  message = refuse('lacks 1 of the 462 speakers that are used: faem0', timit.timit, lower)
  assert '\n' not in message
  shutil.rmtree(lower / 'train' / 'dr2')
  refuse('speakers that are used: faem0, ', timit.timit, lower)
  place.with_name('x').rename(place)
  refuse('lacks 58 of the 462 speakers that are used: fajw0, ', timit.timit, lower, skip_bad=True)


def test_bad_files_are_named_or_skipped_and_counted(lower):
  (first,) = lower.glob('test/dr?/mdab0')
  (second,) = lower.glob('train/dr?/faem0')
  short, wild, lone = first / 'sx49.wav', first / 'sx139.phn', first / 'sx229'
  replace(short, timit_tree.riff(timit_tree.samples(1600))[:-10])
  line = f'{short}: RIFF cut short: its header says 1,600 samples, it holds 1,595'
  refuse(line, timit.timit, lower)

  replace(wild, b'0 200 h#\n200 900 xx\n')
  lone.with_suffix('.phn').unlink()
  sentence = min(second.glob('sx*.wav'))
  sentence.unlink()
  gone = min(second.glob('si*.wav'))
  gone.unlink()
  gone.with_suffix('.phn').unlink()
  found = timit.timit(lower, skip_bad=True)
  assert counts(found) == {'train': 3694, 'validation': 400, 'test': 189}
  assert found.notes['skipped'] == {
    str(short): line,
    str(wild.with_suffix('.wav')): (
      f"{wild}: phone 'xx' at sample 200 is not one of the 61 labels of the phone map"
    ),
    str(lone.with_suffix('.wav')): f'{lone.with_suffix(".wav")}: no .PHN beside it',
    str(sentence.with_suffix('.phn')): f'{sentence.with_suffix(".phn")}: no .WAV beside it',
    str(second): f'{second} holds 7 sentences besides SA, expected 8',
  }


@pytest.mark.parametrize(('num_samples', 'num_frames'), [(719, 2), (400, 1)])
def test_an_utterance_needs_a_frame_for_each_state_of_a_phone(tmp_path, num_samples, num_frames):
  folder = write_arctic(tmp_path / 'arctic')
  short = folder / 'cmu_us_bdl_arctic' / 'wav' / 'arctic_a0001.wav'
  label = folder / 'cmu_us_bdl_arctic' / 'lab' / 'arctic_a0001.lab'
  label.write_text('#\n0.025 125 pau\n')
  split, cmu_arctic = write_split(tmp_path, *DISJOINT), phones.load('cmu_arctic')
  short.write_bytes(timit_tree.riff(timit_tree.samples(720)))
  assert counts(timit.folder(folder, cmu_arctic, split))['train'] == 2
  short.write_bytes(timit_tree.riff(timit_tree.samples(num_samples)))
  line = f'{short}: {num_samples} samples, {num_frames} frames; expected 3 frames or more'
  refuse(line, timit.folder, folder, cmu_arctic, split)
  found = timit.folder(folder, cmu_arctic, split, skip_bad=True)
  assert counts(found)['train'] == 1
  assert list(found.notes['skipped']) == [str(short)]


def test_without_timit_it_says_what_that_is_and_what_is_free(tmp_path):
  for place in (tmp_path, tmp_path / 'none'):
    message = refuse(str(place), timit.timit, place)
    assert re.search(r'LDC93S1.*TRAIN.*DR1 to DR8.*SX\*\.WAV.*CMU ARCTIC', message, re.DOTALL)
    assert message.count('\n') <= 5


# ---- the sample ----


@pytest.fixture(scope='module')
def small_sample(tmp_path_factory):
  """16 speakers in the sample's layout: two regions' names are those of others."""
  folder = tmp_path_factory.mktemp('sample')
  for i in range(16):
    speaker = f'{"fm"[i % 2]}aa{"abcdefgh"[i // 2]}0'
    place = folder / f'dr{1 + i // 2}-{speaker}'
    place.mkdir()
    for sentence in timit_tree.sentences(i, 3 + i):
      (place / f'{sentence}.wav').write_bytes(timit_tree.riff(timit_tree.samples(800)))
      (place / f'{sentence}.phn').write_bytes(timit_tree.phn(800))
      (place / f'{sentence}.txt').write_text('0 799 Never trust this.')
  return folder


def test_over_the_rotations_each_speaker_is_tested_once(small_sample):
  tested = []
  for rotation in range(timit.NUM_ROTATIONS):
    found = timit.sample(small_sample, rotation)
    assert counts(found) == {'train': 96, 'validation': 16, 'test': 16}
    parts = [speakers(found, name) for name in corpus_lib.SPLITS]
    assert [len(part) for part in parts] == [12, 2, 2]
    assert len(set.union(*parts)) == 16
    assert (
      sorted(name[0] for name in parts[1]) == sorted(name[0] for name in parts[2]) == list('fm')
    )
    assert {name[3] for name in parts[0]} == set('abcdefgh')  # the made-up names tell the region
    assert found.notes['shared_sentences'] == ABSENT
    tested += parts[2]
  assert len(tested) == len(set(tested)) == 16


def test_the_samples_ldc_tree_is_the_same(small_sample, tmp_path):
  for place in small_sample.iterdir():
    region, speaker = place.name.upper().split('-')
    shutil.copytree(place, tmp_path / 'TRAIN' / region / speaker)
  found, expected = timit.sample(tmp_path, 3), timit.sample(small_sample, 3)
  for name in corpus_lib.SPLITS:
    assert [row.name for row in found.splits[name]] == [row.name for row in expected.splits[name]]


@pytest.mark.parametrize('rotation', [-1, 8, None])
def test_there_are_8_rotations(small_sample, rotation):
  refuse(f'rotation is {rotation}, expected 0 to 7', timit.sample, small_sample, rotation)


def test_a_sample_that_lacks_a_speaker_or_is_all_of_timit_is_refused(small_sample, upper, tmp_path):
  shutil.copytree(small_sample, tmp_path / 'copy')
  shutil.rmtree(next((tmp_path / 'copy').glob('dr3-f*')))
  refuse('holds 15 speakers, expected the 16 of the TIMIT sample', timit.sample, tmp_path / 'copy')
  refuse('holds 462 speakers, expected the 16', timit.sample, upper)
  refuse('holds 0 speakers, expected the 16', timit.sample, tmp_path / 'none')


@pytest.mark.skipif(not SAMPLE.exists(), reason='needs the real recordings')
def test_the_real_sample_is_read_whole(tmp_path):
  with zipfile.ZipFile(SAMPLE) as archive:
    archive.extractall(tmp_path)
  found = timit.sample(tmp_path / 'timit', 2)
  assert counts(found) == {'train': 96, 'validation': 16, 'test': 16}
  assert speakers(found, 'test') == {'falk0', 'madd0'}
  assert found.notes['skipped'] == {}
  assert found.notes['shared_sentences'] == ABSENT
  said = [corpus_lib.segments(row, found.phones) for row in found.splits['train']]
  assert sum(map(len, said)) == 3742
  assert {segment.phone for row in said for segment in row} == set(phones.timit().labels)
  lengths = {path: audio.num_samples(path) for path in tmp_path.rglob('*.wav')}
  assert sum(1 + (length - 400) // 160 for length in lengths.values()) == 48_695
  row = found.splits['test'][0]
  np.testing.assert_array_equal(audio.read(row.audio), soundfile.read(row.audio, dtype='int16')[0])


# ---- folders ----


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


def test_arctic_is_split_by_speaker_and_sentence(tmp_path):
  folder = write_arctic(tmp_path / 'arctic')
  found = timit.folder(folder, phones.load('cmu_arctic'), write_split(tmp_path, *DISJOINT))
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
    timit.Segment(0, 800, 'pau'),
    timit.Segment(800, 1600, 'ax'),
  ]


def test_an_utterances_own_line_counts_more(tmp_path):
  folder = write_arctic(tmp_path / 'arctic')
  lines = ('cmu_us_slt_arctic_arctic_a0001 test', 'cmu_us_rms_arctic_arctic_a0004 -')
  split = write_split(tmp_path, *DISJOINT, *lines)
  found = timit.folder(folder, phones.load('cmu_arctic'), split)
  assert names(found)['test'] == ['cmu_us_slt_arctic_arctic_a0001']
  assert found.notes['shared_sentences'] == {**ABSENT, 'train/test': 1}


def test_a_star_stands_for_anything(tmp_path):
  folder = write_arctic(tmp_path / 'arctic')
  lines = ('*_bdl_* train', '*_slt_* validation', '*_rms_* test', '*_a0004 -')
  found = timit.folder(folder, phones.load('cmu_arctic'), write_split(tmp_path, *lines))
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
  found = timit.folder(folder, arpabet, split, alignment_dir=alignments)
  assert counts(found) == {'train': 2, 'validation': 2, 'test': 2}
  row = found.splits['train'][1]
  assert (row.name, row.speaker, row.sentence) == ('84_84-123-0001', '84', '84-123-0001')
  assert [segment.phone for segment in corpus_lib.segments(row, arpabet)] == ['sil', 'AH', 'T']

  missing = alignments / '84' / '123' / '84-123-0001.TextGrid'
  missing.unlink()
  line = f'{row.audio}: no alignment in {alignments}, expected the same path with one of .phn'
  refuse(line, timit.folder, folder, arpabet, split, alignment_dir=alignments)
  found = timit.folder(folder, arpabet, split, alignment_dir=alignments, skip_bad=True)
  assert counts(found) == {'train': 1, 'validation': 2, 'test': 2}
  assert list(found.notes['skipped']) == [str(row.audio)]


def test_one_mlf_may_hold_all_alignments(tmp_path):
  folder, _ = write_librispeech(tmp_path)
  mlf = tmp_path / 'all.mlf'
  entries = (f'"*/{path.stem}.lab"\n0 1000000 sil\n.\n' for path in folder.rglob('*.flac'))
  mlf.write_text('#!MLF!#\n' + ''.join(entries))
  split = write_split(tmp_path, '84 train', '174 validation', '1272 test')
  found = timit.folder(folder, phones.load('arpabet'), split, alignment_dir=mlf)
  assert counts(found) == {'train': 2, 'validation': 2, 'test': 2}


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
  refuse(message, timit.folder, folder, phones.load('cmu_arctic'), split)


def test_a_split_that_is_all_skipped_says_why(tmp_path):
  folder = write_arctic(tmp_path / 'arctic')
  for path in folder.glob('*slt*/lab/*'):
    path.write_text('#\n0.1 125 brth\n')
  split = write_split(tmp_path, *DISJOINT)
  refuse(
    'no utterance for validation; skipped 1, as ',
    timit.folder,
    folder,
    phones.load('cmu_arctic'),
    split,
    skip_bad=True,
  )


def test_folders_that_cannot_be_read_are_named(tmp_path):
  cmu_arctic = phones.load('cmu_arctic')
  split = write_split(tmp_path, *DISJOINT)
  refuse('holds no recording, expected .wav', timit.folder, tmp_path / 'none', cmu_arctic, split)
  folder = write_arctic(tmp_path / 'arctic')
  refuse('none.txt: ', timit.folder, folder, cmu_arctic, tmp_path / 'none.txt')
  soundfile.write(folder / 'cmu_us_bdl_arctic' / 'arctic_a0001.flac', np.zeros(800), 16_000)
  refuse('both are utterance cmu_us_bdl_arctic_a', timit.folder, folder, cmu_arctic, split)
