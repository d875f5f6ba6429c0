"""CIFAR-10 (Table 2) and CIFAR-100, with a pool of unlabelled images: the other one, or any.

The paper's pool, 1M of the 80 Million Tiny Images, was withdrawn in 2020; both CIFARs were drawn
from those.
"""

from collections.abc import Mapping
import dataclasses
import pathlib
from typing import Any

import numpy as np

from shallow_jax.data import dataset
from shallow_jax.data import pools
from shallow_jax.data import preprocessing
from shallow_jax.data import tfds_source
from shallow_jax.data import transfer
from shallow_jax.data import views as views_lib

_IMAGE_SHAPE = (32, 32, 3)
_NUM_PIXEL_BYTES = 3 * 32 * 32
_COPIES = 0.005  # of all images: CIFAR-10 has none, CIFAR-100 0.0004
_PAPERS_POOL = 'for CIFAR-10 the paper had 1M of 80 Million Tiny Images, withdrawn in 2020'


@dataclasses.dataclass(frozen=True)
class _Archive:
  """The binary version as its authors distribute it.

  A record is a byte for each of `labels`, then the red, the green and the blue plane.
  `files` gives each split's files, each with its size as a multiple of the test split's; `others`
  says by file which other version of the data it belongs to.
  """

  title: str
  folder: str
  others: dict[str, str]
  files: dict[str, dict[str, int]]
  labels: tuple[str, ...]
  class_names: tuple[str, ...]

  @property
  def record_bytes(self) -> int:
    return len(self.labels) + _NUM_PIXEL_BYTES

  @property
  def shares(self) -> dict[str, int]:
    return {file: share for files in self.files.values() for file, share in files.items()}

  @property
  def url(self) -> str:
    return f'https://www.cs.toronto.edu/~kriz/{self.title.lower()}-binary.tar.gz'


_ARCHIVES = {
  'cifar10': _Archive(
    title='CIFAR-10',
    folder='cifar-10-batches-bin',
    others={
      'cifar-10-batches-py': 'python version',
      'data_batch_1': 'python version',
      'cifar-10-batches-mat': 'Matlab version',
      'data_batch_1.mat': 'Matlab version',
      'cifar-10-binary.tar.gz': 'archive, not unpacked',
    },
    files={
      'train': {f'data_batch_{i}.bin': 1 for i in range(1, 6)},
      'test': {'test_batch.bin': 1},
    },
    labels=('label',),
    class_names=tuple('airplane automobile bird cat deer dog frog horse ship truck'.split()),
  ),
  'cifar100': _Archive(
    title='CIFAR-100',
    folder='cifar-100-binary',
    others={
      'cifar-100-python': 'python version',
      'meta': 'python version',
      'cifar-100-matlab': 'Matlab version',
      'train.mat': 'Matlab version',
      'cifar-100-binary.tar.gz': 'archive, not unpacked',
    },
    files={'train': {'train.bin': 5}, 'test': {'test.bin': 1}},
    labels=('coarse_label', 'label'),
    class_names=tuple(
      """
      apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
      butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch
      crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo
      keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse
      mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy
      porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper
      snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television
      tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm""".split()
    ),
  ),
}


def load(config: Mapping[str, Any], constants: pathlib.Path | None = None) -> dataset.Dataset:
  """Load CIFAR-10 or CIFAR-100, whichever `name` says: uint8 [32, 32, 3].

  Validation is carved out of train; where `pool` names a pool, its images without those that
  `transfer.clean_pool` drops become 'unlabelled'.

  Raises:
    DataError: the data or the pool is missing, incomplete or damaged; the message says how to get
      it, or which file is wrong.
  """
  archive = _ARCHIVES[config['name']]
  splits, notes = _splits(config)
  augmentation = views_lib.build(config['augment'], _IMAGE_SHAPE)
  return dataset.Dataset(
    name=config['name'],
    class_names=archive.class_names,
    splits=transfer.derive(config['sets'], splits),
    preprocessing=config['preprocessing'],
    constants=preprocessing.fit(config['preprocessing'], splits['train'], constants),
    inputs=preprocessing.Inputs(config['preprocessing']['name'], augmentation),
    input_shape=_IMAGE_SHAPE,
    notes=notes,
    augmentation=augmentation,
  )


def prepare_tfds(name: str, data_dir: str, tfds_dir: str) -> None:
  """Write the binary version in `data_dir` as a TFDS data set under `tfds_dir`.

  TFDS's own preparation needs TensorFlow, this one doesn't.
  """
  archive = _ARCHIVES[name]
  folder = _find(archive, dataset.local_path(data_dir, 'data_dir'))
  if folder is None:
    raise dataset.DataError(f'{data_dir} holds no {archive.folder}/, expected {_what_to_get(name)}')
  _check_complete(archive, folder)
  splits = {}
  for split in archive.files:
    records = _records(archive, folder, split)
    pixels, _ = _images_and_labels(archive, records)
    labels = {label: records[:, column] for column, label in enumerate(archive.labels)}
    splits[split] = {'image': pixels, **labels}
  tfds_source.prepare(name, splits, archive.class_names, dataset.local_path(tfds_dir, 'tfds_dir'))


def _splits(config: Mapping[str, Any]) -> tuple[dict[str, dataset.Split], dict[str, Any]]:
  labelled = _read(config['name'], 'data_dir', config['data_dir'])
  num_classes = len(_ARCHIVES[config['name']].class_names)
  where = f'data.data_dir: {config["data_dir"]}: train'
  dataset.check_classes(labelled['train'].arrays['label'], num_classes, where)
  splits, notes = dataset.carve_validation(
    labelled.pop('train'), config['num_validation'], seed=config['split_seed']
  )
  splits['test'] = labelled['test']
  if config['pool']:
    # the pool before any cut: an image that was held out once stays out of every pool
    title, *pool = _read_pool(config)
    notes['pool'] = f'{title}, {len(pool[0]):,} images; {_PAPERS_POOL}'
    splits['unlabelled'], counts = transfer.clean_pool(
      pool.pop(), splits, config['near_duplicate_correlation']
    )  # nothing here holds the whole pool beside what is left of it
    notes |= counts
  limits = {
    'train': config['max_train'],
    'test': config['max_test'],
    'unlabelled': config['max_pool'],
  }
  for name, limit in limits.items():
    if name in splits and 0 < limit < len(splits[name]):
      splits[name] = splits[name].select(np.arange(limit))  # sorted by hash: as good as drawn
  return splits, notes


def _read_pool(config: Mapping[str, Any]) -> tuple[str, dataset.Split]:
  """A pool's title and all its images, without labels."""
  kind = config['pool']
  others = [name for name in _ARCHIVES if name != config['name']]
  if kind in others:
    key = 'pool_dir' if config['pool_dir'] else 'data_dir'
    # its classes are not those of the labelled set
    pool = dataset.concatenate(list(_read(kind, key, config[key]).values()))
    pool = transfer.hide_labels(pool)
    return _ARCHIVES[kind].title, dataset.sort(pool)
  if not pools.is_kind(kind):
    known = ', '.join([*map(repr, others), *pools.KINDS])
    raise dataset.DataError(f"data.pool is {kind!r}, expected {known}, or '' for none")
  found = pools.read(kind, config['pool_dir'], _IMAGE_SHAPE)
  return found.title, dataset.make_split(found.images, None)


def _read(name: str, key: str, data_dir: str) -> dict[str, dataset.Split]:
  """All of 'train' and 'test', from the binary version's folder or a data_dir of TFDS."""
  archive = _ARCHIVES[name]
  if not data_dir:
    raise dataset.DataError(f"data.{key} is '', expected a folder with {_what_to_get(name)}")
  folder = dataset.local_path(data_dir, key)
  place = _find(archive, folder)
  if place:
    return _read_archive(archive, place)
  if (folder / name).is_dir():
    return _read_tfds(name, folder)
  others = [kind for file, kind in archive.others.items() if (folder / file).exists()]
  found = 'has no data of it' if folder.is_dir() else 'is not a folder'
  if others:
    found = f"has {archive.title}'s {others[0]}"
  raise dataset.DataError(f'data.{key}: {folder} {found}, expected {_what_to_get(name)}')


def _find(archive: _Archive, folder: pathlib.Path) -> pathlib.Path | None:
  """The archive's folder: this one, or in it; of an archive's own folder also the one beside it."""
  folder = folder.resolve()
  places = [folder, folder / archive.folder]
  if folder.name in {other.folder for other in _ARCHIVES.values()}:
    places.append(folder.parent / archive.folder)
  held = [place for place in places if any((place / file).exists() for file in archive.shares)]
  return held[0] if held else None


def _what_to_get(name: str) -> str:
  archive = _ARCHIVES[name]
  return (
    f"{archive.title}'s {archive.folder}/ (curl -L {archive.url} | tar xz -C FOLDER) "
    f'or {name}/ as prepared by TFDS'
  )


def _read_archive(archive: _Archive, folder: pathlib.Path) -> dict[str, dataset.Split]:
  _check_complete(archive, folder)
  splits = {
    split: dataset.make_split(*_images_and_labels(archive, _records(archive, folder, split)))
    for split in archive.files
  }
  if _share_of_copies(*splits.values()) > _COPIES:
    _refuse_copies(archive, folder)
  return splits


def _share_of_copies(*splits: dataset.Split) -> float:
  """Which share of all their images stands in them another time."""
  hashes = np.concatenate([dataset.hashes(split) for split in splits])
  return 1 - len(np.unique(hashes)) / len(hashes)


def _refuse_copies(archive: _Archive, folder: pathlib.Path) -> None:
  """Names the first file with many images that it or a file before it already holds."""
  known: dict[str, np.ndarray] = {}
  for file in archive.shares:
    images, _ = _images_and_labels(archive, _read_file(archive, folder / file))
    hashes = dataset.hashes(dataset.make_split(images, None))
    faults = {
      'of one colour': int((np.ptp(images, axis=(1, 2, 3)) == 0).sum()),
      'more than once': len(images) - len(np.unique(hashes)),
      **{f'of {other} too': int(np.isin(hashes, found).sum()) for other, found in known.items()},
    }
    for fault, count in faults.items():
      if count > _COPIES * len(images):
        raise dataset.DataError(
          f'{folder / file} holds {count:,} images {fault}, expected {len(images):,} that no other '
          f'file has; unpack {archive.url} again'
        )
    known[file] = hashes


def _check_complete(archive: _Archive, folder: pathlib.Path) -> None:
  """Checks names and sizes. A file cut short holds less than its share of the fullest one."""
  missing = [file for file in archive.shares if not (folder / file).is_file()]
  if missing:
    raise dataset.DataError(
      f'{folder} lacks {", ".join(missing)} of {len(archive.shares)} files; '
      f'unpack {archive.url} again'
    )
  counts = {file: _num_records(archive, folder / file) for file in archive.shares}
  share = max(counts[file] / archive.shares[file] for file in counts)
  for file, count in counts.items():
    if count != share * archive.shares[file]:
      expected = int(share * archive.shares[file])
      raise dataset.DataError(
        f'{folder / file} holds {count:,} images, expected {expected:,} as '
        f'in the other files; unpack {archive.url} again'
      )


def _num_records(archive: _Archive, file: pathlib.Path) -> int:
  size, record = file.stat().st_size, archive.record_bytes
  if size == 0 or size % record:
    full = 10_000 * archive.shares[file.name]
    raise dataset.DataError(
      f'{file} holds {size:,} bytes, expected a multiple of {record:,} '
      f'({full * record:,} for all {full:,} images)'
    )
  return size // record


def _records(archive: _Archive, folder: pathlib.Path, split: str) -> np.ndarray:
  files = [_read_file(archive, folder / file) for file in archive.files[split]]
  return files[0] if len(files) == 1 else np.concatenate(files)  # one is not copied


def _read_file(archive: _Archive, file: pathlib.Path) -> np.ndarray:
  records = np.fromfile(file, np.uint8).reshape(-1, archive.record_bytes)
  _, labels = _images_and_labels(archive, records)
  wrong = np.flatnonzero(labels >= len(archive.class_names))
  if len(wrong):
    raise dataset.DataError(
      f'{file}: record {wrong[0]} has label {labels[wrong[0]]}, '
      f'expected 0 to {len(archive.class_names) - 1}'
    )
  return records


def _images_and_labels(archive: _Archive, records: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Views into records: images [records, 32, 32, 3] and classes [records]."""
  num_labels = len(archive.labels)
  planes = records[:, num_labels:].reshape(-1, 3, 32, 32)
  return planes.transpose(0, 2, 3, 1), records[:, num_labels - 1]


def _read_tfds(name: str, folder: pathlib.Path) -> dict[str, dataset.Split]:
  splits = {
    split: dataset.make_split(*tfds_source.read(name, split, folder, _IMAGE_SHAPE))
    for split in ('train', 'test')
  }
  if len(splits['train']) != 5 * len(splits['test']):
    raise dataset.DataError(
      f'{folder / name} holds {len(splits["train"]):,} train and '
      f'{len(splits["test"]):,} test images, expected five to one'
    )
  share = _share_of_copies(*splits.values())
  if share > _COPIES:
    raise dataset.DataError(
      f'{folder / name} holds {100 * share:.1f} % of its images more than once, expected none; '
      'prepare it again'
    )
  num_classes = len(_ARCHIVES[name].class_names)
  for split, found in splits.items():
    labels = found.arrays['label']
    if labels.min() < 0 or labels.max() >= num_classes:
      raise dataset.DataError(
        f'{folder / name}: {split} has labels {labels.min()} to {labels.max()}, '
        f'expected 0 to {num_classes - 1}'
      )
  return splits
