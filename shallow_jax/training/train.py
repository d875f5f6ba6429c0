"""The one loop: fits a network to targets, be they labels or another network's logits.

Several seeds of a network may go through it in one program. Each has its own examples' order,
dropout, selection and metrics, as if it were alone; the program is vmapped over them and divided
over the devices. A batched product rounds in another way than a single one, so that the results
are those of one by one up to rounding.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import logging
import math
import pathlib
import time
from typing import Any

import numpy as np

from shallow_jax import models
from shallow_jax.runtime import checkpoint
from shallow_jax.runtime import metric_writer
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
  wall_seconds: float  # of several in one program a seed's share
  examples_per_second: float  # of all together
  mesh: Mapping[str, Any] | None = None  # what it ran on

  @property
  def diverged(self) -> bool:
    """Whether the loss was no longer finite at `step`."""
    return self.variables is None


class Diverged(Exception):  # noqa: N818 (an outcome, not a mistake)
  """The loss is no longer finite."""


def fit(
  problems: Sequence[problem_lib.Problem],
  folders: Sequence[pathlib.Path],
  *,
  label: str = '',
  stop: run_guard.StopRequest | None = None,
  layout: feed_lib.Layout | None = None,
) -> list[Outcome]:
  """Trains a seed, or several in one program, from the newest checkpoint if there is one.

  It steps, evaluates and saves in this order, so that a save holds what the evaluation decided.
  Continuing gives bit for bit what an uninterrupted run gives. A stop request saves within one
  call and raises run_guard.Stopped. A seed whose loss is not finite ends without weights.

  Args:
    problems: what is fitted to what; of several they differ in the seed alone.
    folders: for the metrics of each; the checkpoints of all are in the first one.
    stop: polled once a call.
    layout: of the devices; None: feed.lay_out's for all of them.
  """
  entry, stop = problems[0].entry, stop or run_guard.StopRequest()
  layout = layout or feed_lib.lay_out(entry, problems[0].module, members=len(problems))
  run = _start(problems, folders, label, layout)
  first_step = run.step
  with _told(run) as (writers, progress), contextlib.suppress(Diverged):
    feed = feed_lib.Feed(problems, layout)
    losses: Any = np.zeros(len(problems))
    while run.step < entry['num_steps'] and not run.is_over():
      previous_losses = losses
      factors = [float(selection.rate_factor) for selection in run.selections]
      run.state, losses = feed.step(run.state, factors, run.step)
      # Those of the call before: the device works on this one meanwhile.
      _note_diverged(run, previous_losses)
      run.step += entry['steps_per_call']
      progress.update(run.step, '')
      at_end = run.step >= entry['num_steps']
      if at_end or run.step % entry['evaluate_every_steps'] == 0:
        _note_diverged(run, losses)
        _evaluate(run, writers, progress)
      stopping = stop.requested
      if stopping or (run.step % entry['checkpoint_every_steps'] == 0 and not at_end):
        _note_diverged(run, losses)
        for writer in writers:
          writer.flush()
        _save(run)
      if stopping:
        raise stop.stopped(f'{label} at step {run.step}')
  return [_outcome(run, i, first_step) for i in range(len(problems))]


@dataclasses.dataclass
class _Run:
  """Trainings under way: of one its state, of several theirs stacked."""

  problems: Sequence[problem_lib.Problem]
  folders: Sequence[pathlib.Path]
  label: str
  layout: feed_lib.Layout
  state: step_lib.State
  selections: list[selection_lib.Selection]
  step: int = 0
  seconds_before: float = 0.0  # spent in earlier sittings
  started: float = 0.0
  diverged_at: dict[int, int] = dataclasses.field(default_factory=dict)  # the step, by member

  @property
  def seconds(self) -> float:
    """Spent by all together."""
    return self.seconds_before + time.perf_counter() - self.started

  def is_over(self) -> bool:
    """Whether no seed goes on: each has diverged or stops early."""
    return all(
      i in self.diverged_at or selection_lib.stops_early(self.problems[i].entry, selection)
      for i, selection in enumerate(self.selections)
    )

  def saved(self) -> tuple[step_lib.State, Any]:
    """What a checkpoint holds: the state, and one's selection or a list of several ones'."""
    if len(self.problems) == 1:
      return self.state, self.layout.place(self.selections[0])
    return self.state, self.layout.replicate(self.selections)


def _start(
  problems: Sequence[problem_lib.Problem],
  folders: Sequence[pathlib.Path],
  label: str,
  layout: feed_lib.Layout,
) -> _Run:
  """A run at its first step, or where its newest checkpoint is."""
  state = layout.place(layout.stack([step_lib.fresh_state(problem) for problem in problems]))
  each = layout.members(state.variables)
  selections = [selection_lib.start(problems[0].entry, variables) for variables in each]
  run = _Run(problems, folders, label, layout, state, selections)
  fresh = run.saved()
  notes: dict[str, Any] = {'wall_seconds': 0.0, 'diverged_at': {}}
  restored = checkpoint.restore_newest(folders[0] / workdir_lib.CHECKPOINTS, fresh)
  (run.state, kept), found = restored or (fresh, {})
  notes |= found  # one seed's may be older than `diverged_at`
  run.selections = [kept] if len(problems) == 1 else list(kept)
  run.step = int(layout.members(run.state.step)[0])
  run.seconds_before = notes['wall_seconds']
  run.diverged_at = {int(i): step for i, step in notes['diverged_at'].items()}
  run.started = time.perf_counter()
  if restored is not None:
    for folder in folders:
      _log.info('%s continues at step %d', folder, run.step)
  return run


@contextlib.contextmanager
def _told(run: _Run) -> Iterator[tuple[list[Writer], Progress]]:
  """What metrics and progress go to: of several processes the first one tells them."""
  entry, count = run.problems[0].entry, len(run.problems)
  if not processes.is_first():
    yield [metric_writer.Silent() for _ in run.problems], metric_writer.Silent()
    return
  shown = run.label if count == 1 else f'{run.label}, {count} seeds'
  examples = count * entry['batch_size']
  with contextlib.ExitStack() as stack:
    writers = [
      stack.enter_context(metric_writer.MetricWriter(folder, initial_step=run.step))
      for folder in run.folders
    ]
    bar = metric_writer.Progress(entry['num_steps'], examples, shown, run.step)
    yield [*writers], stack.enter_context(bar)


def _note_diverged(run: _Run, losses: Any, first: int = 0) -> None:
  """Notes of members from the `first` on whose loss is not finite.

  One by itself raises Diverged, so that what is not finite is not saved.
  """
  for i, loss in enumerate(np.ravel(losses).tolist(), first):
    if not math.isfinite(loss) and i not in run.diverged_at:
      run.diverged_at[i] = run.step
      name = run.label if len(run.problems) == 1 else run.folders[i]
      _log.warning('%s: the loss is %s at step %d; this seed has no result', name, loss, run.step)
  if run.diverged_at and len(run.problems) == 1:
    raise Diverged


def _evaluate(run: _Run, writers: Sequence[Writer], progress: Progress) -> None:
  step, layout, count = run.step, run.layout, len(run.problems)
  entry = run.problems[0].entry
  steps = (step - 1) % entry['evaluate_every_steps'] + 1
  members = layout.members((run.state.variables, run.state.loss_sum))
  zeros = layout.place(layout.stack([np.float32(0)] * count))
  run.state = dataclasses.replace(run.state, loss_sum=zeros)
  mean_loss, errors = 0.0, []
  for i, (variables, loss_sum) in enumerate(members):
    if i in run.diverged_at:
      continue
    figures, _ = selection_lib.evaluate(run.problems[i], layout.whole(variables))
    _note_diverged(run, figures['loss'], i)
    if i in run.diverged_at:
      continue
    mean_loss = float(loss_sum) / steps
    writers[i].write(step, 'train', {'loss': mean_loss})
    writers[i].write(step, 'validation', figures)
    errors.append(f'{figures["error"]:.2f}')
    run.selections[i] = selection_lib.update(entry, run.selections[i], variables, step, figures)
  if count == 1:
    progress.update(step, f'loss {mean_loss:.4g}, validation error {errors[0]} %')
  else:
    progress.update(step, f'validation errors {", ".join(errors)} %')


def _save(run: _Run) -> None:
  diverged_at = {str(i): step for i, step in run.diverged_at.items()}
  checkpoint.save(
    run.folders[0] / workdir_lib.CHECKPOINTS,
    run.step,
    run.saved(),
    notes={
      'wall_seconds': run.seconds,
      'diverged_at': diverged_at,
      'seeds': [problem.seed for problem in run.problems],
    },
    keep=CHECKPOINTS_KEPT,
  )


def _outcome(run: _Run, i: int, first_step: int) -> Outcome:
  problem, selection, count = run.problems[i], run.selections[i], len(run.problems)
  mesh = run.layout.description()
  if i in run.diverged_at:
    return Outcome(None, run.diverged_at[i], {}, False, run.seconds / count, 0.0, mesh)
  keeps_last = problem.entry['select'] == 'last'
  kept = run.layout.members(run.state.variables)[i] if keeps_last else selection.best_variables
  variables = run.layout.whole(kept)
  step = run.step if keeps_last else int(selection.best_step)
  figures, collapsed = selection_lib.evaluate(problem, variables)
  examples = (run.step - first_step) * problem.entry['batch_size'] * count
  rate = examples / (time.perf_counter() - run.started)
  return Outcome(variables, step, figures, collapsed, run.seconds / count, rate, mesh)
