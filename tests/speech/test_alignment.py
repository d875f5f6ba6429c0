"""The first alignment, by thirds, against a loop over frames; and what a realignment changed."""

import numpy as np

from shallow_jax.speech import alignment

# Of 160-sample frames with centres 200, 360, ...: one each for 1 to 5 frames, none, and the rest.
SEGMENTS = [
  (50, 250, 4),
  (250, 520, 0),
  (520, 1001, 1),
  (1001, 1099, 5),
  (1099, 1800, 2),
  (1800, 2440, 3),
  (2440, 2500, 4),
]
NUM_FRAMES = 17


def test_a_frame_belongs_to_the_segment_that_its_centre_lies_in():
  found = alignment.uniform(SEGMENTS, NUM_FRAMES)
  assert found.dtype == np.int32
  for frame, state in enumerate(found):
    centre = min(160 * frame + 200, SEGMENTS[-1][1] - 1)
    [label] = [label for start, end, label in SEGMENTS if start <= centre < end]
    assert state // 3 == label


def test_a_segment_is_split_evenly_from_left_to_right():
  found = alignment.uniform([(0, 160, 0)], 1)
  assert (found % 3).tolist() == [1]
  thirds = {n: (alignment.uniform([(0, 400 + 160 * n, 0)], n) % 3).tolist() for n in range(2, 8)}
  assert thirds == {
    2: [0, 2],
    3: [0, 1, 2],
    4: [0, 1, 1, 2],
    5: [0, 0, 1, 2, 2],
    6: [0, 0, 1, 1, 2, 2],
    7: [0, 0, 1, 1, 1, 2, 2],
  }


def test_a_segment_without_a_centre_has_no_frame_and_begins_where_the_next_does():
  first = alignment.starts(SEGMENTS, NUM_FRAMES)
  assert first.tolist() == [0, 1, 2, 6, 6, 10, 14]
  assert 5 not in alignment.uniform(SEGMENTS, NUM_FRAMES) // 3


def test_a_centre_at_a_boundary_belongs_to_the_segment_that_starts_there():
  for start, frame in ((359, 1), (360, 1), (361, 2)):
    assert alignment.starts([(0, start, 0), (start, 900, 1)], 4).tolist() == [0, frame]


def test_what_is_outside_of_all_segments_takes_the_nearest():
  found = alignment.uniform([(700, 1000, 0), (1000, 1200, 1)], 12) // 3
  assert found.tolist() == [0] * 5 + [1] * 7
  late = alignment.uniform([(0, 500, 0), (5000, 5500, 1)], 12) // 3
  assert late.tolist() == [0] * 12


def test_statistics_tell_what_moved():
  old = [np.array([0, 1, 2, 3, 4, 5]), np.array([0, 1, 2, 2])]
  new = [np.array([0, 0, 1, 2, 3, 4]), np.array([0, 1, 2, 2])]
  corpus_starts = [np.array([0, 3]), np.array([0])]
  found = alignment.statistics(old, new, corpus_starts, 3)
  assert found.changed == 5 / 10
  np.testing.assert_allclose(found.shares[:2], [[3 / 8, 2 / 8, 3 / 8], [1 / 2, 1 / 2, 0]])
  assert np.isnan(found.shares[2]).all()
  assert found.shift == 1.0


def test_an_utterance_that_kept_its_thirds_has_no_shift():
  new = [np.array([0, 1, 2, 3, 4, 5]), np.array([0, 1, 2, 4])]
  corpus_starts = [np.array([0, 5]), np.array([0, 3])]
  assert alignment.statistics(new, new, corpus_starts, 2).shift == 2.0
  assert np.isnan(alignment.statistics(new[1:], new[1:], corpus_starts[1:], 2).shift)
