"""What a net sees of a recording: 40 log mel bands, the energy, and how both change.

The arithmetic is Kaldi's (`compute-fbank-feats --use-energy --htk-compat --dither=0
--window-type=hamming`), in float64 here and in float32 there: on TIMIT they differ by less than
1e-3, and by less than 1e-4 in all but 5 of 100,000 values.

Those of many recordings are computed once and kept in a folder: features.npy and manifest.json,
which is written last; it has the sha256 of the values and a key, which tells the recordings and the
settings. Values of another key, or damaged ones, are computed anew.
"""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import functools
import hashlib
import logging
import os
import pathlib
from typing import Any, TypeVar

import numpy as np
from scipy import fft

from shallow_jax.runtime import errors
from shallow_jax.runtime import storage
from shallow_jax.speech.recordings import audio

NUM_STATIC = 41  # 40 bands, then the energy
DIMENSION = 3 * NUM_STATIC

# All that decides a feature's value, for the fingerprint of stored ones.
SETTINGS = {
  'sample_rate': audio.SAMPLE_RATE,
  'sample_scale': 'int16',
  'window': audio.WINDOW,
  'shift': audio.FRAME_SHIFT,
  'window_shape': 'hamming',
  'preemphasis': 0.97,
  'fft': 512,
  'bands': NUM_STATIC - 1,
  'lowest_hz': 20,
  'highest_hz': 8000,
  'energy': 'last',
  'deltas': 2,
  'version': 1,
}

_FLOOR = float(np.finfo(np.float32).eps)  # of a power before its logarithm: 1.19e-7
_BLOCK = 64  # frames at once; for more, BLAS starts threads that cost more than they save
_VALUES = 'features.npy'
_MANIFEST = 'manifest.json'

_log = logging.getLogger(__name__)
_Utterance = TypeVar('_Utterance')


def frames(num_samples: int) -> int:
  """The number of whole windows in a recording."""
  return max(0, 1 + (num_samples - audio.WINDOW) // audio.FRAME_SHIFT)


def filterbank(samples: np.ndarray) -> np.ndarray:
  """Log mel filterbank and log energy.

  Per window: the mean is taken off; the energy is the sum of squares; then pre-emphasis
  x[n] - 0.97 x[n-1] (the first sample less 0.97 of itself), the Hamming window, the power spectrum
  of 512 points and 40 triangles. A power below 1.19e-7 counts as that.

  Args:
    samples: [samples] at 16 kHz on the scale of int16, of any real dtype. On a scale of -1 to 1 all
      values would be 2 ln 32768 less.
  Returns:
    float32 [frames, 41]: natural logarithms, bands from low to high, the energy last.
  Raises:
    DataError: not one window.
  """
  if len(samples) < audio.WINDOW:
    raise errors.DataError(
      f'a recording of {len(samples)} samples, expected {audio.WINDOW} or more: one window'
    )
  windows = np.lib.stride_tricks.sliding_window_view(samples, audio.WINDOW)[:: audio.FRAME_SHIFT]
  static = np.empty((len(windows), NUM_STATIC), np.float32)
  for start in range(0, len(windows), _BLOCK):
    block = slice(start, start + _BLOCK)
    static[block] = _log_powers(windows[block].astype(np.float64))
  return static


def deltas(static: np.ndarray) -> np.ndarray:
  """Features with their first and second differences over time.

  Δx[t] = Σ k (x[t+k] - x[t-k]) / 10 over k = 1, 2: the slope of the line through five frames. ΔΔ is
  Δ of Δ. Before the first frame and after the last those are repeated, in x for Δ and in Δ for ΔΔ.
  (Kaldi repeats x for both: its ΔΔ has other values in the first two frames and the last two.)

  Args:
    static: [frames, features].
  Returns:
    [frames, 3 * features]: x, Δ, ΔΔ; of the same dtype.
  """
  first = _slopes(static)
  return np.concatenate([static, first, _slopes(first)], axis=1)


def _log_powers(windows: np.ndarray) -> np.ndarray:
  """Bands and energy [frames, 41] of windows [frames, 400], which are overwritten."""
  windows -= windows.mean(axis=1, keepdims=True)
  energy = np.einsum('tn,tn->t', windows, windows)
  before = np.concatenate([windows[:, :1], windows[:, :-1]], axis=1)
  emphasised = (windows - SETTINGS['preemphasis'] * before) * _hamming()
  spectrum = fft.rfft(emphasised, SETTINGS['fft'], axis=1)
  bands = (np.square(spectrum.real) + np.square(spectrum.imag)) @ _triangles()
  powers = np.concatenate([bands, energy[:, None]], axis=1)
  return np.log(np.maximum(powers, _FLOOR))


@functools.cache
def _hamming() -> np.ndarray:
  turns = np.arange(audio.WINDOW) / (audio.WINDOW - 1)
  return 0.54 - 0.46 * np.cos(2 * np.pi * turns)


@functools.cache
def _triangles() -> np.ndarray:
  """The filters [257, 40]: triangles of height 1 whose peaks stand at equal distances in mel.

  Each reaches from one neighbour's peak to the other's.
  """
  lowest, highest = _mel(SETTINGS['lowest_hz']), _mel(SETTINGS['highest_hz'])
  edges = np.linspace(lowest, highest, SETTINGS['bands'] + 2)
  left, peak, right = edges[:-2], edges[1:-1], edges[2:]
  bins = _mel(np.arange(SETTINGS['fft'] // 2 + 1) * SETTINGS['sample_rate'] / SETTINGS['fft'])
  rising = (bins[:, None] - left) / (peak - left)
  falling = (right - bins[:, None]) / (right - peak)
  return np.maximum(0, np.minimum(rising, falling))


def _mel(hertz: np.ndarray | float) -> np.ndarray:
  return 1127 * np.log1p(np.asarray(hertz) / 700)


def _slopes(x: np.ndarray) -> np.ndarray:
  padded = np.pad(x, ((2, 2), (0, 0)), mode='edge')
  near = padded[3:-1] - padded[1:-3]
  far = padded[4:] - padded[:-4]
  return (near + 2 * far) / 10


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
  """The features of utterances, one after the other.

  Attributes:
    values: float32 [frames of all utterances, 123].
    offsets: int64 [utterances + 1]: utterance i has the rows from offsets[i] up to, and without,
      offsets[i + 1].
    sha256: of each utterance's samples as little-endian float64: the same for a recording in any
      file format. '' and no rows: its samples can't be used.
  """

  values: np.ndarray
  offsets: np.ndarray
  sha256: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Manifest:
  key: dict[str, Any]
  offsets: tuple[int, ...]
  sha256_of_samples: tuple[str, ...]
  sha256_of_values: str


def extract(
  utterances: Iterable[_Utterance], read: Callable[[_Utterance], np.ndarray | None]
) -> Features:
  """Compute the features of utterances.

  `read` gives an utterance's samples at 16 kHz on the scale of int16; None to go on without it.

  Raises:
    DataError: no utterance.
  """
  values = bytearray()  # grows in place: a list of arrays to concatenate takes twice the memory
  counts, digests = [0], []
  for utterance in utterances:
    samples = read(utterance)
    if samples is None:
      counts.append(0)
      digests.append('')
    else:
      rows = deltas(filterbank(samples))
      values += rows.tobytes()
      counts.append(len(rows))
      digests.append(hashlib.sha256(samples.astype('<f8').tobytes()).hexdigest())
  if not digests:
    raise errors.DataError('0 utterances to compute features of, expected 1 or more')
  array = np.frombuffer(values, np.float32).reshape(-1, DIMENSION)
  return Features(array, np.cumsum(counts, dtype=np.int64), tuple(digests))


def cache_key(recordings: Mapping[str, str | os.PathLike[str]]) -> dict[str, Any]:
  """What the features of recordings, audio files by name, depend on; their order counts, too.

  Raises:
    StorageError: a file can't be read.
  """
  return {
    'settings': SETTINGS,
    'order': storage.sha256_json(list(recordings)),
    'audio': {name: storage.sha256_file(path) for name, path in recordings.items()},
  }


def cached(
  folder: str | os.PathLike[str], wanted: Mapping[str, Any], compute: Callable[[], Features]
) -> Features:
  """Read features from a folder, or compute them and write them there.

  What is there of another key, or damaged, is replaced; one line in the log says why. `wanted` is
  what `cache_key` gives, and what else `compute` depends on.

  Raises:
    StorageError: the features can't be written.
  """
  folder = pathlib.Path(folder)
  if (folder / _MANIFEST).exists():
    try:
      return _read(folder, wanted)
    except storage.StorageError as error:
      _log.warning('%s; computed anew', error)
  computed = compute()
  _write(folder, wanted, computed)
  return computed


def _read(folder: pathlib.Path, wanted: Mapping[str, Any]) -> Features:
  path = folder / _MANIFEST
  manifest = storage.typed_json(_Manifest, storage.read_sealed_json(path), str(path))
  changes = storage.differences(manifest.key, wanted)
  if changes:
    others = f' and {len(changes) - 1} more' if len(changes) > 1 else ''
    raise storage.StorageError(f'{folder}: features of something else: {changes[0]}{others}')
  if storage.sha256_file(folder / _VALUES) != manifest.sha256_of_values:
    raise storage.StorageError(f'{folder / _VALUES}: damaged: not the sha256 of its manifest')
  offsets = np.array(manifest.offsets, np.int64)
  return Features(np.load(folder / _VALUES), offsets, manifest.sha256_of_samples)


def _write(folder: pathlib.Path, wanted: Mapping[str, Any], computed: Features) -> None:
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise storage.StorageError(f'{folder}: could not be made: {error.strerror}') from error
  storage.write_array(folder / _VALUES, computed.values)
  manifest = _Manifest(
    key=dict(wanted),
    offsets=tuple(computed.offsets.tolist()),
    sha256_of_samples=computed.sha256,
    sha256_of_values=storage.sha256_file(folder / _VALUES),
  )
  storage.write_sealed_json(folder / _MANIFEST, dataclasses.asdict(manifest))
