"""Features on disk: taken where they are of just these recordings, computed anew otherwise."""

import hashlib
import logging
import struct

import numpy as np
import pytest

from shallow_jax.runtime import errors
from shallow_jax.runtime import storage
from shallow_jax.speech.recordings import feature_cache
from shallow_jax.speech.recordings import features


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
    return feature_cache.extract(recordings.values(), read)

  wanted = {**feature_cache.key(recordings), **more}
  return feature_cache.cached(folder, wanted, compute), bool(calls)


def assert_same(found, expected):
  np.testing.assert_array_equal(found.values, expected.values)
  np.testing.assert_array_equal(found.offsets, expected.offsets)
  assert found.sha256 == expected.sha256
  assert (found.values.dtype, found.offsets.dtype) == (np.float32, np.int64)


def test_utterances_follow_one_another(recordings):
  found = feature_cache.extract(recordings.values(), read)
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
    return feature_cache.extract(recordings.values(), read_most)

  wanted = feature_cache.key(recordings)
  for _ in ('computed', 'from the cache'):
    found = feature_cache.cached(tmp_path / 'cache', wanted, compute)
    np.testing.assert_array_equal(found.offsets, [0, 4, 4, 27])
    assert [bool(digest) for digest in found.sha256] == [True, False, True]


def test_a_recordings_hash_is_that_of_its_samples(recordings):
  found = feature_cache.extract(recordings.values(), read)
  also = feature_cache.extract(recordings.values(), lambda path: read(path).astype('>f8'))
  assert found.sha256 == also.sha256
  samples = struct.pack('<400d', *read(recordings['a']))
  assert found.sha256[1] == hashlib.sha256(samples).hexdigest()


def test_no_utterance_has_no_features():
  with pytest.raises(errors.DataError, match='0 utterances to compute features of'):
    feature_cache.extract([], read)


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
  assert_same(found, feature_cache.extract(recordings.values(), read))
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
