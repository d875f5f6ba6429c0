"""The store under the faults of a long life: kills, full disks, flipped bits, edited manifests."""

import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from shallow_jax.logits import manifest as logit_manifest
from shallow_jax.logits import store as logit_store
from shallow_jax.runtime import storage

ROOT = pathlib.Path(__file__).parents[2]
SPEC = logit_manifest.Spec(
  views=2,
  num_examples=22,
  class_names=('cat', 'dog', 'ship'),
  ids_sha256='a1',
  dtype='float32',
  shard_rows=6,
  provenance={'teacher': {'fingerprint': 'f1', 'members': ['m0', 'm1']}, 'data': 'd1'},
)
LAST = 'shard-00003-of-00004.npy'


def teacher_logits(spec, seed=0):
  rng = np.random.default_rng(seed)
  shape = spec.views, spec.num_examples, len(spec.class_names)
  return rng.normal(scale=3, size=shape).astype(np.float32)


def write_missing(folder, spec, logits, **options):
  for shard in logit_store.missing_shards(folder, spec, **options):
    logit_store.write_shard(folder, spec, shard, logits[:, shard.start : shard.stop])


def write_store(folder, spec=SPEC, *, seed=0, labels=None):
  logits = teacher_logits(spec, seed)
  write_missing(folder, spec, logits)
  return logits, logit_store.finish(folder, spec, labels=labels)


def contents(folder):
  return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def edit_manifest(folder, edit, *, sealed=True):
  """Changes the manifest, if sealed as somebody could who knows how that is done."""
  value = json.loads((folder / 'manifest.json').read_text())
  edit(value)
  if sealed:
    del value['sha256']
    storage.write_sealed_json(folder / 'manifest.json', value)
  else:
    storage.write_json(folder / 'manifest.json', value)


@pytest.mark.parametrize('limit', [logit_store.MEMORY_LIMIT_BYTES, 0])
def test_what_was_stored_comes_back(tmp_path, limit):
  logits, manifest = write_store(tmp_path)
  store = logit_store.load(tmp_path, expect=SPEC, memory_limit_bytes=limit)
  assert store.manifest == manifest
  assert manifest.spec == SPEC
  assert isinstance(store.logits, np.ndarray) == (limit > 0)
  assert store.logits.shape == logits.shape
  assert store.logits.dtype == np.float32
  np.testing.assert_array_equal(np.asarray(store.logits), logits)


@pytest.mark.parametrize(
  ('views', 'rows'),
  [
    (0, slice(None)),
    (1, slice(4, 20, 3)),
    (-1, 7),
    (1, np.array([21, 0, 5, 6, 6, -1, 12])),
    (slice(None), np.array([[3, 18], [11, 3]])),
    (slice(1, 2), slice(5, 7)),
    (0, np.zeros(0, np.int64)),
  ],
)
def test_logits_on_disk_are_indexed_like_an_array(tmp_path, views, rows):
  logits, _ = write_store(tmp_path)
  on_disk = logit_store.load(tmp_path, memory_limit_bytes=0).logits
  np.testing.assert_array_equal(on_disk[views, rows], logits[views, rows], strict=True)


@pytest.mark.parametrize('rows', [np.array([0, 22]), -23, np.array([True]), np.array([0.0])])
def test_logits_on_disk_refuse_rows_that_are_not_there(tmp_path, rows):
  write_store(tmp_path)
  on_disk = logit_store.load(tmp_path, memory_limit_bytes=0).logits
  with pytest.raises(IndexError, match='-22 to 21'):
    on_disk[0, rows]


@pytest.mark.parametrize('readers', [1, 2, 3, 4, 5])
def test_each_damaged_file_is_found_by_one_of_the_readers_that_verify_together(tmp_path, readers):
  write_store(tmp_path)
  for path in sorted(tmp_path.glob('*.npy')):
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    refused = []
    for reader in range(readers):
      try:
        logit_store.verify(tmp_path, share=(reader, readers))
      except logit_manifest.LogitStoreError as error:
        refused.append(str(error))
    (message,) = refused
    assert path.name in message
    path.write_bytes(sound)


def test_loaded_logits_can_not_be_changed(tmp_path):
  write_store(tmp_path)
  with pytest.raises(ValueError, match='read-only'):
    logit_store.load(tmp_path).logits[0, 0, 0] = 1


def test_numpy_reads_a_shard(tmp_path):
  logits, _ = write_store(tmp_path)
  shard = np.load(tmp_path / LAST, allow_pickle=False)
  np.testing.assert_array_equal(shard, logits[:, 18:], strict=True)
  names = [f'shard-0000{i}-of-00004.npy' for i in range(4)]
  assert list(contents(tmp_path)) == ['manifest.json', *names]


def test_the_bytes_depend_on_neither_order_nor_writer(tmp_path):
  logits, _ = write_store(tmp_path / 'a')
  first, second = tmp_path / 'b', tmp_path / 'c'
  for shard in reversed(logit_store.missing_shards(first, SPEC)):
    logit_store.write_shard(first, SPEC, shard, logits[:, shard.start : shard.stop])
  logit_store.finish(first, SPEC)
  shards = logit_store.missing_shards(second, SPEC)
  assert logit_store.missing_shards(second, SPEC) == shards  # the second writer starts
  for shard in [*shards[::2], *shards[1::2], *shards[:2]]:  # both write the first two
    logit_store.write_shard(second, SPEC, shard, logits[:, shard.start : shard.stop])
  logit_store.finish(second, SPEC)
  assert contents(tmp_path / 'a') == contents(first) == contents(second)


def test_finishing_again_changes_nothing(tmp_path):
  labels = np.zeros(22, np.int64)
  _, manifest = write_store(tmp_path, labels=labels)
  before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
  assert logit_store.missing_shards(tmp_path, SPEC) == []
  assert logit_store.finish(tmp_path, SPEC, labels=labels) == manifest
  assert logit_store.finish(tmp_path, SPEC) == manifest  # the accuracy stays
  assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_resumed_store_has_the_same_bytes(tmp_path):
  logits, _ = write_store(tmp_path / 'whole')
  folder = tmp_path / 'resumed'
  write_missing(folder, SPEC, logits)
  (folder / 'shard-00000-of-00004.npy').unlink()
  (folder / 'shard-00001-of-00004.json').unlink()
  with open(folder / LAST, 'r+b') as file:
    file.truncate(140)
  missing = logit_store.missing_shards(folder, SPEC)
  first, second, fourth = missing
  assert (first.start, first.stop) == (0, 6)
  assert (second.start, second.stop) == (6, 12)
  assert (fourth.start, fourth.stop) == (18, 22)
  names = 'shard-00000-of-00004.npy, shard-00001-of-00004.npy, shard-00003-of-00004.npy'
  with pytest.raises(logit_manifest.LogitStoreError, match=f'3 shards are missing: {names}'):
    logit_store.finish(folder, SPEC)
  write_missing(folder, SPEC, logits)
  logit_store.finish(folder, SPEC)
  assert contents(folder) == contents(tmp_path / 'whole')


def flip_sidecar(folder):
  data = bytearray((folder / 'shard-00001-of-00004.json').read_bytes())
  data[len(data) // 2] ^= 1
  (folder / 'shard-00001-of-00004.json').write_bytes(data)


def swap_with_sidecars(folder):
  for kind in ('npy', 'json'):
    first, second = (folder / f'shard-0000{i}-of-00004.{kind}' for i in (1, 2))
    first.rename(folder / 'x')
    second.rename(first)
    (folder / 'x').rename(second)


@pytest.mark.parametrize(('harm', 'due'), [(flip_sidecar, [1]), (swap_with_sidecars, [1, 2])])
def test_an_unfinished_store_that_was_harmed_is_computed_again(tmp_path, harm, due):
  logits, _ = write_store(tmp_path / 'whole')
  folder = tmp_path / 'harmed'
  write_missing(folder, SPEC, logits)
  harm(folder)
  assert [shard.index for shard in logit_store.missing_shards(folder, SPEC)] == due
  write_missing(folder, SPEC, logits)
  logit_store.finish(folder, SPEC)
  assert contents(folder) == contents(tmp_path / 'whole')


def test_a_kill_between_manifest_and_sidecars_is_mended_by_finish(tmp_path):
  logits, _ = write_store(tmp_path / 'whole')
  folder = tmp_path / 'killed'
  write_missing(folder, SPEC, logits)
  sidecars = {name: data for name, data in contents(folder).items() if name.endswith('.json')}
  logit_store.finish(folder, SPEC)
  for name, data in sidecars.items():
    (folder / name).write_bytes(data)
  assert logit_store.missing_shards(folder, SPEC) == []
  logit_store.finish(folder, SPEC)
  assert contents(folder) == contents(tmp_path / 'whole')


@pytest.mark.parametrize('finished', [False, True])
@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'ids_sha256': 'a2'}, 'ids_sha256: "a1", now "a2"'),
    ({'shard_rows': 7}, 'shard_rows: 6, now 7'),
    ({'dtype': 'float16'}, 'dtype: "float32", now "float16"'),
    ({'class_names': ('cat', 'dog', 'car')}, 'class_names.2: "ship", now "car"'),
    ({'views': 1, 'num_examples': 44}, 'num_examples: 22, now 44; views: 2, now 1'),
    (
      {'provenance': {'teacher': {'fingerprint': 'f2', 'members': ['m0', 'm1']}, 'data': 'd1'}},
      'provenance.teacher.fingerprint: "f1", now "f2"',
    ),
  ],
)
def test_another_spec_is_refused_by_its_fields(tmp_path, change, message, finished):
  other = dataclasses.replace(SPEC, **change)
  if finished:
    write_store(tmp_path)
    with pytest.raises(logit_manifest.LogitStoreError) as caught:
      logit_store.load(tmp_path, expect=other)
    assert str(caught.value) == f'{tmp_path}: the logits of another run: {message}'
  else:
    shard = logit_store.missing_shards(tmp_path, SPEC)[0]
    logit_store.write_shard(tmp_path, SPEC, shard, teacher_logits(SPEC)[:, :6])
  before = contents(tmp_path)
  for refuse in (logit_store.missing_shards, logit_store.finish):
    with pytest.raises(logit_manifest.LogitStoreError) as caught:
      refuse(tmp_path, other)
    assert str(caught.value) == f'{tmp_path}: the logits of another run: {message}'
  assert contents(tmp_path) == before


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'views': 0}, 'views 0'),
    ({'num_examples': 2.0}, 'num_examples 2.0'),
    ({'shard_rows': True}, 'shard_rows True'),
    ({'dtype': 'bfloat16'}, 'bfloat16'),
    ({'class_names': ()}, 'class_names is empty'),
    ({'class_names': ('a', 'a')}, 'class_names has a name twice'),
  ],
)
def test_a_spec_that_can_not_be_is_refused(change, message):
  with pytest.raises(logit_manifest.LogitStoreError, match=message):
    dataclasses.replace(SPEC, **change)


def test_logits_of_another_shape_or_shard_are_refused(tmp_path):
  shard = logit_store.missing_shards(tmp_path, SPEC)[3]
  with pytest.raises(logit_manifest.LogitStoreError, match=r'\(2, 6, 3\) instead of \(2, 4, 3\)'):
    logit_store.write_shard(tmp_path, SPEC, shard, np.zeros((2, 6, 3)))
  with pytest.raises(logit_manifest.LogitStoreError, match='is not a shard of this store'):
    logit_store.write_shard(tmp_path, SPEC, logit_manifest.Shard(0, 1, 7), np.zeros((2, 6, 3)))
  assert contents(tmp_path) == {}


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused_by_row(tmp_path, bad):
  shard = logit_store.missing_shards(tmp_path, SPEC)[1]
  logits = np.zeros((2, 6, 3))
  logits[1, 2, 0] = logits[0, 5, 1] = bad
  with pytest.raises(logit_manifest.LogitStoreError, match='of 2 examples, first 8, 11'):
    logit_store.write_shard(tmp_path, SPEC, shard, logits)
  assert contents(tmp_path) == {}


def test_float16_has_limits(tmp_path):
  spec = dataclasses.replace(SPEC, dtype='float16')
  logits = teacher_logits(spec)
  logits[0, 0, 0] = 65504
  write_missing(tmp_path, spec, logits)
  manifest = logit_store.finish(tmp_path, spec)
  stored = logit_store.load(tmp_path).logits
  np.testing.assert_array_equal(stored, logits.astype(np.float16), strict=True)
  errors = [record.round_trip_error for record in manifest.shards]
  assert max(errors) == np.abs(stored - logits.astype(np.float64)).max() > 0
  shard = spec.shards()[0]
  logits[0, 0, 0] = -70000
  message = 'a logit of 70000 is beyond 65504 of float16; use float32'
  with pytest.raises(logit_manifest.LogitStoreError, match=message):
    logit_store.write_shard(tmp_path, spec, shard, logits[:, :6])


def test_every_flipped_byte_is_noticed(tmp_path):
  write_store(tmp_path, labels=np.arange(22) % 3)
  for path in sorted(tmp_path.iterdir()):
    good = path.read_bytes()
    for position in range(0, len(good), 1 if path.name == LAST else 7):
      bad = bytearray(good)
      bad[position] ^= 1 << position % 8
      path.write_bytes(bad)
      with pytest.raises(logit_manifest.LogitStoreError, match=path.name):
        logit_store.verify(tmp_path)
    path.write_bytes(good)
  logit_store.verify(tmp_path)


def cut(folder):
  os.truncate(folder / LAST, 200)


def empty(folder):
  os.truncate(folder / LAST, 0)


def lengthen(folder):
  with open(folder / LAST, 'ab') as file:
    file.write(b'\0')


def delete(folder):
  (folder / LAST).unlink()


def swap(folder):
  (folder / 'shard-00000-of-00004.npy').rename(folder / 'x')
  (folder / 'shard-00001-of-00004.npy').rename(folder / 'shard-00000-of-00004.npy')
  (folder / 'x').rename(folder / 'shard-00001-of-00004.npy')


def take_from_another_teacher(folder):
  write_store(folder.with_name('other'), seed=1)
  (folder.with_name('other') / LAST).rename(folder / LAST)


def link(folder):
  (folder / LAST).rename(folder.with_name('outside'))
  (folder / LAST).symlink_to(folder.with_name('outside'))


def make_folder(folder):
  (folder / LAST).unlink()
  (folder / LAST).mkdir()


@pytest.mark.parametrize(
  ('harm', 'message'),
  [
    (cut, f'{LAST} has 200 bytes instead of 224'),
    (empty, f'{LAST} has 0 bytes instead of 224'),
    (lengthen, f'{LAST} has 225 bytes instead of 224'),
    (delete, f'{LAST} is missing'),
    (swap, 'shard-00000-of-00004.npy has another sha256'),
    (take_from_another_teacher, f'{LAST} has another sha256'),
    (link, f'{LAST} is not a regular file'),
    (make_folder, f'{LAST} is not a regular file'),
  ],
)
def test_a_harmed_shard_is_named(tmp_path, harm, message):
  folder = tmp_path / 'store'
  write_store(folder)
  harm(folder)
  for read in (logit_store.verify, logit_store.load):
    with pytest.raises(logit_manifest.LogitStoreError, match=message):
      read(folder)


@pytest.mark.parametrize('harm', [cut, delete, swap, take_from_another_teacher])
def test_repair_computes_the_harmed_shards_alone(tmp_path, harm):
  folder = tmp_path / 'store'
  logits, _ = write_store(folder, labels=np.arange(22) % 3)
  before = contents(folder)
  harm(folder)
  harmed = [name for name in before if contents(folder).get(name) != before[name]]
  with pytest.raises(logit_manifest.LogitStoreError, match=', '.join(harmed)):
    logit_store.missing_shards(folder, SPEC)
  due = logit_store.missing_shards(folder, SPEC, repair=True)
  assert [f'shard-{shard.index:05d}-of-00004.npy' for shard in due] == harmed
  write_missing(folder, SPEC, logits, repair=True)
  logit_store.finish(folder, SPEC)
  assert contents(folder) == before


def test_repair_of_a_manifest_computes_all(tmp_path):
  logits, _ = write_store(tmp_path)
  before = contents(tmp_path)
  edit_manifest(tmp_path, lambda value: value['spec'].update(views=1), sealed=False)
  with pytest.raises(logit_manifest.LogitStoreError, match='manifest'):
    logit_store.missing_shards(tmp_path, SPEC)
  assert len(logit_store.missing_shards(tmp_path, SPEC, repair=True)) == 4
  write_missing(tmp_path, SPEC, logits)
  logit_store.finish(tmp_path, SPEC)
  assert contents(tmp_path) == before


def test_an_unfinished_store_is_not_read(tmp_path):
  write_missing(tmp_path, SPEC, teacher_logits(SPEC))
  assert logit_store.missing_shards(tmp_path, SPEC) == []
  assert not logit_store.is_finished(tmp_path)
  for folder in (tmp_path, tmp_path / 'none'):
    with pytest.raises(logit_manifest.LogitStoreError, match=r'no manifest\.json.*not finished'):
      logit_store.load(folder, expect=SPEC)
  logit_store.finish(tmp_path, SPEC)
  assert logit_store.is_finished(tmp_path)


def set_in(*keys, to):
  def edit(value):
    for key in keys[:-1]:
      value = value[key]
    value[keys[-1]] = to

  return edit


def overlap(value):
  value['shards'][1]['rows'] = 7
  value['shards'][1]['moments']['count'] = 14


@pytest.mark.parametrize(
  ('edit', 'message'),
  [
    (set_in('format_version', to=2), 'format_version 2, 1 is read here'),
    (set_in('spec', 'dtype', to='float64'), "dtype 'float64'"),
    (set_in('spec', 'dtype', to='float16'), r'shard-00000-of-00004\.npy has 272 bytes'),
    (set_in('spec', 'num_examples', to=10**15), 'shards: 4 are listed, 166666666666667 hold'),
    (set_in('spec', 'num_examples', to=23), r'shards\.3: expected count: 10, now 8'),
    (set_in('spec', 'num_examples', to=-22), 'num_examples -22'),
    (set_in('spec', 'views', to=True), r'spec\.views: True instead of int'),
    (set_in('spec', 'class_names', to=['cat', 'dog']), r'not one mean and m2 for each of 2'),
    (set_in('shards', 1, 'rows', to=5), r'shards\.1: expected rows: 6, now 5'),
    (overlap, r'shards\.1: expected count: 12, now 14; rows: 6, now 7'),
    (set_in('shards', 1, 'sha256', to='0'), r'shards\.1\.sha256 is not a hash'),
    (set_in('shards', 1, 'file', to='../secret.npy'), r'file: "shard-00001.*now "\.\./secret'),
    (set_in('shards', 1, 'file', to='/etc/passwd'), r'file: .*now "/etc/passwd"'),
    (set_in('shards', 1, 'moments', 'm2', to=[1.0, -1.0, 1.0]), r'shards\.1: a negative'),
    (set_in('shards', 1, 'extra', to=1), r'shards\.1: fields missing or unknown: extra'),
    (set_in('shards', to=[]), 'shards: 0 are listed, 4 hold the rows'),
    (set_in('shards', to={}), r'shards: \{\} instead of list'),
    (set_in('moments', 'mean', to=[0.0, 0.0, 0.0]), 'moments: not those of the shards'),
    (set_in('moments', 'mean', to=[0, 0.0, 0.0]), r'moments\.mean\.0: 0 instead of float'),
    (set_in('accuracy', 'correct', to=23), 'accuracy: more are correct than labelled'),
    (lambda value: value.pop('moments'), 'fields missing or unknown: moments'),
  ],
)
def test_an_edited_manifest_is_refused_by_its_field(tmp_path, edit, message):
  write_store(tmp_path, labels=np.zeros(22, np.int64))
  edit_manifest(tmp_path, edit)
  with pytest.raises(logit_manifest.LogitStoreError, match=message):
    logit_store.load(tmp_path)


def test_an_edit_that_could_be_true_breaks_the_seal(tmp_path):
  write_store(tmp_path)
  edit = set_in('spec', 'provenance', 'teacher', 'fingerprint', to='f2')
  edit_manifest(tmp_path, edit, sealed=False)
  with pytest.raises(logit_manifest.LogitStoreError, match=r'manifest\.json: changed since'):
    logit_store.load(tmp_path)


@pytest.mark.parametrize('number', ['NaN', 'Infinity', '1e999'])
def test_a_scale_that_is_not_finite_is_refused(tmp_path, number):
  _, manifest = write_store(tmp_path)
  text = (tmp_path / 'manifest.json').read_text()
  changed = text.replace(repr(manifest.moments.m2[0]), number)
  assert changed != text
  (tmp_path / 'manifest.json').write_text(changed)
  with pytest.raises(logit_manifest.LogitStoreError, match=r'manifest\.json'):
    logit_store.load(tmp_path)


@pytest.mark.parametrize(
  'text', ['', '[]', 'null', '{}', '{"format_version": 1}', '{"a": 1, "a": 2}']
)
def test_a_manifest_that_is_none_is_refused(tmp_path, text):
  write_store(tmp_path)
  (tmp_path / 'manifest.json').write_text(text)
  with pytest.raises(logit_manifest.LogitStoreError, match=r'manifest\.json'):
    logit_store.load(tmp_path)


def test_a_linked_manifest_is_refused(tmp_path):
  write_store(tmp_path / 'store')
  (tmp_path / 'store' / 'manifest.json').rename(tmp_path / 'outside.json')
  (tmp_path / 'store' / 'manifest.json').symlink_to(tmp_path / 'outside.json')
  with pytest.raises(logit_manifest.LogitStoreError, match=r'manifest\.json is a link'):
    logit_store.load(tmp_path / 'store')


def forge(folder, data):
  """Puts `data` in place of the last shard, hash and seal included."""
  (folder / LAST).write_bytes(data)
  digest = hashlib.sha256(data).hexdigest()
  edit_manifest(folder, set_in('shards', 3, 'sha256', to=digest))


class Bomb:
  """Pickled, it makes a file when it is read."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return pathlib.Path.touch, (self.path,)


def test_an_array_of_objects_is_not_unpickled(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  folder, proof = tmp_path / 'store', pathlib.Path('x')
  write_store(folder)
  size = (folder / LAST).stat().st_size
  header = b'\x93NUMPY\x01\x00\x46\x00{"descr": "|O", "fortran_order": False, "shape": (1,), }'
  data = header.ljust(79) + b'\n' + pickle.dumps(Bomb(proof))
  forge(folder, data.ljust(size, b'.'))
  with pytest.raises(logit_manifest.LogitStoreError, match=f'{LAST} is not a .npy file of float32'):
    logit_store.load(folder)
  assert not proof.exists()
  np.load(folder / LAST, allow_pickle=True)
  assert proof.exists()  # so it would have been


def test_a_forged_store_with_nan_is_refused_by_row(tmp_path):
  logits, _ = write_store(tmp_path)
  logits[1, 20, 2] = np.nan
  data = (tmp_path / LAST).read_bytes()[:128] + logits[:, 18:].tobytes()
  forge(tmp_path, data)
  for limit in (0, logit_store.MEMORY_LIMIT_BYTES):
    with pytest.raises(logit_manifest.LogitStoreError, match='of 1 examples, first 20'):
      logit_store.load(tmp_path, memory_limit_bytes=limit)


def test_a_full_disk_leaves_what_was_there(tmp_path):
  spec = dataclasses.replace(SPEC, num_examples=600, shard_rows=500)
  logits, _ = write_store(tmp_path / 'whole', spec)
  folder = tmp_path / 'full'
  done = run_writer(folder, 'write', limit=8)  # KiB: the first shard has 12, the second 3
  assert done.returncode == 1
  name = 'shard-00000-of-00002.npy'
  assert f'StorageError: {folder}/{name}: 12,128 bytes could not be written' in done.stderr
  assert contents(folder) == {}
  assert run_writer(folder, 'write').returncode == 0
  assert contents(folder) == contents(tmp_path / 'whole')
  assert logit_store.load(folder).logits.tobytes() == logits.tobytes()


def test_a_writer_killed_at_any_step_loses_one_shard_at_most(tmp_path):
  write_store(tmp_path / 'whole')
  done = run_writer(tmp_path / 'killed', 'kill-at-every-step')
  assert done.returncode == 0, done.stderr
  due = [int(word) for word in done.stdout.split()]
  # Sync, rename, sync of a shard, the same of its sidecar: with the 5th of the 6 it is done.
  assert due == [4 - step // 6 for step in range(1, 27 + 1)]
  for folder in (tmp_path / 'killed').iterdir():
    assert contents(folder) == contents(tmp_path / 'whole')


def test_two_writers_killed_at_random_end_with_the_same_bytes(tmp_path):
  write_store(tmp_path / 'whole')
  for seed in range(3):
    folder = tmp_path / f'killed-{seed}'
    done = run_writer(folder, 'kill-two-at-random', str(seed))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0  # kills that hit a writer at work
    assert contents(folder) == contents(tmp_path / 'whole')


def run_writer(folder, command, *arguments, limit=None):
  """Runs this file as a program: a forked process must not be one that has JAX's threads."""
  prefix = f'ulimit -f {limit}; ' if limit else ''
  words = ['bash', '-c', f'{prefix}exec "$@"', 'bash', sys.executable, __file__, str(folder)]
  environment = dict(os.environ, PYTHONPATH=str(ROOT))
  return subprocess.run(
    [*words, command, *arguments], env=environment, capture_output=True, text=True, timeout=60
  )


def kill_at_every_step(folder):
  """For each sync and rename, kills a writer there and lets another one finish its store.

  Returns how many shards that one found missing.
  """
  due = []
  for step in itertools.count(1):
    killed = folder / f'{step:02d}'
    if ended(fork_writer(killed, kill_at=step)) != -signal.SIGKILL:
      shutil.rmtree(killed)
      return due
    due.append(ended(fork_writer(killed)))


def kill_two_at_random(folder, seed):
  """Starts two writers again and again, kills both at random times; returns how many it hit."""
  rng, hits = random.Random(seed), 0
  for _ in range(8):
    writers = [fork_writer(folder, part=part) for part in range(2)]
    time.sleep(rng.uniform(0, 0.03))
    for writer in writers:
      os.kill(writer, signal.SIGKILL)
    hits += sum(ended(writer) == -signal.SIGKILL for writer in writers)
  assert ended(fork_writer(folder)) >= 0
  return hits


def fork_writer(folder, *, kill_at=None, part=None):
  """Forks a process that writes the shards of one part, or all; its exit code is their number."""
  writer = os.fork()
  if not writer:
    if kill_at is not None:
      kill_self_at(kill_at)
    os._exit(write_part(folder, part))
  return writer


def ended(process):
  return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def kill_self_at(step):
  steps = itertools.count(1)

  def dying(function):
    def call(*arguments):
      if next(steps) == step:
        os.kill(os.getpid(), signal.SIGKILL)
      return function(*arguments)

    return call

  os.fsync, os.replace = dying(os.fsync), dying(os.replace)


def write_part(folder, part):
  logits = teacher_logits(SPEC)
  missing = logit_store.missing_shards(folder, SPEC)
  due = [shard for shard in missing if part is None or shard.index % 2 == part]
  for shard in due:
    logit_store.write_shard(folder, SPEC, shard, logits[:, shard.start : shard.stop])
  if not logit_store.missing_shards(folder, SPEC):
    logit_store.finish(folder, SPEC)
  return len(due)


def main(folder, command, *arguments):
  if command == 'write':
    write_store(folder, dataclasses.replace(SPEC, num_examples=600, shard_rows=500))
  elif command == 'kill-at-every-step':
    print(*kill_at_every_step(folder))
  else:
    print(kill_two_at_random(folder, int(arguments[0])))


def test_statistics_of_several_stores_are_those_of_all_logits(tmp_path):
  stores = []
  for i, count in enumerate((22, 5, 40)):
    spec = dataclasses.replace(SPEC, num_examples=count, views=1 + i)
    logits = teacher_logits(spec, seed=i) + np.float32([0, 5000, -1])
    write_missing(tmp_path / str(i), spec, logits)
    stores.append((logits, logit_store.finish(tmp_path / str(i), spec)))
  mean, std = logit_store.statistics([manifest for _, manifest in stores])
  flat = np.concatenate([logits.reshape(-1, 3) for logits, _ in stores]).astype(np.float64)
  np.testing.assert_allclose(mean, flat.mean(axis=0), rtol=1e-14)
  np.testing.assert_allclose(std, flat.std(axis=0), rtol=1e-12)
  assert mean.dtype == std.dtype == np.float64


def test_statistics_refuse_what_can_not_be_normalised(tmp_path):
  _, manifest = write_store(tmp_path / 'a')
  logits = teacher_logits(SPEC)
  logits[..., 1] = 0.25
  write_missing(tmp_path / 'b', SPEC, logits)
  constant = logit_store.finish(tmp_path / 'b', SPEC)
  message = 'the same logit everywhere for class dog'
  with pytest.raises(logit_manifest.LogitStoreError, match=message):
    logit_store.statistics([constant])
  other = dataclasses.replace(SPEC, class_names=('cat', 'dog', 'car'))
  _, foreign = write_store(tmp_path / 'c', other)
  with pytest.raises(logit_manifest.LogitStoreError, match='other class names'):
    logit_store.statistics([manifest, foreign])
  with pytest.raises(logit_manifest.LogitStoreError, match='no store'):
    logit_store.statistics([])


def labelled_store(folder, num_wrong=10):
  """Returns logits, manifest and labels of 300 examples, some of them wrong, some unknown."""
  spec = dataclasses.replace(SPEC, num_examples=300, shard_rows=128)
  logits = teacher_logits(spec)
  labels = logits[0].argmax(axis=-1)
  labels[:num_wrong] = (labels[:num_wrong] + 1) % 3
  labels[200:] = -1
  write_missing(folder, spec, logits)
  return logits, logit_store.finish(folder, spec, labels=labels), labels


def test_the_accuracy_is_that_of_the_labelled_examples(tmp_path):
  _, manifest, _ = labelled_store(tmp_path)
  assert manifest.accuracy == logit_manifest.Accuracy(labelled=200, correct=190)


@pytest.mark.parametrize('limit', [logit_store.MEMORY_LIMIT_BYTES, 0])
def test_logits_of_reordered_examples_are_refused(tmp_path, limit):
  _, manifest, labels = labelled_store(tmp_path)
  logits = logit_store.load(tmp_path, memory_limit_bytes=limit).logits
  assert logit_store.check_rows_belong(logits, labels, manifest.accuracy)
  fewer = np.where(np.arange(300) % 2, labels, -1)
  assert logit_store.check_rows_belong(logits, fewer, manifest.accuracy)
  for wrong in (np.roll(labels, 1), np.where(labels < 0, -1, (labels + 1) % 3)):
    with pytest.raises(logit_manifest.LogitStoreError, match=r'95\.0% when written'):
      logit_store.check_rows_belong(logits, wrong, manifest.accuracy)


def test_the_bound_of_belonging_is_4_standard_errors():
  labels = np.zeros(1000, np.int64)

  def aligned(num_wrong):
    logits = np.tile(np.float32([1, 0]), (1, 1000, 1))
    logits[0, :num_wrong] = [0, 1]
    return logit_store.check_rows_belong(logits, labels, logit_manifest.Accuracy(1000, 900))

  assert aligned(100)
  assert aligned(137)  # 4 * sqrt(0.9 * 0.1 * 1000) = 37.9
  assert aligned(63)
  for num_wrong in (139, 61):
    with pytest.raises(logit_manifest.LogitStoreError, match=r'90\.0% when written'):
      aligned(num_wrong)


def test_rows_without_labels_are_not_checked(tmp_path):
  logits, manifest, labels = labelled_store(tmp_path)
  assert not logit_store.check_rows_belong(logits, np.full(300, -1), manifest.accuracy)
  assert not logit_store.check_rows_belong(logits, labels, None)


@pytest.mark.parametrize(
  ('labels', 'message'),
  [
    (np.zeros(21, np.int64), r'labels \(21,\) for 22 examples'),
    (np.full(22, 3), 'from -1 .* to 2'),
    (np.full(22, -2), 'from -1 .* to 2'),
    (np.zeros(22), 'labels are integers'),
  ],
)
def test_labels_that_can_not_be_are_refused(tmp_path, labels, message):
  write_missing(tmp_path, SPEC, teacher_logits(SPEC))
  with pytest.raises(logit_manifest.LogitStoreError, match=message):
    logit_store.finish(tmp_path, SPEC, labels=labels)
  assert not (tmp_path / 'manifest.json').exists()


if __name__ == '__main__':
  main(pathlib.Path(sys.argv[1]), *sys.argv[2:])
