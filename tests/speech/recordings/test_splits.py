"""Split files: what a line names, ours for CMU ARCTIC and LibriSpeech, and the configs of these."""

import importlib.resources
import itertools
import pathlib

from made_up import timit_tree
import pytest
import soundfile
from support import shipped

from shallow_jax import data
from shallow_jax.data import dataset
from shallow_jax.runtime import errors
from shallow_jax.settings import defaults
from shallow_jax.speech.recordings import splits as split_files

CLASSIC = ('bdl', 'slt', 'clb', 'rms', 'jmk', 'awb', 'ksp')
LATER = ('aew', 'ahw', 'aup', 'axb', 'eey', 'fem', 'gka', 'ljm', 'lnh', 'rxr')
SENTENCES = [f'arctic_a{i:04d}' for i in range(1, 594)] + [
  f'arctic_b{i:04d}' for i in range(1, 540)
]


def recording(speaker, sentence, folder=''):
  path = pathlib.Path(speaker, f'{sentence}.wav')
  return split_files.Recording(f'{speaker}_{sentence}', folder, speaker, sentence, path)


def arctic(voices, sentences=SENTENCES):
  pairs = itertools.product(voices, sentences)
  return [recording(f'cmu_us_{voice}_arctic', sentence) for voice, sentence in pairs]


def parts(rows, found):
  """By split, the speakers and the sentences of its recordings, and how many they are."""
  result = {}
  for split in ('train', 'validation', 'test'):
    its = [row for row in rows if found.get(row.name) == split]
    speakers, sentences = {row.speaker for row in its}, {row.sentence for row in its}
    result[split] = (speakers, sentences, len(its))
  return result


def splits(rows, name='cmu_arctic'):
  return split_files.splits(split_files.load(name), rows, {})


def own(folder, *lines):
  """The splits of three speakers of two sentences each, by lines."""
  path = folder / 'own.split'
  path.write_text('\n'.join(lines))
  rows = [recording(s, f'{s}{i}') for s in ('anna', 'bert', 'carl') for i in (0, 1)]
  return split_files.splits(split_files.load(path), rows, {})


# ---- lines ----


def test_a_speaker_without_a_line_is_in_no_split_where_others_have_one(tmp_path):
  lines = ('anna train', 'bert0 test', 'bert1 validation', 'carl_carl1 test')
  assert own(tmp_path, 'bert validation', *lines) == {
    'anna_anna0': 'train',
    'anna_anna1': 'train',
    'bert_bert1': 'validation',  # bert0's two lines do not agree
    'carl_carl1': 'test',  # its own line
  }


def test_sentences_alone_may_be_split_and_a_speaker_left_out(tmp_path):
  found = own(tmp_path, 'anna -', 'bert0 train', 'bert1 validation', '*a0 train', 'carl_* test')
  assert found == {
    'bert_bert0': 'train',
    'bert_bert1': 'validation',
    'carl_carl0': 'test',
    'carl_carl1': 'test',
  }


def test_a_folders_name_with_a_star_fits_folders_of_its_depth(tmp_path):
  path = tmp_path / 'own.split'
  path.write_text('dev-*/ validation\nDEV-other/fr/ -\n')
  there = {'dev-clean', 'dev-clean/84', 'dev-other', 'dev-other/fr', 'test-clean'}
  found = split_files.folders(split_files.load(path), there)
  assert found == dict.fromkeys(('dev-clean', 'dev-other'), 'validation') | {'dev-other/fr': '-'}
  path.write_text('dev-*/ validation\ndev-clean/ test\n')
  with pytest.raises(errors.DataError, match='line 2: dev-clean is test, but validation by a line'):
    split_files.folders(split_files.load(path), there)


@pytest.mark.parametrize(
  ('content', 'line'),
  [
    (None, 'none.split: No such file or directory, expected a split file: a file or one of cmu_ar'),
    (b'\xff', 'none.split: not UTF-8 text, expected a split file: a file or one of cmu_arctic, li'),
  ],
)
def test_a_split_file_that_cannot_be_read_is_named(tmp_path, content, line):
  if content:
    (tmp_path / 'none.split').write_bytes(content)
  with pytest.raises(errors.DataError, match=line):
    split_files.load(tmp_path / 'none.split')


# ---- CMU ARCTIC ----


def test_ours_are_those_that_are_shipped():
  shipped = (importlib.resources.files('shallow_jax.speech.recordings') / 'splits').iterdir()
  assert {file.name for file in shipped} == {f'{name}.split' for name in split_files.BUILT_IN}


@pytest.mark.parametrize(
  'voices', [CLASSIC, CLASSIC + LATER, ('bdl', 'slt', 'clb', 'rms'), ('bdl', 'slt', 'jmk', 'awb')]
)
def test_arctics_splits_share_no_voice_and_no_sentence(voices):
  rows = arctic(voices)
  found = parts(rows, splits(rows))
  for kind in (0, 1):
    for one, other in itertools.combinations(found.values(), 2):
      assert not one[kind] & other[kind]
    assert len(set().union(*(part[kind] for part in found.values()))) == (
      len(voices) if kind == 0 else 1132
    )
  counts = {split: count for split, (_, _, count) in found.items()}
  assert counts == dict(train=892 * (len(voices) - 2), validation=100, test=140)


def test_a_voice_that_the_split_does_not_know_is_left_out():
  rows = arctic((*CLASSIC, 'me'))
  assert splits(rows) == splits(arctic(CLASSIC))


def test_the_sentences_that_one_voice_alone_reads_change_nothing():
  """awb reads a few sentences more."""
  rows = arctic(CLASSIC) + arctic(['awb'], ['arctic_b0540'])
  assert splits(rows) == splits(arctic(CLASSIC))


@pytest.mark.parametrize(
  ('voices', 'line'),
  [
    (
      ('bdl', 'clb'),
      'test, expected some that fit [*]_slt_[*], arctic_b04[*], arctic_b05[*]; the ',
    ),
    (
      ('bdl', 'slt'),
      'train, expected some that fit [*]_aew_[*], .*, [*]_eey_[*] and 12 more; the ',
    ),
    (
      ('slt', 'clb'),
      'validation, .*; the speakers there are cmu_us_clb_arctic, cmu_us_slt_arctic$',
    ),
    ((), 'train, .*; the speakers there are wav$'),
  ],
)
def test_a_voice_that_is_needed_and_not_there_is_named(voices, line):
  rows = arctic(voices) or [recording('wav', sentence) for sentence in SENTENCES]
  with pytest.raises(
    errors.DataError, match=f'^cmu_arctic.split: no recording for {line}'
  ) as found:
    splits(rows)
  assert '\n' not in str(found.value)


def config_data(variant, **changes):
  config = shipped.load('timit_table1').get_config(variant)
  config.data.update(changes)
  return defaults.plain(defaults.complete(config))['data']


def test_arctics_config_wants_its_folder_alone(tmp_path):
  for i, (voice, sentence) in enumerate(
    itertools.product(('bdl', 'slt', 'clb'), ('a0001', 'b0300', 'b0539'))
  ):
    place = tmp_path / f'cmu_us_{voice}_arctic'
    for kind in ('wav', 'lab'):
      (place / kind).mkdir(parents=True, exist_ok=True)
    samples = timit_tree.samples(1600, seed=i)
    (place / 'wav' / f'arctic_{sentence}.wav').write_bytes(timit_tree.riff(samples))
    (place / 'lab' / f'arctic_{sentence}.lab').write_text('#\n0.05 125 pau\n0.0975 125 ax\n')
  cache = str(tmp_path / 'cache')
  found = data.load(config_data('arctic', data_dir=str(tmp_path), cache_dir=cache))
  names = {name: rows.names for name, rows in found.recognition.utterances.items()}
  assert names == dict(
    train=('cmu_us_clb_arctic_arctic_a0001',),
    validation=('cmu_us_bdl_arctic_arctic_b0300',),
    test=('cmu_us_slt_arctic_arctic_b0539',),
  )
  assert set(found.notes['shared_sentences'].values()) == {0}
  assert found.notes['split_file'] == 'cmu_arctic.split'
  assert found.notes['left_out'] == 6


# ---- LibriSpeech ----

SPEAKERS = {'train-clean-100': ('103', '1034'), 'dev-clean': ('84',), 'test-clean': ('61',)}
OTHER_PARTS = {'train-other-500': ('20',), 'test-other': ('367',)}
TEXTGRID = """\
File type = "ooTextFile"
Object class = "TextGrid"
0 0.1 <exists> 1
"IntervalTier" "phones" 0 0.1 3
0 0.03 "sil"
0.03 0.06 "AH0"
0.06 0.1 "T"
"""


def write_librispeech(root, alignments):
  """Two recordings of each speaker as FLAC, and their alignments in the same tree."""
  rows = [(part, s) for part, its in (SPEAKERS | OTHER_PARTS).items() for s in its]
  for seed, ((part, speaker), i) in enumerate(itertools.product(rows, (0, 1))):
    place = pathlib.Path('LibriSpeech', part, speaker, '1240', f'{speaker}-1240-000{i}')
    for base in (root, alignments):
      (base / place).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(root / f'{place}.flac', timit_tree.samples(1600, seed), 16_000)
    if part in SPEAKERS:
      (alignments / f'{place}.TextGrid').write_text(TEXTGRID)


@pytest.mark.parametrize('below', ['', 'LibriSpeech'])
@pytest.mark.parametrize('is_merged', [True, False])
def test_librispeechs_config_wants_its_folder_and_the_alignments(tmp_path, below, is_merged):
  root = tmp_path / 'recordings'
  alignments = root if is_merged else tmp_path / 'alignments'
  write_librispeech(root, alignments)
  missing = next(alignments.rglob('103-1240-0001.TextGrid'))
  missing.unlink()
  config = config_data(
    'librispeech',
    data_dir=str(root / below),
    alignment_dir='' if is_merged else str(alignments / below),
    cache_dir=str(tmp_path / 'cache'),
  )
  found = data.load(config)
  rows = found.recognition.utterances
  speakers = {name: sorted(part.speakers) for name, part in rows.items()}
  assert speakers == dict(train=['103', '1034', '1034'], validation=['84'] * 2, test=['61'] * 2)
  assert '1034_1034-1240-0000' in rows['train'].names
  assert found.notes['left_out'] == 4
  assert found.notes['files_skipped'] == 1
  (line,) = found.notes['skipped'].values()
  assert '103-1240-0001.flac: no alignment in ' in line


def test_librispeech_without_its_alignments_says_so(tmp_path):
  write_librispeech(tmp_path, tmp_path / 'elsewhere')
  config = config_data('librispeech', data_dir=str(tmp_path / 'LibriSpeech'))
  with pytest.raises(dataset.DataError, match=r'for train, .*; skipped 8, as .*: no alignment in '):
    data.load(config)
