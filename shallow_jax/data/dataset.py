"""What every data set gives: splits, preprocessing fitted on train, and an order of examples."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import hashlib
import pathlib
from typing import Any
import zipfile
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from shallow_jax.data import views as views_lib
from shallow_jax.runtime import errors
from shallow_jax.speech import context
from shallow_jax.speech import recognise

Arrays = dict[str, np.ndarray]
Gather = Callable[[Any, Any], Any]
Inputs = Callable[[Mapping[str, jax.Array], Mapping[str, jax.Array], jax.Array | None], jax.Array]

DataError = errors.DataError

# what reading a damaged .npy or .npz file raises
NO_ARRAYS = (
  *(ValueError, OSError, EOFError, RuntimeError, MemoryError),
  *(zipfile.BadZipFile, zlib.error),
)

UNKNOWN = -1  # the label of an example whose class is not known, or not to be seen


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
  """Examples held on the host, sorted by id.

  Attributes:
    arrays: 'input' [examples, ...] (uint8 images stay uint8), 'label' int32 [examples] (-1 where
      it is not known) and 'id' uint32 [examples, 2], see `ids`. For mixed views also 'mix', which
      `views.partner_offsets` finds each one's partners by.
      Of speech an example is a frame, 'input' float32 [frames, 123], and 'before' and 'after' uint8
      [frames] say which of its neighbours belong to its input, see `shallow_jax.speech.context`.
  """

  arrays: Arrays

  def __len__(self) -> int:
    return len(self.arrays['id'])

  @functools.cached_property
  def ids_sha256(self) -> str:
    """The hash of all ids in their order: equal for splits of equal examples in equal order."""
    return _sha256(self.arrays['id'])

  @property
  def form(self) -> dict[str, Any]:
    """Shape and dtype of one raw input: ids are of the bytes alone."""
    inputs = self.arrays['input']
    return {'shape': list(inputs.shape[1:]), 'dtype': str(inputs.dtype)}

  def select(self, indices: np.ndarray) -> 'Split':
    """The examples at `indices`, in that order.

    Raises:
      DataError: of frames, which would lose their neighbours.
    """
    if 'before' in self.arrays:
      raise DataError('frames of speech were to be selected, expected whole recordings')
    return Split(take(self.arrays, indices))


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """A data set, ready for a network.

  Attributes:
    name: as in config.data.name.
    class_names: one for each class.
    splits: 'train', 'validation', 'test', where there is one 'unlabelled', and the derived sets.
    preprocessing: its settings (config.data.preprocessing).
    constants: what it fitted on train; ships with a student.
    inputs: `inputs(constants, raw, view)` turns a raw batch (of `take`) into the network's float32
      [batch, *input_shape]; pure JAX, for use inside a compiled step. `view` int32 [batch] chooses
      each example's augmented view (0: the example as it is), None leaves augmentation out.
    input_shape: of one network input.
    notes: what was done to the data, for reports.
    augmentation: how its views are made; None: every view is the example as it is.
    recognition: of speech, the utterances that the frames belong to, and their phones; else None.
  """

  name: str
  class_names: tuple[str, ...]
  splits: dict[str, Split]
  preprocessing: Mapping[str, Any]
  constants: Arrays
  inputs: Inputs
  input_shape: tuple[int, ...]
  notes: dict[str, Any]
  augmentation: views_lib.Augmentation | None = None
  recognition: recognise.Recognition | None = None

  def with_partners(self, name: str, views: int) -> Split:
    """A split with all that its views are made of: the logits of a view belong to its mix."""
    split = self.splits[name]
    if views == 1 or self.augmentation is None or not self.augmentation.mixup_alpha:
      return split
    return Split({**split.arrays, 'mix': self.augmentation.mix(len(split))})

  def fingerprint(self) -> dict[str, Any]:
    """All that results depend on, for JSON: equal fingerprints mean equal data."""
    found = {
      'name': self.name,
      'class_names': list(self.class_names),
      'splits': {name: _split_fingerprint(split) for name, split in self.splits.items()},
      'preprocessing': {
        **self.preprocessing,
        'constants': {name: _sha256(array) for name, array in self.constants.items()},
      },
      'views': self.augmentation.fingerprint() if self.augmentation else {},
    }
    if self.recognition is not None:
      found['recognition'] = self.recognition.fingerprint()
    return found


def _split_fingerprint(split: Split) -> dict[str, Any]:
  return {
    'count': len(split),
    'ids_sha256': split.ids_sha256,
    'labels_sha256': _sha256(split.arrays['label']),
    **split.form,
  }


def _sha256(array: np.ndarray) -> str:
  return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def make_split(inputs: np.ndarray, labels: np.ndarray | None) -> Split:
  """Make a split of raw examples [examples, ...] and labels [examples] (None: not known)."""
  if labels is None:
    labels = np.full(len(inputs), UNKNOWN)
  return sort(Split({'input': inputs, 'label': labels.astype(np.int32), 'id': ids(inputs)}))


def ids(inputs: np.ndarray) -> np.ndarray:
  """Return each raw example's hash, the first 8 bytes of its bytes' sha256: uint32 [examples, 2].

  Membership of a split and augmented views depend on it, not on where in a file an example stands.
  """
  rows = (np.ascontiguousarray(row) for row in inputs)  # one by one: no copy of all of them
  digests = b''.join(hashlib.sha256(row.data).digest()[:8] for row in rows)
  return np.frombuffer(digests, '<u4').reshape(-1, 2).astype(np.uint32)


def sort(split: Split) -> Split:
  """Sort by id, and examples of equal bytes by label: any source gives the same order."""
  first, second = split.arrays['id'].T
  return Split(take(split.arrays, np.lexsort((split.arrays['label'], second, first))))


def concatenate(splits: Sequence[Split]) -> Split:
  """Join splits, one after the other: not sorted."""
  if len(splits) == 1:
    return splits[0]  # not a copy
  return Split(
    {name: np.concatenate([split.arrays[name] for split in splits]) for name in splits[0].arrays}
  )


def hashes(split: Split) -> np.ndarray:
  """The ids as one number each, uint64 [examples]."""
  first, second = split.arrays['id'].astype(np.uint64).T
  return first << np.uint64(32) | second


def carve(split: Split, counts: Mapping[str, int], *, seed: int, source: str) -> dict[str, Split]:
  """Draw disjoint splits of the given counts: which examples, seed and ids alone decide.

  No two of them have an id in common: an id is drawn with all examples that have it. Where none
  fits into what is left of a count, a split takes some of the next one's, and nobody the others.

  Raises:
    DataError: `source` (its name, for the message) holds fewer examples than that.
  """
  wanted = ' + '.join(f'{name} {count}' for name, count in counts.items())
  if min(counts.values()) < 0 or sum(counts.values()) > len(split):
    raise DataError(f'{source} holds {len(split)} examples, {wanted} were asked for')
  _, id_of, sizes = np.unique(hashes(split), return_inverse=True, return_counts=True)
  drawn = id_of[np.random.default_rng(seed).permutation(len(split))]
  drawn = drawn[np.sort(np.unique(drawn, return_index=True)[1])]  # each where it comes first
  parts = {}
  for name, count in counts.items():
    is_taken = _fitting(sizes[drawn], count)
    rows = np.flatnonzero(np.isin(id_of, drawn[is_taken]))
    drawn, missing = drawn[~is_taken], count - len(rows)
    if missing and not len(drawn):
      raise DataError(
        f'{source} holds {len(sizes)} distinct examples ({len(split)} with their copies), '
        f'too few for {wanted} without an example in two of them'
      )
    if missing:
      some = np.flatnonzero(id_of == drawn[0])[:missing]
      rows, drawn = np.sort(np.concatenate([rows, some])), drawn[1:]
    parts[name] = split.select(rows)
  return parts


def _fitting(sizes: np.ndarray, room: int) -> np.ndarray:
  """Which sizes, in turn, fit into what the ones before have left of the room: bool [sizes]."""
  fits = np.zeros(len(sizes), bool)
  for i, size in enumerate(sizes.tolist()):
    if not room:
      break
    fits[i] = size <= room
    room -= size if fits[i] else 0
  return fits


def carve_validation(
  train: Split, num_validation: int, *, seed: int
) -> tuple[dict[str, Split], dict[str, Any]]:
  """Part train into 'train' and 'validation' as `carve` does.

  Returns:
    The splits, and notes: 'copies_left_out' where examples of validation have copies in neither.
  """
  if not 0 < num_validation < len(train):
    raise DataError(
      f'data.num_validation is {num_validation}, expected 1 to {len(train) - 1}: '
      'validation is carved out of train'
    )
  validation = carve(train, {'validation': num_validation}, seed=seed, source='train')['validation']
  rest = np.flatnonzero(~np.isin(hashes(train), hashes(validation)))
  if not len(rest):
    raise DataError(
      f'data.num_validation is {num_validation}, which leaves nothing of train: of its '
      f'{len(train)} examples {len(np.unique(hashes(train)))} are distinct'
    )
  copies = len(train) - num_validation - len(rest)
  notes = {'copies_left_out': {'validation': copies}} if copies else {}
  return {'train': train.select(rest), 'validation': validation}, notes


def check_classes(labels: np.ndarray, num_classes: int, where: str) -> None:
  """Refuses train's labels [examples] if they are no classes 0 to num_classes - 1 to learn.

  A few may have no example. `where` says in a message whose labels they are.
  """
  found = np.unique(labels)
  if len(found) < 2:
    raise DataError(f'{where} has the class {found[0]} alone, expected two classes or more')
  if num_classes > 2 * len(found):
    raise DataError(
      f'{where} has {len(found):,} different labels, {found[0]:,} to {found[-1]:,}: of the '
      f'{num_classes:,} classes from 0 on most have no example; expected labels that number the '
      'classes, as numpy.unique(labels, return_inverse=True) does'
    )


def local_path(path: str, key: str) -> pathlib.Path:
  """The path that the config's `data.<key>` gives, with a home folder for ~."""
  try:
    return pathlib.Path(path).expanduser()
  except RuntimeError as error:
    raise DataError(f'data.{key} is {path!r}, but there is no such home folder') from error


def printable(name: str) -> str:
  """A file's name for reports: bytes that are no UTF-8 as \\xNN."""
  return name.encode('utf-8', 'surrogateescape').decode('utf-8', 'backslashreplace')


def rows(array: np.ndarray | jax.Array, indices: np.ndarray | jax.Array) -> Any:
  """Return the rows at `indices`: NumPy on the host, jnp in a compiled step."""
  if isinstance(array, jax.Array) or isinstance(indices, jax.Array):
    # indices from `order` are in bounds; the default mode would add a mask over every pixel
    return jnp.take(array, indices, axis=0, mode='clip')
  return array[indices]


def take(
  arrays: Mapping[str, np.ndarray | jax.Array],
  indices: np.ndarray | jax.Array,
  gather: Gather = rows,
) -> dict[str, Any]:
  """Return the rows at `indices` of every array, as `gather(array, indices)` finds them."""
  return {name: gather(array, indices) for name, array in arrays.items()}


def take_views(
  arrays: Mapping[str, np.ndarray | jax.Array],
  indices: np.ndarray | jax.Array,
  views: np.ndarray | jax.Array,
  gather: Gather = rows,
) -> dict[str, Any]:
  """Return what `take` does, and of examples with partners theirs in these views [batch].

  `mix` gives way to the partners' 'partner_input' and 'partner_id'. Of speech 'input' is
  the 15 frames around each, [batch, 15, 123], for which 'before' and 'after' give way.
  """
  batch = take(arrays, indices, gather)
  if 'before' in batch:
    frames = context.window(indices, batch.pop('before'), batch.pop('after'))
    batch['input'] = gather(arrays['input'], frames)
  if 'mix' in batch:
    offsets = views_lib.partner_offsets(batch.pop('mix'), views)
    partners = take({name: arrays[name] for name in ('input', 'id')}, indices + offsets, gather)
    batch |= {f'partner_{name}': array for name, array in partners.items()}
  return batch


class Order:
  """In which order a training sees its examples: a stream cut into batches.

  The stream is a seeded permutation of all examples for each epoch, epoch after epoch: every
  example comes once an epoch, batches have one shape, and there is no state to save or restore. The
  permutations of the last two epochs are kept: a batch may span the end of one.
  """

  def __init__(self, num_examples: int, batch_size: int, seed: int) -> None:
    """Raises DataError where the batch is larger than the data."""
    if batch_size > num_examples:
      raise DataError(
        f'the batch size {batch_size} is larger than the data: {num_examples} examples'
      )
    self._num_examples, self._batch_size, self._seed = num_examples, batch_size, seed
    self._permutations: dict[int, np.ndarray] = {}

  def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a step's examples: positions [step * batch_size, (step + 1) * batch_size).

    Returns:
      indices int32 [batch_size], epochs int32 [batch_size].
    """
    positions = step * self._batch_size + np.arange(self._batch_size)
    epochs, rows = np.divmod(positions, self._num_examples)
    indices = np.empty(self._batch_size, np.int32)
    for epoch in range(epochs[0], epochs[-1] + 1):
      here = epochs == epoch
      indices[here] = self._permutation(epoch)[rows[here]]
    return indices, epochs.astype(np.int32)

  def _permutation(self, epoch: int) -> np.ndarray:
    known = self._permutations
    if epoch not in known:
      rows = np.random.default_rng([self._seed, epoch]).permutation(self._num_examples)
      before = {epoch - 1: known[epoch - 1]} if epoch - 1 in known else {}
      self._permutations = {**before, epoch: rows.astype(np.int32)}
    return self._permutations[epoch]
