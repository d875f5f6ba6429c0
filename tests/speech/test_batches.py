"""Utterances of many lengths in few padded shapes."""

import numpy as np

from shallow_jax.speech import batches


def test_every_utterance_is_in_one_batch_that_it_fits():
  lengths = np.random.default_rng(0).integers(1, 800, 150)
  found = batches.by_length(lengths)
  assert [batch.rows for batch in found] == [64, 64, 32]
  np.testing.assert_array_equal(
    np.sort(np.concatenate([batch.indices for batch in found])), np.arange(150)
  )
  for batch in found:
    assert len(batch.indices) <= batch.rows
    longest = lengths[batch.indices].max()
    assert longest <= batch.length < longest + 64 and batch.length % 64 == 0


def test_shapes_stay_few_however_many_utterances_there_are():
  lengths = np.random.default_rng(0).integers(90, 780, 4000)
  assert len({(batch.rows, batch.length) for batch in batches.by_length(lengths)}) <= 13


def test_only_the_chosen_are_taken():
  found = batches.by_length([5, 300, 7, 8], np.array([0, 2, 3]))
  assert [(batch.indices.tolist(), batch.length) for batch in found] == [([3, 2, 0], 64)]
  assert batches.by_length([5, 300], np.array([], int)) == []


def test_what_is_added_is_zero():
  arrays = [np.full((length, 2), length, np.float32) for length in (3, 9, 70)]
  [batch] = batches.by_length([3, 9, 70])
  padded = batch.pad(arrays)
  assert padded.shape == (4, 128, 2) and padded.dtype == np.float32
  assert padded[:, :, 0].sum(axis=1).tolist() == [70 * 70, 9 * 9, 3 * 3, 0]
  assert (padded[1, :9] == 9).all()
  assert batch.lengths([3, 9, 70]).tolist() == [70, 9, 3, 0]
  assert batch.pad(arrays, length=192).shape == (4, 192, 2)
