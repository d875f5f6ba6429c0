"""Several seeds of a network in one program: the loop of train.py over their stacked states.

Each seed has its own examples' order, dropout, selection and metrics, as if it were alone; the
program is vmapped over them and divided over the devices. A batched product rounds in another way
than a single one, so that the results are those of one by one up to rounding.
"""

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import logging
import pathlib
import time
from typing import Any

import jax
import numpy as np

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
from shallow_jax.training import train

_log = logging.getLogger(__name__)


def fit(
  problems: Sequence[problem_lib.Problem],
  folders: Sequence[pathlib.Path],
  *,
  label: str = '',
  stop: run_guard.StopRequest | None = None,
  layout: parallel.MemberLayout | None = None,
) -> list[train.Outcome]:
  """Trains seeds whose problems differ in the seed alone, as `train.fit` does one.

  Metrics go to the folder of each, the checkpoints of all to the first one's. A seed whose loss is
  not finite ends without weights; the others go on.
  """
  count, entry = len(problems), problems[0].entry
  layout = layout or parallel.member_layout(
    None, members=count, batch_size=entry['batch_size'], where='network'
  )
  run = _start(problems, folders, layout)
  first_step = run.step
  with contextlib.ExitStack() as stack:
    writers, progress = _opened(stack, run, label)
    _loop(run, writers, progress, stop or run_guard.StopRequest(), label)
  return [_outcome(run, i, first_step) for i in range(count)]


@dataclasses.dataclass
class _Run:
  """Trainings under way."""

  problems: Sequence[problem_lib.Problem]
  folders: Sequence[pathlib.Path]
  layout: parallel.MemberLayout
  states: step_lib.State  # stacked
  selections: list[selection_lib.Selection]
  step: int
  seconds_before: float
  started: float
  diverged_at: dict[int, int] = dataclasses.field(default_factory=dict)

  @property
  def wall_seconds(self) -> float:
    """A seed's share."""
    return (self.seconds_before + time.perf_counter() - self.started) / len(self.problems)


def _start(
  problems: Sequence[problem_lib.Problem],
  folders: Sequence[pathlib.Path],
  layout: parallel.MemberLayout,
) -> _Run:
  alone = [step_lib.fresh_state(problem) for problem in problems]
  states = layout.place(_stacked(alone))
  selections = layout.replicate(
    [
      selection_lib.start(problem.entry, state.variables)
      for problem, state in zip(problems, alone, strict=True)
    ]
  )
  notes: Mapping[str, Any] = {'wall_seconds': 0.0, 'diverged_at': {}}
  started = time.perf_counter()
  restored = checkpoint.restore_newest(folders[0] / workdir_lib.CHECKPOINTS, (states, selections))
  if restored is not None:
    (states, selections), notes = restored
  step = int(np.asarray(layout.members(states.step, len(problems))[0]))
  if step:
    _log.info('%s and those with it continue at step %d', folders[0], step)
  return _Run(
    problems,
    folders,
    layout,
    states,
    list(selections),
    step,
    notes['wall_seconds'],
    started,
    {int(i): at for i, at in notes['diverged_at'].items()},
  )


def _opened(
  stack: contextlib.ExitStack, run: _Run, label: str
) -> tuple[list[train.Writer], train.Progress]:
  entry, count = run.problems[0].entry, len(run.problems)
  if not processes.is_first():
    return [metric_writer.Silent() for _ in run.folders], metric_writer.Silent()
  writers = [metric_writer.MetricWriter(folder, initial_step=run.step) for folder in run.folders]
  progress = metric_writer.Progress(
    entry['num_steps'], count * entry['batch_size'], f'{label}, {count} seeds', run.step
  )
  return [stack.enter_context(writer) for writer in writers], stack.enter_context(progress)


def _loop(
  run: _Run,
  writers: Sequence[train.Writer],
  progress: train.Progress,
  stop: run_guard.StopRequest,
  label: str,
) -> None:
  """Step, evaluate, save, as in train.py."""
  entry = run.problems[0].entry
  feed = feed_lib.MembersFeed(run.problems, run.layout)
  previous_losses = np.zeros(len(run.problems))
  while run.step < entry['num_steps'] and len(run.diverged_at) < len(run.problems):
    rate_factors = [float(selection.rate_factor) for selection in run.selections]
    run.states, losses = feed.step(run.states, rate_factors, run.step)
    _note_diverged(run, previous_losses)
    previous_losses = losses
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


def _note_diverged(run: _Run, losses: Any) -> None:
  for i in np.flatnonzero(~np.isfinite(np.asarray(losses))).tolist():
    if i not in run.diverged_at:
      _note_that_one_diverged(run, i)


def _note_that_one_diverged(run: _Run, i: int) -> None:
  run.diverged_at[i] = run.step
  _log.warning('%s: the loss is not finite at step %d', run.folders[i], run.step)


def _evaluate(run: _Run, writers: Sequence[train.Writer], progress: train.Progress) -> None:
  step, count = run.step, len(run.problems)
  interval = run.problems[0].entry['evaluate_every_steps']
  variables = run.layout.members(run.states.variables, count)
  sums = [float(each) for each in run.layout.members(run.states.loss_sum, count)]
  zeros = run.layout.place(np.zeros(count, np.float32))
  run.states = dataclasses.replace(run.states, loss_sum=zeros)
  errors = []
  for i, problem in enumerate(run.problems):
    if i in run.diverged_at:
      continue
    figures, _ = selection_lib.evaluate(
      problem.entry, problem.module, variables[i], problem.dataset, problem.validation
    )
    if not np.isfinite(figures['loss']):
      _note_that_one_diverged(run, i)
      continue
    writers[i].write(step, 'train', {'loss': sums[i] / ((step - 1) % interval + 1)})
    writers[i].write(step, 'validation', figures)
    errors.append(f'{figures["error"]:.2f}')
    run.selections[i] = selection_lib.update(
      problem.entry, run.selections[i], variables[i], step, figures
    )
  progress.update(step, f'validation errors {", ".join(errors)} %')


def _save(run: _Run) -> None:
  checkpoint.save(
    run.folders[0] / workdir_lib.CHECKPOINTS,
    run.step,
    (run.states, run.layout.replicate(run.selections)),
    notes={
      'wall_seconds': run.seconds_before + time.perf_counter() - run.started,
      'diverged_at': {str(i): step for i, step in run.diverged_at.items()},
    },
    keep=train.CHECKPOINTS_KEPT,
  )


def _outcome(run: _Run, i: int, first_step: int) -> train.Outcome:
  problem, mesh = run.problems[i], run.layout.description()
  if i in run.diverged_at:
    return train.Outcome(None, run.diverged_at[i], {}, False, run.wall_seconds, 0.0, mesh)
  keeps_last = problem.entry['select'] == 'last'
  last = run.layout.members(run.states.variables, len(run.problems))[i]
  selection = run.selections[i]
  variables = last if keeps_last else parallel.local(selection.best_variables)
  step = run.step if keeps_last else int(selection.best_step)
  figures, collapsed = selection_lib.evaluate(
    problem.entry, problem.module, variables, problem.dataset, problem.validation
  )
  examples = (run.step - first_step) * problem.entry['batch_size'] * len(run.problems)
  rate = examples / (time.perf_counter() - run.started)
  return train.Outcome(variables, step, figures, collapsed, run.wall_seconds, rate, mesh)


def _stacked(trees: Sequence[Any]) -> Any:
  return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *trees)
