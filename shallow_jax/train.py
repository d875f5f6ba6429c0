"""The one loop: fits a network to targets, be they labels or another network's logits."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import functools
import logging
import pathlib
import time
from typing import Any

from flax import linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from shallow_jax import checkpoint
from shallow_jax import losses
from shallow_jax import metric_writer
from shallow_jax import models
from shallow_jax import optimizer as optimizer_lib
from shallow_jax import parallel
from shallow_jax import problem as problem_lib
from shallow_jax import processes
from shallow_jax import run_guard
from shallow_jax import selection as selection_lib
from shallow_jax.data import dataset as dataset_lib

_log = logging.getLogger(__name__)

# Data up to this size stay on the device for the whole run; above, each batch is sent.
RESIDENT_BYTES = 8 * 2**30
CHECKPOINTS_KEPT = 2

Writer = metric_writer.MetricWriter | metric_writer.Silent
Progress = metric_writer.Progress | metric_writer.Silent


@dataclasses.dataclass(frozen=True)
class Outcome:
  """How a training ended: without variables and figures if it `diverged`."""

  variables: models.Variables | None
  step: int
  validation: Mapping[str, float]
  collapsed: bool
  wall_seconds: float
  examples_per_second: float
  mesh: Mapping[str, Any] | None = None  # what it ran on

  @property
  def diverged(self) -> bool:
    """Whether the loss was no longer finite at `step`."""
    return self.variables is None


@flax.struct.dataclass
class State:
  """All that a step changes."""

  step: jax.Array
  variables: dict[str, Any]
  opt_state: optax.OptState
  loss_sum: jax.Array  # over the steps since the last evaluation


class Diverged(Exception):  # noqa: N818 (an outcome, not a mistake)
  """The loss is no longer finite."""


def fit(
  problem: problem_lib.Problem,
  folder: pathlib.Path,
  *,
  label: str = '',
  stop: run_guard.StopRequest | None = None,
  layout: parallel.Layout | None = None,
) -> Outcome:
  """Trains one seed, from the newest checkpoint in `folder` if there is one.

  Continuing gives bit for bit what an uninterrupted run gives. A stop request saves within one
  call and raises run_guard.Stopped; a loss that is not finite ends the seed without weights.

  Args:
    problem: what is fitted to what.
    folder: for checkpoints and metrics.
    label: of the progress bar and the log.
    stop: polled once a call.
    layout: of the devices; None: the batch is divided over all of them.
  """
  run = _start(problem, folder, layout or problem_lib.layout(problem.entry, problem.module))
  first_step = int(run.state.step)
  entry = problem.entry
  with _writers(entry, folder, label, first_step) as (writer, progress):
    try:
      _loop(run, writer, progress, stop or run_guard.StopRequest(), label)
    except Diverged as error:
      _log.warning('%s: %s; this seed has no result', label, error)
      mesh = run.layout.description()
      return Outcome(None, int(run.step), {}, False, run.wall_seconds, 0.0, mesh)
  return _outcome(run, first_step)


@contextlib.contextmanager
def _writers(
  entry: Mapping[str, Any], folder: pathlib.Path, label: str, first_step: int
) -> Iterator[tuple[Writer, Progress]]:
  """What metrics and progress go to: of several processes the first one tells them."""
  if not processes.is_first():
    yield metric_writer.Silent(), metric_writer.Silent()
    return
  with (
    metric_writer.MetricWriter(folder, initial_step=first_step) as writer,
    metric_writer.Progress(entry['num_steps'], entry['batch_size'], label, first_step) as progress,
  ):
    yield writer, progress


@dataclasses.dataclass
class _Run:
  """A training under way."""

  problem: problem_lib.Problem
  folder: pathlib.Path
  layout: parallel.Layout
  state: State
  selection: selection_lib.Selection
  step: int
  seconds_before: float  # spent in earlier sittings
  started: float

  @property
  def wall_seconds(self) -> float:
    return self.seconds_before + time.perf_counter() - self.started


def initial_state(problem: problem_lib.Problem, layout: parallel.Layout) -> State:
  """The state before the first step, where the layout wants it."""
  return layout.place(fresh_state(problem))


def fresh_state(problem: problem_lib.Problem) -> State:
  """The state before the first step, on one device."""
  optimizer = _optimizer(problem.entry)
  variables = jax.tree.map(jnp.copy, dict(problem.initial))  # the step donates its state
  return State(jnp.int32(0), variables, optimizer.init(variables['params']), jnp.float32(0))


def _start(problem: problem_lib.Problem, folder: pathlib.Path, layout: parallel.Layout) -> _Run:
  state = initial_state(problem, layout)
  selection = layout.place(selection_lib.start(problem.entry, state.variables))
  notes: Mapping[str, Any] = {'wall_seconds': 0.0}
  restored = checkpoint.restore_newest(folder / 'checkpoints', (state, selection))
  if restored is not None:
    (state, selection), notes = restored
    _log.info('%s continues at step %d', folder, int(state.step))
  step = int(state.step)
  seconds = notes['wall_seconds']
  return _Run(problem, folder, layout, state, selection, step, seconds, time.perf_counter())


def _loop(
  run: _Run,
  writer: Writer,
  progress: Progress,
  stop: run_guard.StopRequest,
  label: str,
) -> None:
  """Step, evaluate, save: in this order, so that a save holds what the evaluation decided."""
  entry = run.problem.entry
  feed = Feed(run.problem, run.layout)
  previous_loss: jax.Array | float = 0.0
  while run.step < entry['num_steps'] and not selection_lib.stops_early(entry, run.selection):
    run.state, loss = feed.step(run.state, float(run.selection.rate_factor), run.step)
    # The loss of the call before: the device works on this one meanwhile.
    _check_finite(previous_loss, run.step)
    previous_loss = loss
    run.step += entry['steps_per_call']
    progress.update(run.step, '')
    at_end = run.step >= entry['num_steps']
    if at_end or run.step % entry['evaluate_every_steps'] == 0:
      _check_finite(loss, run.step)
      _evaluate(run, writer, progress)
    stopping = stop.requested
    if stopping or (run.step % entry['checkpoint_every_steps'] == 0 and not at_end):
      _check_finite(loss, run.step)
      writer.flush()
      _save(run)
    if stopping:
      raise stop.stopped(f'{label} at step {run.step}')


def _check_finite(loss: jax.Array | float, step: int) -> None:
  if not np.isfinite(float(loss)):
    raise Diverged(f'the loss is {float(loss)} at step {step}')


def _evaluate(run: _Run, writer: Writer, progress: Progress) -> None:
  problem, step = run.problem, run.step
  interval = problem.entry['evaluate_every_steps']
  mean_loss = float(run.state.loss_sum) / ((step - 1) % interval + 1)
  run.state = dataclasses.replace(run.state, loss_sum=run.layout.replicate(jnp.float32(0)))
  variables = run.layout.whole(run.state.variables)
  figures, _ = selection_lib.evaluate(
    problem.entry, problem.module, variables, problem.dataset, problem.validation
  )
  _check_finite(figures['loss'], step)
  writer.write(step, 'train', {'loss': mean_loss})
  writer.write(step, 'validation', figures)
  progress.update(step, f'loss {mean_loss:.4g}, validation error {figures["error"]:.2f} %')
  run.selection = selection_lib.update(
    problem.entry, run.selection, run.state.variables, step, figures
  )


def _save(run: _Run) -> None:
  checkpoint.save(
    run.folder / 'checkpoints',
    run.step,
    (run.state, run.layout.place(run.selection)),
    notes={'wall_seconds': run.wall_seconds},
    keep=CHECKPOINTS_KEPT,
  )


def _outcome(run: _Run, first_step: int) -> Outcome:
  problem = run.problem
  keeps_last = problem.entry['select'] == 'last'
  kept = run.state.variables if keeps_last else run.selection.best_variables
  variables = run.layout.whole(kept)
  step = run.step if keeps_last else int(run.selection.best_step)
  figures, collapsed = selection_lib.evaluate(
    problem.entry, problem.module, variables, problem.dataset, problem.validation
  )
  seconds = time.perf_counter() - run.started
  rate = (run.step - first_step) * problem.entry['batch_size'] / seconds
  mesh = run.layout.description()
  return Outcome(variables, step, figures, collapsed, run.wall_seconds, rate, mesh)


class Feed:
  """Feeds the compiled step: data on the devices as its arguments, or sent batch by batch.

  A batch that is sent is on its way while the devices work on the one before: nothing here waits
  for them.
  """

  def __init__(self, problem: problem_lib.Problem, layout: parallel.Layout | None = None) -> None:
    self._problem = problem
    self._layout = layout = layout or problem_lib.layout(problem.entry, problem.module)
    size = sum(array.nbytes for array in problem.examples.values())
    is_resident = size <= RESIDENT_BYTES
    self._resident = layout.replicate(dict(problem.examples)) if is_resident else None
    self._constants = layout.replicate(problem.dataset.constants)
    self._compiled, self._is_compiled = compiled_step_of(problem, layout), False
    self._rate = np.float32(problem.entry['optimizer']['learning_rate'])
    self._key = layout.replicate(dropout_key(problem))
    self._positions = layout.positions(problem.entry['batch_size'])

  def step(self, state: State, rate_factor: float, step: int) -> tuple[State, jax.Array]:
    """Takes `steps_per_call` steps; returns the new state and the mean loss over them."""
    arrays = problem_lib.call_inputs(
      self._problem, step, self._positions, sent=self._resident is None
    )
    batches = self._layout.divide(arrays, self._problem.entry['batch_size'])
    rate = self._rate * np.float32(rate_factor)
    arguments = (state, self._constants, self._resident, batches, rate, self._key)
    if not self._is_compiled:
      compile_together(self._compiled, arguments)
      self._is_compiled = True
    return self._compiled(*arguments)


def compile_together(compiled: Any, arguments: Sequence[Any]) -> None:
  """Compiles a call for its arguments in all processes, before any of them makes it.

  Made by those that compile faster it would wait for the others, on CPU for 30 seconds only. A
  process alone compiles it when it makes it.
  """
  if processes.are_several():
    compiled.lower(*arguments).compile()
    processes.meet('the step is compiled')


def dropout_key(problem: problem_lib.Problem) -> jax.Array:
  """What a seed's dropout is drawn from, step by step."""
  return jax.random.fold_in(jax.random.key(problem.seed), 1)


def compiled_step_of(
  problem: problem_lib.Problem, layout: parallel.Layout | None = None
) -> Callable[..., tuple[State, jax.Array]]:
  """The compiled call of a problem; all seeds and learning rates of a network share it."""
  return compiled_step(
    layout or problem_lib.layout(problem.entry, problem.module), *program_arguments(problem)
  )


def program_arguments(problem: problem_lib.Problem) -> tuple[Any, ...]:
  """What the program of a problem's call depends on, the arguments of `program`."""
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


def _optimizer(entry: Mapping[str, Any]) -> optax.GradientTransformation:
  return optimizer_lib.build(dict(entry['optimizer'], learning_rate=1.0), entry['num_steps'])


@functools.lru_cache(maxsize=32)
def compiled_step(
  layout: parallel.Layout, *arguments: Any
) -> Callable[..., tuple[State, jax.Array]]:
  """Compiles `program(*arguments)` for a layout of the devices."""
  return layout.compiled(program(*arguments))


def program(
  module: nn.Module,
  inputs: dataset_lib.Inputs,
  loss_items: tuple[tuple[str, Any], ...],
  optimizer_items: tuple[tuple[str, Any], ...],
  num_steps: int,
  views: int,
  compute_dtype: str,
) -> Callable[..., tuple[State, jax.Array]]:
  """The call (state, constants, resident, batches, rate, key) -> (state, loss), not compiled yet.

  `batches` are those of one or several steps, a row a step; the loss is the mean over them.
  """
  loss, optimizer = dict(loss_items), optimizer_lib.build(dict(optimizer_items), num_steps)

  def call(
    state: State, constants: Any, resident: Any, batches: Any, rate: Any, key: Any
  ) -> tuple[State, jax.Array]:
    def one(state: State, row: Mapping[str, Any]) -> tuple[State, jax.Array]:
      batch = batch_of(resident, row)
      x = inputs(constants, batch, row['views'] if views > 1 else None)
      return train_step(module, loss, optimizer, state, x, batch, rate, key, compute_dtype)

    if len(batches['views']) == 1:  # a scan would make convolutions 11 times slower on CPU
      return one(state, jax.tree.map(lambda array: array[0], batches))
    state, each = jax.lax.scan(one, state, batches)
    return state, jnp.mean(each)

  return call


def batch_of(resident: Mapping[str, Any] | None, row: Mapping[str, Any]) -> dict[str, Any]:
  """The raw batch of a step; `target` becomes that of each example's view [batch, classes].

  Args:
    resident: all examples, from which `row` has the `indices` [batch]; None: it has the `arrays`.
    row: also the `views` [batch].
  """
  views = row['views']
  if resident is None:
    batch = dict(row['arrays'])
  else:
    batch = dataset_lib.take_views(resident, row['indices'], views)
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
    module: the net.
    loss: a config's `loss`.
    optimizer: of learning rate 1; its updates are multiplied by `rate`.
    state: before the step.
    x: [batch, ...] network inputs.
    batch: `label` and, for students, `target`.
    rate: the scalar learning rate.
    key: of the dropout; folded with the step.
    compute_dtype: float32 or bfloat16, see `models.apply_train`.
  """
  step_key = parallel.own_key(jax.random.fold_in(key, state.step))

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
