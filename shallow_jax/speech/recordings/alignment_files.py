"""Time-aligned phones as corpora write them, all read into segments of samples at 16 kHz.

.phn       `start end label` in samples (TIMIT)
.lab       after a line `#`: `end number label` in seconds (xwaves; CMU ARCTIC)
.lab       without such a line: `start end label` in 100 ns (HTK)
.mlf       many of HTK's .lab in one file
.TextGrid  Praat's long and short text form, the tier `phones` (Montreal forced aligner)
"""

from collections.abc import Callable, Iterable, Iterator
import dataclasses
import functools
import pathlib
import re

from shallow_jax.runtime import errors
from shallow_jax.speech.recordings import audio
from shallow_jax.speech.recordings import phones

_HTK_RATE = 10_000_000  # its times are in 100 ns
_PHONE_TIER = re.compile(r'(.* - )?phones')  # `speaker - phones` where a file has many speakers
_STRESSED = re.compile(r'([A-Z]{2})[012]')  # ARPAbet's vowels have two letters
# A TextGrid's free-standing strings and numbers: all that counts in either of its forms.
_TOKEN = re.compile(r'"((?:[^"]|"")*)"|(?<!\S)([-+]?\d\S*)(?!\S)')


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
  """One phone: samples at 16 kHz, `end` exclusive."""

  start: int
  end: int
  phone: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Mark:
  """A segment as the file has it, and where, for messages: 'line 3'."""

  start: int
  end: int
  phone: str
  where: str


class _FormatError(ValueError):
  """What is wrong with a file's text, without its path."""


def read(path: pathlib.Path, num_samples: int, stem: str) -> list[Segment]:
  """Return an utterance's phones, from its first sample to its last, one right after another.

  The first start becomes 0 and the last end `num_samples`: labels often end a little early. What a
  TextGrid leaves empty is `sil`, next to each other they are one; its gaps under a frame's shift
  belong to the segment before. ARPAbet's stress is stripped. An aligner's optional pause that took
  no time is left out.

  Args:
    path: a file of one of the kinds above, by its suffix in upper or lower case.
    num_samples: of the utterance's audio.
    stem: of the audio file's name, by which an .mlf is searched.

  Raises:
    DataError: naming file and line: not of the form that its kind has; without a segment; a segment
      that ends before it starts, overlaps the one before or leaves a gap; an end that lies more
      than a frame's shift (160 samples) after the audio's.
  """
  parse = _PARSERS.get(path.suffix.lower())
  if parse is None:
    raise errors.DataError(f'{path}: {path.suffix!r}, expected one of {", ".join(SUFFIXES)}')
  try:
    marks = parse(path, num_samples, stem)
    _check(marks, num_samples)
  except _FormatError as error:
    raise errors.DataError(f'{path}: {error}') from error
  starts = [0, *(mark.start for mark in marks[1:])]
  ends = [*starts[1:], num_samples]
  return [Segment(*row) for row in zip(starts, ends, (mark.phone for mark in marks), strict=True)]


def _check(marks: list[_Mark], num_samples: int) -> None:
  if not marks:
    raise _FormatError('holds no segment, expected one or more')
  position = marks[0].start
  for mark in marks:
    if mark.start != position:
      fault = 'overlaps the segment before' if mark.start < position else 'leaves a gap'
      raise _FormatError(
        f'{mark.where}: {mark.phone!r} starts at {mark.start:,} and {fault}, expected at '
        f'{position:,}, the end of the segment before (samples)'
      )
    if mark.end <= mark.start:
      raise _FormatError(
        f'{mark.where}: {mark.phone!r} ends at {mark.end:,}, expected after its start '
        f'{mark.start:,} (samples)'
      )
    position = mark.end
  last = marks[-1]
  if last.end > num_samples + audio.FRAME_SHIFT or max(last.start, 0) >= num_samples:
    raise _FormatError(
      f'{last.where}: {last.phone!r} is at {last.start:,} to {last.end:,}, '
      f'but the audio has {num_samples:,} samples'
    )


def _phn(path: pathlib.Path, num_samples: int, stem: str) -> list[_Mark]:
  del num_samples, stem
  marks = []
  for where, fields in _lines(_text(path)):
    if len(fields) != 3:
      raise _FormatError(f"{where}: {' '.join(fields)!r}, expected 'start end label'")
    start, end = (_samples(field, audio.SAMPLE_RATE, where) for field in fields[:2])
    marks.append(_Mark(start, end, fields[2], where))
  return marks


def _lab(path: pathlib.Path, num_samples: int, stem: str) -> list[_Mark]:
  del num_samples, stem
  rows = list(_lines(_text(path)))
  header = [i for i, (_, fields) in enumerate(rows) if fields == ['#']]
  return _xwaves(rows[header[0] + 1 :]) if header else _htk(rows)


def _xwaves(rows: Iterable[tuple[str, list[str]]]) -> list[_Mark]:
  """A label may be followed by `; name value ;` fields."""
  marks = []
  start = 0
  for where, fields in rows:
    if len(fields) < 3 or (len(fields) > 3 and fields[3] != ';'):
      raise _FormatError(f"{where}: {' '.join(fields)!r}, expected 'end number label'")
    end = _samples(fields[0], 1, where)
    marks.append(_Mark(start, end, fields[2], where))
    start = end
  return _without_empty(marks)


def _htk(rows: Iterable[tuple[str, list[str]]]) -> list[_Mark]:
  """A label may be followed by scores and the word."""
  marks = []
  for where, fields in rows:
    if len(fields) < 3:
      raise _FormatError(f"{where}: {' '.join(fields)!r}, expected 'start end label' in 100 ns")
    start, end = (_samples(field, _HTK_RATE, where) for field in fields[:2])
    marks.append(_Mark(start, end, fields[2], where))
  return _without_empty(marks)


def _without_empty(marks: Iterable[_Mark]) -> list[_Mark]:
  return [mark for mark in marks if mark.end != mark.start]


def _mlf(path: pathlib.Path, num_samples: int, stem: str) -> list[_Mark]:
  del num_samples
  modified = path.stat().st_mtime_ns if path.exists() else 0
  entries = _mlf_entries(path, modified).get(stem, [])
  if len(entries) != 1:
    raise _FormatError(f'{len(entries)} entries for {stem!r}, expected one "*/{stem}.lab"')
  return _htk(entries[0])


@functools.lru_cache(maxsize=2)
def _mlf_entries(path: pathlib.Path, modified: int) -> dict[str, list[list[tuple[str, list[str]]]]]:
  """The lines of each entry by the stem of its name; read once for all utterances in it."""
  del modified  # a part of the cache's key
  rows = _lines(_text(path))
  if next(rows, ('', ['']))[1] != ['#!MLF!#']:
    raise _FormatError("line 1: expected '#!MLF!#'")
  entries: dict[str, list[list[tuple[str, list[str]]]]] = {}
  for where, fields in rows:
    name = ' '.join(fields)
    if not re.fullmatch(r'".+"', name):
      raise _FormatError(f'{where}: {name!r}, expected a quoted name as "*/utterance.lab"')
    entry = []
    for row in rows:
      if row[1] == ['.']:
        break
      entry.append(row)
    else:
      raise _FormatError(f"{where}: the entry {name} is cut short, expected a line '.' at its end")
    entries.setdefault(pathlib.PurePosixPath(name.strip('"')).stem, []).append(entry)
  return entries


def _textgrid(path: pathlib.Path, num_samples: int, stem: str) -> list[_Mark]:
  del stem
  tiers = _textgrid_tiers(_text(path))
  found = [marks for name, marks in tiers if _PHONE_TIER.fullmatch(name)]
  if len(found) != 1:
    names = ', '.join(repr(name) for name, _ in tiers) or 'none'
    raise _FormatError(f"{len(found)} tiers named 'phones', expected one; its tiers: {names}")
  return _joined_silence(_filled(found[0], num_samples))


def _textgrid_tiers(text: str) -> list[tuple[str, list[_Mark]]]:
  """Interval tiers with their names. As many rows are expected as the file says."""
  tokens = _TOKEN.finditer(text)
  if [_string(tokens), _string(tokens)] != ['ooTextFile', 'TextGrid']:
    raise _FormatError('not a TextGrid')
  tiers = []
  for _ in range(_count(tokens)):
    kind, name = _string(tokens), _string(tokens)
    marks = []
    for i in range(_count(tokens)):
      where = f'interval {i + 1}'
      times = [_number(tokens) for _ in range(2 if kind == 'IntervalTier' else 1)]
      start, end = (_samples(time, 1, where) for time in (times[0], times[-1]))
      marks.append(_Mark(start, end, _string(tokens).strip(), where))
    if kind == 'IntervalTier':
      tiers.append((name, marks))
  return tiers


def _count(tokens: Iterator[re.Match[str]]) -> int:
  """The number of tiers or of a tier's rows, after the first and the last time."""
  first, last, count = [_number(tokens) for _ in range(3)]
  del first, last
  if not count.isdecimal():
    raise _FormatError(f'{count!r} tiers or rows: not a TextGrid')
  return int(count)


def _string(tokens: Iterator[re.Match[str]]) -> str:
  text = _token(tokens)[1]
  if text is None:
    raise _FormatError('a number where a string was expected: not a TextGrid in text form')
  return text.replace('""', '"')


def _number(tokens: Iterator[re.Match[str]]) -> str:
  text = _token(tokens)[2]
  if text is None:
    raise _FormatError('a string where a number was expected: not a TextGrid in text form')
  return text


def _token(tokens: Iterator[re.Match[str]]) -> re.Match[str]:
  token = next(tokens, None)
  if token is None:
    raise _FormatError('cut short, or not a TextGrid in text form')
  return token


def _filled(marks: Iterable[_Mark], num_samples: int) -> list[_Mark]:
  """Silence where there is no mark or an empty one."""
  filled: list[_Mark] = []
  position = 0
  for mark in _without_empty(marks):
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


def _text(path: pathlib.Path) -> str:
  """Praat writes UTF-16 with a byte order mark where ASCII doesn't do."""
  try:
    data = path.read_bytes()
    return data.decode('utf-16' if data[:2] in (b'\xff\xfe', b'\xfe\xff') else 'utf-8-sig')
  except OSError as error:
    raise _FormatError(f'{error.strerror}, expected phones with their times') from error
  except UnicodeDecodeError as error:
    raise _FormatError(f'not UTF-8 or UTF-16 text: {error.reason}') from error


def _lines(text: str) -> Iterator[tuple[str, list[str]]]:
  """Each line that isn't blank: where it is, for messages, and its fields."""
  for number, line in enumerate(text.splitlines(), 1):
    if fields := line.split():
      yield f'line {number}', fields


def _samples(time: str, units_per_second: int, where: str) -> int:
  try:
    return round(float(time) * audio.SAMPLE_RATE / units_per_second)
  except (OverflowError, ValueError) as error:
    raise _FormatError(f'{where}: {time!r}, expected a time') from error


_PARSERS: dict[str, Callable[[pathlib.Path, int, str], list[_Mark]]] = {
  '.phn': _phn,
  '.lab': _lab,
  '.mlf': _mlf,
  '.textgrid': _textgrid,
}
SUFFIXES = tuple(_PARSERS)
