"""Feeds the compiled step: data on the devices as its arguments, or sent batch by batch."""

from collections.abc import Callable, Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shallow_jax.runtime import parallel
from shallow_jax.runtime import processes
from shallow_jax.training import problem as problem_lib
from shallow_jax.training import step as step_lib

# Data stay on the devices for the whole run up to this size on each; above, each batch is sent.
RESIDENT_BYTES = 8 * 2**30


class _Feed:
  """What feeding one training and several has in common.

  A batch that is sent is on its way while the devices work on the one before: nothing here waits
  for them.
  """

  def __init__(
    self,
    problem: problem_lib.Problem,
    layout: parallel.Layout | parallel.MemberLayout,
    compiled: Callable[..., tuple[step_lib.State, jax.Array]],
  ) -> None:
    size = sum(array.nbytes for array in problem.examples.values()) / layout.parts
    self._resident = layout.spread(problem.examples) if size <= RESIDENT_BYTES else None
    self._constants = layout.replicate(problem.dataset.constants)
    self._rate = np.float32(problem.entry['optimizer']['learning_rate'])
    self._compiled, self._is_compiled = compiled, False

  def _inputs(self, problem: problem_lib.Problem, step: int, positions: np.ndarray) -> Any:
    return problem_lib.call_inputs(problem, step, positions, sent=self._resident is None)

  def _call(
    self, state: step_lib.State, batches: Any, rate: Any, key: jax.Array
  ) -> tuple[step_lib.State, jax.Array]:
    arguments = (state, self._constants, self._resident, batches, rate, key)
    if not self._is_compiled:
      compile_together(self._compiled, arguments)
      self._is_compiled = True
    return self._compiled(*arguments)


class Feed(_Feed):
  """Feeds the step of one training."""

  def __init__(self, problem: problem_lib.Problem, layout: parallel.Layout | None = None) -> None:
    """Places what stays on the devices (None: the batch is divided over all of them)."""
    layout = layout or problem_lib.layout(problem.entry, problem.module)
    super().__init__(problem, layout, compiled_step_of(problem, layout))
    self._problem, self._layout = problem, layout
    self._key = layout.replicate(step_lib.dropout_key(problem))
    self._positions = layout.positions(problem.entry['batch_size'])

  def step(
    self, state: step_lib.State, rate_factor: float, step: int
  ) -> tuple[step_lib.State, jax.Array]:
    """Takes `steps_per_call` steps; returns the new state and the mean loss over them."""
    inputs = self._inputs(self._problem, step, self._positions)
    batches = self._layout.divide(inputs, self._problem.entry['batch_size'])
    return self._call(state, batches, self._rate * np.float32(rate_factor), self._key)


class MembersFeed(_Feed):
  """Feeds the step of several trainings in one program, whose arrays are stacked."""

  def __init__(
    self, problems: Sequence[problem_lib.Problem], layout: parallel.MemberLayout
  ) -> None:
    """Places what stays on the devices: the first one's data are those of all."""
    compiled = compiled_members_step(layout, *step_lib.program_arguments(problems[0]))
    super().__init__(problems[0], layout, compiled)
    self._problems, self._layout = problems, layout
    keys = [step_lib.dropout_key(problem) for problem in problems]
    self._keys = layout.place(jnp.stack(keys))
    self._positions = np.arange(problems[0].entry['batch_size'])

  def step(
    self, states: step_lib.State, rate_factors: Sequence[float], step: int
  ) -> tuple[step_lib.State, jax.Array]:
    """Takes `steps_per_call` steps of each; returns their states and mean losses [members]."""
    inputs = [self._inputs(problem, step, self._positions) for problem in self._problems]
    batches = self._layout.divide(jax.tree.map(lambda *each: np.stack(each), *inputs))
    rates = self._layout.place(self._rate * np.asarray(rate_factors, np.float32))
    return self._call(states, batches, rates, self._keys)


def compiled_step_of(
  problem: problem_lib.Problem, layout: parallel.Layout | None = None
) -> Callable[..., tuple[step_lib.State, jax.Array]]:
  """The compiled call of a problem; all seeds and learning rates of a network share it."""
  return compiled_step(
    layout or problem_lib.layout(problem.entry, problem.module),
    *step_lib.program_arguments(problem),
  )


@functools.lru_cache(maxsize=32)
def compiled_step(
  layout: parallel.Layout, *arguments: Any
) -> Callable[..., tuple[step_lib.State, jax.Array]]:
  """Compiles `program(*arguments)` for a layout of the devices."""
  return layout.compiled(step_lib.program(*arguments, gather=layout.gather))


@functools.lru_cache(maxsize=8)
def compiled_members_step(
  layout: parallel.MemberLayout, *arguments: Any
) -> Callable[..., tuple[step_lib.State, jax.Array]]:
  """Compiles `program(*arguments)` for several trainings at once."""
  axes = (0, None, None, 0, 0, 0)
  program = step_lib.program(*arguments, gather=layout.gather)
  return layout.compiled(jax.vmap(program, in_axes=axes, spmd_axis_name=parallel.MEMBER))


def compile_together(compiled: Any, arguments: Sequence[Any]) -> None:
  """Compiles a call for its arguments in all processes, before any of them makes it.

  Made by those that compile faster it would wait for the others, on CPU for 30 seconds only. A
  process alone compiles it when it makes it.
  """
  if processes.are_several():
    compiled.lower(*arguments).compile()
    processes.meet('the step is compiled')
