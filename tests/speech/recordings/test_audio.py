"""Recordings: SPHERE, RIFF and FLAC give the same samples; what is cut short or odd is refused."""

import re
import struct

from made_up import timit_tree
import numpy as np
import pytest
import soundfile

from shallow_jax.runtime import errors
from shallow_jax.speech.recordings import audio

VALUES = timit_tree.samples(1000)


def written(tmp_path, data, name='a.wav'):
  path = tmp_path / name
  path.write_bytes(data)
  return path


def refuse(path, message, **options):
  with pytest.raises(errors.DataError, match=f'^{re.escape(f"{path}: {message}")}') as caught:
    audio.read(path, **options)
  assert '\n' not in str(caught.value)


FILES = {
  'little endian': timit_tree.sphere(VALUES),
  'big endian': timit_tree.sphere(VALUES, big_endian=True),
  'RIFF': timit_tree.riff(VALUES),
  'RIFF, odd chunk': timit_tree.riff(VALUES, extra=struct.pack('<4sI4s', b'note', 3, b'abc')),
  'RIFF, streamed': timit_tree.riff(VALUES, data_size=0xFFFFFFFF),
}


@pytest.mark.parametrize('kind', FILES)
def test_the_first_bytes_say_what_a_file_is(tmp_path, kind):
  path = written(tmp_path, FILES[kind])
  samples = audio.read(path)
  assert samples.dtype == np.int16
  np.testing.assert_array_equal(samples, VALUES)
  assert audio.num_samples(path) == 1000


@pytest.mark.parametrize('subtype', ['PCM_16', 'PCM_24'])
def test_flac_is_read_in_the_scale_of_int16(tmp_path, subtype):
  path = tmp_path / 'a.flac'
  soundfile.write(path, VALUES, 16_000, subtype=subtype)
  np.testing.assert_array_equal(audio.read(path), VALUES)
  assert audio.num_samples(path) == 1000


@pytest.mark.parametrize('subtype', ['FLOAT', 'DOUBLE', 'PCM_24', 'PCM_32'])
def test_other_sample_formats_are_scaled_to_int16(tmp_path, subtype):
  path = tmp_path / 'a.wav'
  soundfile.write(path, VALUES / 32_768, 16_000, subtype=subtype)
  samples = audio.read(path)
  assert samples.dtype == np.float64
  np.testing.assert_allclose(samples, VALUES, atol=0.01)
  assert audio.num_samples(path) == 1000


@pytest.mark.parametrize(
  ('name', 'kind', 'subtype'),
  [('a.wav', 'WAV', 'IMA_ADPCM'), ('a.ogg', 'OGG', 'VORBIS'), ('a.aiff', 'AIFF', 'PCM_16')],
)
def test_kinds_that_do_not_tell_when_they_are_cut_short_are_refused(tmp_path, name, kind, subtype):
  path = tmp_path / name
  soundfile.write(path, VALUES, 16_000, subtype=subtype)
  message = f'{kind}, {subtype}; expected SPHERE, RIFF without compression, or FLAC'
  refuse(path, message)
  refuse(path, message, resample=True)


def test_the_headers_count_is_what_counts(tmp_path):
  path = written(tmp_path, timit_tree.sphere(VALUES, count=900))
  assert audio.num_samples(path) == 900
  np.testing.assert_array_equal(audio.read(path), VALUES[:900])


@pytest.mark.parametrize(
  'data', [FILES['little endian'], FILES['big endian'], FILES['RIFF'], FILES['RIFF, odd chunk']]
)
@pytest.mark.parametrize('lost', [2, 600])
def test_a_file_cut_short_is_refused_though_libsndfile_reads_it(tmp_path, data, lost):
  path = written(tmp_path, data[:-lost])
  assert len(soundfile.read(path)[0]) <= 1000 - lost // 2
  kind = 'SPHERE' if data.startswith(b'NIST') else 'RIFF'
  message = f'{kind} cut short: its header says 1,000 samples, it holds {1000 - lost // 2}'
  refuse(path, message)
  refuse(path, message, resample=True)
  with pytest.raises(errors.DataError, match='cut short'):
    audio.num_samples(path)


@pytest.mark.parametrize('lost', [100, 20_000])
def test_flac_cut_short_is_refused(tmp_path, lost):
  whole = tmp_path / 'whole.flac'
  soundfile.write(whole, timit_tree.samples(40_000), 16_000)
  refuse(written(tmp_path, whole.read_bytes()[:-lost], 'a.flac'), 'not readable (')


@pytest.mark.parametrize(
  ('data', 'message'),
  [
    (
      timit_tree.riff(VALUES, rate=8000),
      'RIFF of 8,000 Hz, 1 channel; expected 16,000 Hz, 1 channel',
    ),
    (timit_tree.sphere(VALUES, channels=2), 'SPHERE of 16,000 Hz, 2 channels; expected 16,000 Hz'),
    (timit_tree.riff(VALUES[:399]), 'RIFF of 399 samples, expected 400 or more'),
    (timit_tree.riff(VALUES[:0]), 'RIFF of 0 samples, expected 400 or more'),
    (b'', 'empty, expected a recording'),
    (b'RIFF', 'not readable (Format not recognised), expected SPHERE, RIFF without'),
    (b'hello world' * 100, 'not readable (Format not recognised), expected SPHERE, RIFF without'),
    (
      timit_tree.sphere(VALUES, coding='pcm,embedded-shorten-v2.00'),
      'SPHERE, compressed (pcm,embedded-shorten-v2.00); expected pcm',
    ),
    (b'NIST_1A\n   1024\nend_head\n', 'a damaged SPHERE header'),
    (b'NIST_1A', 'a damaged SPHERE header'),
  ],
)
def test_what_is_odd_is_named(tmp_path, data, message):
  refuse(written(tmp_path, data), message)


def test_what_is_not_there_is_named(tmp_path):
  refuse(tmp_path / 'a.wav', 'No such file or directory, expected a recording')


def test_infinite_samples_are_refused(tmp_path):
  path = tmp_path / 'a.wav'
  soundfile.write(path, np.full(1000, np.inf, np.float32), 16_000, subtype='FLOAT')
  refuse(path, 'holds samples that are not finite')


@pytest.mark.parametrize('rate', [8000, 16_000, 22_050, 44_100])
def test_a_tone_stays_what_it_is_at_another_rate(tmp_path, rate):
  """Two channels of a 440 Hz tone, one of them silent."""
  tone = 8000 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
  path = tmp_path / 'a.wav'
  soundfile.write(path, np.stack([tone, 0 * tone], axis=1).astype(np.int16), rate)
  samples = audio.read(path, resample=True)
  expected = 4000 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
  assert samples.shape == (16_000,)
  np.testing.assert_allclose(samples[500:-500], expected[500:-500], atol=20)


def test_resampled_audio_has_a_window_too(tmp_path):
  refuse(
    written(tmp_path, timit_tree.riff(VALUES[:199], rate=8000)), '398 samples at', resample=True
  )
  assert len(audio.read(written(tmp_path, timit_tree.riff(VALUES[:200], rate=8000)), resample=True))
