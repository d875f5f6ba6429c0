"""Phones with their times: each kind of file gives the same segments; what is wrong is named."""

from made_up import labels
from praatio import textgrid
import pytest

from shallow_jax.runtime import errors


@pytest.mark.parametrize(
  ('name', 'text'),
  [
    ('one.phn', labels.PHN),
    ('ONE.PHN', labels.PHN.replace('\n', '\r\n')),
    ('one.lab', labels.XWAVES),
    ('one.lab', labels.HTK),
    ('all.mlf', labels.MLF),
    ('one.TextGrid', labels.LONG),
    ('one.textgrid', labels.short(*labels.ROWS)),
  ],
)
def test_every_kind_of_file_says_the_same(tmp_path, name, text):
  assert labels.segments(labels.written(tmp_path, name, text)) == labels.EXPECTED


def test_praats_utf_16_is_read(tmp_path):
  text = labels.LONG.replace('"t"', '"ɾ"')
  path = labels.written(tmp_path, 'one.TextGrid', text, 'utf-16')
  assert labels.segments(path)[2] == (4800, 6400, 'ɾ')


@pytest.mark.parametrize('form', ['long_textgrid', 'short_textgrid'])
def test_a_textgrid_of_praatio_is_read(tmp_path, form):
  rows = [(i / 40, (i + 1) / 40, mark) for i, mark in enumerate(['', 'K', 'AE1', 'T', '', 'IY2'])]
  tier = textgrid.IntervalTier('phones', rows, 0, 0.15)
  grid = textgrid.Textgrid()
  grid.addTier(tier)
  grid.save(str(tmp_path / 'one.TextGrid'), form, includeBlankSpaces=True)
  assert labels.segments(tmp_path / 'one.TextGrid', 2400) == [
    (400 * i, 400 * (i + 1), mark) for i, mark in enumerate(['sil', 'K', 'AE', 'T', 'sil', 'IY'])
  ]


def test_the_first_start_is_0_and_the_last_end_the_audios(tmp_path):
  path = labels.written(tmp_path, 'one.phn', '30 1600 h#\n1600 8160 aa\n')
  assert labels.segments(path) == [(0, 1600, 'h#'), (1600, 8000, 'aa')]
  path = labels.written(tmp_path, 'one.phn', '0 1600 h#\n1600 5198 aa\n')
  assert labels.segments(path) == [(0, 1600, 'h#'), (1600, 8000, 'aa')]


def test_stress_alone_is_stripped(tmp_path):
  rows = [(i / 10, (i + 1) / 10, mark) for i, mark in enumerate(['ER1', 'a1', 'E2', 'AH3', 'T'])]
  marks = [
    mark
    for *_, mark in labels.segments(labels.written(tmp_path, 'one.TextGrid', labels.short(*rows)))
  ]
  assert marks == ['ER', 'a1', 'E2', 'AH3', 'T']


def test_what_a_textgrid_leaves_out_is_silence(tmp_path):
  rows = [(0.05, 0.1, 'AA'), (0.2, 0.25, ''), (0.25, 0.3, 'sil'), (0.309, 0.4, 'B')]
  assert labels.segments(labels.written(tmp_path, 'one.TextGrid', labels.short(*rows))) == [
    (0, 800, 'sil'),
    (800, 1600, 'AA'),
    (1600, 4800, 'sil'),  # a gap, an empty interval, sil and 9 ms
    (4800, 6400, 'B'),
    (6400, 8000, 'sil'),
  ]


def test_a_gap_under_a_frame_is_no_silence(tmp_path):
  rows = [(0.009, 0.1, 'AA'), (0.109, 0.4, 'B'), (0.4, 0.491, 'D')]
  path = labels.written(tmp_path, 'one.TextGrid', labels.short(*rows))
  assert labels.segments(path) == [(0, 1600, 'AA'), (1600, 6400, 'B'), (6400, 8000, 'D')]


def test_the_last_digits_rounding_is_no_overlap(tmp_path):
  rows = [(0, 0.10004, 'AA'), (0.1, 0.5, 'B')]
  path = labels.written(tmp_path, 'one.TextGrid', labels.short(*rows))
  assert labels.segments(path) == [(0, 1601, 'AA'), (1601, 8000, 'B')]


def test_an_mlf_is_read_again_when_it_has_changed(tmp_path):
  path = labels.written(tmp_path, 'all.mlf', '#!MLF!#\n"one.lab"\n0 5000000 a\n.\n')
  assert labels.segments(path) == [(0, 8000, 'a')]
  path.write_text('#!MLF!#\n"one.lab"\n0 2000000 a\n2000000 5000000 b\n.\n')
  assert len(labels.segments(path)) == 2


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('', 'holds no segment'),
    ('0 1600 h#\n1601 8000 aa\n', "line 2: 'aa' starts at 1,601 and leaves a gap"),
    ('0 1600 h#\n1599 8000 aa\n', "line 2: 'aa' starts at 1,599 and overlaps the segment before"),
    ('0 1600 h#\n1600 1600 aa\n1600 8000 b\n', "line 2: 'aa' ends at 1,600, expected after its"),
    ('0 1600 h#\n1600 1500 aa\n', "line 2: 'aa' ends at 1,500, expected after its start 1,600"),
    ('0 8161 h#\n', "line 1: 'h#' is at 0 to 8,161, but the audio has 8,000 samples"),
    ('0 8000 h#\n8000 8100 aa\n', "line 2: 'aa' is at 8,000 to 8,100, but the audio has 8,000"),
    ('0 1600\n', "line 1: '0 1600', expected 'start end label'"),
    ('0 1600 h# x\n', "line 1: '0 1600 h# x', expected 'start end label'"),
    ('0 x h#\n', "line 1: 'x', expected a time"),
    ('0 nan h#\n', "line 1: 'nan', expected a time"),
    ('0 inf h#\n', "line 1: 'inf', expected a time"),
  ],
)
def test_a_phn_that_is_wrong_is_named(tmp_path, text, message):
  labels.refuse(tmp_path, 'one.phn', text, message)


@pytest.mark.parametrize(
  ('name', 'text', 'message'),
  [
    ('one.lab', '#\n0.1 125 a\n0.05 125 b\n', "line 3: 'b' ends at 800, expected after its start"),
    ('one.lab', '#\n0.1 125\n', "line 2: '0.1 125', expected 'end number label'"),
    ('one.lab', '#\n0.1 125 a b\n', "line 2: '0.1 125 a b', expected 'end number label'"),
    ('one.lab', '#\n', 'holds no segment'),
    ('one.lab', 'a\nb\n', "line 1: 'a', expected 'start end label' in 100 ns"),
    ('one.lab', '0 1000000 a\n2000000 5000000 b\n', "line 2: 'b' starts at 3,200 and leaves a gap"),
    ('one.lab', '#\n0.6 125 a\n', "line 2: 'a' is at 0 to 9,600, but the audio has 8,000 samples"),
    ('all.mlf', '"*/one.lab"\n0 5000000 b\n.\n', "line 1: expected '#!MLF!#'"),
    ('all.mlf', '', "line 1: expected '#!MLF!#'"),
    ('all.mlf', '#!MLF!#\n0 5000000 b\n', "line 2: '0 5000000 b', expected a quoted name"),
    (
      'all.mlf',
      '#!MLF!#\n"one.lab"\n0 5000000 b\n',
      'line 2: the entry "one.lab" is cut short',
    ),
    ('all.mlf', '#!MLF!#\n"two.lab"\n.\n', "0 entries for 'one', expected one"),
    (
      'all.mlf',
      '#!MLF!#\n"a/one.lab"\n.\n"b/one.rec"\n.\n',
      "2 entries for 'one', expected one",
    ),
    ('one.TextGrid', 'hello', 'cut short, or not a TextGrid'),
    ('one.TextGrid', '"ooTextFile" "Pitch"', 'not a TextGrid'),
    ('one.TextGrid', labels.LONG[: labels.LONG.index('intervals [4]')], 'cut short'),
    (
      'one.TextGrid',
      labels.LONG.replace('"phones"', '"p"'),
      "0 tiers named 'phones', expected one; its",
    ),
    (
      'one.TextGrid',
      labels.LONG.replace('words', 'phones'),
      "2 tiers named 'phones', expected one",
    ),
    ('one.TextGrid', labels.LONG.replace('= 0.3', '= "x"'), 'a string where a number was expected'),
    ('one.TextGrid', labels.LONG.replace('= 0.3', '= 3x'), "interval 2: '3x', expected a time"),
    ('one.TextGrid', labels.short(*labels.ROWS, count=5), 'cut short'),
    (
      'one.TextGrid',
      labels.short(*labels.ROWS, count='4.5'),
      "'4.5' tiers or rows: not a TextGrid",
    ),
    (
      'one.TextGrid',
      labels.short((0, 0.3, 'a'), (0.2, 0.5, 'b')),
      "interval 2: 'b' starts at 3,200 and o",
    ),
    (
      'one.TextGrid',
      labels.short((0, 0.3, ''), (0.2, 0.5, '')),
      "interval 2: 'sil' starts at 3,200 and o",
    ),
    (
      'one.TextGrid',
      labels.short((0, 0.6, 'a')),
      "interval 1: 'a' is at 0 to 9,600, but the audio has",
    ),
    ('one.TextGrid', labels.short(), 'holds no segment'),
    ('one.txt', labels.PHN, "'.txt', expected one of .phn, .lab, .mlf, .textgrid"),
  ],
)
def test_other_files_that_are_wrong_are_named(tmp_path, name, text, message):
  labels.refuse(tmp_path, name, text, message)


@pytest.mark.parametrize('name', ['one.phn', 'all.mlf', 'one.TextGrid'])
def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path, name):
  path = tmp_path / name
  with pytest.raises(
    errors.DataError, match=rf'{name}: No such file or directory, expected phones'
  ):
    labels.segments(path)
  path.write_bytes(b'\x80\x81')
  with pytest.raises(errors.DataError, match=rf'{name}: not UTF-8 or UTF-16 text'):
    labels.segments(path)
