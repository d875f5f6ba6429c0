"""Pools of unlabelled images: a folder of image files, an array file, a data set of TFDS."""

import dataclasses
import pathlib
import zipfile
import zlib

import numpy as np
from PIL import Image

from shallow_jax.data import dataset
from shallow_jax.data import tfds_source

KINDS = ("'images'", "'arrays'", "'tfds:NAME'")

_TFDS = 'tfds:'
_FORMATS = ('PNG', 'JPEG', 'WEBP', 'BMP', 'PPM', 'TIFF')  # for some others Pillow runs a program


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
    kind: 'images': RGB files in a folder and in the folders inside of it. 'arrays': an .npy file,
      or an .npz file of one array. 'tfds:NAME': the feature 'image' of all splits of a prepared
      TFDS data set, which may have a config in its name: 'tfds:imagenet_resized/32x32'.
    pool_dir: the folder, the file, the data_dir of TFDS.
    shape: height, width and 3. Nothing is resized: images of another shape are refused.
  Raises:
    DataError: something is missing, damaged, of another shape or no image; it is named.
  """
  if not pool_dir:
    raise dataset.DataError(f"data.pool_dir is '', expected where the pool {kind!r} is")
  path = pathlib.Path(pool_dir).expanduser()
  if kind == 'images':
    return Pool(f'images in the folder {path.name}', _read_folder(path, shape))
  if kind == 'arrays':
    return Pool(f'images in {path.name}', _read_array(path, shape))
  name = kind.removeprefix(_TFDS)
  return Pool(f'{name} from TFDS', tfds_source.read_images(name, path, shape))


def _read_folder(folder: pathlib.Path, shape: tuple[int, int, int]) -> np.ndarray:
  if not folder.is_dir():
    raise dataset.DataError(f'data.pool_dir: {folder} is not a folder, expected one of images')
  paths = sorted(path for path in folder.rglob('*') if not path.is_dir())
  if not paths:
    raise dataset.DataError(f'data.pool_dir: {folder} holds no file, expected images')
  images = np.empty((len(paths), *shape), np.uint8)
  for i, path in enumerate(paths):
    images[i] = _read_image(path, shape)
  return images


def _read_image(path: pathlib.Path, shape: tuple[int, int, int]) -> np.ndarray:
  try:
    with Image.open(path, formats=_FORMATS) as image:
      mode, pixels = image.mode, np.asarray(image)
  except Exception as error:  # Pillow's decoders raise many kinds
    raise dataset.DataError(
      f'{path} is damaged or no image ({error}), expected {", ".join(_FORMATS)}'
    ) from error
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
  except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
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
