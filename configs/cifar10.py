"""CIFAR-10 on two CPU cores: a CNN ensemble and the shallow net 64c-p-300L-8k.

The shallow net learns from the labels, from the ensemble's logits on the same 45,000 images, and
from its logits on those and CIFAR-100's images, unlabelled. Smaller than the paper's rows, with a
recipe of ours; Table 2 itself has a config of its own.

  python -m shallow_jax.main --config=configs/cifar10.py --workdir=runs/cifar10 \
      --config.data.data_dir=DIR

DIR is a TFDS data_dir with cifar10 and cifar100, or holds the folders of their binary archives.
"""

import ml_collections

import shallow_jax

VARIANTS = ('smoke',)
EPOCH = 351  # steps of 128 images in an epoch of the 45,000 labelled ones


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  chosen = shallow_jax.variants(variant, VARIANTS)
  config = shallow_jax.experiment(
    name='CIFAR-10',
    data=dict(
      name='cifar10',
      pool='cifar100',
      augment=dict(flip=True, crop_padding=2, seed=0),
    ),
    networks=dict(
      cnn=cnn(label='CNN'),
      cnn_fc=cnn(label='CNN, fully connected layer', dense=(512,), dropout=0.5),
      cnn_crops=cnn(label='CNN on crops', epochs=30),
      teacher=dict(ensemble=('cnn', 'cnn_fc', 'cnn_crops'), label='ensemble of the CNNs'),
      shallow=student(label='labels', learning_rate=0.1, num_steps=6 * EPOCH),
      shallow_l2=student(label='labels, L2', learning_rate=0.03, num_steps=6 * EPOCH)
      | dict(loss=dict(name='label_l2')),
      mimic=mimic(label='mimic', examples=('train', 'unlabelled'), num_steps=10 * EPOCH),
      mimic_labelled=mimic(
        label='mimic, labelled images', examples=('train',), num_steps=6 * EPOCH
      ),
    ),
    report=dict(
      attribution=('shallow', 'shallow_l2', 'mimic_labelled', 'mimic', 'teacher'),
      headline='mimic',
      teacher='teacher',
    ),
  )
  return smoke(config) if 'smoke' in chosen else config


def cnn(*, label: str, dense: tuple[int, ...] = (), dropout: float = 0.0, epochs: int = 20) -> dict:
  """32c-32c-p-96c-96c-p-192c-192c-p, 3x3, with batch normalisation."""
  return dict(
    label=label,
    model=dict(
      name='cnn',
      features=(32, 96, 192),
      kernel_size=3,
      convs_per_stage=2,
      dense=dense,
      dropout=dropout,
      batch_norm=True,
    ),
    views=1000,  # another flip and crop every epoch
    optimizer=dict(learning_rate=0.1, nesterov=True, weight_decay=5e-4, warmup_steps=2 * EPOCH),
    batch_size=128,
    num_steps=epochs * EPOCH,
    evaluate_every_steps=EPOCH,
    checkpoint_every_steps=EPOCH,
    select='last',
  )


def student(*, label: str, learning_rate: float, num_steps: int) -> dict:
  """64c-p-300L-8k; rates are the best of a few on validation in runs of 450 steps."""
  return dict(
    label=label,
    model=dict(name='shallow_conv', features=64, kernel_size=3, bottleneck=300, hidden=8000),
    seeds=3,
    optimizer=dict(learning_rate=learning_rate),
    batch_size=128,
    num_steps=num_steps,
    evaluate_every_steps=EPOCH,
    checkpoint_every_steps=EPOCH,
  )


def mimic(*, label: str, examples: tuple[str, ...], num_steps: int) -> dict:
  """The same net on the ensemble's logits, normalised per class."""
  entry = student(label=label, learning_rate=0.03, num_steps=num_steps)
  return entry | dict(targets='teacher', examples=examples, loss=dict(name='logit_l2'))


def smoke(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """Every network, narrower, a few steps on a few images."""
  config.data.update(num_validation=50, max_train=1000, max_test=500, max_pool=500)
  config.logits.update(shard_rows=256, batch_size=64)
  for entry in config.networks.values():
    entry.seeds = 1
    entry.batch_size = 32
    entry.num_steps = entry.evaluate_every_steps = entry.checkpoint_every_steps = 60
    entry.optimizer.warmup_steps = 10
  config.networks.cnn.model.update(features=(8, 16, 32))
  config.networks.cnn_fc.model.update(features=(8, 16, 32), dense=(64,))
  for name in ('shallow', 'shallow_l2', 'mimic', 'mimic_labelled'):
    config.networks[name].model.update(features=8, bottleneck=32, hidden=500)
  return config
