"""TIMIT's tree, and its free sample."""

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
from shallow_jax.speech.recordings import alignment_files
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
  assert upper_corpus.phones == phones.load('timit')
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
  assert row == corpus_lib.Utterance(
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
    alignment_files.Segment(0, 200, 'h#'),
    alignment_files.Segment(200, 600, 'ih'),
    alignment_files.Segment(600, length, 'h#'),
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
  assert {segment.phone for row in said for segment in row} == set(phones.load('timit').labels)
  lengths = {path: audio.num_samples(path) for path in tmp_path.rglob('*.wav')}
  assert sum(1 + (length - 400) // 160 for length in lengths.values()) == 48_695
  row = found.splits['test'][0]
  np.testing.assert_array_equal(audio.read(row.audio), soundfile.read(row.audio, dtype='int16')[0])
