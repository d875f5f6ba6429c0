"""Data that tests share."""

import jax
from made_up import cifar
import pytest

jax.config.update('jax_numpy_rank_promotion', 'raise')


@pytest.fixture(scope='session')
def cifar_folder(tmp_path_factory):
  """A data_dir with small CIFAR-10 and CIFAR-100 archives whose classes can be learned.

  CIFAR-10: 500 train and 100 test images. CIFAR-100, for a pool: 500 and 100, the first two of test
  leaked from CIFAR-10's test.
  """
  folder = tmp_path_factory.mktemp('cifar')
  cifar.write_folder(folder, num_per_batch=100)
  return folder
