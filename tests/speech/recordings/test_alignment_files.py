"""Phones with their times: each kind of file gives the same segments; what is wrong is named."""

from collections import Counter
import itertools
import re
import unicodedata

from praatio import textgrid
import pytest

from shallow_jax.runtime import errors
from shallow_jax.speech.recordings import alignment_files

# what all the files say: 0.1 s of silence, 0.2 s, 0.1 s, and silence to the end of 0.5 s
EXPECTED = [(0, 1600, 'sil'), (1600, 4800, 'AH'), (4800, 6400, 't'), (6400, 8000, 'sil')]
PHN = '0 1600 sil\n1600 4800 AH\n4800 6400 t\n6400 7990 sil\n'
XWAVES = """\
separator ;
nfields 1
#
 0.1000 125 sil
 0.3000 125 AH ; score -30.5 ;
 0.3000 125 sp
 0.4000 125 t
 0.5000 125 sil
"""
HTK = """\
0 1000000 sil -300.5
1000000 3000000 AH -20.1 word
3000000 4000000 t
4000000 5000000 sil
"""
MLF = f"""\
#!MLF!#
"*/other.lab"
0 5000000 b
.
"*/one.lab"
{HTK}.
"""
LONG = """\
File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 0.5
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 0.5
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = "he said ""3 phones""
on 2 lines"
    item [2]:
        class = "TextTier"
        name = "bell"
        xmin = 0
        xmax = 0.5
        points: size = 1
        points [1]:
            number = 0.2
            mark = "ding"
    item [3]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 0.5
        intervals: size = 4
        intervals [1]:
            xmin = 0
            xmax = 0.1
            text = ""
        intervals [2]:
            xmin = 0.1
            xmax = 0.3
            text = "AH0"
        intervals [3]:
            xmin = 0.3
            xmax = 0.4
            text = "t"
        intervals [4]:
            xmin = 0.4
            xmax = 0.5
            text = "sil"
"""
SHORT = """\
File type = "ooTextFile"
"TextGrid"

0
0.5
<exists>
1
"IntervalTier"
"someone - phones"
0
0.5
{count}
{rows}"""


def short(*rows, count=None):
  text = ''.join(f'{start}\n{end}\n"{mark}"\n' for start, end, mark in rows)
  return SHORT.format(count=len(rows) if count is None else count, rows=text)


ROWS = ((0, 0.1, ''), (0.1, 0.3, 'AH0'), (0.3, 0.4, 't'), (0.4, 0.5, ''))


def segments(path, num_samples=8000):
  found = alignment_files.read(path, num_samples, 'one')
  return [(segment.start, segment.end, segment.phone) for segment in found]


def written(tmp_path, name, text, encoding='utf-8'):
  path = tmp_path / name
  path.write_text(text, encoding)
  return path


def refuse(tmp_path, name, text, message, num_samples=8000):
  path = written(tmp_path, name, text)
  with pytest.raises(errors.DataError, match=f'^{re.escape(f"{path}: {message}")}') as caught:
    segments(path, num_samples)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  ('name', 'text'),
  [
    ('one.phn', PHN),
    ('ONE.PHN', PHN.replace('\n', '\r\n')),
    ('one.lab', XWAVES),
    ('one.lab', HTK),
    ('all.mlf', MLF),
    ('one.TextGrid', LONG),
    ('one.textgrid', short(*ROWS)),
  ],
)
def test_every_kind_of_file_says_the_same(tmp_path, name, text):
  assert segments(written(tmp_path, name, text)) == EXPECTED


def test_praats_utf_16_is_read(tmp_path):
  text = LONG.replace('"t"', '"ɾ"')
  path = written(tmp_path, 'one.TextGrid', text, 'utf-16')
  assert segments(path)[2] == (4800, 6400, 'ɾ')


@pytest.mark.parametrize('form', ['long_textgrid', 'short_textgrid'])
def test_a_textgrid_of_praatio_is_read(tmp_path, form):
  rows = [(i / 40, (i + 1) / 40, mark) for i, mark in enumerate(['', 'K', 'AE1', 'T', '', 'IY2'])]
  tier = textgrid.IntervalTier('phones', rows, 0, 0.15)
  grid = textgrid.Textgrid()
  grid.addTier(tier)
  grid.save(str(tmp_path / 'one.TextGrid'), form, includeBlankSpaces=True)
  assert segments(tmp_path / 'one.TextGrid', 2400) == [
    (400 * i, 400 * (i + 1), mark) for i, mark in enumerate(['sil', 'K', 'AE', 'T', 'sil', 'IY'])
  ]


def test_the_first_start_is_0_and_the_last_end_the_audios(tmp_path):
  path = written(tmp_path, 'one.phn', '30 1600 h#\n1600 8160 aa\n')
  assert segments(path) == [(0, 1600, 'h#'), (1600, 8000, 'aa')]
  path = written(tmp_path, 'one.phn', '0 1600 h#\n1600 5198 aa\n')
  assert segments(path) == [(0, 1600, 'h#'), (1600, 8000, 'aa')]


def test_stress_alone_is_stripped(tmp_path):
  rows = [(i / 10, (i + 1) / 10, mark) for i, mark in enumerate(['ER1', 'a1', 'E2', 'AH3', 'T'])]
  marks = [mark for *_, mark in segments(written(tmp_path, 'one.TextGrid', short(*rows)))]
  assert marks == ['ER', 'a1', 'E2', 'AH3', 'T']


def test_what_a_textgrid_leaves_out_is_silence(tmp_path):
  rows = [(0.05, 0.1, 'AA'), (0.2, 0.25, ''), (0.25, 0.3, 'sil'), (0.309, 0.4, 'B')]
  assert segments(written(tmp_path, 'one.TextGrid', short(*rows))) == [
    (0, 800, 'sil'),
    (800, 1600, 'AA'),
    (1600, 4800, 'sil'),  # a gap, an empty interval, sil and 9 ms
    (4800, 6400, 'B'),
    (6400, 8000, 'sil'),
  ]


def test_a_gap_under_a_frame_is_no_silence(tmp_path):
  rows = [(0.009, 0.1, 'AA'), (0.109, 0.4, 'B'), (0.4, 0.491, 'D')]
  path = written(tmp_path, 'one.TextGrid', short(*rows))
  assert segments(path) == [(0, 1600, 'AA'), (1600, 6400, 'B'), (6400, 8000, 'D')]


def test_the_last_digits_rounding_is_no_overlap(tmp_path):
  rows = [(0, 0.10004, 'AA'), (0.1, 0.5, 'B')]
  path = written(tmp_path, 'one.TextGrid', short(*rows))
  assert segments(path) == [(0, 1601, 'AA'), (1601, 8000, 'B')]


def test_an_mlf_is_read_again_when_it_has_changed(tmp_path):
  path = written(tmp_path, 'all.mlf', '#!MLF!#\n"one.lab"\n0 5000000 a\n.\n')
  assert segments(path) == [(0, 8000, 'a')]
  path.write_text('#!MLF!#\n"one.lab"\n0 2000000 a\n2000000 5000000 b\n.\n')
  assert len(segments(path)) == 2


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
  refuse(tmp_path, 'one.phn', text, message)


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
    ('all.mlf', '#!MLF!#\n"one.lab"\n0 5000000 b\n', 'line 2: the entry "one.lab" is cut short'),
    ('all.mlf', '#!MLF!#\n"two.lab"\n.\n', "0 entries for 'one', expected one"),
    ('all.mlf', '#!MLF!#\n"a/one.lab"\n.\n"b/one.rec"\n.\n', "2 entries for 'one', expected one"),
    ('one.TextGrid', 'hello', 'cut short, or not a TextGrid'),
    ('one.TextGrid', '"ooTextFile" "Pitch"', 'not a TextGrid'),
    ('one.TextGrid', LONG[: LONG.index('intervals [4]')], 'cut short'),
    ('one.TextGrid', LONG.replace('"phones"', '"p"'), "0 tiers named 'phones', expected one; its"),
    ('one.TextGrid', LONG.replace('words', 'phones'), "2 tiers named 'phones', expected one"),
    ('one.TextGrid', LONG.replace('= 0.3', '= "x"'), 'a string where a number was expected'),
    ('one.TextGrid', LONG.replace('= 0.3', '= 3x'), "interval 2: '3x', expected a time"),
    ('one.TextGrid', short(*ROWS, count=5), 'cut short'),
    ('one.TextGrid', short(*ROWS, count='4.5'), "'4.5' tiers or rows: not a TextGrid"),
    (
      'one.TextGrid',
      short((0, 0.3, 'a'), (0.2, 0.5, 'b')),
      "interval 2: 'b' starts at 3,200 and o",
    ),
    (
      'one.TextGrid',
      short((0, 0.3, ''), (0.2, 0.5, '')),
      "interval 2: 'sil' starts at 3,200 and o",
    ),
    ('one.TextGrid', short((0, 0.6, 'a')), "interval 1: 'a' is at 0 to 9,600, but the audio has"),
    ('one.TextGrid', short(), 'holds no segment'),
    ('one.txt', PHN, "'.txt', expected one of .phn, .lab, .mlf, .textgrid"),
  ],
)
def test_other_files_that_are_wrong_are_named(tmp_path, name, text, message):
  refuse(tmp_path, name, text, message)


# ---- times that can't belong to the recording: 4 s of 40 phones of 0.1 s ----


def timed(kind, per_second, seconds=4.0):
  """A label file's name and text whose times are in units of which a second has `per_second`."""
  times = [0.1 * i * per_second for i in range(round(10 * seconds) + 1)]
  if kind == 'one.TextGrid':
    rows = list(zip(times, times[1:], 'ab' * 1000, strict=False))
    return kind, short(*rows).replace('\n0\n0.5\n', f'\n0\n{times[-1]}\n')
  if kind == 'one.lab, xwaves':
    return 'one.lab', '#\n' + ''.join(f'{time} 125 a\n' for time in times[1:])
  rows = ''.join(f'{start:.6g} {end:.6g} a\n' for start, end in itertools.pairwise(times))
  if kind == 'all.mlf':
    return kind, f'#!MLF!#\n"*/one.lab"\n{rows}.\n'
  return kind, rows


KINDS = {  # and what a second has of each one's unit
  'one.phn': (16_000, 'samples at 16,000 Hz'),
  'one.lab': (10_000_000, '100 ns'),
  'all.mlf': (10_000_000, '100 ns'),
  'one.lab, xwaves': (1, 'seconds'),
  'one.TextGrid': (1, 'seconds'),
}


@pytest.mark.parametrize('kind', KINDS)
def test_times_of_the_kinds_own_unit_are_read(tmp_path, kind):
  found = segments(written(tmp_path, *timed(kind, KINDS[kind][0])), 64_000)
  assert found[1][:2] == (1600, 3200) and len(found) == 40


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(
  ('per_second', 'unit'),
  [
    (1, 'seconds'),
    (100, 'frames of 10 ms'),
    (1_000, 'milliseconds'),
    (1_000_000, 'microseconds'),
    (10_000_000, '100 ns'),
    (8_000, 'samples at 8,000 Hz'),
    (11_025, 'samples at 11,025 Hz'),
    (12_000, 'samples at 12,000 Hz'),
    (22_050, 'samples at 22,050 Hz'),
    (16_000, 'samples at 16,000 Hz'),
  ],
)
def test_times_of_another_unit_or_rate_are_refused_and_named(tmp_path, kind, per_second, unit):
  expected = KINDS[kind][1]
  if per_second == KINDS[kind][0]:
    return
  path = written(tmp_path, *timed(kind, per_second))
  with pytest.raises(errors.DataError) as caught:
    segments(path, 64_000)
  assert str(caught.value).startswith(f'{path}: ')
  assert str(caught.value).endswith(f'; the times look like {unit}, expected {expected}')
  assert '64,000 samples' in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('kind', KINDS)
def test_labels_of_a_shorter_recording_are_refused_with_both_lengths(tmp_path, kind):
  path = written(tmp_path, *timed(kind, KINDS[kind][0], seconds=2.4))
  message = 'after 2.4 s (38,400 samples), the audio after 4 s (64,000 samples), expected the same'
  with pytest.raises(errors.DataError, match=re.escape(message)):
    segments(path, 64_000)
  assert segments(path, 38_400 + 2802)[-1][1] == 41_202  # TIMIT's si1367 ends that early


def test_labels_that_begin_late_or_before_the_audio_are_refused(tmp_path):
  message = 'line 1: the labels start at 1 s (16,000 samples) of an audio of 4 s'
  refuse(tmp_path, 'one.phn', '16000 40000 a\n40000 64000 b\n', message, 64_000)
  message = 'line 1: the labels start at -1 s (-16,000 samples)'
  refuse(tmp_path, 'one.phn', '-16000 40000 a\n40000 64000 b\n', message, 64_000)


def test_a_tier_may_leave_out_the_silence_at_its_end_but_not_half_of_all(tmp_path):
  text = short((0, 2.5, 'a')).replace('\n0\n0.5\n', '\n0\n4\n')
  assert segments(written(tmp_path, 'one.TextGrid', text), 64_000)[1:] == [(40_000, 64_000, 'sil')]
  refuse(tmp_path, 'one.TextGrid', text.replace('2.5', '0.4'), 'interval 1: the labels end', 64_000)
  whole = short((0, 0.4, 'a'), (0.4, 4, '')).replace('\n0\n0.5\n', '\n0\n4\n')
  assert len(segments(written(tmp_path, 'one.TextGrid', whole), 64_000)) == 2
  longer = text.replace('\n4\n', '\n9\n')
  refuse(tmp_path, 'one.TextGrid', longer, 'the tier ends after 9 s (144,000 samples)', 64_000)


@pytest.mark.parametrize(
  ('name', 'text'),
  [
    ('one.phn', '0 4000 a\n4000 4000.2 b\n4000.2 8000 c\n'),
    ('one.lab', '0 2500000 a\n2500000 2500100 b\n2500100 5000000 c\n'),
    ('one.lab', '#\n0.25 125 a\n0.25001 125 b\n0.25001 125 sp\n0.5 125 c\n'),
    ('one.TextGrid', short((0, 0.25, 'a'), (0.25, 0.25001, 'b'), (0.25001, 0.5, 'c'))),
  ],
)
def test_segments_that_rounding_takes_are_counted(tmp_path, name, text):
  counts = Counter()
  found = alignment_files.read(written(tmp_path, name, text), 8000, 'one', counts)
  assert [segment.phone for segment in found] == ['a', 'c']
  assert counts == {alignment_files.LOST: 1}


# ---- TextGrids: sizes, forms, comments ----


def sized(tier, size):
  """LONG with another size of a tier or, of 0, of the file."""
  parts = LONG.split('size = ')
  parts[tier + 1] = f'{size}{parts[tier + 1][1:]}'
  return 'size = '.join(parts)


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    (sized(3, 2), "tier 'phones' has 4 rows, expected the 2 that its size says"),
    (sized(3, 0), "tier 'phones' has 4 rows, expected the 0 that its size says"),
    (sized(3, 9), "cut short: tier 'phones' has 4 rows, expected the 9 that its size says"),
    (sized(2, 0), "tier 'bell' has 1 row, expected the 0 that its size says"),
    (sized(2, 2), "tier 'bell' has 1 row, expected the 2 that its size says"),
    (sized(1, 0), "tier 'words' has 1 row, expected the 0 that its size says"),
    (sized(1, 3), "tier 'words' has 1 row, expected the 3 that its size says"),
    (sized(0, 2), "3 tiers ('words', 'bell', 'phones'), expected the 2 that its size says"),
    (sized(0, 4), "cut short: 3 tiers ('words', 'bell', 'phones'), expected the 4"),
    (
      LONG.replace('xmax = 0.3', 'xmax = "x"'),
      "a string where a number was expected: 'x', row 2 of tier 'phones'",
    ),
    (
      LONG.replace('xmin = 0.3', 'xmin = "x"'),
      "a string where a number was expected: 'x', row 3 of tier 'phones'",
    ),
    (
      LONG.replace('"TextTier"', '"PointTier"'),
      "tier 2: 'PointTier', expected one of IntervalTier, TextTier",
    ),
    ('"ooTextFile"\n"Collection"\n1', "not a TextGrid: it holds a 'Collection'"),
    ('"Praat chronological TextGrid text file"\n0 1', "Praat's chronological form, expected its"),
  ],
)
def test_a_textgrid_whose_sizes_or_kinds_are_wrong_is_named(tmp_path, text, message):
  refuse(tmp_path, 'one.TextGrid', text, message)


def test_praats_binary_form_is_named(tmp_path):
  path = tmp_path / 'one.TextGrid'
  path.write_bytes(b'ooBinaryFile\x08TextGrid\x80')
  with pytest.raises(errors.DataError, match="Praat's binary form, expected its text form"):
    segments(path)


@pytest.mark.parametrize('text', [LONG, short(*ROWS)])
def test_the_old_short_form_and_comments_are_read(tmp_path, text):
  old = text.replace('"ooTextFile"', '"ooTextFile short"')
  assert segments(written(tmp_path, 'one.TextGrid', old)) == EXPECTED
  lines = text.replace('"t"', '"t!"').split('on 2 lines')
  noted = [part.replace('\n', ' ! not "this", nor 3 tiers\n') for part in lines]
  noted[0] = noted[0].replace('""3 phones"" ! not "this", nor 3 tiers', '""3 phones""')
  found = segments(written(tmp_path, 'one.TextGrid', 'on 2 lines'.join(noted)))
  assert found == [(*row[:2], row[2].replace('t', 't!')) for row in EXPECTED]


# ---- names: composed and decomposed letters, folders of an .mlf ----


def test_phones_and_tiers_are_in_normal_form_c(tmp_path):
  apart = unicodedata.normalize('NFD', 'ç')
  assert len(apart) == 2
  for name, text in (('one.phn', PHN), ('one.lab', HTK), ('all.mlf', MLF), ('a.TextGrid', LONG)):
    path = written(tmp_path, name, text.replace(' t\n', f' {apart}\n').replace('"t"', f'"{apart}"'))
    assert segments(path)[2] == (4800, 6400, 'ç')
  path = written(tmp_path, 'all.mlf', MLF.replace('one', f'un{apart}'))
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
  path = written(tmp_path, 'all.mlf', text)
  for voice, phone in (('bdl', 'a'), ('slt', 'b')):
    recording = f'/data/cmu_us_{voice}_arctic/wav/one.wav'
    assert alignment_files.read(path, 8000, recording)[0].phone == phone
  message = (
    r"2 entries for 'one', expected one .*, 0 of them in folders of /data/cmu_us_rms_arctic/"
  )
  with pytest.raises(errors.DataError, match=message):
    alignment_files.read(path, 8000, '/data/cmu_us_rms_arctic/wav/one.wav')


@pytest.mark.parametrize('name', ['one.phn', 'all.mlf', 'one.TextGrid'])
def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path, name):
  path = tmp_path / name
  with pytest.raises(
    errors.DataError, match=rf'{name}: No such file or directory, expected phones'
  ):
    segments(path)
  path.write_bytes(b'\x80\x81')
  with pytest.raises(errors.DataError, match=rf'{name}: not UTF-8 or UTF-16 text'):
    segments(path)
