"""Labels whose times can't belong to their recording, and what rounding takes."""

from collections import Counter
import itertools
import re

from made_up import labels
import pytest

from shallow_jax.runtime import errors
from shallow_jax.speech.recordings import alignment_files


def timed(kind, per_second, seconds=4.0):
  """A label file's name and text whose times are in units of which a second has `per_second`."""
  times = [0.1 * i * per_second for i in range(round(10 * seconds) + 1)]
  if kind == 'one.TextGrid':
    rows = list(zip(times, times[1:], 'ab' * 1000, strict=False))
    return kind, labels.short(*rows).replace('\n0\n0.5\n', f'\n0\n{times[-1]}\n')
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
  found = labels.segments(labels.written(tmp_path, *timed(kind, KINDS[kind][0])), 64_000)
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
  path = labels.written(tmp_path, *timed(kind, per_second))
  with pytest.raises(errors.DataError) as caught:
    labels.segments(path, 64_000)
  assert str(caught.value).startswith(f'{path}: ')
  assert str(caught.value).endswith(f'; the times look like {unit}, expected {expected}')
  assert '64,000 samples' in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('kind', KINDS)
def test_labels_of_a_shorter_recording_are_refused_with_both_lengths(tmp_path, kind):
  path = labels.written(tmp_path, *timed(kind, KINDS[kind][0], seconds=2.4))
  message = 'after 2.4 s (38,400 samples), the audio after 4 s (64,000 samples), expected the same'
  with pytest.raises(errors.DataError, match=re.escape(message)):
    labels.segments(path, 64_000)
  assert labels.segments(path, 38_400 + 2802)[-1][1] == 41_202  # TIMIT's si1367 ends that early


def test_labels_that_begin_late_or_before_the_audio_are_refused(tmp_path):
  message = 'line 1: the labels start at 1 s (16,000 samples) of an audio of 4 s'
  labels.refuse(tmp_path, 'one.phn', '16000 40000 a\n40000 64000 b\n', message, 64_000)
  message = 'line 1: the labels start at -1 s (-16,000 samples)'
  labels.refuse(tmp_path, 'one.phn', '-16000 40000 a\n40000 64000 b\n', message, 64_000)


def test_a_tier_may_leave_out_the_silence_at_its_end_but_not_half_of_all(tmp_path):
  text = labels.short((0, 2.5, 'a')).replace('\n0\n0.5\n', '\n0\n4\n')
  assert labels.segments(labels.written(tmp_path, 'one.TextGrid', text), 64_000)[1:] == [
    (40_000, 64_000, 'sil')
  ]
  labels.refuse(
    tmp_path, 'one.TextGrid', text.replace('2.5', '0.4'), 'interval 1: the labels end', 64_000
  )
  whole = labels.short((0, 0.4, 'a'), (0.4, 4, '')).replace('\n0\n0.5\n', '\n0\n4\n')
  assert len(labels.segments(labels.written(tmp_path, 'one.TextGrid', whole), 64_000)) == 2
  longer = text.replace('\n4\n', '\n9\n')
  labels.refuse(
    tmp_path, 'one.TextGrid', longer, 'the tier ends after 9 s (144,000 samples)', 64_000
  )


@pytest.mark.parametrize(
  ('name', 'text'),
  [
    ('one.phn', '0 4000 a\n4000 4000.2 b\n4000.2 8000 c\n'),
    ('one.lab', '0 2500000 a\n2500000 2500100 b\n2500100 5000000 c\n'),
    ('one.lab', '#\n0.25 125 a\n0.25001 125 b\n0.25001 125 sp\n0.5 125 c\n'),
    ('one.TextGrid', labels.short((0, 0.25, 'a'), (0.25, 0.25001, 'b'), (0.25001, 0.5, 'c'))),
  ],
)
def test_segments_that_rounding_takes_are_counted(tmp_path, name, text):
  counts = Counter()
  found = alignment_files.read(labels.written(tmp_path, name, text), 8000, 'one', counts)
  assert [segment.phone for segment in found] == ['a', 'c']
  assert counts == {alignment_files.LOST: 1, alignment_files.EARLY: 0}


def test_a_last_segment_that_is_drawn_out_is_counted(tmp_path):
  counts = Counter()
  for end in (8000, 7840, 7839, 6000):
    path = labels.written(tmp_path, 'one.phn', f'0 {end} a\n')
    found = alignment_files.read(path, 8000, 'one', counts)
    assert found == [alignment_files.Segment(0, 8000, 'a')]
  assert counts == {alignment_files.LOST: 0, alignment_files.EARLY: 2}
