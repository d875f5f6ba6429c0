"""The memory that writing and reading stores takes: little more than what is asked for."""

import dataclasses
import tracemalloc

import jax
import numpy as np
import pytest

from shallow_jax import models
from shallow_jax.data import dataset as dataset_lib
from shallow_jax.logits import manifest as logit_manifest
from shallow_jax.logits import predict
from shallow_jax.logits import store as logit_store

VIEWS, MEMBERS, ROWS, BATCH = 16, 4, 1024, 64
SPEC = logit_manifest.Spec(
  views=VIEWS,
  num_examples=ROWS,
  class_names=tuple('abcdefghij'),
  ids_sha256='a1',
  dtype='float32',
  shard_rows=ROWS,
  provenance={},
)
SHARD = SPEC.shards()[0]


def inputs(constants, raw, view):
  del constants
  return raw['input'] if view is None else raw['input'] * view[:, None]


@pytest.fixture(scope='module')
def members():
  module = models.build(dict(name='shallow', hidden=4), 10)
  return [
    predict.Member(module, models.init(module, jax.random.key(seed), (6,)))
    for seed in range(MEMBERS)
  ]


@pytest.fixture(scope='module')
def dataset():
  rng = np.random.default_rng(0)
  split = dataset_lib.make_split(rng.normal(size=(ROWS, 6)).astype(np.float32), None)
  return dataset_lib.Dataset('', SPEC.class_names, {'train': split}, {}, {}, inputs, (6,), {}, {})


def peak(call):
  tracemalloc.start()
  call()
  found = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  return found


def test_a_shard_takes_little_more_memory_than_its_bytes(tmp_path, members, dataset):
  split, stores = dataset.splits['train'], [(tmp_path / 'mean', SPEC)]

  def stored():
    predict.to_store(members, dataset, split, stores, batch_size=BATCH)

  assert peak(stored) < 3 * SPEC.num_bytes(SHARD)
  by_view = [
    predict.logits(members, dataset, split.arrays, batch_size=BATCH, view=view)
    for view in range(VIEWS)
  ]
  found = logit_store.load(tmp_path / 'mean').logits
  np.testing.assert_array_equal(found, np.stack(by_view, axis=1).mean(axis=0))


def test_members_that_are_kept_are_the_ones_of_the_mean(tmp_path, members, dataset):
  spec = dataclasses.replace(SPEC, views=2, shard_rows=700)
  stores = [(tmp_path / name, spec) for name in ('mean', *'0123')]
  predict.to_store(members, dataset, dataset.splits['train'], stores, batch_size=BATCH)
  mean, *each = (logit_store.load(folder).logits for folder, _ in stores)
  np.testing.assert_array_equal(mean, np.mean(each, axis=0))
  assert not np.array_equal(each[0], each[1])


@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_writing_copies_no_shard(tmp_path, dtype):
  spec = dataclasses.replace(SPEC, dtype=dtype, num_examples=8 * ROWS, shard_rows=8 * ROWS)
  (shard,) = spec.shards()
  logits = np.random.default_rng(0).normal(size=spec.shape(shard)).astype(np.float32)
  assert peak(lambda: logit_store.write_shard(tmp_path, spec, shard, logits)) < logits.nbytes
  record = logit_store.write_shard(tmp_path, spec, shard, logits)
  exact = logits.astype(spec.file_dtype).astype(np.float64)
  assert record.round_trip_error == np.abs(exact - logits).max()
  np.testing.assert_allclose(record.moments.mean, exact.mean(axis=(0, 1)), rtol=1e-12)
  squares = np.square(exact - exact.mean(axis=(0, 1))).sum(axis=(0, 1))
  np.testing.assert_allclose(record.moments.m2, squares, rtol=1e-12)


@pytest.mark.parametrize(
  ('views', 'num_classes', 'rows'),
  [
    (1, 183, 65_536),  # TIMIT's
    (16, 10, 65_536),
    (160, 10, 41_728),  # 163 batches of 256, 267 MB; it was 419 MB
    (160, 1000, 256),  # a batch, 164 MB; it was 42 GB
    (160, 10_000, 256),  # less than a batch is not computed at once
  ],
)
def test_a_shard_is_limited_by_its_bytes(views, num_classes, rows):
  names = tuple(map(str, range(num_classes)))
  spec = dataclasses.replace(
    SPEC, views=views, num_examples=1_000_000, class_names=names, shard_rows=65_536
  )
  found = spec.within(logit_manifest.SHARD_BYTES, multiple_of=256)
  assert found == dataclasses.replace(spec, shard_rows=rows)


def test_a_set_that_fits_into_a_shard_keeps_its_plan():
  spec = dataclasses.replace(SPEC, views=160, shard_rows=65_536)
  assert spec.within(logit_manifest.SHARD_BYTES, multiple_of=256) is spec


def test_a_store_tells_its_plan_from_its_first_shard_on(tmp_path):
  spec = dataclasses.replace(SPEC, shard_rows=700)
  logits = np.random.default_rng(0).normal(size=SPEC.shape(SHARD))
  assert logit_manifest.spec_there(tmp_path) is None
  for shard in spec.shards():
    logit_store.write_shard(tmp_path, spec, shard, logits[:, shard.start : shard.stop])
    assert logit_manifest.spec_there(tmp_path) == spec
  logit_store.finish(tmp_path, spec)
  assert logit_manifest.spec_there(tmp_path) == spec
