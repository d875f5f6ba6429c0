"""The whole claim in minutes: scikit-learn's 1,797 digits, 400 of them labelled.

A CNN ensemble learns from the labels; the same wide shallow net learns from the labels in four
ways, from the ensemble's logits on the same images, and from its logits on unlabelled images too.

  python -m shallow_jax.main --config=configs/digits.py --workdir=runs/digits

Variants: `:full` has every control over three splits, `:smoke` takes seconds.
All that is set here is ours: the paper has no digits.
"""

from typing import Any

import ml_collections

import shallow_jax

VARIANTS = ('full', 'smoke')


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  chosen = shallow_jax.variants(variant, VARIANTS)
  config = shallow_jax.experiment(
    name='Digits',
    splits=(2, 3, 4) if 'full' in chosen else (),  # 0 and 1 served while it was written
    data=data(),
    networks=all_networks() if 'full' in chosen else main_networks(),
    logits=dict(shard_rows=128, batch_size=64),
    report=dict(
      attribution=('shallow', 'shallow_l2', 'mimic_labelled', 'mimic', 'teacher'),
      headline='mimic',
      teacher='teacher',
    ),
  )
  return smoke(config) if 'smoke' in chosen else config


def data() -> dict:
  transfer = ('train', 'unlabelled')
  return dict(
    name='digits',
    split_seed=0,
    sets=dict(
      without_3=dict(of=transfer, without_class=3),
      munge=dict(of=transfer, munge=dict(size=20_000, swap_probability=0.2, local_variance=1.0)),
    ),
  )


def main_networks() -> dict:
  return dict(
    cnn=cnn(),
    teacher=dict(ensemble=('cnn',), label='ensemble of the CNNs'),
    shallow=student(label='labels'),
    shallow_dropout=student(label='labels, dropout', dropout=0.5),
    shallow_l2=student(label='labels, L2', loss=dict(name='label_l2')),
    mimic_labelled=mimic(label='mimic, labelled images', examples=('train',)),
    mimic=mimic(label='mimic'),
    hard_labels_l2=mimic(label="teacher's hard labels, L2", loss=dict(name='hard_l2')),
  )


def all_networks() -> dict:
  return main_networks() | dict(
    shallow_smooth=student(
      label='labels, smoothing', loss=dict(name='cross_entropy', label_smoothing=0.1)
    ),
    hard_labels=mimic(label="teacher's hard labels", loss=dict(name='hard_cross_entropy')),
    mimic_bfloat16=mimic(label='mimic, in bfloat16', compute_dtype='bfloat16'),
    mimic_munge=mimic(label='mimic, MUNGE', examples=('munge',)),
    mimic_without_3=mimic(label='mimic that never saw a 3', examples=('without_3',)),
  )


def cnn() -> dict:
  return dict(
    label='CNN',
    model=dict(
      name='cnn',
      features=(32,),
      kernel_size=3,
      convs_per_stage=2,
      dense=(256,),
      batch_norm=True,
      dropout=0.5,
    ),
    seeds=4,
    optimizer=dict(learning_rate=0.03, warmup_steps=50),
    num_steps=800,
    evaluate_every_steps=50,
  )


def student(*, label: str, dropout: float = 0.0, **changes: Any) -> dict:
  """32L-2k; as many learning rates tried whatever it learns from."""
  return (
    dict(
      label=label,
      model=dict(name='shallow', hidden=2000, bottleneck=32, dropout=dropout),
      seeds=5,
      search=dict(optimizer=dict(learning_rate=(0.001, 0.003, 0.01, 0.03))),
      num_steps=2000,
      steps_per_call=20,
      evaluate_every_steps=100,
      select='loss',  # 100 validation images are too few to rank steps by their errors
    )
    | changes
  )


def mimic(
  *, label: str, examples: tuple[str, ...] = ('train', 'unlabelled'), **changes: Any
) -> dict:
  """The same net on the ensemble's logits."""
  entry = dict(loss=dict(name='logit_l2'), targets='teacher', examples=examples) | changes
  return student(label=label) | entry


def smoke(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """Every network, a few steps."""
  config.splits = config.splits[:2]
  for entry in config.networks.values():
    entry.seeds = min(entry.seeds, 2)
    entry.search = ml_collections.ConfigDict()
    entry.num_steps = min(entry.num_steps, 200)
    entry.optimizer.warmup_steps = 50
  return config
