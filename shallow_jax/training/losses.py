"""What a student is asked to match (Ba & Caruana 2014, section 2.2; Hinton et al. 2015).

Every loss is a mean over examples. Logits and targets are [batch, num_classes], labels [batch].
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

ON_LABELS = ('cross_entropy', 'label_l2')
ON_LOGITS = ('logit_l2', 'kl', 'probability_l2', 'hard_cross_entropy', 'hard_l2')
ON_ONE_HOT = ('label_l2', 'hard_l2')  # what learns from these gives posteriors, not logits
NORMALISED = ('logit_l2', 'label_l2', 'hard_l2')


def compute(
  loss: Mapping[str, Any], logits: jax.Array, batch: Mapping[str, jax.Array], std: jax.Array
) -> jax.Array:
  """The scalar loss of a config's `loss` over a batch with `label` and, for students, `target`.

  Args:
    loss: `name`, `temperature`, `label_smoothing`, `label_weight`.
    batch: `label` int32 [batch], -1 where unknown; `target` float32 [batch, num_classes].
    std: [num_classes], the standard deviations that L2 losses are measured in.

  With `label_weight` w the loss is (1 - w) of its own and w of the labels' cross-entropy, which is
  taken over the examples whose label is known.
  """
  own = _own(loss, logits, batch, std)
  weight = loss['label_weight']
  if not weight:
    return own
  return (1 - weight) * own + weight * cross_entropy(logits, batch['label'])


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
  """-Σ_c q_c log softmax(logits)_c, q the smoothed one-hot label; unknown labels (-1) left out."""
  known = labels >= 0
  one_hot = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
  each = optax.softmax_cross_entropy(logits, one_hot)
  return jnp.sum(jnp.where(known, each, 0.0)) / jnp.maximum(jnp.sum(known), 1)


def logit_l2(logits: jax.Array, targets: jax.Array, std: jax.Array) -> jax.Array:
  """1/(2T) Σ_t ‖(g(x_t) - z_t) / std‖²: a sum over classes, a mean over examples (equation 1).

  With std 1 it is the paper's loss on raw logits. With the targets' standard deviations it is the
  same loss on logits normalised per class, because the mean drops out of the difference.
  """
  residuals = (logits - targets) / std[None, :]
  return 0.5 * jnp.mean(jnp.sum(jnp.square(residuals), axis=-1))


def kl(logits: jax.Array, targets: jax.Array, temperature: float) -> jax.Array:
  """T² KL(softmax(z / T) ‖ softmax(g / T)) (Hinton et al. 2015, section 2).

  T² keeps the gradient's size when T grows: for logits of zero mean over classes, an example's
  gradient tends to (g - z) / num_classes, one num_classes-th of that of `logit_l2`, with an error
  like 1 / T.
  """
  log_p = jax.nn.log_softmax(targets / temperature)
  log_q = jax.nn.log_softmax(logits / temperature)
  each = jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)
  return temperature**2 * jnp.mean(each)


def probability_l2(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """1/(2T) Σ_t ‖softmax(g(x_t)) - softmax(z_t)‖², the paper's rejected alternative."""
  residuals = jax.nn.softmax(logits) - jax.nn.softmax(targets)
  return 0.5 * jnp.mean(jnp.sum(jnp.square(residuals), axis=-1))


def one_hot_l2(logits: jax.Array, labels: jax.Array, std: jax.Array) -> jax.Array:
  """`logit_l2` towards the one-hot labels [batch]: the control for the squared loss itself."""
  return logit_l2(logits, jax.nn.one_hot(labels, logits.shape[-1]), std)


def _own(
  loss: Mapping[str, Any], logits: jax.Array, batch: Mapping[str, jax.Array], std: jax.Array
) -> jax.Array:
  name = loss['name']
  if name == 'cross_entropy':
    return cross_entropy(logits, batch['label'], loss['label_smoothing'])
  if name == 'label_l2':
    return one_hot_l2(logits, batch['label'], std)
  if name == 'logit_l2':
    return logit_l2(logits, batch['target'], std)
  if name == 'kl':
    return kl(logits, batch['target'], loss['temperature'])
  if name == 'probability_l2':
    return probability_l2(logits, batch['target'])
  hard_labels = jnp.argmax(batch['target'], axis=-1)
  if name == 'hard_cross_entropy':
    return cross_entropy(logits, hard_labels)
  if name == 'hard_l2':
    return one_hot_l2(logits, hard_labels, std)
  raise ValueError(f'unknown loss {name!r}; expected one of {", ".join(ON_LABELS + ON_LOGITS)}')
