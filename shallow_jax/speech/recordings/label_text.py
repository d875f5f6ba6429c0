"""Text files of labels: their text, their lines, and how names in them are compared."""

from collections.abc import Iterator
import pathlib
import unicodedata

from shallow_jax.runtime import errors


class FormatError(errors.ExpectedError, ValueError):
  """What is wrong with a file's text, without its path."""


def composed(name: str) -> str:
  """Return a name in Unicode's normal form C: a letter and its accent are one character."""
  return unicodedata.normalize('NFC', name)


def folded(name: str) -> str:
  """Return a name as those of files and folders are compared: composed, in lower case."""
  return composed(name).lower()


def read(path: pathlib.Path) -> str:
  """Return a file's text. Praat writes UTF-16 with a byte order mark where ASCII doesn't do.

  Raises:
    FormatError: it can't be read or is no text.
  """
  try:
    data = path.read_bytes()
    if data.startswith(b'ooBinaryFile'):
      raise FormatError("Praat's binary form, expected its text form (Save as text file...)")
    return data.decode('utf-16' if data[:2] in (b'\xff\xfe', b'\xfe\xff') else 'utf-8-sig')
  except OSError as error:
    raise FormatError(f'{error.strerror}, expected phones with their times') from error
  except UnicodeDecodeError as error:
    raise FormatError(f'not UTF-8 or UTF-16 text: {error.reason}') from error


def lines(path: pathlib.Path) -> Iterator[tuple[str, list[str]]]:
  """Each line that isn't blank: where it is, for messages, and its fields.

  Raises:
    FormatError: as `read`.
  """
  for number, line in enumerate(read(path).splitlines(), 1):
    if fields := line.split():
      yield f'line {number}', fields
