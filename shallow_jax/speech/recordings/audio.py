"""Recordings as samples: SPHERE, RIFF or FLAC, whichever the first bytes say.

libsndfile reads a file that was cut short without an error, so the header's count is compared with
what is there; other kinds of file, of which that can't be told, are refused.
"""

import dataclasses
import math
import os
import pathlib
import struct

import numpy as np
from scipy import signal
import soundfile

from shallow_jax.runtime import errors

SAMPLE_RATE = 16_000  # Hz
FRAME_SHIFT = 160  # samples, 10 ms
WINDOW = 400  # samples, 25 ms

_EXPECTED = 'SPHERE, RIFF without compression, or FLAC'
_FULL_SCALE = 32_768  # of int16
_UNKNOWN_SIZE = 0xFFFFFFFF  # what a RIFF writer puts that can't seek back
_UNCOMPRESSED = (1, 3, 6, 7, 0xFFFE)  # RIFF's codes of PCM, float, A-law, mu-law, by subformat


@dataclasses.dataclass(frozen=True)
class _Header:
  """What a file says of itself; `num_samples` is of each channel."""

  kind: str
  rate: int
  channels: int
  num_samples: int


def num_samples(path: str | os.PathLike[str]) -> int:
  """Return the number of samples that the header says, without reading them.

  SPHERE and RIFF must have the size for it; of FLAC only `read` finds that it was cut short.

  Raises:
    DataError: as `read`.
  """
  return _mono_header(pathlib.Path(path)).num_samples


def read(path: str | os.PathLike[str], *, resample: bool = False) -> np.ndarray:
  """Return a recording at 16 kHz in the scale of int16: int16 [samples], float64 where it was not.

  Args:
    path: a mono file at 16 kHz, of a window (400 samples) or more.
    resample: convert other rates and take the mean of the channels; float64 [samples].

  Raises:
    DataError: it can't be read, is cut short, or is not as expected; the line says what it is.
  """
  path = pathlib.Path(path)
  header = _header(path) if resample else _mono_header(path)
  try:
    with soundfile.SoundFile(path) as file:
      is_int16 = file.subtype == 'PCM_16'
      samples = file.read(dtype='int16' if is_int16 else 'float64', always_2d=True)
  except soundfile.LibsndfileError as error:
    raise _unreadable(path, error) from error
  samples = samples[: header.num_samples]  # more may lie behind
  if not np.isfinite(samples).all():
    raise errors.DataError(f'{path}: holds samples that are not finite numbers')
  if not is_int16:
    samples = samples * _FULL_SCALE
  return _resampled(path, samples, header.rate) if resample else samples[:, 0]


def _resampled(path: pathlib.Path, samples: np.ndarray, rate: int) -> np.ndarray:
  length = -(-len(samples) * SAMPLE_RATE // rate)
  if length < WINDOW:
    raise errors.DataError(f'{path}: {length} samples at 16 kHz, expected {WINDOW} or more')
  shared = math.gcd(SAMPLE_RATE, rate)
  mono = samples.mean(axis=1, dtype=np.float64)
  return signal.resample_poly(mono, SAMPLE_RATE // shared, rate // shared)


def _mono_header(path: pathlib.Path) -> _Header:
  """Return the header of a file that can be read as it is."""
  header = _header(path)
  if (header.rate, header.channels) != (SAMPLE_RATE, 1):
    plural = '' if header.channels == 1 else 's'
    raise errors.DataError(
      f'{path}: {header.kind} of {header.rate:,} Hz, {header.channels} channel{plural}; '
      f'expected {SAMPLE_RATE:,} Hz, 1 channel'
    )
  if header.num_samples < WINDOW:
    raise errors.DataError(
      f'{path}: {header.kind} of {header.num_samples} samples, expected {WINDOW} or more '
      f'(one window of 25 ms)'
    )
  return header


def _header(path: pathlib.Path) -> _Header:
  try:
    with open(path, 'rb') as file:
      start = file.read(1024)
    size = path.stat().st_size
  except OSError as error:
    raise errors.DataError(f'{path}: {error.strerror}, expected a recording') from error
  if not start:
    raise errors.DataError(f'{path}: empty, expected a recording')
  if start.startswith(b'NIST_1A'):
    return _sphere_header(path, start, size)
  if start.startswith(b'RIFF') and (header := _riff_header(path, size)):
    return header
  try:
    info = soundfile.info(path)
  except soundfile.LibsndfileError as error:
    raise _unreadable(path, error) from error
  if info.format != 'FLAC':
    raise errors.DataError(f'{path}: {info.format}, {info.subtype}; expected {_EXPECTED}')
  return _Header(info.format, info.samplerate, info.channels, info.frames)


def _sphere_header(path: pathlib.Path, start: bytes, size: int) -> _Header:
  """Read lines `name -type value` up to `end_head`; the second line is the header's size."""
  lines = start.decode('ascii', 'replace').split('end_head')[0].splitlines()
  fields = {words[0]: words[2] for line in lines if len(words := line.split(maxsplit=2)) == 3}
  coding = fields.get('sample_coding', 'pcm')
  if 'embedded' in coding:
    raise errors.DataError(
      f'{path}: SPHERE, compressed ({coding}); expected pcm, as sph2pipe writes it'
    )
  names = ('sample_rate', 'channel_count', 'sample_count', 'sample_n_bytes')
  try:
    num_bytes = int(lines[1])
    rate, channels, count, width = (int(fields[name]) for name in names)
    held = (size - num_bytes) // (channels * width)
  except (IndexError, KeyError, ValueError, ZeroDivisionError) as error:
    raise errors.DataError(
      f'{path}: a damaged SPHERE header ({error!s}), expected {", ".join(names)} in it'
    ) from error
  header = _Header('SPHERE', rate, channels, count)
  _check_whole(path, header, max(held, 0))
  return header


def _riff_header(path: pathlib.Path, size: int) -> _Header | None:
  """Read the chunks (name, size, content padded to an even size) up to `data`.

  Returns None where the sizes don't give the number of samples: compressed, or damaged.
  """
  block = rate = channels = 0
  with open(path, 'rb') as file:
    position = 12
    while position + 8 <= size:
      file.seek(position)
      name, length = struct.unpack('<4sI', file.read(8))
      if name == b'fmt ' and len(content := file.read(16)) == 16:
        coding, channels, rate, _, block, _ = struct.unpack('<HHIIHH', content)
        if coding not in _UNCOMPRESSED:
          return None
      if name == b'data' and block:
        held = (size - position - 8) // block
        count = held if length == _UNKNOWN_SIZE else length // block
        header = _Header('RIFF', rate, channels, count)
        _check_whole(path, header, held)
        return header
      position += 8 + length + length % 2
  return None


def _check_whole(path: pathlib.Path, header: _Header, held: int) -> None:
  if held < header.num_samples:
    raise errors.DataError(
      f'{path}: {header.kind} cut short: its header says {header.num_samples:,} samples, '
      f'it holds {held:,}'
    )


def _unreadable(path: pathlib.Path, error: soundfile.LibsndfileError) -> errors.DataError:
  reason = error.error_string.rstrip('.') or 'cut short or damaged'
  return errors.DataError(f'{path}: not readable ({reason}), expected {_EXPECTED}')
