"""Pools of unlabelled images: a folder of image files, an array file, a data set of TFDS."""

from collections.abc import Iterator
import dataclasses
import logging
import os
import pathlib
import zipfile

import numpy as np
from PIL import Image
from PIL import ImageOps

from shallow_jax.data import dataset
from shallow_jax.data import tfds_source

KINDS = ("'images'", "'arrays'", "'tfds:NAME'")

_TFDS = 'tfds:'
# what file managers leave behind, beside dot files; all in lower case
_NO_CONTENT = ('thumbs.db', 'ehthumbs.db', 'desktop.ini', 'icon\r', '__macosx', '@eadir')
_FORMATS = ('PNG', 'JPEG', 'WEBP', 'BMP', 'PPM', 'TIFF')  # for some others Pillow runs a program

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class Pool:
  """Unlabelled images uint8 [images, height, width, 3], and how a report calls them."""

  title: str
  images: np.ndarray


def is_kind(kind: str) -> bool:
  """Whether `read` knows this kind of pool."""
  return kind in ('images', 'arrays') or (kind.startswith(_TFDS) and kind != _TFDS)


def read(kind: str, pool_dir: str, shape: tuple[int, int, int]) -> Pool:
  """Read every image of a pool.

  Args:
    kind: 'images': RGB files in a folder and in the folders inside of it, linked ones too, turned
      as EXIF says; hidden files are passed over. 'arrays': an .npy file, or an .npz file of one
      array. 'tfds:NAME': the feature 'image' of all splits of a prepared TFDS data set, which may
      have a config in its name: 'tfds:imagenet_resized/32x32'.
    pool_dir: the folder, the file, the data_dir of TFDS.
    shape: height, width and 3. Nothing is resized: images of another shape are refused.
  Raises:
    DataError: something is missing, damaged, of another shape or no image; it is named.
  """
  if not pool_dir:
    raise dataset.DataError(f"data.pool_dir is '', expected where the pool {kind!r} is")
  path = dataset.local_path(pool_dir, 'pool_dir')
  title = dataset.printable(path.name)
  if kind == 'images':
    images, passed_over = _read_folder(path, shape)
    return Pool(f'images in the folder {title}{passed_over}', images)
  if kind == 'arrays':
    return Pool(f'images in {title}', _read_array(path, shape))
  name = kind.removeprefix(_TFDS)
  return Pool(f'{name} from TFDS', tfds_source.read_images(name, path, shape))


def _read_folder(folder: pathlib.Path, shape: tuple[int, int, int]) -> tuple[np.ndarray, str]:
  """All images in a folder, and what was passed over, in words: '' for nothing."""
  if not folder.is_dir():
    raise dataset.DataError(f'data.pool_dir: {folder} is not a folder, expected one of images')
  passed_over: list[str] = []
  paths = sorted(_files(folder, passed_over))
  words = ''
  if passed_over:
    words = f' ({len(passed_over):,} passed over, such as {passed_over[0]})'
    _log.warning('%s: passed over: %s', dataset.printable(str(folder)), ', '.join(passed_over[:8]))
  if not paths:
    raise dataset.DataError(f'data.pool_dir: {folder} holds no file{words}, expected images')
  images = np.empty((len(paths), *shape), np.uint8)
  for i, path in enumerate(paths):
    images[i] = _read_image(path, shape)
  return images, words


def _files(folder: pathlib.Path, passed_over: list[str]) -> Iterator[pathlib.Path]:
  """Yields the files in a folder and behind its links, each real folder's once; notes the rest."""
  root = os.path.realpath(folder)
  seen = {root, *map(str, pathlib.Path(root).parents)}
  for place, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
    for name in sorted(folders):
      real = os.path.realpath(os.path.join(place, name))
      if _is_hidden(name) or real in seen:
        passed_over.append(_inside(folder, place, name))
        folders.remove(name)
      else:
        seen.add(real)
    folders.sort()  # of two links to a folder the first is followed
    passed_over += [_inside(folder, place, name) for name in files if _is_hidden(name)]
    yield from (pathlib.Path(place, name) for name in files if not _is_hidden(name))


def _is_hidden(name: str) -> bool:
  return name.startswith('.') or name.lower() in _NO_CONTENT


def _inside(folder: pathlib.Path, place: str, name: str) -> str:
  return dataset.printable(os.path.relpath(os.path.join(place, name), folder))


def _refuse(error: OSError) -> None:
  raise dataset.DataError(
    f'data.pool_dir: {error.filename} is not readable ({error.strerror})'
  ) from error


def _read_image(path: pathlib.Path, shape: tuple[int, int, int]) -> np.ndarray:
  try:
    with Image.open(path, formats=_FORMATS) as image:
      frames = 1 if image.format == 'MPO' else getattr(image, 'n_frames', 1)  # a camera's preview
      mode, pixels = image.mode, np.asarray(ImageOps.exif_transpose(image))
  except Exception as error:  # Pillow's decoders raise many kinds
    raise dataset.DataError(
      f'{path} is damaged or no image ({error}), expected {", ".join(_FORMATS)}'
    ) from error
  if frames > 1:
    raise dataset.DataError(f'{path} holds {frames} images, expected one')
  height, width, _ = shape
  if mode != 'RGB' or pixels.shape != shape:
    raise dataset.DataError(
      f'{path} is {mode}, {pixels.shape[0]} x {pixels.shape[1]} pixels, '
      f'expected RGB, {height} x {width}'
    )
  return pixels


def _read_array(path: pathlib.Path, shape: tuple[int, int, int]) -> np.ndarray:
  if not path.is_file() or path.suffix not in ('.npy', '.npz'):
    raise dataset.DataError(f'data.pool_dir: {path} is no .npy or .npz file, expected one')
  try:
    # an .npy stays on disk until it is used
    is_npy = path.suffix == '.npy'
    images = np.lib.format.open_memmap(path, mode='r') if is_npy else _load_npz(path)
  except dataset.NO_ARRAYS as error:
    raise dataset.DataError(
      f'{path} is damaged or holds something else ({error}), expected one array as NumPy saves it'
    ) from error
  if images.dtype != np.uint8 or images.shape[1:] != shape or len(images) == 0:
    raise dataset.DataError(
      f'{path} holds {images.dtype} {list(images.shape)}, '
      f'expected uint8 [images, {", ".join(map(str, shape))}]'
    )
  return images


def _load_npz(path: pathlib.Path) -> np.ndarray:
  if not zipfile.is_zipfile(path):
    raise ValueError('no .npz file')
  with np.load(path, allow_pickle=False) as arrays:
    if len(arrays.files) != 1:
      raise ValueError(f'arrays {", ".join(arrays.files)}')
    return arrays[arrays.files[0]]
