"""A made-up corpus of a few short recordings, as config.data of name 'speech' reads it."""

from made_up import timit_tree
import numpy as np

from shallow_jax.settings import defaults

FRAMES = {'anna': (3, 20, 4, 9), 'bert': (5, 16), 'carl': (15, 3)}  # of each speaker's recordings
SPLITS = {'anna': 'train', 'bert': 'validation', 'carl': 'test'}
LABELS = ('h#', 'a', 'b')


def num_samples(num_frames):
  return 400 + 160 * (num_frames - 1) + 50


def samples(speaker, i):
  """int16 of recording i of a speaker; no two are the same."""
  num_frames = FRAMES[speaker][i]
  return timit_tree.samples(num_samples(num_frames), seed=sum(speaker.encode()) + 1000 * i)


def write(folder):
  """Writes <speaker>/<speaker><i>.wav and .phn, the map and the split file."""
  for speaker, lengths in FRAMES.items():
    place = folder / 'recordings' / speaker
    place.mkdir(parents=True)
    for i, num_frames in enumerate(lengths):
      end = num_samples(num_frames)
      (place / f'{speaker}{i}.wav').write_bytes(timit_tree.riff(samples(speaker, i)))
      (place / f'{speaker}{i}.phn').write_text(f'0 {end // 3} h#\n{end // 3} {end} {"ab"[i % 2]}\n')
  (folder / 'phones.map').write_text('h# sil\na aa\nb b\n')
  (folder / 'splits.txt').write_text(''.join(f'{row} {to}\n' for row, to in SPLITS.items()))
  return folder


def config(folder, **changes):
  """A complete config.data."""
  data = dict(
    name='speech',
    data_dir=str(folder / 'recordings'),
    phone_map=str(folder / 'phones.map'),
    split_file=str(folder / 'splits.txt'),
    cache_dir=str(folder / 'cache'),
  )
  return defaults.plain(defaults.complete(dict(data=data | changes, networks={})))['data']


def add(folder, name, values, rate=16_000):
  """Writes a recording into a pool."""
  folder.mkdir(exist_ok=True)
  (folder / name).write_bytes(timit_tree.riff(np.asarray(values), rate=rate))
