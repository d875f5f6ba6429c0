"""Which devices a training runs on, and what of it lies where. The one file that knows the mesh.

The mesh has the axes `data`, over which each batch is divided, and `model`, over which a wide
layer's hidden units are. Under `jit` the program is written as for one device: XLA divides it and
adds the sums over devices, so that only the order of these sums differs. Under `pmap` each device
runs it on its part of the batch, and `mean` averages what they found.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shallow_jax.runtime import errors

DATA, MODEL, MEMBER = 'data', 'model', 'member'
COMPILE = ('jit', 'pmap')

_Spec = jax.sharding.PartitionSpec


class ParallelError(errors.ExpectedError, ValueError):
  """What can't be divided over the devices; the message is one line that names the key."""


@dataclasses.dataclass(frozen=True)
class _OnMesh:
  """What the layouts have in common.

  Attributes:
    mesh: over all devices of all processes, with an axis `data`.
    batch_size: of a training, all processes together.
  """

  mesh: jax.sharding.Mesh
  batch_size: int
  compile: str = 'jit'

  def replicate(self, tree: Any) -> Any:
    """A tree of arrays, whole on every device."""
    return jax.tree.map(lambda leaf: _placed(leaf, self._sharding()), tree)

  @property
  def parts(self) -> int:
    """Into how many parts `spread` divides."""
    return 1 if self.compile == 'pmap' else self.mesh.shape[DATA]

  def spread(self, arrays: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Arrays [examples, ...] divided over `data`, of which each process reads its devices' rows.

    The last rows are zeros where the examples do not divide. For pmap whole on every device.
    """
    if self.parts == 1:
      return self.replicate({name: np.asarray(array) for name, array in arrays.items()})
    return {name: self._spread(array) for name, array in arrays.items()}

  def whole(self, tree: Any) -> Any:
    """A state's arrays, each whole on one device of this process; valid until the next step."""
    is_whole = all(leaf.is_fully_replicated for leaf in jax.tree.leaves(tree))
    return local(tree if is_whole else _gathering(self._sharding())(tree))

  def gather(self, array: jax.Array, indices: jax.Array) -> jax.Array:
    """Within a training's program: the rows at `indices` [batch, ...] of an array of `spread`."""
    return _gather(self.mesh if self.parts > 1 else None, array, indices)

  def description(self) -> dict[str, Any]:
    """For the provenance of what was trained."""
    return {
      'devices': self.mesh.size,
      'processes': jax.process_count(),
      **dict(self.mesh.shape),
      'compile': self.compile,
    }

  def _spread(self, array: Any) -> jax.Array:
    each = -(-len(array) // self.parts)

    def part(index: Any) -> np.ndarray:
      found = np.asarray(array[index[0]])
      return np.pad(found, [(0, each - len(found)), *[(0, 0)] * (found.ndim - 1)])

    shape = (self.parts * each, *array.shape[1:])
    return jax.make_array_from_callback(shape, self._sharding(DATA), part)

  def _sharding(self, *axes: str | None) -> jax.sharding.NamedSharding:
    return jax.sharding.NamedSharding(self.mesh, _Spec(*axes))


@dataclasses.dataclass(frozen=True)
class Layout(_OnMesh):
  """Where the arrays of a training lie, on a mesh of axes `data` and `model`.

  Attributes:
    hidden_axes: which axis of a parameter runs over the wide layer's hidden units, by the end of
      the parameter's path (`models.hidden_axes`). Such an axis is divided over `model`; all else of
      a state lies whole on every device.
  """

  hidden_axes: tuple[tuple[str, int], ...] = ()

  def shardings(self, tree: Any) -> Any:
    """The sharding of every leaf of a state, or of a part of it."""

    def sharding(path: Any, leaf: Any) -> jax.sharding.NamedSharding:
      del leaf
      name = jax.tree_util.keystr(path, simple=True, separator='/')
      axes = [axis for end, axis in self.hidden_axes if name.endswith(f'/{end}')]
      return self._sharding(*[None] * axes[0], MODEL) if axes else self._sharding()

    return jax.tree_util.tree_map_with_path(sharding, tree)

  def stack(self, trees: Sequence[Any]) -> Any:
    """What the program takes of its only training, as it is."""
    (tree,) = trees
    return tree

  def members(self, tree: Any) -> list[Any]:
    """The reverse of `stack`."""
    return [tree]

  def place(self, tree: Any) -> Any:
    """A state as arrays on the mesh; each process sends what its devices hold."""
    return jax.tree.map(_placed, tree, self.shardings(tree))

  def positions(self) -> np.ndarray:
    """The positions of a batch that the devices of this process need, in ascending order."""
    held = self._sharding(DATA).addressable_devices_indices_map((self.batch_size,)).values()
    return np.unique(np.concatenate([np.arange(self.batch_size)[index] for index in held]))

  def divide(self, tree: Any) -> Any:
    """What a call of several steps takes in, divided over `data`.

    Args:
      tree: arrays [steps, positions, ...]: of the `positions` of this process.

    Returns:
      Arrays [steps, batch, ...]; for pmap [devices of this process, steps, batch / devices, ...].
    """
    if self.compile == 'pmap':
      return jax.tree.map(
        lambda x: np.moveaxis(x.reshape(len(x), jax.local_device_count(), -1, *x.shape[2:]), 1, 0),
        tree,
      )
    if self.mesh.size == 1:
      return tree  # sent with the call itself, which is faster
    sharding = self._sharding(None, DATA)

    def divided(array: np.ndarray) -> jax.Array:
      shape = (len(array), self.batch_size, *array.shape[2:])
      return jax.make_array_from_process_local_data(sharding, array, shape)

    return jax.tree.map(divided, tree)

  def compiled(self, call: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles the program of one device, `call(state, constants, resident, batches, rate, key)`.

    It returns the new state, for which it takes the old one's memory, and the loss. Of its
    arguments `batches` are what `divide` made.
    """
    if self.compile == 'pmap':
      axes = (None, None, None, 0, None, None)
      return jax.pmap(call, DATA, in_axes=axes, out_axes=None, donate_argnums=0)
    if self.mesh.size == 1:
      return jax.jit(call, donate_argnums=0)

    def on_the_mesh(state: Any, *arguments: Any) -> Any:
      state, loss = call(state, *arguments)
      return jax.lax.with_sharding_constraint((state, loss), self.shardings((state, loss)))

    return jax.jit(on_the_mesh, donate_argnums=0)


def layout(
  settings: Mapping[str, Any] | None = None,
  *,
  batch_size: int,
  hidden_axes: tuple[tuple[str, int], ...] = (),
  hidden: int = 0,
  where: str = 'network',
) -> Layout:
  """The layout of a training on all devices of all processes.

  A net without a wide layer has nothing to divide over `model`: all devices share its batch.

  Args:
    settings: config.parallel; None: its defaults.
    where: the network's place in the config, for messages.

  Raises:
    ParallelError: devices, batch or hidden units that can't be divided evenly.
  """
  settings = settings or {'compile': 'jit', 'model': 1}
  devices, model = jax.device_count(), settings['model'] if hidden_axes else 1
  if settings['compile'] == 'pmap' and settings['model'] > 1:
    raise ParallelError(
      f'config.parallel.model: {settings["model"]}, but pmap divides the batch alone; expected 1, '
      'or compile=jit'
    )
  if settings['compile'] == 'pmap' and jax.process_count() > 1:
    raise ParallelError('config.parallel.compile: pmap is for one process; expected jit')
  if devices % model:
    raise ParallelError(f'config.parallel.model: {devices} devices do not divide by {model}')
  _check_batch(batch_size, devices // model, where)
  if hidden % model:
    raise ParallelError(
      f'{where}.model.hidden: {hidden} does not divide by config.parallel.model, {model}'
    )
  mesh = _mesh(**{DATA: devices // model, MODEL: model})
  return Layout(mesh, batch_size, settings['compile'], hidden_axes if model > 1 else ())


@dataclasses.dataclass(frozen=True)
class MemberLayout(_OnMesh):
  """Where the arrays of several trainings in one program lie, stacked along their first axis.

  The mesh has the axes `member`, over which the trainings are divided, and `data`, over which the
  batch of each is.
  """

  def stack(self, trees: Sequence[Any]) -> Any:
    """What the program takes of each training, [members, ...]."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)

  def members(self, tree: Any) -> list[Any]:
    """The reverse of `stack`: each member's part, whole on one device of this process."""
    leaves, structure = jax.tree.flatten(self.whole(tree))
    return [structure.unflatten([leaf[i] for leaf in leaves]) for i in range(len(leaves[0]))]

  def place(self, tree: Any) -> Any:
    """Stacked states, [members, ...]."""
    return jax.tree.map(lambda leaf: _placed(leaf, self._sharding(MEMBER)), tree)

  def positions(self) -> np.ndarray:
    """All positions of a batch: each process draws them all."""
    return np.arange(self.batch_size)

  def divide(self, tree: Any) -> Any:
    """Stacked batches, [members, steps, batch, ...]."""
    return jax.tree.map(lambda leaf: _placed(leaf, self._sharding(MEMBER, None, DATA)), tree)

  def compiled(self, call: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles what Layout.compiled does for all members, whose losses are whole everywhere."""
    call = jax.vmap(call, in_axes=(0, None, None, 0, 0, 0), spmd_axis_name=MEMBER)
    states, losses = self._sharding(MEMBER), self._sharding()
    return jax.jit(call, donate_argnums=0, out_shardings=(states, losses))


def member_layout(
  settings: Mapping[str, Any] | None, *, members: int, batch_size: int, where: str = 'network'
) -> MemberLayout:
  """The layout of so many trainings together: divided over devices as far as their number allows.

  Raises:
    ParallelError: config.parallel asks for something else, or the batch does not divide by the
      devices that share it.
  """
  if settings and (settings['compile'] != 'jit' or settings['model'] != 1):
    raise ParallelError(
      f'{where}.seeds_together: expected config.parallel.compile=jit and model=1, not '
      f'{settings["compile"]} and {settings["model"]}'
    )
  devices = jax.device_count()
  apart = math.gcd(members, devices)
  _check_batch(batch_size, devices // apart, where)
  return MemberLayout(_mesh(**{MEMBER: apart, DATA: devices // apart}), batch_size)


def mean(tree: Any) -> Any:
  """In a program of pmap the mean over its devices, elsewhere the tree itself."""
  return jax.lax.pmean(tree, DATA) if _is_mapped() else tree


def each_device(forward: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
  """Compiles `forward(variables, constants, raw, views)` for all devices of this process.

  Each takes an equal part of the batch in `raw` and `views` and computes it as one device alone
  does, to the same bits.
  """
  if jax.local_device_count() == 1:
    return jax.jit(forward)
  whole, part = _Spec(), _Spec('block')
  specs = (whole, whole, part, part)
  mapped = jax.shard_map(
    forward, mesh=_local_mesh(), in_specs=specs, out_specs=part, check_vma=False
  )
  return jax.jit(mapped)


def on_each_device(tree: Any) -> Any:
  """A tree of arrays, whole on every device of this process."""
  if jax.local_device_count() == 1:
    return jax.device_put(tree)
  return jax.device_put(tree, jax.sharding.NamedSharding(_local_mesh(), _Spec()))


def _local_mesh() -> jax.sharding.Mesh:
  return jax.sharding.Mesh(np.asarray(jax.local_devices()), ('block',))


@functools.lru_cache(maxsize=8)
def _gathering(sharding: jax.sharding.NamedSharding) -> Callable[[Any], Any]:
  """The compiled function that moves a tree to a sharding: one program for all of its calls."""
  return jax.jit(lambda tree: tree, out_shardings=sharding)


def local(tree: Any) -> Any:
  """Arrays that are whole on every device, as those of one device of this process."""
  return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def bytes_by_device(tree: Any) -> dict[int, int]:
  """The bytes of a tree that each device of this process holds, by the device's id."""
  found: dict[int, int] = {}
  for leaf in jax.tree.leaves(tree):
    for shard in leaf.addressable_shards:
      found[shard.device.id] = found.get(shard.device.id, 0) + shard.data.nbytes
  return found


def _check_batch(batch_size: int, devices: int, where: str) -> None:
  if batch_size % devices:
    raise ParallelError(
      f'{where}.batch_size: {batch_size} does not divide by the {devices} devices that share it'
    )


def _mesh(**axes: int) -> jax.sharding.Mesh:
  auto = (jax.sharding.AxisType.Auto,) * len(axes)  # Linen's Dropout refuses Explicit, the default
  return jax.make_mesh(tuple(axes.values()), tuple(axes), axis_types=auto)


def _is_mapped() -> bool:
  try:
    jax.lax.axis_size(DATA)
  except NameError:
    return False
  return True


def _placed(leaf: Any, sharding: jax.sharding.NamedSharding) -> jax.Array:
  if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
    return leaf
  if sharding.is_fully_addressable:
    return jax.device_put(leaf, sharding)
  array = np.asarray(leaf)  # not by device_put, which compares it among the processes
  return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _gather(mesh: jax.sharding.Mesh | None, array: jax.Array, indices: jax.Array) -> jax.Array:
  """The rows at `indices` [batch, ...] of an array that is divided over the mesh (None: whole).

  Each device looks up those that it holds for the whole batch, zeros for the others: the sum over
  the devices, of which each gets its part of the batch, is exact. Left to XLA, whether a device
  looks rows up in its own part or collects the whole array depends on the sizes.
  """
  if mesh is None:
    return jnp.take(array, indices, axis=0, mode='clip')

  def found(part: jax.Array, indices: jax.Array) -> jax.Array:
    wanted = jax.lax.all_gather(indices, DATA, tiled=True)
    wanted -= jax.lax.axis_index(DATA) * len(part)
    is_here = (wanted >= 0) & (wanted < len(part))
    rows = jnp.take(part, wanted, axis=0, mode='clip')
    is_here = jnp.expand_dims(is_here, tuple(range(wanted.ndim, rows.ndim)))
    return jax.lax.psum_scatter(jnp.where(is_here, rows, 0), DATA, tiled=True)

  by_part = _Spec(DATA)
  return jax.shard_map(found, mesh=mesh, in_specs=(by_part, by_part), out_specs=by_part)(
    array, indices
  )
