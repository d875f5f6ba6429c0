"""Table 2 of the paper on CIFAR-10, row by row."""

import ml_collections

from shallow_jax import defaults
from shallow_jax.models import notation

VARIANTS = ('smoke',)
EPOCH = 352


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  defaults.variants(variant, VARIANTS)
  return defaults.experiment(
    name='Table 2',
    data=dict(
      name='cifar10', pool='cifar100', preprocessing=dict(name='gcn_zca', zca_epsilon=0.1)
    ),
    networks=dict(
      teacher=dict(
        model=notation.parse('128c-p-128c-p-128c-p-1000fc')
        | dict(kernel_size=5, pooling='stochastic', dropout=0.5, batch_norm=True),
        optimizer=dict(
          learning_rate=0.05, nesterov=True, weight_decay=5e-4, warmup_steps=2 * EPOCH
        ),
        batch_size=128,
        num_steps=10 * EPOCH,
        evaluate_every_steps=EPOCH,
        checkpoint_every_steps=EPOCH // 2,
        select='last',
      )
    ),
  )
