"""What each network predicts on each test example, kept beside its result: two nets in pairs.

<workdir>/data/test_labels.npy         int16 [examples], in the split's order
<workdir>/<network>/predictions.npy    int16 [seeds, examples]; an ensemble has one row

A network that was evaluated before these files were written has none, and is compared with nobody.
"""

from collections.abc import Mapping, Sequence
import pathlib
from typing import Any

import numpy as np

from shallow_jax.report import uncertainty
from shallow_jax.runtime import storage
from shallow_jax.runtime import workdir as workdir_lib

DIVERGED = -1  # in the whole row of a seed that has no logits
SIGNIFICANT = 0.05


def save(
  workdir: pathlib.Path, network: str, rows: Sequence[np.ndarray | None], labels: np.ndarray
) -> None:
  """Writes a network's predictions [examples] a seed, None for a diverged one, and the labels."""
  empty = np.full(len(labels), DIVERGED)
  predicted = np.stack([empty if row is None else row for row in rows]).astype(np.int16)
  storage.write_array(workdir / workdir_lib.DATA / workdir_lib.TEST_LABELS, labels.astype(np.int16))
  storage.write_array(workdir / network / workdir_lib.PREDICTIONS, predicted)


def wrong(
  workdir: pathlib.Path, network: str, errors: Sequence[float | None]
) -> list[np.ndarray | None] | None:
  """Whether each test example is wrong, bool [examples] a seed; None where no file tells.

  `errors` are the seeds' test errors in per cent, as the result states them; None: it diverged.

  Raises:
    storage.StorageError: the predictions are not those of these labels and errors.
  """
  paths = [
    workdir / network / workdir_lib.PREDICTIONS,
    workdir / workdir_lib.DATA / workdir_lib.TEST_LABELS,
  ]
  if not all(path.exists() for path in paths):
    return None
  predicted, labels = (storage.read_array(path) for path in paths)
  expected = (len(errors), *labels.shape)
  if predicted.shape != expected or labels.ndim != 1:
    raise storage.StorageError(f'{paths[0]}: shape {predicted.shape} instead of {expected}')
  rows = [
    None if error is None else row != labels for row, error in zip(predicted, errors, strict=True)
  ]
  for seed, (row, error) in enumerate(zip(rows, errors, strict=True)):
    if row is not None and abs(100 * row.mean() - error) > 1e-6:
      raise storage.StorageError(
        f'{paths[0]}: seed {seed} makes {100 * row.mean():.4f} % errors, its result says '
        f'{error:.4f} %; delete its result.json to evaluate it again'
      )
  return rows


def mcnemar(
  first: Mapping[str, Sequence[np.ndarray | None]],
  second: Mapping[str, Sequence[np.ndarray | None]],
) -> dict[str, Any] | None:
  """McNemar's exact test of two networks, seed against seed; None if there is no pair.

  Each pair of seeds is a test of its own, of those two nets on one test set. Pooled, every example
  would count once a seed, though the seeds' errors on it go together: p would come out too small.
  Shown is the pair of the median p-value (the larger of two), and how many pairs are significant.
  Given is by split what `wrong` returned.
  """
  pairs = [
    _pair(a, b)
    for split in first
    for a, b in zip(first[split], second.get(split, ()), strict=False)
    if a is not None and b is not None
  ]
  if not pairs:
    return None
  shown = sorted(pairs, key=lambda pair: pair['p_value'])[len(pairs) // 2]
  significant = sum(pair['p_value'] < SIGNIFICANT for pair in pairs)
  return dict(shown, pairs=len(pairs), significant_pairs=significant)


def _pair(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
  only_first, only_second = int(np.sum(a & ~b)), int(np.sum(b & ~a))
  return {
    'only_first': only_first,
    'only_second': only_second,
    'p_value': uncertainty.mcnemar_p_value(only_first, only_second),
  }
