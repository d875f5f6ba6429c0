"""A net's logits over a set: into memory, or once and for all into a logit store."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import functools
import pathlib
from typing import Any

from flax import linen as nn
import jax
import numpy as np

from shallow_jax import models
from shallow_jax.data import dataset as dataset_lib
from shallow_jax.logits import manifest as logit_manifest
from shallow_jax.logits import store as logit_store
from shallow_jax.runtime import parallel
from shallow_jax.runtime import processes
from shallow_jax.runtime import storage


@dataclasses.dataclass(frozen=True)
class Member:
  """A trained net: a module and its variables. An ensemble is several."""

  module: nn.Module
  variables: models.Variables


def logits(
  members: Sequence[Member],
  dataset: dataset_lib.Dataset,
  arrays: Mapping[str, Any],
  *,
  batch_size: int,
  view: int = 0,
  rows: np.ndarray | None = None,
) -> np.ndarray:
  """The members' logits [members, examples, classes] in evaluation mode, float32.

  Every block has `batch_size` rows, the last one padded, and is computed whole by one device of
  this process, so that one program serves all and a row's logits depend neither on how many rows
  come with it nor on how many devices there are. `rows` chooses examples of `arrays`,
  among which a view's partners are looked up; None takes all.
  """
  rows = np.arange(len(arrays['id'])) if rows is None else rows
  blocks = _blocks(members, dataset, arrays, batch_size=batch_size, view=view, rows=rows)
  return np.concatenate(list(blocks), axis=1)


def _blocks(
  members: Sequence[Member],
  dataset: dataset_lib.Dataset,
  arrays: Mapping[str, Any],
  *,
  batch_size: int,
  view: int,
  rows: np.ndarray,
) -> Iterator[np.ndarray]:
  """`logits` of some rows after the other: [members, some rows, classes]."""
  constants = parallel.on_each_device(dataset.constants)
  variables = [parallel.on_each_device(member.variables) for member in members]
  forwards = [compiled(member.module, dataset.inputs) for member in members]
  together = batch_size * jax.local_device_count()
  views = np.full(together, view, np.int32)
  for start in range(0, len(rows), together):
    indices = rows[np.arange(start, start + together) % len(rows)]
    raw = dataset_lib.take_views(arrays, indices, views)
    found = [
      np.asarray(forward(weights, constants, raw, views if view else None))
      for forward, weights in zip(forwards, variables, strict=True)
    ]
    yield np.stack(found)[:, : len(rows) - start]


def to_store(
  members: Sequence[Member],
  dataset: dataset_lib.Dataset,
  split: dataset_lib.Split,
  stores: Sequence[tuple[pathlib.Path, logit_manifest.Spec]],
  *,
  batch_size: int,
  on_shard: Callable[[logit_manifest.Shard], None] = lambda shard: None,
  on_block: Callable[[logit_manifest.Shard, int], None] = lambda shard, done: None,
) -> None:
  """Stores the mean of the members' logits (section 2.3) for every view of a set.

  Only shards that are not there yet are computed; several processes share them. `split` has
  partners where its views are mixed; `stores` are folder and spec of the mean's store, then of each
  member's where they are kept; `on_shard` is called after each shard and may raise to stop there,
  `on_block` after each block, with how many rows of all views are done: to stop there loses them.
  """
  due = {}
  for folder, spec in stores:
    due.update({shard.index: shard for shard in missing_shards(folder, spec)})
  for shards in processes.shares(list(due.values())):
    if processes.index() in shards:
      shard = shards[processes.index()]
      _store_shard(members, dataset, split, stores, shard, batch_size, on_block)
    on_shard(max(shards.values(), key=lambda shard: shard.stop))
  processes.meet('the shards are written')
  if processes.is_first():
    for folder, spec in stores:
      logit_store.finish(folder, spec, labels=split.arrays['label'])
  processes.meet('the stores are finished')


def missing_shards(folder: pathlib.Path, spec: logit_manifest.Spec) -> list[logit_manifest.Shard]:
  """`logit_store.missing_shards`, which of several processes the first finds out for all."""
  with processes.refusing_together(logit_manifest.LogitStoreError, storage.StorageError):
    found = logit_store.missing_shards(folder, spec) if processes.is_first() else []
  due = processes.agree([shard.index for shard in found])
  return [shard for shard in spec.shards() if shard.index in due]


def _store_shard(
  members: Sequence[Member],
  dataset: dataset_lib.Dataset,
  split: dataset_lib.Split,
  stores: Sequence[tuple[pathlib.Path, logit_manifest.Spec]],
  shard: logit_manifest.Shard,
  batch_size: int,
  on_block: Callable[[logit_manifest.Shard, int], None],
) -> None:
  arrays, rows = split.arrays, np.arange(shard.start, shard.stop)
  stored = [np.empty(spec.shape(shard), np.float32) for _, spec in stores]
  for view in range(stores[0][1].views):
    start = 0
    for block in _blocks(members, dataset, arrays, batch_size=batch_size, view=view, rows=rows):
      stop = start + block.shape[1]
      for values, logits_of in zip(stored, [block.mean(axis=0), *block], strict=False):
        values[view, start:stop] = logits_of
      start = stop
      on_block(shard, view * len(rows) + stop)
  for (folder, spec), values in zip(stores, stored, strict=True):
    logit_store.write_shard(folder, spec, shard, values)


@functools.lru_cache(maxsize=64)
def compiled(module: nn.Module, inputs: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
  """The compiled function (variables, constants, raw batch, views) -> logits.

  Each device of this process takes an equal part of the batch and computes it by itself.
  """

  def forward(variables: Any, constants: Any, raw: Any, views: Any) -> jax.Array:
    return models.apply(module, variables, inputs(constants, raw, views))

  return parallel.each_device(forward)
