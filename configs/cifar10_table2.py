"""Table 2 of the paper (Ba & Caruana 2014, section 4): CIFAR-10, row by row, at full size.

  shallow-jax run --config=configs/cifar10_table2.py --workdir=runs/table2 \
      --config.data.data_dir=DIR

DIR is a TFDS data_dir with cifar10 and cifar100, or holds the folders of their binary archives.
The paper gives the architectures, where dropout and stochastic pooling are, and what each net
learns from. Everything else is ours: filter sizes, dropout rates, learning rates, epochs, batch
size, weight decay, preprocessing, and batch normalisation in training (affine in evaluation, where
it merges into the weights: the nets stay the paper's). The paper's pool, 1M of the 80 Million Tiny
Images, was withdrawn in 2020; here it is CIFAR-100's 60,000 images.

Variants, alone or together:
  :cpu       the same rows, narrower and shorter, for two CPU cores
  :pair      one teacher and one mimic of it at full size, fewer epochs, for two CPU cores
  :cifar100  the same nets on CIFAR-100's classes, CIFAR-10 as the pool
  :smoke     seconds
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import ml_collections

import shallow_jax
from shallow_jax.models import notation

VARIANTS = ('cpu', 'pair', 'cifar100', 'smoke')
BATCH = 128
EPOCH = 352  # steps: the 45,000 labelled images that validation leaves
PASS = 820  # steps: those and the pool, less its leaks and duplicates


@dataclasses.dataclass(frozen=True)
class Size:
  """How large the rows are: the paper's architectures, and what is ours."""

  architectures: Mapping[str, str]
  features: int  # of the single layer
  kernel_size: int
  epochs: int  # of the nets on labels
  passes: int  # of the mimics, over the transfer set
  teachers: int
  seeds: int
  mimic_rate: float
  steps_per_call: int
  note: str


FULL = Size(
  architectures=dict(
    dnn='2000-2000',
    snn='128c-p-1200L-30k',
    cnn_lc='64c-p-64c-p-64c-p-16lc',
    cnn_stochastic='64c-p-64c-p-128c-p-fc',
    teacher='128c-p-128c-p-128c-p-1000fc',
    mimic_64c='64c-p-1200L-30k',
    mimic='128c-p-1200L-30k',
    mimic_ecnn='128c-p-1200L-30k',
  ),
  features=4000,
  kernel_size=5,
  epochs=60,
  passes=30,
  teachers=4,
  seeds=3,
  mimic_rate=0.02,
  steps_per_call=4,
  note='',
)
CPU = Size(
  architectures=dict(
    dnn='500-500',
    snn='32c-p-150L-4k',
    cnn_lc='16c-p-16c-p-16c-p-4lc',
    cnn_stochastic='16c-p-16c-p-32c-p-fc',
    teacher='32c-p-32c-p-32c-p-250fc',
    mimic_64c='16c-p-150L-4k',
    mimic='32c-p-150L-4k',
    mimic_ecnn='32c-p-150L-4k',
  ),
  features=400,
  kernel_size=3,
  epochs=8,
  passes=5,
  teachers=4,
  seeds=2,
  mimic_rate=0.05,
  steps_per_call=1,  # more make convolutions slower on CPU
  note="Nets a quarter as wide as the paper's, or less: not Table 2, but its rows in small.",
)
PAIR = dataclasses.replace(
  FULL,
  epochs=8,
  passes=6,
  teachers=1,
  seeds=1,
  steps_per_call=1,
  note='At full size, but 8 + 6 epochs and 6 + 3 passes, one seed: four hours of two CPU cores.',
)
SMOKE = dataclasses.replace(
  CPU,
  architectures=dict(
    dnn='100-100',
    snn='8c-p-32L-500',
    cnn_lc='8c-p-8c-p-8c-p-2lc',
    cnn_stochastic='8c-p-8c-p-16c-p-fc',
    teacher='8c-p-16c-p-32c-p-64fc',
    mimic_64c='4c-p-32L-500',
    mimic='8c-p-32L-500',
    mimic_ecnn='8c-p-32L-500',
  ),
  features=50,
  teachers=2,
  note='Seconds of training: figures without a meaning.',
)

LABELS = dict(
  dnn='DNN',
  snn='SNN',
  cnn_lc='CNN [11]',
  cnn_stochastic='CNN [21]',
  teacher='CNN, the teacher',
  mimic_64c='mimic of one CNN, narrow',
  mimic='mimic of one CNN',
  mimic_ecnn='mimic of the ensemble',
)

# Error in per cent, and numbers of parameters and of hidden units, as Table 2 states them.
PAPER = dict(
  dnn=(57.8, '~10M', '4k'),
  snn=(21.8, '~70M', '~190k'),
  single_layer=(18.4, '~125M', '~3.7B'),
  cnn_lc=(15.6, '~10k', '~110k'),
  cnn_stochastic=(15.13, '~56k', '~120k'),
  teacher=(12.0, '~35k', '~210k'),
  ecnn=(11.0, '~140k', '~840k'),
  mimic_64c=(15.4, '~54M', '~110k'),
  mimic=(15.1, '~70M', '~190k'),
  mimic_ecnn=(14.2, '~70M', '~190k'),
)


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  chosen = shallow_jax.variants(variant, VARIANTS)
  on_cifar100 = 'cifar100' in chosen
  size = size_of(chosen)
  networks = rows(size)
  if 'pair' in chosen:
    networks = pair(size, networks)
  if not on_cifar100:
    for name, entry in networks.items():
      entry['paper'] = paper(entry.get('init', name))
  config = shallow_jax.experiment(
    name='Table 2 on CIFAR-100' if on_cifar100 else 'Table 2 on CIFAR-10',
    data=dict(
      name='cifar100' if on_cifar100 else 'cifar10',
      pool='cifar10' if on_cifar100 else 'cifar100',
      preprocessing=dict(name='gcn_zca', zca_epsilon=0.1),
    ),
    networks=networks,
    report=dict(
      headline='mimic_ecnn' if 'mimic_ecnn' in networks else 'mimic_longer',
      teacher='ecnn' if 'ecnn' in networks else 'teacher_longer',
      note=size.note,
    ),
  )
  return smoke(config) if 'smoke' in chosen else config


def size_of(chosen: Sequence[str]) -> Size:
  """The size that the variants ask for: of several the smallest."""
  for name, size in (('smoke', SMOKE), ('cpu', CPU), ('pair', PAIR)):
    if name in chosen:
      return size
  return FULL


def rows(size: Size) -> dict[str, dict]:
  """The ten rows, in the paper's order."""
  stochastic = dict(pooling='stochastic', dropout=0.5)
  return dict(
    dnn=dense(size, 'dnn', dropout=0.5),
    snn=shallow(size, 'snn', dropout=0.5, input_dropout=0.2),
    single_layer=single_layer(size),
    cnn_lc=deep(size, 'cnn_lc', dropout=0.5),
    cnn_stochastic=deep(size, 'cnn_stochastic', **stochastic),
    teacher=deep(size, 'teacher', **stochastic) | dict(seeds=size.teachers),
    ecnn=dict(ensemble=('teacher',), label=f'ensemble of {size.teachers} CNNs'),
    mimic_64c=mimic(size, 'mimic_64c', 'teacher'),
    mimic=mimic(size, 'mimic', 'teacher'),
    mimic_ecnn=mimic(size, 'mimic_ecnn', 'ecnn'),
  )


def dense(size: Size, name: str, **model: Any) -> dict:
  return trained(size, name, model, learning_rate=0.01, num_steps=size.epochs * EPOCH)


def deep(size: Size, name: str, **model: Any) -> dict:
  model = dict(kernel_size=size.kernel_size, batch_norm=True, **model)
  entry = trained(size, name, model, learning_rate=0.1, num_steps=size.epochs * EPOCH)
  entry['optimizer'] |= dict(nesterov=True, weight_decay=5e-4)
  return entry | dict(select='last')


def shallow(size: Size, name: str, **model: Any) -> dict:
  model = dict(kernel_size=size.kernel_size, **model)
  return trained(size, name, model, learning_rate=0.05, num_steps=size.epochs * EPOCH)


def single_layer(size: Size) -> dict:
  """Not trained but fitted: k-means centroids of patches, then a linear SVM."""
  return dict(
    label='single-layer features, SVM',
    model=dict(name='single_layer', features=size.features, patch_size=6),
    seeds=size.seeds,
  )


def mimic(size: Size, name: str, teacher: str) -> dict:
  """Without dropout, weight decay or any other regularisation, as in the paper."""
  model = dict(kernel_size=size.kernel_size)
  entry = trained(size, name, model, learning_rate=size.mimic_rate, num_steps=size.passes * PASS)
  return entry | dict(targets=teacher, examples=('train', 'unlabelled'), loss=dict(name='logit_l2'))


def pair(size: Size, networks: Mapping[str, dict]) -> dict[str, dict]:
  """One teacher and one mimic, and what more training at falling rates makes of each.

  Each of the rate's three steps is long enough to show where validation stops falling.
  """
  teacher, mimic_64c = networks['teacher'], networks['mimic_64c']
  return dict(
    teacher=teacher,
    mimic_64c=mimic_64c,
    teacher_longer=longer(teacher, 'teacher', learning_rate=0.02, num_steps=6 * EPOCH),
    mimic_longer=longer(mimic_64c, 'mimic_64c', learning_rate=0.01, num_steps=3 * PASS)
    | dict(targets='teacher_longer'),
  )


def longer(entry: Mapping[str, Any], init: str, *, learning_rate: float, num_steps: int) -> dict:
  """The network goes on from where `init` has ended, evaluated twice an epoch."""
  optimizer = dict(learning_rate=learning_rate, warmup_steps=0, schedule='step')
  return dict(entry) | dict(
    label=f'{entry["label"]}, longer',
    init=init,
    optimizer=entry['optimizer'] | optimizer,
    num_steps=num_steps,
    evaluate_every_steps=EPOCH // 2,
  )


def trained(
  size: Size, name: str, model: Mapping[str, Any], *, learning_rate: float, num_steps: int
) -> dict:
  architecture = size.architectures[name]
  return dict(
    label=LABELS[name],
    model=notation.parse(architecture) | dict(model),
    seeds=size.seeds,
    optimizer=dict(learning_rate=learning_rate, warmup_steps=2 * EPOCH),
    batch_size=BATCH,
    num_steps=num_steps,
    steps_per_call=size.steps_per_call,
    evaluate_every_steps=EPOCH,
    checkpoint_every_steps=EPOCH // 2,
  )


def paper(name: str) -> dict:
  """What Table 2 states of a row."""
  error, parameters, hidden_units = PAPER[name]
  return dict(value=error, source='Table 2', parameters=parameters, hidden_units=hidden_units)


def smoke(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """Every network, a few steps on a few images."""
  config.data.update(num_validation=50, max_train=1000, max_test=500, max_pool=500)
  config.data.preprocessing.name = 'standardise'  # too few images to whiten by
  config.logits.update(shard_rows=256, batch_size=64)
  for entry in config.networks.values():
    entry.batch_size = 32
    entry.num_steps = entry.evaluate_every_steps = entry.checkpoint_every_steps = 60
    entry.optimizer.warmup_steps = 10
  if 'single_layer' in config.networks:
    config.networks.single_layer.fit.num_patches = 2000
  return config
