"""Praat's TextGrids in text form, long or short, new or old ("ooTextFile short").

Only free-standing numbers and quoted strings count, in both forms; `!` begins a comment. All rows
that are there are read, then counted against the sizes that the file gives: those of some aligners
are wrong.
"""

import dataclasses
import re

from shallow_jax.speech.recordings import label_text

_TOKEN = re.compile(r'"((?:[^"]|"")*)"|(?<![^\s"])![^\r\n]*|(?<!\S)([-+]?\d\S*)(?!\S)')
_TEXT_FORMS = ('ooTextFile', 'ooTextFile short')
_CHRONOLOGICAL = 'Praat chronological TextGrid text file'
_INTERVALS = 'IntervalTier'
_KINDS = (_INTERVALS, 'TextTier')


@dataclasses.dataclass(frozen=True)
class Tier:
  """One tier; the times are as the file has them, in seconds."""

  name: str  # in NFC
  has_intervals: bool  # points otherwise
  end: str
  rows: list[tuple[str, str, str]]  # start, end (the same for points), mark


def tiers(text: str) -> list[Tier]:
  """Return a TextGrid's tiers.

  Raises:
    FormatError: not a TextGrid in text form, cut short, or with more or fewer tiers or rows than it
      says; naming the tier.
  """
  tokens = _Tokens(text)
  form = tokens.string('the header')
  if form == _CHRONOLOGICAL:
    raise label_text.FormatError("Praat's chronological form, expected its long or short text form")
  if form not in _TEXT_FORMS:
    raise label_text.FormatError(f"not a TextGrid: it begins with {form!r}, expected 'ooTextFile'")
  if (kind := tokens.string('the header')) != 'TextGrid':
    raise label_text.FormatError(f"not a TextGrid: it holds a {kind!r}, expected 'TextGrid'")
  _, size = tokens.end_and_size('the header')
  found = []
  while tokens.are_left():
    found.append(_tier(tokens, f'tier {len(found) + 1}'))
  if len(found) != size:
    cut = 'cut short: ' if len(found) < size else ''
    names = ', '.join(repr(tier.name) for tier in found) or 'none'
    raise label_text.FormatError(
      f'{cut}{len(found)} tiers ({names}), expected the {size} that its size says'
    )
  return found


def _tier(tokens: '_Tokens', where: str) -> Tier:
  kind = tokens.string(where)
  if kind not in _KINDS:
    raise label_text.FormatError(f'{where}: {kind!r}, expected one of {", ".join(_KINDS)}')
  name = label_text.composed(tokens.string(where))
  where = f'tier {name!r}'
  end, size = tokens.end_and_size(where)
  rows = []
  while tokens.are_left() and not tokens.is_tier():
    if len(rows) >= size and not tokens.is_number():
      break  # no row, but no tier either
    row = f'row {len(rows) + 1} of {where}'
    start = tokens.number(row)
    row_end = tokens.number(row) if kind == _INTERVALS else start
    rows.append((start, row_end, tokens.string(row)))
  if len(rows) != size:
    cut = '' if tokens.are_left() or len(rows) > size else 'cut short: '
    plural = '' if len(rows) == 1 else 's'
    raise label_text.FormatError(
      f'{cut}{where} has {len(rows)} row{plural}, expected the {size} that its size says'
    )
  return Tier(name, kind == _INTERVALS, end, rows)


class _Tokens:
  """A file's strings and numbers, one after the other; `where` is for messages."""

  def __init__(self, text: str) -> None:
    found = ((match[1], match[2]) for match in _TOKEN.finditer(text))
    self._tokens: list[tuple[str | None, str | None]] = [
      token for token in found if token != (None, None)
    ]
    self._next = 0

  def are_left(self) -> bool:
    return self._next < len(self._tokens)

  def is_number(self) -> bool:
    return self._tokens[self._next][1] is not None

  def is_tier(self) -> bool:
    return self._tokens[self._next][0] in _KINDS

  def string(self, where: str) -> str:
    text, number = self._take(where)
    if text is None:
      raise label_text.FormatError(f'a number where a string was expected: {number}, {where}')
    return text.replace('""', '"')

  def number(self, where: str) -> str:
    text, number = self._take(where)
    if number is None:
      raise label_text.FormatError(f'a string where a number was expected: {text!r}, {where}')
    return number

  def end_and_size(self, where: str) -> tuple[str, int]:
    """What stands before tiers and before rows: the first time, the last one, how many follow."""
    self.number(where)
    end, size = self.number(where), self.number(where)
    if not size.isdecimal():
      raise label_text.FormatError(f'{size!r} tiers or rows: not a TextGrid, or damaged: {where}')
    return end, int(size)

  def _take(self, where: str) -> tuple[str | None, str | None]:
    if not self.are_left():
      raise label_text.FormatError(f'cut short, or not a TextGrid in text form: it ends in {where}')
    self._next += 1
    return self._tokens[self._next - 1]
