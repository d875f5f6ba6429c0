"""CIFAR-10 on two CPU cores: three CNNs, and two shallow nets that learn from their mean logits.

One convolution and a hidden layer, 96c-p-300L-6k, and one hidden layer alone, 500L-12k: each as a
mimic on the logits of 40 views of the 45,000 images, and on labels by three losses, on views of the
same kind, as many steps of as many images. Smaller than the paper's rows, with a recipe of ours;
Table 2 itself has a config of its own.

  shallow-jax run --config=configs/cifar10.py --workdir=runs/cifar10 --config.data.data_dir=DIR

DIR is a TFDS data_dir with cifar10, or holds the folder of its binary archive.
Variants: `:smoke`, every network, narrower, a few steps on a few images.
"""

import ml_collections

import shallow_jax

VARIANTS = ('smoke',)
EPOCH = 351  # steps of 128 images in an epoch of the 45,000 labelled ones
VIEWS = 40  # of which logits are stored


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  chosen = shallow_jax.variants(variant, VARIANTS)
  config = shallow_jax.experiment(
    name='CIFAR-10',
    data=dict(
      name='cifar10',
      augment=dict(flip=True, crop_padding=2, crop_min_scale=0.75),  # crops of 24 to 32 pixels
    ),
    networks=dict(
      cnn=cnn(label='CNN, shifts') | dict(augment=dict(crop_min_scale=1.0)),
      cnn_fc=cnn(label='CNN, fully connected layer', dense=(512,), dropout=0.5)
      | dict(augment=dict(crop_min_scale=1.0)),
      cnn_crops=cnn(label='CNN, crops', epochs=30),
      teacher=dict(ensemble=('cnn', 'cnn_fc', 'cnn_crops'), label='ensemble of the CNNs'),
      **{f'conv_{name}': entry | dict(model=CONV) for name, entry in taught(epochs=60).items()},
      **{f'dense_{name}': entry | dict(model=DENSE) for name, entry in taught(epochs=60).items()},
    ),
    logits=dict(dtype='float16', shard_rows=2048),
    report=dict(
      attribution=('conv_labels', 'conv_labels_l2', 'conv_mimic', 'teacher'),
      headline='conv_mimic',
      teacher='teacher',
    ),
  )
  return smoke(config) if 'smoke' in chosen else config


CONV = dict(name='shallow_conv', features=96, kernel_size=5, bottleneck=300, hidden=6000)
DENSE = dict(name='shallow', bottleneck=500, hidden=12_000, batch_norm=True)


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
    views=1000,  # another one every epoch
    optimizer=dict(learning_rate=0.1, nesterov=True, weight_decay=5e-4, warmup_steps=2 * EPOCH),
    batch_size=128,
    num_steps=epochs * EPOCH,
    evaluate_every_steps=EPOCH,
    checkpoint_every_steps=EPOCH,
    select='last',
  )


def taught(*, epochs: int) -> dict[str, dict]:
  """One net on labels by three losses, and on the teacher's logits."""
  usual = dict(
    views=1000,
    optimizer=dict(nesterov=True, warmup_steps=2 * EPOCH),
    batch_size=128,
    num_steps=epochs * EPOCH,
    evaluate_every_steps=EPOCH,
    checkpoint_every_steps=EPOCH,
  )
  # 0.1 of the convolutional net on labels from short trials; the others are not tried yet.
  rate = dict(cross_entropy=0.1, squared=0.03)

  def entry(label: str, learning_rate: float, **changes: object) -> dict:
    return (
      usual
      | dict(label=label, **changes)
      | dict(optimizer=usual['optimizer'] | dict(learning_rate=learning_rate))
    )

  return dict(
    labels=entry('labels', rate['cross_entropy']),
    labels_smooth=entry('labels, smoothing', rate['cross_entropy'], loss=dict(label_smoothing=0.1)),
    labels_l2=entry('labels, L2', rate['squared'], loss=dict(name='label_l2')),
    mimic=entry(
      'mimic',
      rate['squared'],
      targets='teacher',
      loss=dict(name='logit_l2'),
      views=VIEWS,
      seeds=3,
    ),
  )


def smoke(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """Every network, narrower, a few steps on a few images."""
  config.data.update(num_validation=50, max_train=1000, max_test=500)
  config.logits.update(shard_rows=256, batch_size=64)
  for name, entry in config.networks.items():
    entry.seeds = 1
    entry.batch_size = 32
    entry.num_steps = entry.evaluate_every_steps = entry.checkpoint_every_steps = 60
    entry.optimizer.warmup_steps = 10
    if entry.targets == 'teacher':
      entry.views = 3
    if name.startswith('cnn'):
      entry.model.features = (8, 16, 32)
    elif name.startswith('conv'):
      entry.model.update(features=8, bottleneck=32, hidden=500)
    elif name.startswith('dense'):
      entry.model.update(bottleneck=32, hidden=500)
  config.networks.cnn_fc.model.dense = (64,)
  return config
