"""Stochastic gradient descent with momentum, as the paper trains every net (section 3.2).

Of shallow nets the largest stable learning rate falls as 1 / H, their hidden units.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

import optax

from shallow_jax.models import layers

SCHEDULES = ('constant', 'cosine', 'step', 'plateau')

# Logit regression diverges where learning rate x hidden units passes 20 to 28 at momentum 0.9
# (measured on digits at 2k and 8k units).
STABLE_RATE = 20.0

_SMALLEST = 500  # hidden units of which ShallowRates still takes account

DEEP_ON_SPEECH = (0.01, 0.03)  # rates to try; 0.1 does not learn


@dataclasses.dataclass(frozen=True)
class ShallowRates:
  """Rates to try that fall with a shallow net's width, but not without limit to narrow nets.

  Below 500 hidden units, and below `by_rank` / rank with a bottleneck, other layers bound them.

  Attributes:
    per_unit: the rates times the hidden units.
    by_rank: of a net with a bottleneck.
  """

  per_unit: tuple[float, ...]
  by_rank: float

  def of(self, model: Mapping[str, Any]) -> tuple[float, ...]:
    """The rates of a config's `model`, with `hidden` and perhaps `bottleneck`."""
    rank = model.get('bottleneck', 0)
    units = max(model['hidden'], _SMALLEST, self.by_rank / rank if rank else 0)
    return tuple(rate / units for rate in self.per_unit)


# From 300 steps on the TIMIT sample (500 hidden units, without and with a bottleneck of rank 32):
# at three to four times the larger of two rates a net diverges. How the bound goes with the rank is
# an estimate, and a generous one: a mimic of 4,000 units diverges at the larger rate.
LABELS_ON_SPEECH = ShallowRates((6.0, 20.0), by_rank=64_000)
L2_ON_SPEECH = ShallowRates((3.0, 10.0), by_rank=320_000)


# Half the bound of digits: at it 2,000 units without a bottleneck diverge on made-up tables of 12
# to 30 features, at a half they learn. With both bounds and twice these rates nothing else of 82
# trainings diverged on tables of 6 and 30 features (widths 2 to 2,000, ranks 0 to 16).
_DEFAULT = ShallowRates((STABLE_RATE / 2,), by_rank=32_000)


def default_rate(model: Mapping[str, Any]) -> float:
  """The learning rate of a config's `model` where it gives none."""
  return _DEFAULT.of(model)[0] if model['name'].startswith('shallow') else 0.01


def build(optimizer: Mapping[str, Any], num_steps: int) -> optax.GradientTransformation:
  """SGD with momentum from a config's `optimizer`.

  Gradient clipping (`clip_norm`) and weight decay, on matrices and filters only, are off at 0.
  """
  parts = []
  if optimizer['clip_norm']:
    parts.append(optax.clip_by_global_norm(optimizer['clip_norm']))
  if optimizer['weight_decay']:
    parts.append(optax.add_decayed_weights(optimizer['weight_decay'], mask=layers.weights))
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
  ramp = optax.linear_schedule(rate / (warmup + 1), rate, max(warmup, 1))
  name = optimizer['schedule']
  if name == 'cosine':
    main = optax.cosine_decay_schedule(rate, remaining)
  elif name == 'step':
    drops = _drops(optimizer, num_steps)
    main = optax.piecewise_constant_schedule(rate, {at - warmup: drops[at] for at in drops})
    if min(drops, default=warmup) < warmup:
      climb, drop = ramp, optax.piecewise_constant_schedule(1.0, drops)
      ramp = lambda step: climb(step) * drop(step)  # noqa: E731
  elif name in ('constant', 'plateau'):
    main = optax.constant_schedule(rate)
  else:
    raise ValueError(f'unknown schedule {name!r}; expected one of {", ".join(SCHEDULES)}')
  return optax.join_schedules([ramp, main], [warmup])


def _drops(optimizer: Mapping[str, Any], num_steps: int) -> dict[int, float]:
  """By step, what the rate is multiplied by from there on: once for each fraction that falls on it.

  The step is the whole part of the product as decimals give it: 0.29 of 100 is 29.
  """
  found: dict[int, float] = {}
  for fraction in optimizer['decay_at']:
    at = int(round(fraction * num_steps, 6))
    found[at] = found.get(at, 1.0) * optimizer['decay_factor']
  return found
