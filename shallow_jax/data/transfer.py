"""Transfer sets: unlabelled pools without leaks, sets with a class left out, MUNGE.

MUNGE: Bucila, Caruana & Niculescu-Mizil, "Model Compression", KDD 2006.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn import neighbors

from shallow_jax.data import dataset
from shallow_jax.data import duplicates

_LABELLED = ('train', 'validation', 'test')
_SOURCES = ('train', 'unlabelled')  # what a transfer set may be made of: nothing held out


def without_leaks(
  pool: dataset.Split, held_out: Mapping[str, dataset.Split]
) -> tuple[dataset.Split, dict[str, int]]:
  """Drop the pool's examples that stand, byte for byte, in a held-out split.

  Returns:
    The rest of the pool, and by split how many of the pool's examples stand in it.
  """
  hashes = dataset.hashes(pool)
  return _without(
    pool, {name: np.isin(hashes, dataset.hashes(split)) for name, split in held_out.items()}
  )


def without_near_duplicates(
  pool: dataset.Split, held_out: Mapping[str, dataset.Split], correlation: float
) -> tuple[dataset.Split, dict[str, int]]:
  """Drop the pool's photographs that a held-out split shows too (see `duplicates`).

  Returns:
    The rest of the pool, and by split how many of the pool's photographs it shows.
  """
  images = pool.arrays['input']
  found = {
    name: duplicates.near_duplicates(images, split.arrays['input'], correlation)
    for name, split in held_out.items()
  }
  return _without(pool, found)


def without_duplicates(pool: dataset.Split) -> tuple[dataset.Split, int]:
  """Keep each of the pool's examples once; also returns how many copies that dropped."""
  _, first = np.unique(dataset.hashes(pool), return_index=True)
  copies = len(pool) - len(first)
  return pool.select(np.sort(first)) if copies else pool, copies


def clean_pool(
  pool: dataset.Split,
  splits: Mapping[str, dataset.Split],
  near_duplicate_correlation: float = duplicates.CORRELATION,
) -> tuple[dataset.Split, dict[str, Any]]:
  """Drop what validation and test hold, of photographs also what they nearly hold, and copies.

  Args:
    pool: the examples.
    splits: 'train', 'validation' and 'test'.
    near_duplicate_correlation: of photographs' edges, from which on they count as one; 0: off.
  Returns:
    The rest, and the counts for reports: by held-out split 'leaks_dropped', of photographs also
    'near_duplicates_dropped'; 'duplicates_dropped', those that stand in train or in the pool again.
  Raises:
    DataError: nothing is left.
  """
  if not 0 <= near_duplicate_correlation <= 1:
    raise dataset.DataError(
      f'data.near_duplicate_correlation is {near_duplicate_correlation}, expected 0 to 1'
    )
  held_out = {name: splits[name] for name in ('validation', 'test')}
  num_examples = len(pool)
  counts: dict[str, Any] = {}
  pool, counts['leaks_dropped'] = without_leaks(pool, held_out)
  if near_duplicate_correlation and duplicates.are_photographs(pool.arrays['input']):
    pool, counts['near_duplicates_dropped'] = without_near_duplicates(
      pool, held_out, near_duplicate_correlation
    )
  pool, in_train = without_leaks(pool, {'train': splits['train']})
  pool, copies = without_duplicates(pool)
  if not len(pool):
    raise dataset.DataError(
      f'the pool has {num_examples:,} examples and all stand in train, validation or test, '
      'expected some that do not'
    )
  return pool, {**counts, 'duplicates_dropped': {**in_train, 'unlabelled': copies}}


def _without(
  pool: dataset.Split, found: Mapping[str, np.ndarray]
) -> tuple[dataset.Split, dict[str, int]]:
  """Drops what was found in any split, bool [examples] for each; also returns how many in each."""
  kept = ~np.any(list(found.values()), axis=0)
  rest = pool if kept.all() else pool.select(np.flatnonzero(kept))
  return rest, {name: int(f.sum()) for name, f in found.items()}


def hide_labels(split: dataset.Split) -> dataset.Split:
  """Set every label to unknown, so that none can reach a student."""
  labels = np.full(len(split), dataset.UNKNOWN, np.int32)
  return dataset.Split({**split.arrays, 'label': labels})


def derive(
  sets: Mapping[str, Mapping[str, Any]], splits: Mapping[str, dataset.Split]
) -> dict[str, dataset.Split]:
  """Add the sets of config.data.sets, and hide all labels that a learner has not got.

  Train, validation, test and what is made of train alone have theirs.

  Args:
    sets: by name: `of`, the splits it is made of ('train', 'unlabelled'); `without_class`, a class
      whose examples (by their true label) are left out, or -1; `size`, how many of them, the first
      by id, so that smaller sets lie in larger ones, or 0 for all; `munge`, its arguments, or None.
    splits: with 'train', 'validation', 'test' and perhaps 'unlabelled'; its labels still true.
  Raises:
    DataError: a set of an unknown or held-out split, under a name already taken, without a class
      that can't be told, or of more examples than there are.
  """
  derived = {name: _derived(name, entry, splits) for name, entry in sets.items()}
  everything = {**splits, **derived}
  labelled = {*_LABELLED, *(name for name, entry in sets.items() if set(entry['of']) == {'train'})}
  return {
    name: split if name in labelled else hide_labels(split) for name, split in everything.items()
  }


def _derived(
  name: str, entry: Mapping[str, Any], splits: Mapping[str, dataset.Split]
) -> dataset.Split:
  _check_entry(name, entry, splits)
  split = dataset.concatenate([splits[source] for source in entry['of']])
  if entry['without_class'] >= 0:
    split = _without_class(name, split, entry['without_class'])
  split = dataset.sort(split)
  size = entry['size']
  if size and not 0 < size <= len(split):
    raise dataset.DataError(f'data.sets.{name}.size is {size}, expected 1 to {len(split)}, or 0')
  if size:
    split = split.select(np.arange(size))
  return split if entry['munge'] is None else munge(split, **entry['munge'])


def _check_entry(name: str, entry: Mapping[str, Any], splits: Mapping[str, dataset.Split]) -> None:
  if name in splits or name in (*_LABELLED, *_SOURCES):
    raise dataset.DataError(f'data.sets.{name}: the name is taken by a split of the data')
  usable = [source for source in _SOURCES if source in splits]
  if not entry['of'] or isinstance(entry['of'], str) or set(entry['of']) - set(usable):
    raise dataset.DataError(
      f'data.sets.{name}.of is {entry["of"]!r}, expected a tuple of some of {", ".join(usable)}'
    )


def _without_class(name: str, split: dataset.Split, label: int) -> dataset.Split:
  labels = split.arrays['label']
  num_unknown = np.count_nonzero(labels == dataset.UNKNOWN)
  if num_unknown:
    raise dataset.DataError(
      f'data.sets.{name} leaves out class {label}, '
      f'but the class of {num_unknown} of its examples is not known'
    )
  if label not in labels:
    raise dataset.DataError(
      f'data.sets.{name} leaves out class {label}, expected one of {labels.min()} to {labels.max()}'
    )
  return split.select(np.flatnonzero(labels != label))


def munge(
  split: dataset.Split, *, size: int, swap_probability: float, local_variance: float, seed: int
) -> dataset.Split:
  """Make synthetic examples from nearest neighbours (Bucila et al. 2006).

  Each pass goes through a copy of the split; each attribute of an example e and of its nearest
  neighbour e' trades places with probability p: e_a ~ N(e'_a, |e_a - e'_a| / s) and e'_a ~
  N(e_a, |e_a - e'_a| / s). Neighbours (Euclidean) are those in the split as it is, searched once.
  Values are clipped to the split's range, and rounded where they were integers.

  Args:
    split: the examples to start from; their labels are not used.
    size: number of synthetic examples, in as many passes as it takes.
    swap_probability: p in [0, 1].
    local_variance: s > 0; the larger, the closer to an exact swap.
    seed: of the draws.
  """
  _check_munge(split, size, swap_probability, local_variance)
  split = dataset.sort(split)
  rows = split.arrays['input'].reshape(len(split), -1).astype(np.float32)
  # without an argument an example is not its own neighbour
  search = neighbors.NearestNeighbors(n_neighbors=1).fit(rows)
  nearest = np.asarray(search.kneighbors(return_distance=False)).reshape(-1)
  generator = np.random.default_rng(seed)
  passes = [
    _munge_pass(rows, nearest, swap_probability, local_variance, generator)
    for _ in range(-(-size // len(split)))
  ]
  return dataset.make_split(_like(split.arrays['input'], np.concatenate(passes)[:size]), None)


def _check_munge(
  split: dataset.Split, size: int, swap_probability: float, local_variance: float
) -> None:
  if not (len(split) > 1 and size > 0 and 0 <= swap_probability <= 1 and local_variance > 0):
    raise dataset.DataError(
      f'munge of {len(split)} examples with size={size}, swap_probability={swap_probability}, '
      f'local_variance={local_variance}: expected at least 2 examples, size > 0, '
      '0 <= swap_probability <= 1, local_variance > 0'
    )


def _munge_pass(
  rows: np.ndarray,
  nearest: np.ndarray,
  swap_probability: float,
  local_variance: float,
  generator: np.random.Generator,
) -> np.ndarray:
  rows = rows.copy()
  # one by one: an example starts from what its neighbours' turns have made of it
  for i, j in enumerate(nearest):
    swapped = np.flatnonzero(generator.random(rows.shape[1]) < swap_probability)
    here, there = rows[i, swapped], rows[j, swapped]
    deviation = np.abs(here - there) / local_variance
    rows[i, swapped] = generator.normal(there, deviation)
    rows[j, swapped] = generator.normal(here, deviation)
  return rows


def _like(inputs: np.ndarray, rows: np.ndarray) -> np.ndarray:
  if np.issubdtype(inputs.dtype, np.integer):
    rows = np.rint(rows)
  rows = np.clip(rows, inputs.min(), inputs.max())
  return rows.astype(inputs.dtype).reshape(-1, *inputs.shape[1:])
