"""The one loop: fits a network to targets, be they labels or another network's logits."""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import logging
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shallow_jax import models
from shallow_jax.runtime import checkpoint
from shallow_jax.runtime import metric_writer
from shallow_jax.runtime import parallel
from shallow_jax.runtime import processes
from shallow_jax.runtime import run_guard
from shallow_jax.runtime import workdir as workdir_lib
from shallow_jax.training import feed as feed_lib
from shallow_jax.training import problem as problem_lib
from shallow_jax.training import selection as selection_lib
from shallow_jax.training import step as step_lib

_log = logging.getLogger(__name__)

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
  state: step_lib.State
  selection: selection_lib.Selection
  step: int
  seconds_before: float  # spent in earlier sittings
  started: float

  @property
  def wall_seconds(self) -> float:
    return self.seconds_before + time.perf_counter() - self.started


def _start(problem: problem_lib.Problem, folder: pathlib.Path, layout: parallel.Layout) -> _Run:
  state = layout.place(step_lib.fresh_state(problem))
  selection = layout.place(selection_lib.start(problem.entry, state.variables))
  notes: Mapping[str, Any] = {'wall_seconds': 0.0}
  restored = checkpoint.restore_newest(folder / workdir_lib.CHECKPOINTS, (state, selection))
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
  feed = feed_lib.Feed(run.problem, run.layout)
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
    run.folder / workdir_lib.CHECKPOINTS,
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
