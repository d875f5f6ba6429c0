"""HTK's master label files: many .lab in one, each under a name as "*/utterance.lab"."""

import dataclasses
import fnmatch
import functools
import pathlib
import re

from shallow_jax.speech.recordings import label_text

_SHARED_FOLDERS = ('*', '/', 'lab', 'wav')  # CMU ARCTIC has `voice/wav` and `voice/lab`


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
  """One of an .mlf's label files; its folders in lower case, without the `*` for any."""

  where: str
  folders: frozenset[str]
  lines: list[tuple[str, list[str]]]


def entry(path: pathlib.Path, recording: pathlib.PurePath) -> Entry:
  """Return the entry of a recording's name; of several, the one in whose own folders it lies.

  Raises:
    FormatError: there is none, or there are several that its folders don't tell apart; or the file
      is no .mlf.
  """
  modified = path.stat().st_mtime_ns if path.exists() else 0
  stem = label_text.composed(recording.stem)
  entries = _entries(path, modified).get(stem, [])
  if len(entries) == 1:
    return entries[0]
  shared = frozenset.intersection(*(each.folders for each in entries)) if entries else frozenset()
  places = [label_text.folded(place) for place in recording.parts[:-1]]
  fitting = [
    each
    for each in entries
    if all(folder in places or fnmatch.filter(places, folder) for folder in each.folders - shared)
  ]
  most = max((len(each.folders) for each in fitting), default=0)
  best = [each for each in fitting if len(each.folders) == most]
  if len(best) != 1:
    which = f', {len(fitting)} of them in folders of {recording}' if entries else ''
    raise label_text.FormatError(
      f'{len(entries)} entries for {stem!r}, expected one "*/{stem}.lab"{which}'
    )
  return best[0]


@functools.lru_cache(maxsize=2)
def _entries(path: pathlib.Path, modified: int) -> dict[str, list[Entry]]:
  """The entries by the stem of their names; read once for all utterances in it."""
  del modified  # a part of the cache's key
  rows = label_text.lines(path)
  if next(rows, ('', ['']))[1] != ['#!MLF!#']:
    raise label_text.FormatError("line 1: expected '#!MLF!#'")
  entries: dict[str, list[Entry]] = {}
  for where, fields in rows:
    name = ' '.join(fields)
    if not re.fullmatch(r'".+"', name):
      raise label_text.FormatError(
        f'{where}: {name!r}, expected a quoted name as "*/utterance.lab"'
      )
    lines = []
    for row in rows:
      if row[1] == ['.']:
        break
      lines.append(row)
    else:
      raise label_text.FormatError(
        f"{where}: the entry {name} is cut short, expected a line '.' at its end"
      )
    place = pathlib.PurePosixPath(label_text.composed(name.strip('"')))
    folders = frozenset(map(label_text.folded, place.parts[:-1])).difference(_SHARED_FOLDERS)
    entries.setdefault(place.stem, []).append(Entry(where, folders, lines))
  return entries
