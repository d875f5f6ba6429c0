"""Features against Kaldi's C++ (kaldi-native-fbank), scipy and plain arithmetic; kept on disk."""

import hashlib
import logging
import struct

import kaldi_native_fbank
import numpy as np
import pytest
from scipy import signal

from shallow_jax.runtime import errors
from shallow_jax.runtime import storage
from shallow_jax.speech.recordings import features


def recording(num_samples=48_000, seed=0):
  """int16 like speech: a gliding voice with two resonances, hiss, pauses, an offset."""
  rng = np.random.default_rng(seed)
  pitch = 120 + 40 * np.sin(np.arange(num_samples) / 9000)
  voice = np.diff(np.cumsum(pitch / 16_000) % 1, prepend=0) < 0
  for hertz in (500, 1800):
    pole = 0.97 * np.exp(2j * np.pi * hertz / 16_000)
    voice = signal.lfilter([1], [1, -2 * pole.real, abs(pole) ** 2], voice)
  hiss = rng.normal(size=num_samples) * (np.sin(np.arange(num_samples) / 3000) > 0.5)
  loudness = np.clip(np.sin(np.arange(num_samples) / 5000), 0, None)
  samples = 400 * loudness * (voice + hiss) + rng.normal(0, 3, num_samples) + 20
  return samples.clip(-32_768, 32_767).astype(np.int16)


def kaldi(samples):
  options = kaldi_native_fbank.FbankOptions()
  options.frame_opts.dither = 0
  options.frame_opts.window_type = 'hamming'
  options.mel_opts.num_bins = 40
  options.use_energy = True
  options.htk_compat = True  # the energy last
  fbank = kaldi_native_fbank.OnlineFbank(options)
  fbank.accept_waveform(16_000, samples.astype(np.float32))
  fbank.input_finished()
  return np.stack([fbank.get_frame(i) for i in range(fbank.num_frames_ready)])


@pytest.mark.parametrize('num_samples', [400, 559, 560, 48_000])
def test_the_filterbank_is_kaldis(num_samples):
  samples = recording(num_samples)
  found, expected = features.filterbank(samples), kaldi(samples)
  assert found.dtype == np.float32
  assert found.shape == expected.shape == (features.frames(num_samples), 41)
  assert np.abs(found - expected).max() < 1e-3
  assert np.mean(np.abs(found - expected) > 1e-4) < 1e-3  # Kaldi computes in float32


def test_a_frame_is_a_whole_window():
  counts = [features.frames(num_samples) for num_samples in (0, 239, 399, 400, 559, 560)]
  assert counts == [0, 0, 0, 1, 1, 2]


def test_a_frame_depends_on_its_own_window_alone():
  """Also where another block of frames begins."""
  samples = recording(40_000)
  found = features.filterbank(samples)
  for t in (0, 1, 63, 64, 65, 128, len(found) - 1):
    alone = features.filterbank(samples[160 * t : 160 * t + 400])
    np.testing.assert_allclose(found[t], alone[0], rtol=1e-6)


def test_bands_go_from_low_to_high_in_equal_steps_of_mel():
  def mel(hertz):
    return 2595 * np.log10(1 + np.array(hertz) / 700)

  tones = [150, 1000, 4000, 7500]
  turns = np.outer(tones, 2 * np.pi * np.arange(8000) / 16_000)
  loudest = [features.filterbank(1000 * np.sin(tone))[9, :40].argmax() for tone in turns]
  steps = 41 * (mel(tones) - mel(20)) / (mel(8000) - mel(20))
  assert loudest == (np.round(steps) - 1).tolist() == [2, 13, 30, 39]


def test_the_energy_is_last_and_of_what_is_left_without_the_mean():
  energy = features.filterbank(np.tile([900.0, 300.0], 400))[:, 40]
  np.testing.assert_allclose(energy, np.log(400 * 300**2), rtol=1e-6)


def test_samples_of_minus_one_to_one_give_the_same_less_a_constant():
  noise = np.random.default_rng(0).normal(0, 300, 48_000)  # nothing below the floor
  samples = recording() + noise
  difference = features.filterbank(samples) - features.filterbank(samples / 32_768)
  np.testing.assert_allclose(difference, 2 * np.log(32_768), atol=2e-5)


@pytest.mark.parametrize('level', [0, 77])
def test_digital_silence_has_the_lowest_power(level):
  found = features.filterbank(np.full(8000, level, np.int16))
  np.testing.assert_allclose(found, np.log(1.1920929e-7), rtol=1e-6)


def test_less_than_a_window_is_refused():
  with pytest.raises(errors.DataError, match='of 399 samples, expected 400 or more: one window'):
    features.filterbank(recording(399))


def slopes(x):
  return signal.savgol_filter(x, 5, 1, deriv=1, axis=0, mode='nearest')


@pytest.mark.parametrize('num_frames', [5, 6, 298])
def test_deltas_are_savitzky_and_golays_first_derivative_taken_twice(num_frames):
  static = features.filterbank(recording())[:num_frames]
  found = features.deltas(static)
  assert found.dtype == np.float32 and found.shape == (num_frames, features.DIMENSION)
  np.testing.assert_array_equal(found[:, :41], static)
  np.testing.assert_allclose(found[:, 41:82], slopes(static), atol=3e-6)
  np.testing.assert_allclose(found[:, 82:], slopes(slopes(static)), atol=3e-6)


@pytest.mark.parametrize('num_frames', [1, 2, 3, 4])
def test_short_recordings_have_deltas_with_the_edges_repeated(num_frames):
  x = np.random.default_rng(0).normal(size=(num_frames, 2))
  first, second = (features.deltas(x)[:, columns] for columns in (slice(2, 4), slice(4, 6)))
  for before, after in ((x, first), (first, second)):
    row = lambda t, x=before: x[min(max(t, 0), num_frames - 1)]  # noqa: E731
    for t in range(num_frames):
      expected = sum(k * (row(t + k) - row(t - k)) for k in (1, 2)) / 10
      np.testing.assert_allclose(after[t], expected, atol=1e-12)


# ---- on disk: taken where they are of just these recordings, computed anew otherwise ----


@pytest.fixture
def recordings(tmp_path):
  """Three files of samples, by name."""
  rng = np.random.default_rng(0)
  paths = {name: tmp_path / f'{name}.raw' for name in ('c', 'a', 'b')}
  for path, num_samples in zip(paths.values(), (1000, 400, 4000), strict=True):
    rng.normal(0, 300, num_samples).astype(np.int16).tofile(path)
  return paths


def read(path):
  return np.fromfile(path, np.int16)


def load(folder, recordings, **more):
  """Features of recordings through a cache, and whether they were computed."""
  calls = []

  def compute():
    calls.append(1)
    return features.extract(recordings.values(), read)

  wanted = {**features.cache_key(recordings), **more}
  return features.cached(folder, wanted, compute), bool(calls)


def assert_same(found, expected):
  np.testing.assert_array_equal(found.values, expected.values)
  np.testing.assert_array_equal(found.offsets, expected.offsets)
  assert found.sha256 == expected.sha256
  assert (found.values.dtype, found.offsets.dtype) == (np.float32, np.int64)


def test_utterances_follow_one_another(recordings):
  found = features.extract(recordings.values(), read)
  lengths = [features.frames(len(read(path))) for path in recordings.values()]
  assert lengths == [4, 1, 23]
  np.testing.assert_array_equal(found.offsets, [0, 4, 5, 28])
  assert found.values.shape == (28, features.DIMENSION)
  second = features.deltas(features.filterbank(read(recordings['b'])))
  np.testing.assert_array_equal(found.values[5:28], second)


def test_an_utterance_that_is_not_read_has_no_rows(recordings, tmp_path):
  def read_most(path):
    return None if path == recordings['a'] else read(path)

  def compute():
    return features.extract(recordings.values(), read_most)

  wanted = features.cache_key(recordings)
  for _ in ('computed', 'from the cache'):
    found = features.cached(tmp_path / 'cache', wanted, compute)
    np.testing.assert_array_equal(found.offsets, [0, 4, 4, 27])
    assert [bool(digest) for digest in found.sha256] == [True, False, True]


def test_a_recordings_hash_is_that_of_its_samples(recordings):
  found = features.extract(recordings.values(), read)
  also = features.extract(recordings.values(), lambda path: read(path).astype('>f8'))
  assert found.sha256 == also.sha256
  samples = struct.pack('<400d', *read(recordings['a']))
  assert found.sha256[1] == hashlib.sha256(samples).hexdigest()


def test_no_utterance_has_no_features():
  with pytest.raises(errors.DataError, match='0 utterances to compute features of'):
    features.extract([], read)


def test_the_second_time_nothing_is_computed(recordings, tmp_path, caplog):
  first, computed = load(tmp_path / 'new/train', recordings)
  assert computed
  second, computed = load(tmp_path / 'new/train', recordings)
  assert not computed and not caplog.records
  assert_same(second, first)


def changed_audio(recordings):
  samples = read(recordings['b'])
  samples[17] += 1
  samples.tofile(recordings['b'])
  return recordings


def in_another_order(recordings):
  return dict(sorted(recordings.items()))


def one_less(recordings):
  return {name: path for name, path in recordings.items() if name != 'a'}


@pytest.mark.parametrize(
  'change, said',
  [(changed_audio, 'audio.b: '), (in_another_order, 'order: '), (one_less, 'audio.a: ')],
)
def test_other_recordings_are_computed_anew(recordings, tmp_path, caplog, change, said):
  load(tmp_path / 'cache', recordings)
  recordings = change(recordings)
  found, computed = load(tmp_path / 'cache', recordings)
  assert computed
  assert_same(found, features.extract(recordings.values(), read))
  (record,) = caplog.records
  assert record.levelno == logging.WARNING and record.name.startswith('shallow_jax.')
  line = record.getMessage()
  assert f'cache: features of something else: {said}' in line and '\n' not in line
  assert line.endswith('computed anew')
  again, computed = load(tmp_path / 'cache', recordings)
  assert not computed
  assert_same(again, found)


def test_other_settings_are_computed_anew(recordings, tmp_path, caplog, monkeypatch):
  load(tmp_path / 'cache', recordings)
  assert load(tmp_path / 'cache', recordings, resample=True)[1]
  assert 'resample: absent, now true' in caplog.text
  monkeypatch.setitem(features.SETTINGS, 'version', 2)
  assert load(tmp_path / 'cache', recordings, resample=True)[1]
  assert 'settings.version: 1, now 2' in caplog.text


def flip_a_bit(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 4
  path.write_bytes(content)


def cut_short(path):
  path.write_bytes(path.read_bytes()[:-7])


def remove(path):
  path.unlink()


def of_another_format(path):
  manifest = storage.read_sealed_json(path)
  del manifest['offsets']
  storage.write_sealed_json(path, manifest)


@pytest.mark.parametrize(
  'name, damage, logged',
  [
    ('features.npy', flip_a_bit, True),
    ('features.npy', cut_short, True),
    ('features.npy', remove, True),
    ('manifest.json', flip_a_bit, True),
    ('manifest.json', cut_short, True),
    ('manifest.json', of_another_format, True),
    ('manifest.json', remove, False),  # as if the writer was killed before
  ],
)
def test_a_damaged_cache_is_replaced(recordings, tmp_path, caplog, name, damage, logged):
  folder = tmp_path / 'cache'
  expected, _ = load(folder, recordings)
  damage(folder / name)
  found, computed = load(folder, recordings)
  assert computed
  assert_same(found, expected)
  lines = [record.getMessage() for record in caplog.records]
  assert len(lines) == logged
  assert all(str(folder / name) in line and '\n' not in line for line in lines)
  assert not load(folder, recordings)[1]
  assert sorted(path.name for path in folder.iterdir()) == ['features.npy', 'manifest.json']


def test_a_folder_that_cannot_be_made_is_named(recordings, tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(storage.StorageError, match='file/cache: could not be made'):
    load(tmp_path / 'file' / 'cache', recordings)
