"""Small CIFAR archives whose classes can be learned."""

import numpy as np


def write_folder(folder, *, num_per_batch):
  """Writes both binary archives under `folder`, 6 * num_per_batch images each."""
  rng = np.random.default_rng(0)
  patterns = rng.uniform(40, 215, (10, 3, 4, 4)).repeat(8, axis=2).repeat(8, axis=3)
  batches = [_batch(rng, patterns, num_per_batch) for _ in range(6)]
  names = [*(f'data_batch_{i}.bin' for i in range(1, 6)), 'test_batch.bin']
  (folder / 'cifar-10-batches-bin').mkdir()
  for name, (labels, pixels) in zip(names, batches, strict=True):
    np.hstack([labels, pixels]).tofile(folder / 'cifar-10-batches-bin' / name)
  (folder / 'cifar-100-binary').mkdir()
  for name, share in (('train.bin', 5), ('test.bin', 1)):
    labels, pixels = _batch(rng, patterns, share * num_per_batch)
    if name == 'test.bin':
      pixels[:2] = batches[-1][1][:2]
    classes = 10 * labels + (np.arange(len(labels)) // 10 % 10)[:, None].astype(np.uint8)
    records = np.hstack([labels, classes, pixels])
    records.tofile(folder / 'cifar-100-binary' / name)


def _batch(rng, patterns, size):
  """Labels [size, 1] and pixels [size, 3072]: a class's pattern, some of another's, and noise."""
  labels = np.arange(size) % 10
  images = 0.75 * patterns[labels] + 0.25 * patterns[rng.integers(10, size=size)]
  images += rng.normal(0, 30, images.shape)
  pixels = np.clip(images, 0, 255).astype(np.uint8)
  return labels[:, None].astype(np.uint8), pixels.reshape(size, -1)
