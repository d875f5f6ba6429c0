"""CIFAR-10 on two CPU cores: a CNN ensemble and the shallow net 64c-p-300L-8k.

The shallow net learns from the labels, from the ensemble's logits on the same 45,000 images, and
from its logits on those and CIFAR-100's images, unlabelled. Smaller than the paper's rows, with a
recipe of ours; Table 2 itself has a config of its own.

  python -m shallow_jax.main --config=configs/cifar10.py --workdir=runs/cifar10 \
      --config.data.data_dir=DIR

DIR is a TFDS data_dir with cifar10 and cifar100, or holds the folders of their binary archives.
"""

import ml_collections

from shallow_jax import defaults

VARIANTS = ('smoke',)
EPOCH = 351  # steps of 128 images in an epoch of the 45,000 labelled ones


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  chosen = defaults.variants(variant, VARIANTS)
  config = defaults.experiment(
    name='CIFAR-10',
    data=dict(
      name='cifar10',
      pool='cifar100',
      augment=dict(flip=True, crop_padding=2, seed=0),
    ),
    networks=dict(
      cnn=cnn(),
      teacher=dict(ensemble=('cnn',), label='ensemble of 2 CNNs'),
    ),
    report=dict(headline='mimic', teacher='teacher'),
  )
  return smoke(config) if 'smoke' in chosen else config


def cnn() -> dict:
  return dict(
    label='CNN',
    model=dict(
      name='cnn', features=(32, 96, 192), kernel_size=3, dense=(512,), batch_norm=True
    ),
    seeds=2,
    views=1000,  # another flip and crop every epoch
    optimizer=dict(learning_rate=0.1, nesterov=True, weight_decay=5e-4, warmup_steps=2 * EPOCH),
    batch_size=128,
    num_steps=10 * EPOCH,
    evaluate_every_steps=EPOCH,
    checkpoint_every_steps=EPOCH,
    select='last',
  )


def smoke(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  return config
