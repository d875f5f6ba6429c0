"""CIFAR through TFDS without TensorFlow: the one file that knows tensorflow_datasets."""

from collections.abc import Iterator, Mapping, Sequence
import io
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from shallow_jax.data import dataset

_CHUNK = 2048  # examples read at once


def read(name: str, split: str, data_dir: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
  """Read images uint8 [examples, 32, 32, 3] and labels [examples] of a prepared TFDS data set.

  Raises:
    DataError: TFDS can't read it; the message gives TFDS's reason.
  """
  try:
    source = _source(name, split, data_dir)
    examples = [example for chunk in _chunks(source) for example in chunk]
  except Exception as error:  # TFDS and array_record have no error of their own
    reason = str(error).strip().partition('\n')[0] or type(error).__name__
    raise dataset.DataError(
      f'{data_dir / name}: TFDS did not read {split} ({reason}); expected '
      'array_record files, as `cifar.prepare_tfds` writes them'
    ) from error
  labels = np.array([example['label'] for example in examples])
  return np.stack([_pixels(example['image']) for example in examples]), labels


def _source(name: str, split: str, data_dir: pathlib.Path) -> Any:
  import tensorflow_datasets as tfds  # here: most data needs none of it

  # our own decoding: TFDS's warns where OpenCV is missing
  decoders: Any = {'image': tfds.decode.SkipDecoding()}
  return tfds.data_source(name, split=split, data_dir=data_dir, download=False, decoders=decoders)


def _chunks(source: Any) -> Iterator[list[dict[str, Any]]]:
  for start in range(0, len(source), _CHUNK):
    yield source.__getitems__(range(start, min(start + _CHUNK, len(source))))


def _pixels(png: bytes) -> np.ndarray:
  return np.asarray(Image.open(io.BytesIO(png)))


def prepare(
  name: str,
  splits: Mapping[str, Mapping[str, np.ndarray]],
  class_names: Sequence[str],
  data_dir: pathlib.Path,
) -> None:
  """Write what `read` reads, with TFDS's own builder and without TensorFlow.

  Args:
    name: of a TFDS image data set.
    splits: by name: 'image' uint8 [examples, height, width, channels] and each label [examples].
    class_names: of the feature 'label'.
    data_dir: the data set becomes a folder in it.
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
