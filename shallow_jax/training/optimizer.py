"""Stochastic gradient descent with momentum, as the paper trains every net (section 3.2)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

SCHEDULES = ('constant', 'cosine', 'step', 'plateau')


def build(optimizer: Mapping[str, Any], num_steps: int) -> optax.GradientTransformation:
  """SGD with momentum from a config's `optimizer`.

  Gradient clipping (`clip_norm`) and weight decay, on matrices and filters only, are off at 0.
  """
  parts = []
  if optimizer['clip_norm']:
    parts.append(optax.clip_by_global_norm(optimizer['clip_norm']))
  if optimizer['weight_decay']:
    parts.append(optax.add_decayed_weights(optimizer['weight_decay'], mask=_is_matrix))
  parts.append(
    optax.sgd(
      schedule(optimizer, num_steps),
      momentum=optimizer['momentum'],
      nesterov=optimizer['nesterov'],
    )
  )
  return optax.chain(*parts)


def schedule(optimizer: Mapping[str, Any], num_steps: int) -> optax.Schedule:
  """The learning rate at a step: linear warm-up, then the schedule over the steps that remain.

  `plateau` is constant here: the loop multiplies it by `decay_factor` when validation stalls.
  """
  rate, warmup = optimizer['learning_rate'], min(optimizer['warmup_steps'], num_steps - 1)
  remaining = num_steps - warmup
  name = optimizer['schedule']
  if name == 'cosine':
    main = optax.cosine_decay_schedule(rate, remaining)
  elif name == 'step':
    steps = [int(fraction * num_steps) - warmup for fraction in optimizer['decay_at']]
    main = optax.piecewise_constant_schedule(rate, dict.fromkeys(steps, optimizer['decay_factor']))
  elif name in ('constant', 'plateau'):
    main = optax.constant_schedule(rate)
  else:
    raise ValueError(f'unknown schedule {name!r}; expected one of {", ".join(SCHEDULES)}')
  ramp = optax.linear_schedule(rate / (warmup + 1), rate, max(warmup, 1))
  return optax.join_schedules([ramp, main], [warmup])


def _is_matrix(params: optax.Params) -> Any:
  return jax.tree.map(lambda leaf: jnp.ndim(leaf) > 1, params)
