"""Names in label files: composed and decomposed letters, folders of an .mlf."""

import unicodedata

from made_up import labels
import pytest

from shallow_jax.runtime import errors
from shallow_jax.speech.recordings import alignment_files


def test_phones_and_tiers_are_in_normal_form_c(tmp_path):
  apart = unicodedata.normalize('NFD', 'ç')
  assert len(apart) == 2
  for name, text in (
    ('one.phn', labels.PHN),
    ('one.lab', labels.HTK),
    ('all.mlf', labels.MLF),
    ('a.TextGrid', labels.LONG),
  ):
    path = labels.written(
      tmp_path, name, text.replace(' t\n', f' {apart}\n').replace('"t"', f'"{apart}"')
    )
    assert labels.segments(path)[2] == (4800, 6400, 'ç')
  path = labels.written(tmp_path, 'all.mlf', labels.MLF.replace('one', f'un{apart}'))
  assert len(alignment_files.read(path, 8000, 'unç.wav')) == 4


ENTRY = '"{}"\n0 5000000 {}\n.\n'


@pytest.mark.parametrize(
  'places',
  [
    ('*/cmu_us_bdl_arctic/lab/one.lab', '*/cmu_us_slt_arctic/lab/one.lab'),
    ('/at/home/CMU_us_bdl_arctic/one.lab', '/at/home/cmu_us_slt_arctic/one.rec'),
    ('*_bdl_*/one.lab', '*_slt_*/one.lab'),
  ],
)
def test_entries_of_an_mlf_may_differ_by_folder_only(tmp_path, places):
  text = '#!MLF!#\n' + ''.join(map(ENTRY.format, places, 'ab'))
  path = labels.written(tmp_path, 'all.mlf', text)
  for voice, phone in (('bdl', 'a'), ('slt', 'b')):
    recording = f'/data/cmu_us_{voice}_arctic/wav/one.wav'
    assert alignment_files.read(path, 8000, recording)[0].phone == phone
  message = (
    r"2 entries for 'one', expected one .*, 0 of them in folders of /data/cmu_us_rms_arctic/"
  )
  with pytest.raises(errors.DataError, match=message):
    alignment_files.read(path, 8000, '/data/cmu_us_rms_arctic/wav/one.wav')
