"""A step of gradient descent: what the loop calls, a pure program of state, data and rate."""

from collections.abc import Callable, Mapping
from typing import Any

from flax import linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from shallow_jax import models
from shallow_jax.data import dataset as dataset_lib
from shallow_jax.runtime import parallel
from shallow_jax.training import losses
from shallow_jax.training import optimizer as optimizer_lib
from shallow_jax.training import problem as problem_lib


@flax.struct.dataclass
class State:
  """All that a step changes."""

  step: jax.Array
  variables: dict[str, Any]
  opt_state: optax.OptState
  loss_sum: jax.Array  # over the steps since the last evaluation


def fresh_state(problem: problem_lib.Problem) -> State:
  """The state before the first step, on one device."""
  entry = problem.entry
  optimizer = optimizer_lib.build(dict(entry['optimizer'], learning_rate=1.0), entry['num_steps'])
  variables = jax.tree.map(jnp.copy, dict(problem.initial))  # the step donates its state
  return State(jnp.int32(0), variables, optimizer.init(variables['params']), jnp.float32(0))


def dropout_key(problem: problem_lib.Problem) -> jax.Array:
  """What a seed's dropout is drawn from, step by step."""
  return jax.random.fold_in(jax.random.key(problem.seed), 1)


def program_arguments(problem: problem_lib.Problem) -> tuple[Any, ...]:
  """What the program of a problem's call depends on: all but the last argument of `program`."""
  entry = problem.entry
  return (
    problem.module,
    problem.dataset.inputs,
    tuple(entry['loss'].items()),
    tuple(dict(entry['optimizer'], learning_rate=1.0).items()),
    entry['num_steps'],
    entry['views'],
    entry['compute_dtype'],
  )


def program(
  module: nn.Module,
  inputs: dataset_lib.Inputs,
  loss_items: tuple[tuple[str, Any], ...],
  optimizer_items: tuple[tuple[str, Any], ...],
  num_steps: int,
  views: int,
  compute_dtype: str,
  gather: dataset_lib.Gather = dataset_lib.rows,
) -> Callable[..., tuple[State, jax.Array]]:
  """The call (state, constants, resident, batches, rate, key) -> (state, loss), not compiled yet.

  `batches` are those of one or several steps, a row a step; the loss is the mean over them.
  `gather` looks examples up among the resident ones.
  """
  loss, optimizer = dict(loss_items), optimizer_lib.build(dict(optimizer_items), num_steps)

  def call(
    state: State, constants: Any, resident: Any, batches: Any, rate: Any, key: Any
  ) -> tuple[State, jax.Array]:
    def one(state: State, row: Mapping[str, Any]) -> tuple[State, jax.Array]:
      batch = batch_of(resident, row, gather)
      x = inputs(constants, batch, row['views'] if views > 1 else None)
      return train_step(module, loss, optimizer, state, x, batch, rate, key, compute_dtype)

    if len(batches['views']) == 1:  # a scan makes convolutions many times slower on CPU
      return one(state, jax.tree.map(lambda array: array[0], batches))
    state, each = jax.lax.scan(one, state, batches)
    return state, jnp.mean(each)

  return call


def batch_of(
  resident: Mapping[str, Any] | None,
  row: Mapping[str, Any],
  gather: dataset_lib.Gather = dataset_lib.rows,
) -> dict[str, Any]:
  """The raw batch of a step; `target` is that of each example's view [batch, classes].

  Args:
    resident: all examples, from which `row` has the `indices` and `views` [batch]; None: it has the
      `arrays` of the batch.
  """
  if resident is None:
    return dict(row['arrays'])
  views = row['views']
  batch = dataset_lib.take_views(resident, row['indices'], views, gather)
  if 'target' in batch:
    batch['target'] = jnp.take_along_axis(batch['target'], views[:, None, None], axis=1)[:, 0]
  return batch


def train_step(
  module: nn.Module,
  loss: Mapping[str, Any],
  optimizer: optax.GradientTransformation,
  state: State,
  x: jax.Array,
  batch: Mapping[str, jax.Array],
  rate: jax.Array,
  key: jax.Array,
  compute_dtype: str = 'float32',
) -> tuple[State, jax.Array]:
  """One step of gradient descent; returns the new state and the loss before it.

  Args:
    optimizer: of learning rate 1; its updates are multiplied by `rate`.
    x: [batch, ...], inputs of the net.
    batch: `label` and, for students, `target`.
    key: of the dropout; folded with the step.
    compute_dtype: float32 or bfloat16, see `models.apply_train`.
  """
  step_key = jax.random.fold_in(key, state.step)

  def objective(params: Any) -> tuple[jax.Array, Any]:
    variables = dict(state.variables, params=params)
    logits, batch_stats = models.apply_train(module, variables, x, step_key, compute_dtype)
    return losses.compute(loss, logits, batch, variables['output']['std']), batch_stats

  params = state.variables['params']
  found = jax.value_and_grad(objective, has_aux=True)(params)
  (value, batch_stats), gradients = parallel.mean(found)
  updates, opt_state = optimizer.update(gradients, state.opt_state, params)
  updates = jax.tree.map(lambda update: rate * update, updates)
  variables = dict(
    state.variables, params=optax.apply_updates(params, updates), batch_stats=batch_stats
  )
  return State(state.step + 1, variables, opt_state, state.loss_sum + value), value
