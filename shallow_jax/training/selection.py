"""What validation decides: the step that is kept, when to stop, when to lower the rate."""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from shallow_jax import models
from shallow_jax.logits import metrics
from shallow_jax.logits import predict
from shallow_jax.runtime import processes
from shallow_jax.training import losses
from shallow_jax.training import problem as problem_lib

EVALUATION_BATCH = 500


@flax.struct.dataclass
class Selection:
  """The best weights so far and what stopping early and a plateau schedule remember."""

  best_variables: dict[str, Any]  # empty where the last step is kept
  best_step: jax.Array
  best_error: jax.Array
  best_loss: jax.Array
  evaluations_since_best: jax.Array
  rate_factor: jax.Array  # what the plateaus have left of the learning rate


def start(entry: Mapping[str, Any], variables: models.Variables) -> Selection:
  """Nothing evaluated yet."""
  return Selection(
    best_variables=_kept(entry, variables),
    best_step=jnp.int32(0),
    best_error=jnp.float32(jnp.inf),
    best_loss=jnp.float32(jnp.inf),
    evaluations_since_best=jnp.int32(0),
    rate_factor=jnp.float32(1),
  )


def update(
  entry: Mapping[str, Any],
  selection: Selection,
  variables: models.Variables,
  step: int,
  figures: Mapping[str, float],
) -> Selection:
  """Takes an evaluation in."""
  best = {'error': float(selection.best_error), 'loss': float(selection.best_loss)}
  new = {key: float(np.float32(figures[key])) for key in best}
  if rank(entry, new) < rank(entry, best):
    return dataclasses.replace(
      selection,
      best_variables=_kept(entry, variables),
      best_step=jnp.int32(step),
      best_error=jnp.float32(new['error']),
      best_loss=jnp.float32(new['loss']),
      evaluations_since_best=jnp.int32(0),
    )
  waited = int(selection.evaluations_since_best) + 1
  selection = dataclasses.replace(selection, evaluations_since_best=jnp.int32(waited))
  optimizer = entry['optimizer']
  if optimizer['schedule'] == 'plateau' and waited % optimizer['plateau_evaluations'] == 0:
    factor = selection.rate_factor * optimizer['decay_factor']
    return dataclasses.replace(selection, rate_factor=jnp.float32(factor))
  return selection


def rank(entry: Mapping[str, Any], figures: Mapping[str, float]) -> tuple[float, ...]:
  """Less is better: the loss where an entry selects by it, else the error and then the loss."""
  if entry['select'] == 'loss':
    return (figures['loss'],)
  return (figures['error'], figures['loss'])


def best_trial(entry: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> int:
  """Which trial of a search validation prefers, by `rank`.

  One that diverged comes last. One that collapsed comes after the others where one of them has a
  smaller error: by its loss alone it could win against those that learned. Of rare classes a net
  that predicts none may well be the best.

  Args:
    entry: the network's.
    trials: `status`, `collapsed` and `validation`, the figures, of each.
  """
  sound = [trial for trial in trials if trial['status'] != 'diverged' and not trial['collapsed']]
  least = min((trial['validation']['error'] for trial in sound), default=math.inf)
  comparable = not {'loss', 'targets'} & set(entry['search'])  # losses of one scale

  def order(trial: Mapping[str, Any]) -> tuple[float, ...]:
    if trial['status'] == 'diverged':
      return (2,)
    figures = trial['validation']
    ranks = rank(entry, figures) if comparable else (figures['error'],)
    return (int(trial['collapsed'] and least < figures['error']), *ranks)

  return min(range(len(trials)), key=lambda i: order(trials[i]))


def stops_early(entry: Mapping[str, Any], selection: Selection) -> bool:
  """Whether `stop_after_evaluations` have passed without a better one (0: never)."""
  patience = entry['stop_after_evaluations']
  return bool(patience) and int(selection.evaluations_since_best) >= patience


def evaluate(
  problem: problem_lib.Problem, variables: models.Variables
) -> tuple[dict[str, float], bool]:
  """A net's figures on the validation of its problem, and if it collapsed.

  Of several processes the first one's figures count: they decide what all do next.
  Figures: `error` in per cent, `loss` by the net's own loss, for logit regression `logit_r2`.
  Collapsed: one class predicted for every example, or a logit regression whose R² is not above 0.
  """
  loss, arrays = problem.entry['loss'], problem.validation
  member = predict.Member(problem.module, variables)
  logits = predict.logits([member], problem.dataset, arrays, batch_size=EVALUATION_BATCH)[0]
  batch = {'label': jnp.asarray(arrays['label'])}
  if 'target' in arrays:
    batch['target'] = jnp.asarray(arrays['target'][:, 0])
  value = losses.compute(loss, jnp.asarray(logits), batch, variables['output']['std'])
  figures = {'error': metrics.error(logits, arrays['label']), 'loss': float(value)}
  collapsed = metrics.one_class_predicted(logits)
  if loss['name'] == 'logit_l2':
    r_squared = metrics.r_squared(logits, arrays['target'][:, 0])
    if r_squared is not None:
      figures['logit_r2'] = r_squared
      collapsed = collapsed or not r_squared > 0  # NaN is not above 0 either
  return processes.agree(figures), processes.agree(collapsed)


def _kept(entry: Mapping[str, Any], variables: models.Variables) -> dict[str, Any]:
  return {} if entry['select'] == 'last' else jax.tree.map(jnp.copy, dict(variables))
