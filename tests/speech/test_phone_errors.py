"""Phone errors by utterance: kept, verified when read, and compared in pairs."""

import numpy as np
import pytest

from shallow_jax.runtime import storage
from shallow_jax.speech import phone_errors


def seed_of(wrong, length=10):
  """The arrays of a seed with so many substitutions in each utterance."""
  counts = np.zeros((3, len(wrong), 4), np.int32)
  counts[..., 0], counts[..., 3] = wrong, length
  return {'validation': counts, 'test': counts, 'confusion': np.eye(3, dtype=np.int64)}


def save(workdir, network, *seeds):
  (workdir / network).mkdir()
  rows = [None if wrong is None else seed_of(wrong) for wrong in seeds]
  phone_errors.save(workdir, network, rows, {'classes': ('aa', 'sil')})


def read(workdir, network):
  return {'': phone_errors.read(workdir, network)}


def test_what_is_kept_is_read_back(tmp_path):
  save(tmp_path, 'net', [1, 2], None, [0, 1])
  found = phone_errors.read(tmp_path, 'net', [15.0, None, 5.0])
  assert found['test'].shape == (3, 3, 2, 4)
  assert (found['test'][1] == phone_errors.DIVERGED).all()
  assert phone_errors.known(found['test']).tolist() == [True, False, True]
  assert found['classes'].tolist() == ['aa', 'sil']


def test_a_network_of_before_has_none(tmp_path):
  assert phone_errors.read(tmp_path, 'net') is None


def test_those_of_another_result_are_refused(tmp_path):
  save(tmp_path, 'net', [1, 2])
  with pytest.raises(storage.StorageError, match=r'npz: seed 0 has a phone error rate of 15\.0000'):
    phone_errors.read(tmp_path, 'net', [14.0])
  with pytest.raises(storage.StorageError, match='1 seeds instead of 2'):
    phone_errors.read(tmp_path, 'net', [15.0, 15.0])


def test_a_file_cut_short_is_named(tmp_path):
  save(tmp_path, 'net', [1, 2])
  path = tmp_path / 'net' / 'phone_errors.npz'
  path.write_bytes(path.read_bytes()[:-40])
  with pytest.raises(storage.StorageError, match=r'net/phone_errors\.npz: could not be read'):
    phone_errors.read(tmp_path, 'net')


def test_two_networks_are_compared_seed_by_seed(tmp_path):
  save(tmp_path, 'worse', [3, 4, 5], [3, 4, 6], [9, 9, 9])
  save(tmp_path, 'better', [1, 2, 3], None, [9, 9, 9], [0, 0, 0])
  found = phone_errors.difference(read(tmp_path, 'worse'), read(tmp_path, 'better'))
  assert found['pairs'] == 2  # seeds 0 and 2
  assert found['value'] == pytest.approx(100 * 6 / 60)
  assert found['low'] == found['high'] == found['value']  # 2 more in each utterance of 20 phones
  assert found['share_better'] == 1.0
  back = phone_errors.difference(read(tmp_path, 'better'), read(tmp_path, 'worse'))
  assert back['value'] == -found['value']
  assert back['share_better'] == 0.0


def test_nobody_in_common_is_no_comparison(tmp_path):
  save(tmp_path, 'a', [1, 2], None)
  save(tmp_path, 'b', None, [1, 2])
  assert phone_errors.difference(read(tmp_path, 'a'), read(tmp_path, 'b')) is None


def test_splits_are_pooled(tmp_path):
  save(tmp_path, 'net', [2, 2])
  save(tmp_path, 'other', [2])
  splits = [phone_errors.read(tmp_path, name) for name in ('net', 'other')]
  assert phone_errors.interval_of_splits(splits, 'test') == [20.0, 20.0]
