"""Whole files or none, hashes that tell values apart, messages that name the place."""

import dataclasses
import errno
import hashlib
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from shallow_jax.runtime import storage

ROOT = pathlib.Path(__file__).parents[2]


def run_python(code, *arguments, shell_limit=''):
  """Runs a program in a process of its own, under `ulimit -f` if there is a limit."""
  limit = f'ulimit -f {shell_limit}; ' if shell_limit else ''
  words = ['bash', '-c', f'{limit}exec "$@"', 'bash', sys.executable, '-c', code, *arguments]
  return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_the_order_is_write_sync_rename_sync_folder(tmp_path, monkeypatch):
  events, fsync, replace = [], os.fsync, os.replace

  def recorded_fsync(descriptor):
    path = pathlib.Path(os.readlink(f'/proc/self/fd/{descriptor}'))
    events.append(('sync', path.name, path.stat().st_size if path.is_file() else None))
    fsync(descriptor)

  def recorded_replace(old, new):
    events.append(('rename', pathlib.Path(new).name))
    replace(old, new)

  monkeypatch.setattr(os, 'fsync', recorded_fsync)
  monkeypatch.setattr(os, 'replace', recorded_replace)
  storage.write_bytes(tmp_path / 'a', b'12345')
  (first, name, size), *rest = events
  assert (first, size) == ('sync', 5)
  assert name.startswith('.a.')
  assert rest == [('rename', 'a'), ('sync', tmp_path.name, None)]
  assert (tmp_path / 'a').read_bytes() == b'12345'


@pytest.mark.parametrize('name', ['fsync', 'replace'])
def test_a_failed_write_leaves_the_old_file_alone(tmp_path, monkeypatch, name):
  storage.write_bytes(tmp_path / 'a', b'old')

  def fail(*_):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(os, name, fail)
  with pytest.raises(storage.StorageError) as caught:
    storage.write_bytes(tmp_path / 'a', bytes(12345))
  message = f'{tmp_path}/a: 12,345 bytes could not be written: No space left on device'
  assert str(caught.value) == message
  assert [path.name for path in tmp_path.iterdir()] == ['a']
  assert (tmp_path / 'a').read_bytes() == b'old'


def test_a_full_disk(tmp_path):
  storage.write_bytes(tmp_path / 'a', b'old')
  code = """if True:
    import sys
    from shallow_jax.runtime import storage
    storage.write_bytes(sys.argv[1], bytes(9999))
  """
  done = run_python(code, str(tmp_path / 'a'), shell_limit='2')
  assert done.returncode == 1
  assert f'StorageError: {tmp_path}/a: 9,999 bytes could not be written' in done.stderr
  assert [path.name for path in tmp_path.iterdir()] == ['a']
  assert (tmp_path / 'a').read_bytes() == b'old'


def test_an_array_that_the_disk_has_no_room_for(tmp_path):
  storage.write_array(tmp_path / 'a.npy', np.arange(3))
  code = 'import sys, numpy as np; from shallow_jax.runtime import storage\n'
  code += 'storage.write_array(sys.argv[1], np.zeros(100_000))'
  done = run_python(code, str(tmp_path / 'a.npy'), shell_limit='100')
  assert f'{tmp_path / "a.npy"}: 800,000 bytes could not be written: ' in done.stderr
  assert not done.stderr.strip().endswith('None')
  np.testing.assert_array_equal(np.load(tmp_path / 'a.npy'), np.arange(3))
  assert [path.name for path in tmp_path.iterdir()] == ['a.npy']


def test_arrays_are_kept_for_what_they_belong_to(tmp_path):
  arrays = {'mean': np.arange(3.0, dtype=np.float32), 'zca': np.eye(2)}
  path = tmp_path / 'kept.npz'
  assert storage.kept_arrays(path, 'a') is None
  storage.keep_arrays(path, arrays, 'a')
  assert storage.kept_arrays(path, 'b') is None
  found = storage.kept_arrays(path, 'a')
  assert set(found) == set(arrays)
  for name, array in arrays.items():
    np.testing.assert_array_equal(found[name], array, strict=True)


def test_kept_arrays_notice_a_changed_byte(tmp_path):
  path = tmp_path / 'kept.npz'
  storage.keep_arrays(path, {'a': np.full(9, 7, np.uint8)}, 'key')
  data = path.read_bytes()
  place = data.index(bytes([7] * 9)) + 4
  path.write_bytes(data[:place] + b'!' + data[place + 1 :])
  with pytest.raises(storage.StorageError, match=r'kept\.npz: damaged'):
    storage.kept_arrays(path, 'key')


def test_an_array_is_read_only_where_it_is_the_one_that_was_written(tmp_path):
  path = tmp_path / 'a.npy'
  storage.write_array(path, np.arange(3))
  sha256 = storage.sha256_file(path)
  np.testing.assert_array_equal(storage.read_array(path, sha256), np.arange(3))
  storage.write_array(path, np.arange(4))
  np.testing.assert_array_equal(storage.read_array(path), np.arange(4))
  with pytest.raises(storage.StorageError, match=r'a\.npy: changed since it was written'):
    storage.read_array(path, sha256)
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(storage.StorageError, match=r'a\.npy: could not be read'):
    storage.read_array(path)


def test_what_a_killed_writer_leaves_is_removed(tmp_path):
  (tmp_path / 'deep').mkdir()
  storage.write_bytes(tmp_path / 'deep' / 'a', b'old')
  (tmp_path / '.mine.partial').write_bytes(b'not a temporary file of storage')
  code = """if True:
    import os, signal, sys
    from shallow_jax.runtime import storage
    os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    storage.write_bytes(sys.argv[1], b'new')
  """
  assert run_python(code, str(tmp_path / 'deep' / 'a')).returncode == -signal.SIGKILL
  assert len(list((tmp_path / 'deep').iterdir())) == 2
  assert len(storage.remove_temporary(tmp_path)) == 1
  assert [path.name for path in (tmp_path / 'deep').iterdir()] == ['a']
  assert (tmp_path / 'deep' / 'a').read_bytes() == b'old'
  assert (tmp_path / '.mine.partial').exists()


def test_a_file_that_is_being_written_is_no_leftover(tmp_path, monkeypatch):
  removed, fsync = [], os.fsync

  def remove_meanwhile(descriptor):
    removed.extend(storage.remove_temporary(tmp_path))
    fsync(descriptor)

  monkeypatch.setattr(os, 'fsync', remove_meanwhile)
  storage.write_bytes(tmp_path / 'a', b'new')
  assert removed == []
  assert (tmp_path / 'a').read_bytes() == b'new'


def test_a_file_keeps_the_permissions_of_the_umask(tmp_path):
  (tmp_path / 'plain').write_bytes(b'')
  storage.write_bytes(tmp_path / 'a', b'')
  assert (tmp_path / 'a').stat().st_mode == (tmp_path / 'plain').stat().st_mode


@pytest.mark.parametrize(
  ('data', 'message'),
  [
    (b'{"a": 1,\n "b" 2}', 'line 2 column 6'),
    (b'', 'line 1 column 1'),
    (b'{"a": 1, "b": {"c": 1, "c": 2}}', "key 'c' is there twice"),
    (b'{"a": NaN}', 'NaN is not a number of JSON'),
    (b'{"a": -Infinity}', '-Infinity is not a number of JSON'),
    (b'{"a": "\xff"}', 'position 7'),
    (b'[' * 100_000, 'recursion'),
  ],
)
def test_broken_json_is_named_with_its_place(tmp_path, data, message):
  path = tmp_path / 'broken.json'
  path.write_bytes(data)
  with pytest.raises(storage.StorageError, match=message) as caught:
    storage.read_json(path)
  assert str(path) in str(caught.value)
  assert '\n' not in str(caught.value)


def test_json_there_and_back(tmp_path):
  value = {'b': [1, 2.5, None, True], 'a': {'é': 'ü', 'x': 1e-300}}
  storage.write_json(tmp_path / 'a.json', value)
  assert storage.read_json(tmp_path / 'a.json') == value
  assert list(json.loads((tmp_path / 'a.json').read_text())) == ['a', 'b']


def test_json_takes_no_nan(tmp_path):
  with pytest.raises(storage.StorageError, match=r'a\.json: not a JSON value'):
    storage.write_json(tmp_path / 'a.json', {'error': float('nan')})
  assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_named(tmp_path):
  for read in (storage.read_json, storage.read_sealed_json, storage.sha256_file):
    with pytest.raises(storage.StorageError, match='none: could not be read: No such file'):
      read(tmp_path / 'none')


def test_a_sealed_file_notices_every_flipped_byte(tmp_path):
  path = tmp_path / 'sealed.json'
  value = {'rate': 1e-05, 'names': ['a', 'B'], 'on': True, 'count': 12}
  storage.write_sealed_json(path, value)
  assert storage.read_sealed_json(path) == value
  good = path.read_bytes()
  # 0x20 turns a letter into the other case: 1e-05 into the equal 1E-05
  for position, flip in itertools.product(range(len(good)), (0x01, 0x20)):
    bad = bytearray(good)
    bad[position] ^= flip
    path.write_bytes(bad)
    with pytest.raises(storage.StorageError, match=r'sealed\.json'):
      storage.read_sealed_json(path)


def test_a_file_of_before_seals_is_taken_and_a_broken_seal_is_not(tmp_path):
  path = tmp_path / 'record.json'
  value = {'weights_sha256': 'ab' * 32, 'step': 12}
  storage.write_json(path, value)
  assert storage.read_sealed_json(path, or_never_sealed=True) == value
  with pytest.raises(storage.StorageError, match='another sha256'):
    storage.read_sealed_json(path)
  storage.write_sealed_json(path, value)
  good = path.read_bytes()
  for position in range(len(good)):  # in the seal and in its name too
    bad = bytearray(good)
    bad[position] ^= 0x01
    path.write_bytes(bad)
    with pytest.raises(storage.StorageError, match=r'record\.json'):
      storage.read_sealed_json(path, or_never_sealed=True)


def test_canonical_json():
  value = {'b': (1, np.int64(2)), 'a': {'d': np.float32(0.5), 'c': np.arange(2)}}
  assert storage.canonical_json(value) == '{"a":{"c":[0,1],"d":0.5},"b":[1,2]}'
  expected = hashlib.sha256(b'{"a":{"c":[0,1],"d":0.5},"b":[1,2]}').hexdigest()
  assert storage.sha256_json(value) == expected
  for bad in (float('inf'), object(), {'a': float('nan')}):
    with pytest.raises(storage.StorageError, match='not a JSON value'):
      storage.canonical_json(bad)


def test_the_hash_of_a_file(tmp_path):
  data = np.random.default_rng(0).bytes(1_000_003)
  (tmp_path / 'a').write_bytes(data)
  assert storage.sha256_file(tmp_path / 'a') == hashlib.sha256(data).hexdigest()


def test_the_hash_of_arrays_tells_all_that_differs_apart():
  x = np.arange(6, dtype=np.int32)
  trees = [
    {'a': x, 'b': x},
    {'a': x, 'c': x},
    {'a': x + 1, 'b': x},
    {'a': x.reshape(2, 3), 'b': x},
    {'a': x.reshape(3, 2), 'b': x},
    {'a': x.view(np.float32), 'b': x},
    {'a': x.view('>i4'), 'b': x},
    {'a': {'b': x}},
    {'a.b': x},
    {'a': x},
    {},
    {'a': np.array(['x', 'yz'])},
    {'a': np.array(['xy', 'z'])},
  ]
  hashes = [storage.sha256_arrays(tree) for tree in trees]
  assert len(set(hashes)) == len(trees)
  strided = np.repeat(x, 2)[::2]
  assert storage.sha256_arrays({'b': strided, 'a': x}) == hashes[0]


def test_arrays_of_objects_have_no_hash():
  with pytest.raises(storage.StorageError, match=r'a\.b: an array of Python objects'):
    storage.sha256_arrays({'a': {'b': np.array([None, 1])}})


def test_differences_are_named():
  old = {'optimizer': {'learning_rate': 0.01, 'name': 'sgd'}, 'seeds': [1, 2], 'hidden': 5}
  new = {'optimizer': {'learning_rate': 0.1, 'name': 'sgd'}, 'seeds': [1, 3], 'rank': None}
  assert storage.differences(old, new) == [
    'hidden: 5, now absent',
    'optimizer.learning_rate: 0.01, now 0.1',
    'rank: absent, now null',
    'seeds.1: 2, now 3',
  ]
  assert storage.differences({'a': [1]}, {'a': [1, 2]}) == ['a: [1], now [1, 2]']
  assert storage.differences({'a': {'b': 1}}, {'a': 'b'}) == ['a: {"b": 1}, now "b"']
  assert storage.differences(1, 2) == ['value: 1, now 2']
  long = storage.differences({'a': 'x' * 500}, {'a': 'y' * 500})
  assert len(long[0]) < 200


def test_differences_are_empty_exactly_when_the_hashes_are_equal():
  long = 'x' * 500
  values = [1, 1.0, True, None, 'null', [], {}, [1], (1,), {'a': None}, long + 'a', long + 'b']
  for old in values:
    for new in values:
      equal = storage.sha256_json(old) == storage.sha256_json(new)
      assert (storage.differences({'k': old}, {'k': new}) == []) == equal, (old, new)


@dataclasses.dataclass(frozen=True)
class Inner:
  rate: float


@dataclasses.dataclass(frozen=True)
class Outer:
  count: int
  inner: tuple[Inner, ...]
  best: Inner | None
  free: dict[str, object]


def test_typed_json_builds_what_it_was_made_from():
  value = Outer(1, (Inner(0.5), Inner(1.0)), None, {'a': [1]})
  assert storage.typed_json(Outer, json.loads(json.dumps(dataclasses.asdict(value)))) == value
  value = dataclasses.replace(value, best=Inner(2.0))
  assert storage.typed_json(Outer, json.loads(json.dumps(dataclasses.asdict(value)))) == value


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'count': True}, 'count: True instead of int'),
    ({'count': 1.0}, 'count: 1.0 instead of int'),
    ({'inner': [{'rate': 1.0}, {'rate': 1}]}, r'inner\.1\.rate: 1 instead of float'),
    ({'inner': [{'rate': float('inf')}]}, r'inner\.0\.rate: inf instead of float'),
    ({'inner': {'rate': 1.0}}, 'inner: .* instead of list'),
    ({'best': 3}, r'best: fields missing or unknown'),
    ({'best': {'rate': 1.0, 'x': 1}}, r'best: fields missing or unknown: x'),
    ({'free': []}, r'free: \[\] instead of dict'),
  ],
)
def test_typed_json_names_what_is_wrong(change, message):
  value = {'count': 1, 'inner': [{'rate': 1.0}], 'best': None, 'free': {}, **change}
  with pytest.raises(storage.StorageError, match=message):
    storage.typed_json(Outer, value)
