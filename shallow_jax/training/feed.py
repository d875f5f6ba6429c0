"""Feeds the compiled step: data on the devices as its arguments, or sent batch by batch."""

from collections.abc import Callable, Mapping, Sequence
import functools
from typing import Any

from flax import linen as nn
import jax
import numpy as np

from shallow_jax import models
from shallow_jax.data import dataset as dataset_lib
from shallow_jax.logits import store as logit_store
from shallow_jax.runtime import parallel
from shallow_jax.runtime import processes
from shallow_jax.training import problem as problem_lib
from shallow_jax.training import step as step_lib

# Data stay on the devices for the whole run up to this size on each, or half of what a smaller one
# has; above, each batch is sent.
RESIDENT_BYTES = 8 * 2**30

Layout = parallel.Layout | parallel.MemberLayout


def lay_out(
  entry: Mapping[str, Any],
  module: nn.Module,
  settings: Mapping[str, Any] | None = None,
  *,
  members: int = 1,
  where: str = 'network',
) -> Layout:
  """How a training of an entry lies on the devices, or so many of them in one program.

  Args:
    settings: config.parallel; None: its defaults.
    members: the seeds that are trained together; 1: one by itself.
    where: the entry's place in the config, for messages.

  Raises:
    parallel.ParallelError: what can't be divided evenly.
  """
  batch_size = entry['batch_size']
  if members > 1:
    return parallel.member_layout(settings, members=members, batch_size=batch_size, where=where)
  axes = models.hidden_axes(module)
  hidden = entry['model']['hidden'] if axes else 0
  found = parallel.layout(
    settings, batch_size=batch_size, hidden_axes=axes, hidden=hidden, where=where
  )
  if found.compile == 'pmap' and entry['loss']['label_weight']:
    raise parallel.ParallelError(
      f'{where}.loss.label_weight: the mean over the examples with a label is not that of the '
      "devices' means, which pmap takes; expected 0, or config.parallel.compile=jit"
    )
  return found


class Feed:
  """Feeds the step of one training, or of several in one program, whose arrays are stacked.

  A batch that is sent is on its way while the devices work on the one before: nothing here waits
  for them.
  """

  def __init__(self, problems: Sequence[problem_lib.Problem], layout: Layout | None = None) -> None:
    """Places what stays on the devices: the first one's data are those of all."""
    first, self._problems = problems[0], problems
    self._layout = layout or lay_out(first.entry, first.module, members=len(problems))
    self._positions = self._layout.positions()
    stays = _stays_on_devices(first.examples, self._layout.parts)
    self._resident = self._layout.spread(first.examples) if stays else None
    self._constants = self._layout.replicate(first.dataset.constants)
    self._rate = np.float32(first.entry['optimizer']['learning_rate'])
    keys = [jax.random.key_data(step_lib.dropout_key(problem)) for problem in problems]
    self._keys = jax.random.wrap_key_data(self._layout.place(self._layout.stack(keys)))
    self._orders = [order_of(problem) for problem in problems]
    self._compiled = compiled_step(self._layout, *step_lib.program_arguments(first))
    self._is_compiled = False

  def step(
    self, state: step_lib.State, rate_factors: Sequence[float], step: int
  ) -> tuple[step_lib.State, jax.Array]:
    """Takes `steps_per_call` steps; returns the new state and the mean loss, of several [members].

    Of several trainings the state is that of all, stacked.
    """
    stack, sent = self._layout.stack, self._resident is None
    inputs = [
      call_inputs(problem, step, self._positions, order=order, sent=sent)
      for problem, order in zip(self._problems, self._orders, strict=True)
    ]
    rates = [self._rate * np.float32(factor) for factor in rate_factors]
    batches = self._layout.divide(stack(inputs))
    arguments = (state, self._constants, self._resident, batches, stack(rates), self._keys)
    if not self._is_compiled:
      compile_together(self._compiled, arguments)
      self._is_compiled = True
    return self._compiled(*arguments)


def _stays_on_devices(examples: Mapping[str, Any], parts: int) -> bool:
  """Whether each device takes its part of the examples, of which none is too large for the host.

  A device says what it has in `bytes_limit`; one that does not (a CPU) is taken to have enough.
  """
  told = [device.memory_stats() or {} for device in jax.local_devices()]
  halves = [stats['bytes_limit'] // 2 for stats in told if 'bytes_limit' in stats]
  size = sum(array.nbytes for array in examples.values()) / parts
  fits = size <= min([RESIDENT_BYTES, *halves])
  # A device's part is read whole on the host: targets that were left on disk stay there.
  target = examples.get('target', np.empty(0))
  fits = fits and target.nbytes / parts <= logit_store.MEMORY_LIMIT_BYTES
  return processes.agree(fits)


def order_of(problem: problem_lib.Problem) -> dataset_lib.Order:
  """In which order a training sees its examples."""
  count, batch_size = len(problem.examples['id']), problem.entry['batch_size']
  return dataset_lib.Order(count, batch_size, problem.seed)


def call_inputs(
  problem: problem_lib.Problem,
  step: int,
  positions: np.ndarray,
  *,
  order: dataset_lib.Order,
  sent: bool,
) -> dict[str, Any]:
  """What the steps of a call take in, [steps_per_call, positions of the batch, ...].

  The `views`, which an example takes in turn by epoch, and the `indices` of the examples, or of
  data that are `sent` their `arrays`, with the `target` of each one's view.
  """
  entry = problem.entry
  orders = [order(step + i) for i in range(entry['steps_per_call'])]
  indices, epochs = (np.stack(each)[:, positions] for each in zip(*orders, strict=True))
  views = (epochs % entry['views']).astype(np.int32)
  if not sent:
    return {'indices': indices, 'views': views}
  rows, view_of = indices.reshape(-1), views.reshape(-1)
  examples = dict(problem.examples)
  target = examples.pop('target', None)
  flat = dataset_lib.take_views(examples, rows, view_of)
  if target is not None:
    flat['target'] = target[rows, view_of]  # one of many views: on disk no other one is read
  arrays = {name: array.reshape(*indices.shape, *array.shape[1:]) for name, array in flat.items()}
  return {'arrays': arrays, 'views': views}


@functools.lru_cache(maxsize=32)
def compiled_step(
  layout: Layout, *arguments: Any
) -> Callable[..., tuple[step_lib.State, jax.Array]]:
  """Compiles `program(*arguments)` for a layout; all seeds and learning rates of a net share it."""
  return layout.compiled(step_lib.program(*arguments, gather=layout.gather))


def compile_together(compiled: Any, arguments: Sequence[Any]) -> None:
  """Compiles a call for its arguments in all processes, before any of them makes it.

  Made by those that compile faster it would wait for the others, on CPU for 30 seconds only. A
  process alone compiles it when it makes it.
  """
  if processes.are_several():
    compiled.lower(*arguments).compile()
    processes.meet('the step is compiled')
