"""Time-aligned phones as corpora write them, all read into segments of samples at 16 kHz.

.phn       `start end label` in samples (TIMIT)
.lab       after a line `#`: `end number label` in seconds (xwaves; CMU ARCTIC)
.lab       without such a line: `start end label` in 100 ns (HTK)
.mlf       many of HTK's .lab in one file
.TextGrid  Praat's long and short text form, the tier `phones` (Montreal forced aligner)
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
import dataclasses
import math
import os
import pathlib
import re

from shallow_jax.runtime import errors
from shallow_jax.speech.recordings import audio
from shallow_jax.speech.recordings import label_text
from shallow_jax.speech.recordings import mlf
from shallow_jax.speech.recordings import phones
from shallow_jax.speech.recordings import textgrid

_SECONDS = 1
_HTK_RATE = 10_000_000  # its times are in 100 ns
_UNITS = {  # by how many of them a second has
  _SECONDS: 'seconds',
  100: 'frames of 10 ms',
  200: 'frames of 5 ms',
  1_000: 'milliseconds',
  1_000_000: 'microseconds',
  _HTK_RATE: '100 ns',
  1_000_000_000: 'nanoseconds',
  **{
    rate: f'samples at {rate:,} Hz'
    for rate in (8_000, 10_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
  },
}
# Labels may leave more of the audio without a phone than TIMIT's do (175 ms or 3.9 % in its sample)
# but not as much as those at 12 kHz would.
_MOST_UNLABELLED = 0.15
_ALWAYS_ALLOWED = audio.SAMPLE_RATE // 5  # samples
_PHONE_TIER = re.compile(r'(.* - )?phones')  # `speaker - phones` where a file has many speakers
_STRESSED = re.compile(r'([A-Z]{2})[012]')  # ARPAbet's vowels have two letters
# What `read` counts: segments that took time, but less than half a sample; utterances whose last
# segment was drawn out by more than a frame's shift.
LOST, EARLY = COUNTED = ('segments_lost_by_rounding', 'labels_that_end_early')


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
  """One phone: samples at 16 kHz, `end` exclusive; the phone in Unicode's normal form C."""

  start: int
  end: int
  phone: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Row:
  """A segment in the file's unit of time, and where it is, for messages: 'line 3'."""

  start: float
  end: float
  phone: str
  where: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Mark:
  """A row in samples."""

  start: int
  end: int
  phone: str
  where: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Labels:
  """What a file says of one utterance."""

  rows: list[_Row]
  rate: int  # how many of its units of time a second has
  tier_end: float | None = None  # of a TextGrid, where empty rows may be left out


def read(
  path: pathlib.Path,
  num_samples: int,
  recording: str | os.PathLike[str],
  counts: Counter[str] | None = None,
) -> list[Segment]:
  """Return an utterance's phones, from its first sample to its last, one right after another.

  The first start becomes 0 and the last end `num_samples`: labels often end a little early. What a
  TextGrid leaves empty is `sil`, next to each other they are one; its gaps under a frame's shift
  belong to the segment before. ARPAbet's stress is stripped. An aligner's optional pause that took
  no time is left out.

  Args:
    path: a file of one of the kinds above, by its suffix in upper or lower case.
    num_samples: of the utterance's audio.
    recording: the audio file's path, by whose name an .mlf is searched, and by its folders where
      several entries have that name.
    counts: LOST and EARLY grow by what there is of them in this utterance.

  Raises:
    DataError: naming file and line: not of the form that its kind has; without a segment; a segment
      that ends before it starts, overlaps the one before or leaves a gap; an end that lies more
      than a frame's shift (160 samples) after the audio's; labels of less than half of the audio,
      or that leave more than 15 % and 0.2 s of it at one end (a TextGrid's tier may be that long
      in place of its rows), with the unit that their times seem to have.
  """
  parse = _PARSERS.get(path.suffix.lower())
  if parse is None:
    raise errors.DataError(f'{path}: {path.suffix!r}, expected one of {", ".join(SUFFIXES)}')
  try:
    labels = parse(path, pathlib.PurePath(recording))
    marks = _marks(labels)
    lost = len(labels.rows) - len(marks)
    if labels.tier_end is not None:
      marks = _joined_silence(_filled(marks, num_samples))
    if marks or not lost:
      _check(marks)
    _check_span(labels, num_samples)
  except label_text.FormatError as error:
    raise errors.DataError(f'{path}: {error}') from error
  if counts is not None:
    counts[LOST] += lost
    counts[EARLY] += num_samples - marks[-1].end > audio.FRAME_SHIFT
  starts = [0, *(mark.start for mark in marks[1:])]
  ends = [*starts[1:], num_samples]
  return [Segment(*row) for row in zip(starts, ends, (mark.phone for mark in marks), strict=True)]


def _marks(labels: _Labels) -> list[_Mark]:
  """The rows in samples, without those that took time but come to nothing by rounding."""
  marks = []
  for row in labels.rows:
    start, end = (round(time * audio.SAMPLE_RATE / labels.rate) for time in (row.start, row.end))
    if start != end or row.start >= row.end:
      phone = label_text.composed(row.phone)
      marks.append(_Mark(start, end, phone, row.where))
  return marks


def _check_span(labels: _Labels, num_samples: int) -> None:
  """Raises where the labels are not of all of the audio."""
  scale = audio.SAMPLE_RATE / labels.rate
  first, last = labels.rows[0], labels.rows[-1]
  start, end = first.start * scale, last.end * scale
  whole = end if labels.tier_end is None else max(end, labels.tier_end * scale)
  if (
    round(end) > num_samples + audio.FRAME_SHIFT or max(round(last.start * scale), 0) >= num_samples
  ):
    raise label_text.FormatError(
      f'{last.where}: {last.phone!r} is at {round(last.start * scale):,} to {round(end):,}, '
      f'but the audio has {num_samples:,} samples{_unit(labels, num_samples)}'
    )
  if _is_far(whole - num_samples, num_samples):
    raise label_text.FormatError(
      f'the tier ends after {_both(whole)}, the audio after {_both(num_samples)}, expected the same'
    )
  if _is_far(num_samples - whole, num_samples) or 2 * end <= num_samples + 1:
    raise label_text.FormatError(
      f'{last.where}: the labels end after {_both(end)}, the audio after {_both(num_samples)}, '
      f'expected the same but for {_MOST_UNLABELLED:.0%}{_unit(labels, num_samples)}'
    )
  is_late = labels.tier_end is None and _is_far(start, num_samples)
  if is_late or start < -audio.FRAME_SHIFT:
    raise label_text.FormatError(
      f'{first.where}: the labels start at {_both(start)} of an audio of {_both(num_samples)}, '
      'expected at 0'
    )


def _is_far(missing: float, num_samples: int) -> bool:
  return missing > max(_MOST_UNLABELLED * num_samples, _ALWAYS_ALLOWED)


def _both(samples: float) -> str:
  return f'{samples / audio.SAMPLE_RATE:.4g} s ({round(samples):,} samples)'


def _unit(labels: _Labels, num_samples: int) -> str:
  """The end of a message: the unit of time in which the last end would be about the audio's."""
  per_second = labels.rows[-1].end * audio.SAMPLE_RATE / num_samples
  rate = min(_UNITS, key=lambda rate: abs(math.log(max(per_second, 1e-9) / rate)))
  if rate == labels.rate or not 0.85 <= per_second / rate <= 1.02:
    return ''
  return f'; the times look like {_UNITS[rate]}, expected {_UNITS[labels.rate]}'


def _check(marks: Sequence[_Mark]) -> None:
  if not marks:
    raise label_text.FormatError('holds no segment, expected one or more')
  position = marks[0].start
  for mark in marks:
    if mark.start != position:
      fault = 'overlaps the segment before' if mark.start < position else 'leaves a gap'
      raise label_text.FormatError(
        f'{mark.where}: {mark.phone!r} starts at {mark.start:,} and {fault}, expected at '
        f'{position:,}, the end of the segment before (samples)'
      )
    if mark.end <= mark.start:
      raise label_text.FormatError(
        f'{mark.where}: {mark.phone!r} ends at {mark.end:,}, expected after its start '
        f'{mark.start:,} (samples)'
      )
    position = mark.end


def _phn(path: pathlib.Path, recording: pathlib.PurePath) -> _Labels:
  del recording
  rows = []
  for where, fields in label_text.lines(path):
    if len(fields) != 3:
      raise label_text.FormatError(f"{where}: {' '.join(fields)!r}, expected 'start end label'")
    start, end = (_time(field, where) for field in fields[:2])
    rows.append(_Row(start, end, fields[2], where))
  return _Labels(rows, audio.SAMPLE_RATE)


def _lab(path: pathlib.Path, recording: pathlib.PurePath) -> _Labels:
  del recording
  rows = list(label_text.lines(path))
  header = [i for i, (_, fields) in enumerate(rows) if fields == ['#']]
  return _xwaves(rows[header[0] + 1 :]) if header else _htk(rows)


def _xwaves(lines: Iterable[tuple[str, list[str]]]) -> _Labels:
  """A label may be followed by `; name value ;` fields."""
  rows = []
  start = 0.0
  for where, fields in lines:
    if len(fields) < 3 or (len(fields) > 3 and fields[3] != ';'):
      raise label_text.FormatError(f"{where}: {' '.join(fields)!r}, expected 'end number label'")
    end = _time(fields[0], where)
    rows.append(_Row(start, end, fields[2], where))
    start = end
  return _Labels(_without_empty(rows), _SECONDS)


def _htk(lines: Iterable[tuple[str, list[str]]]) -> _Labels:
  """A label may be followed by scores and the word."""
  rows = []
  for where, fields in lines:
    if len(fields) < 3:
      raise label_text.FormatError(
        f"{where}: {' '.join(fields)!r}, expected 'start end label' in 100 ns"
      )
    start, end = (_time(field, where) for field in fields[:2])
    rows.append(_Row(start, end, fields[2], where))
  return _Labels(_without_empty(rows), _HTK_RATE)


def _without_empty(rows: Iterable[_Row]) -> list[_Row]:
  return [row for row in rows if row.end != row.start]


def _mlf(path: pathlib.Path, recording: pathlib.PurePath) -> _Labels:
  return _htk(mlf.entry(path, recording).lines)


def _textgrid(path: pathlib.Path, recording: pathlib.PurePath) -> _Labels:
  del recording
  tiers = textgrid.tiers(label_text.read(path))
  found = [tier for tier in tiers if tier.has_intervals and _PHONE_TIER.fullmatch(tier.name)]
  if len(found) != 1:
    names = ', '.join(repr(tier.name) for tier in tiers if tier.has_intervals) or 'none'
    raise label_text.FormatError(
      f"{len(found)} tiers named 'phones', expected one; its tiers: {names}"
    )
  rows = []
  for i, (start, end, mark) in enumerate(found[0].rows, 1):
    where = f'interval {i}'
    rows.append(_Row(_time(start, where), _time(end, where), mark.strip(), where))
  end = _time(found[0].end, f'tier {found[0].name!r}')
  return _Labels(_without_empty(rows), _SECONDS, end)


def _filled(marks: Iterable[_Mark], num_samples: int) -> list[_Mark]:
  """Silence where there is no mark or an empty one."""
  filled: list[_Mark] = []
  position = 0
  for mark in marks:
    gap = mark.start - position
    if gap >= audio.FRAME_SHIFT:
      filled.append(_Mark(position, mark.start, phones.SILENCE, mark.where))
    elif gap >= -1:  # -1: the last digit's rounding
      mark = dataclasses.replace(mark, start=position)
    stressed = _STRESSED.fullmatch(mark.phone)
    phone = stressed[1] if stressed else mark.phone or phones.SILENCE
    filled.append(dataclasses.replace(mark, phone=phone))
    position = mark.end
  if filled and num_samples - position >= audio.FRAME_SHIFT:
    filled.append(_Mark(position, num_samples, phones.SILENCE, 'the end'))
  return filled


def _joined_silence(marks: Iterable[_Mark]) -> list[_Mark]:
  joined: list[_Mark] = []
  for mark in marks:
    both_silent = joined and joined[-1].phone == mark.phone == phones.SILENCE
    if both_silent and joined[-1].end == mark.start:
      mark = dataclasses.replace(joined.pop(), end=mark.end)
    joined.append(mark)
  return joined


def _time(text: str, where: str) -> float:
  try:
    time = float(text)
  except ValueError:
    time = math.nan
  if not math.isfinite(time):
    raise label_text.FormatError(f'{where}: {text!r}, expected a time')
  return time


_PARSERS: dict[str, Callable[[pathlib.Path, pathlib.PurePath], _Labels]] = {
  '.phn': _phn,
  '.lab': _lab,
  '.mlf': _mlf,
  '.textgrid': _textgrid,
}
SUFFIXES = tuple(_PARSERS)
