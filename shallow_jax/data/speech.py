"""Speech as a data set of frames: TIMIT, its free sample, any corpus with aligned phones.

A frame is classified as one of the three states of a label, from the 15 frames around it (Mohamed
et al. 2012, "Acoustic modeling using deep belief networks"; Ba & Caruana 2014, section 3). States
are thirds of the corpus's segments.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import hashlib
import itertools
import logging
import pathlib
from typing import Any

import numpy as np
import tqdm

from shallow_jax.data import dataset
from shallow_jax.data import preprocessing
from shallow_jax.data import transfer
from shallow_jax.runtime import errors
from shallow_jax.runtime import host
from shallow_jax.runtime import storage
from shallow_jax.speech import context
from shallow_jax.speech import hmm
from shallow_jax.speech import recognise
from shallow_jax.speech.recordings import audio
from shallow_jax.speech.recordings import corpus as corpus_lib
from shallow_jax.speech.recordings import features
from shallow_jax.speech.recordings import folder as folder_corpus
from shallow_jax.speech.recordings import phones
from shallow_jax.speech.recordings import splits as split_files
from shallow_jax.speech.recordings import timit

MAX_FRAMES = 2**16  # of a recording, 10 minutes 55 seconds: a frame's number has 16 bits of its id

_HASH_DIGITS = 12  # hexadecimal: 48 bits
_log = logging.getLogger(__name__)

_REQUIRED = {  # of data.name 'speech'
  'data_dir': 'a folder of recordings',
  'phone_map': f'a file or one of {", ".join(phones.BUILT_IN)}',
  'split_file': f'a file of lines `name split` or one of {", ".join(split_files.BUILT_IN)}',
}


@dataclasses.dataclass(frozen=True, eq=False)
class Recording:
  """One recording's features."""

  name: str  # for messages
  sha256: str  # of its samples, hexadecimal
  features: np.ndarray  # float32 [frames, 123]

  @property
  def key(self) -> str:
    """The 48 bits that its frames' ids begin with; two recordings of one key are the same."""
    return self.sha256[:_HASH_DIGITS]


def load(config: Mapping[str, Any], constants: pathlib.Path | None = None) -> dataset.Dataset:
  """Load a corpus as frames, and perhaps a pool of recordings without phones.

  Raises:
    DataError: a key is missing or asks for what frames can't do, or the recordings are wrong.
  """
  _check(config)
  found = _smaller(_corpus(config), config['max_utterances'])
  skipped = corpus_lib.Skipped(skip_bad=config['skip_bad'])
  rows = itertools.chain.from_iterable(found.splits.values())
  paths = {row.name: row.audio for row in sorted(rows, key=lambda row: row.name)}
  # All splits are one cache, so that the sample's rotations share it.
  recordings = {each.name: each for each in _recordings(paths, config, skipped, resample=False)}
  check_all_differ(recordings.values())
  found = corpus_lib.kept(found, recordings, skipped)
  splits, spoken = {}, {}
  for name, rows in found.splits.items():
    splits[name], spoken[name] = _split(rows, recordings, found.phones)
  notes = {**found.notes, 'utterances': {name: len(rows) for name, rows in found.splits.items()}}
  if config['pool_dir']:
    pool, counts = _clean(_pool(config, skipped), found, recordings)
    splits['unlabelled'] = frames(pool, labels=None)
    notes |= {'pool': f'recordings in {config["pool_dir"]}', **counts}
    notes['utterances']['unlabelled'] = len(pool)
  notes['skipped'] = {**found.notes['skipped'], **skipped.files}
  notes['files_skipped'] = len(notes['skipped'])
  settings = {**config['preprocessing'], 'features': features.SETTINGS}
  return dataset.Dataset(
    name=config['name'],
    class_names=tuple(
      f'{label}_{state}'
      for label in found.phones.labels
      for state in range(phones.STATES_PER_LABEL)
    ),
    splits=transfer.derive(config['sets'], splits),
    preprocessing=settings,
    constants=preprocessing.fit(settings, splits['train'], constants),
    inputs=preprocessing.Inputs(config['preprocessing']['name']),
    input_shape=(context.FRAMES, features.DIMENSION),
    notes=notes,
    recognition=recognise.Recognition(found.phones, spoken),
  )


def _check(config: Mapping[str, Any]) -> None:
  if config['name'] == 'speech':
    for key, expected in _REQUIRED.items():
      if not config[key]:
        raise dataset.DataError(f"data.{key} is '', expected {expected}")
  if config['preprocessing']['name'] != 'standardise':
    raise dataset.DataError(
      f'data.preprocessing.name is {config["preprocessing"]["name"]!r}, expected standardise: '
      'the others are for images'
    )
  for name, entry in config['sets'].items():
    if entry['without_class'] >= 0 or entry['size'] or entry['munge'] is not None:
      raise dataset.DataError(
        f'data.sets.{name}: size, without_class and munge would take frames out of their '
        'recordings, expected `of` alone'
      )
    if len(set(entry['of'])) < len(entry['of']):
      raise dataset.DataError(f'data.sets.{name}.of is {entry["of"]!r}, expected each set once')


def _corpus(config: Mapping[str, Any]) -> corpus_lib.Corpus:
  if config['name'] == 'timit':
    return timit.timit(config['data_dir'], skip_bad=config['skip_bad'])
  if config['name'] == 'timit_sample':
    return timit.sample(config['data_dir'], config['split_seed'], skip_bad=config['skip_bad'])
  return folder_corpus.folder(
    config['data_dir'],
    phones.load(config['phone_map']),
    config['split_file'],
    alignment_dir=config['alignment_dir'] or None,
    skip_bad=config['skip_bad'],
  )


def _smaller(found: corpus_lib.Corpus, count: int) -> corpus_lib.Corpus:
  """At most `count` utterances of each split, 0: all. A smaller number's lie in a larger's."""
  if not count:
    return found

  def some(rows: tuple[corpus_lib.Utterance, ...]) -> tuple[corpus_lib.Utterance, ...]:
    drawn = sorted(rows, key=lambda row: hashlib.sha256(row.name.encode()).digest())
    return tuple(sorted(drawn[:count], key=lambda row: row.name))

  return dataclasses.replace(
    found, splits={name: some(rows) for name, rows in found.splits.items()}
  )


def _recordings(
  paths: Mapping[str, pathlib.Path],
  config: Mapping[str, Any],
  skipped: corpus_lib.Skipped,
  *,
  resample: bool,
) -> list[Recording]:
  """Recordings with their features, which are computed once and kept on disk."""
  wanted = {**features.cache_key(paths), 'resample': resample}
  own = config['cache_dir']
  caches = pathlib.Path(own).expanduser() if own else host.cache_folder()
  folder = caches / storage.sha256_json(wanted)[:16]

  def read(path: pathlib.Path) -> np.ndarray | None:
    try:
      return audio.read(path, resample=resample)
    except errors.DataError as error:
      skipped.refuse(path, str(error))
      return None

  def compute() -> features.Features:
    _log.info('features of %d recordings: computed once, kept in %s', len(paths), folder)
    bar = tqdm.tqdm(paths.values(), desc='features', unit='recording', disable=None, leave=False)
    return features.extract(bar, read)

  found = features.cached(folder, wanted, compute)
  values = np.split(found.values, found.offsets[1:-1])
  usable = []
  for (name, path), sha256, rows in zip(paths.items(), found.sha256, values, strict=True):
    recording = Recording(name, sha256, rows)
    if not sha256:  # refused when the cache was made: once more, for the reason
      read(path)
      continue
    try:
      check_length(recording)
    except dataset.DataError as error:
      skipped.refuse(path, str(error))
      continue
    usable.append(recording)
  return usable


def _split(
  rows: tuple[corpus_lib.Utterance, ...],
  recordings: Mapping[str, Recording],
  phone_map: phones.PhoneMap,
) -> tuple[dataset.Split, recognise.Utterances]:
  rows = tuple(sorted(rows, key=lambda row: recordings[row.name].key))
  its_recordings = [recordings[row.name] for row in rows]
  labels, transcriptions = [], []
  for row, recording in zip(rows, its_recordings, strict=True):
    segments = [
      (segment.start, segment.end, phone_map.index[segment.phone])
      for segment in corpus_lib.segments(row, phone_map)
    ]
    labels.append(hmm.uniform_alignment(segments, len(recording.features)))
    transcriptions.append(np.array([label for _, _, label in segments], np.int32))
  return frames(its_recordings, labels), recognise.Utterances(
    names=tuple(row.name for row in rows),
    speakers=tuple(row.speaker for row in rows),
    offsets=np.cumsum([0, *map(len, labels)], dtype=np.int64),
    transcriptions=tuple(transcriptions),
  )


def _pool(config: Mapping[str, Any], skipped: corpus_lib.Skipped) -> list[Recording]:
  """Every recording in a folder and in the folders inside of it, of any rate, by path."""
  root = pathlib.Path(config['pool_dir']).expanduser()
  paths = {path.relative_to(root).as_posix(): path for path in folder_corpus.audio_files(root)}
  found = _recordings(paths, config, skipped, resample=True) if paths else []
  if not found:
    bad = f' but {len(paths)} that were skipped' if paths else ''
    raise dataset.DataError(
      f'data.pool_dir: {root} holds no recording{bad}, expected '
      f'{", ".join(folder_corpus.AUDIO_SUFFIXES)}'
    )
  return found


def _clean(
  pool: list[Recording],
  found: corpus_lib.Corpus,
  recordings: Mapping[str, Recording],
) -> tuple[list[Recording], dict[str, Any]]:
  """The pool in the order of keys, without recordings that the corpus has, sample for sample.

  Returns:
    The rest, and the counts that `transfer.clean_pool` gives of images, here of recordings.
  """
  split_of = {recordings[row.name].key: name for name, rows in found.splits.items() for row in rows}
  rest: dict[str, Recording] = {}
  dropped = dict.fromkeys([*found.splits, 'unlabelled'], 0)
  for recording in pool:
    split = split_of.get(recording.key) or ('unlabelled' if recording.key in rest else None)
    if split is None:
      rest[recording.key] = recording
    else:
      dropped[split] += 1
  if not rest:
    raise dataset.DataError(
      f'the pool has {len(pool):,} recordings and all stand in train, validation or test, '
      'expected some that do not'
    )
  return [rest[key] for key in sorted(rest)], {
    'leaks_dropped': {name: dropped[name] for name in ('validation', 'test')},
    'duplicates_dropped': {name: dropped[name] for name in ('train', 'unlabelled')},
  }


def check_length(recording: Recording) -> None:
  """Raises DataError where ids would not tell the recording's frames apart."""
  if len(recording.features) > MAX_FRAMES:
    raise dataset.DataError(
      f'{recording.name}: {len(recording.features):,} frames, expected {MAX_FRAMES:,} at most: '
      'cut it into several recordings'
    )


def check_all_differ(recordings: Iterable[Recording]) -> None:
  """Raises DataError where ids would not tell recordings apart."""
  names: dict[str, str] = {}
  for recording in recordings:
    other = names.setdefault(recording.key, recording.name)
    if other != recording.name:
      raise dataset.DataError(
        f'{other} and {recording.name}: the same samples (sha256 {recording.key}...), expected '
        'each recording once'
      )


def frames(recordings: Sequence[Recording], labels: Sequence[np.ndarray] | None) -> dataset.Split:
  """Makes a split of recordings in the order of their keys, which is that of its rows' ids.

  A frame's id is the recording's key and the frame's number: sorted by id, recordings stay whole.
  `check_length` and `check_all_differ` have let the recordings pass; the labels are int [frames] of
  each, None if they are not known.
  """
  lengths = np.array([len(recording.features) for recording in recordings])
  keys = np.array([int(recording.key, 16) for recording in recordings], np.uint64)
  number = np.concatenate([np.arange(length, dtype=np.uint64) for length in lengths])
  key = np.repeat(keys, lengths)
  before, after = context.reach(lengths)
  if labels is None:
    label = np.full(len(number), dataset.UNKNOWN, np.int32)
  else:
    label = np.concatenate(labels).astype(np.int32)
  first, second = key >> np.uint64(16), (key & np.uint64(0xFFFF)) << np.uint64(16) | number
  return dataset.Split(
    {
      'input': np.concatenate([recording.features for recording in recordings]),
      'label': label,
      'id': np.stack([first, second], axis=1).astype(np.uint32),
      'before': before,
      'after': after,
    }
  )
