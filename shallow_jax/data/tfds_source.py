"""Images through TFDS without TensorFlow: the one file that knows tensorflow_datasets."""

from collections.abc import Iterator, Mapping, Sequence
import io
import pathlib
from typing import Any

import numpy as np
from PIL import Image
from PIL import ImageOps

from shallow_jax.data import dataset

_CHUNK = 2048  # examples read at once


def read(
  name: str, split: str, data_dir: pathlib.Path, shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
  """Read images uint8 [examples, *shape] and labels [examples] of a prepared TFDS data set.

  Raises:
    DataError: TFDS can't read it, or an image is not RGB or of another shape; with the reason.
  """
  arrays = _read(name, split, data_dir, shape, labels=('label',))
  return arrays['image'], arrays['label']


def read_images(name: str, data_dir: pathlib.Path, shape: tuple[int, int, int]) -> np.ndarray:
  """Read the images of all splits; else as `read`."""
  return _read(name, 'all', data_dir, shape, labels=())['image']


def _read(
  name: str,
  split: str,
  data_dir: pathlib.Path,
  shape: tuple[int, int, int],
  *,
  labels: Sequence[str],
) -> dict[str, np.ndarray]:
  try:
    source = _source(name, split, data_dir)
    arrays: dict[str, np.ndarray] = {label: np.empty(len(source), int) for label in labels}
    arrays['image'] = np.empty((len(source), *shape), np.uint8)
    for i, example in enumerate(_examples_of(source)):
      arrays['image'][i] = _pixels(example['image'], shape)
      for label in labels:
        arrays[label][i] = example[label]
  except Exception as error:  # TFDS and array_record have no error of their own
    reason = str(error).strip().partition('\n')[0] or type(error).__name__
    reason = f'its examples have no {reason}' if isinstance(error, KeyError) else reason
    raise dataset.DataError(
      f'{data_dir / name}: TFDS did not read {split} ({reason}); expected array_record files of '
      f'RGB images, {shape[0]} x {shape[1]} pixels (`cifar.prepare_tfds` writes those of CIFAR)'
    ) from error
  return arrays


def _source(name: str, split: str, data_dir: pathlib.Path) -> Any:
  import tensorflow_datasets as tfds  # here: most data needs none of it

  builder: Any = tfds.builder(name, data_dir=data_dir)
  if not builder.is_prepared():
    raise ValueError(_what_is_there(pathlib.Path(builder.data_path)))
  if builder.info.file_format.value == 'tfrecord':
    raise ValueError('its files are tfrecord')
  # our own decoding: TFDS's warns where OpenCV is missing
  return builder.as_data_source(split=split, decoders={'image': tfds.decode.SkipDecoding()})


def _what_is_there(sought: pathlib.Path) -> str:
  """Of a data set that is not prepared in its version's folder: what is there instead."""
  beside = sorted(path.name for path in sought.parent.glob('*') if path.is_dir())
  begun = [name for name in beside if 'incomplete' in name]
  if sought.name in beside:
    begun.append(sought.name)
  if begun:
    return f'the preparation of version {sought.name} was interrupted, {begun[0]} is what is there'
  return f'version {sought.name} is sought, {", ".join(beside) or "nothing"} is there'


def _examples_of(source: Any) -> Iterator[dict[str, Any]]:
  for start in range(0, len(source), _CHUNK):
    yield from source.__getitems__(range(start, min(start + _CHUNK, len(source))))


def _pixels(file: bytes, shape: tuple[int, int, int]) -> np.ndarray:
  image = ImageOps.exif_transpose(Image.open(io.BytesIO(file)))
  if image.mode != 'RGB' or image.size != (shape[1], shape[0]):
    raise ValueError(f'an image is {image.mode}, {image.height} x {image.width} pixels')
  return np.asarray(image)


def prepare(
  name: str,
  splits: Mapping[str, Mapping[str, np.ndarray]],
  class_names: Sequence[str],
  data_dir: pathlib.Path,
) -> None:
  """Write what `read` reads, as a folder in `data_dir`, with TFDS's builder, without TensorFlow.

  A split has 'image' uint8 [examples, height, width, channels] and each label [examples];
  `class_names` are those of the feature 'label'.
  """
  import tensorflow_datasets as tfds  # here: as above

  base: Any = tfds.builder_cls(name)

  class Local(base, skip_registration=True):
    """TFDS's data set, from our arrays instead of its download."""

    name = base.name

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
      del dl_manager
      self.info.features['label'].names = class_names
      return {split: _examples(split, arrays) for split, arrays in splits.items()}

  Local(data_dir=data_dir, file_format='array_record').download_and_prepare()


def _examples(split: str, arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[int, dict[str, Any]]]:
  for i in range(len(arrays['image'])):
    labels = {name: int(array[i]) for name, array in arrays.items() if name != 'image'}
    # a file of PNG bytes: TFDS would encode an array with TensorFlow
    yield i, {'id': f'{split}_{i:05d}', 'image': _png(arrays['image'][i]), **labels}


def _png(pixels: np.ndarray) -> io.BytesIO:
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'PNG')
  file.seek(0)
  return file
