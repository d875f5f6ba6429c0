"""The paper's claims on CIFAR-10, each a figure: what is due to depth, targets, loss, data, width.

  shallow-jax run --config=configs/cifar10_claims.py --workdir=runs/claims \
      --config.data.data_dir=DIR

DIR is a TFDS data_dir with cifar10 and cifar100, or holds the folders of their binary archives.
All nets see the same images in the same number of steps, unless a figure is about just that. Each
tries as many learning rates as those it is compared with; validation chooses. All settings are
ours: the paper tests its claims on nets whose recipe it does not give.

Variants: `:cpu` has narrower nets, fewer steps and seeds, for two CPU cores; `:smoke`, seconds.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

import ml_collections

import shallow_jax
from shallow_jax.models import notation

VARIANTS = ('cpu', 'smoke')
BATCH = 128
EPOCH = 352  # steps: the 45,000 labelled images that validation leaves
TRANSFER_SET = ('train', 'unlabelled')


@dataclasses.dataclass(frozen=True)
class Size:
  """How large the experiment is."""

  maps: int  # of the students' convolution
  rank: int
  hidden: int
  ranks: tuple[int, ...]  # others
  widths: tuple[int, ...]  # others
  teacher: str
  budgets: tuple[tuple[str, str, str], ...]  # name; deep and shallow net of about equal size
  larger_shallow: tuple[str, str]  # name and net: past the largest deep one
  kernel_size: int
  teachers: int
  epochs: int  # labelled ones' worth of steps
  seeds: int  # of each compared net
  sweep_seeds: int  # of each point along a sweep of widths, ranks, dropout, sets or teachers
  known_rates: tuple[float, ...]  # for the mimic's own net on other sets and of other teachers
  steps_per_call: int
  preprocessing: Mapping[str, Any]
  note: str


FULL = Size(
  maps=64,
  rank=300,
  hidden=8000,
  ranks=(30, 100, 900),
  widths=(500, 2000, 30_000),
  teacher='96c-p-96c-p-96c-p-1000fc',
  budgets=(
    ('50k', '16c-p-32c-p-32c-p-128fc', '16c-p-10L-800'),
    ('200k', '32c-p-64c-p-64c-p-256fc', '16c-p-40L-1k'),
    ('750k', '64c-p-96c-p-128c-p-500fc', '32c-p-70L-3k'),
  ),
  larger_shallow=('3M', '32c-p-300L-3k'),
  kernel_size=5,
  teachers=4,
  epochs=30,
  seeds=3,
  sweep_seeds=3,
  known_rates=(0.03, 0.1),
  steps_per_call=8,
  preprocessing=dict(name='gcn_zca', zca_epsilon=0.1),
  note='',
)
CPU = Size(
  maps=16,
  rank=100,
  hidden=2000,
  ranks=(10, 30, 300),
  widths=(125, 500, 8000),
  teacher='32c-p-32c-p-64c-p-256fc',
  budgets=(
    ('15k', '8c-p-16c-p-16c-p-64fc', '8c-p-4L-500'),
    ('50k', '16c-p-32c-p-32c-p-128fc', '16c-p-10L-800'),
    ('200k', '32c-p-64c-p-64c-p-256fc', '16c-p-40L-1k'),
  ),
  larger_shallow=('750k', '32c-p-70L-3k'),
  kernel_size=3,
  teachers=2,
  epochs=4,
  seeds=2,
  sweep_seeds=1,
  known_rates=(0.1,),  # what validation chose for the mimic
  steps_per_call=1,  # more make convolutions slower on CPU
  preprocessing=dict(name='standardise'),  # whitening takes longer than nets of this size
  note='Small nets, 4 epochs of the labelled images, 1 or 2 seeds: two hours of two CPU cores.',
)
SMOKE = dataclasses.replace(
  CPU,
  maps=8,
  rank=32,
  hidden=500,
  ranks=(16,),
  widths=(100,),
  teacher='8c-p-16c-p-32c-p-64fc',
  known_rates=FULL.known_rates,
  note='Seconds of training: figures without a meaning.',
)


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  chosen = shallow_jax.variants(variant, VARIANTS)
  size = SMOKE if 'smoke' in chosen else CPU if 'cpu' in chosen else FULL
  config = shallow_jax.experiment(
    name='The claims on CIFAR-10',
    data=dict(
      name='cifar10',
      pool='cifar100',
      preprocessing=dict(size.preprocessing),
      sets=dict(
        train_5k=dict(of=('train',), size=5000),
        train_15k=dict(of=('train',), size=15_000),
        unlabelled_5k=dict(of=('unlabelled',), size=5000),
        unlabelled_15k=dict(of=('unlabelled',), size=15_000),
        both_15k=dict(of=TRANSFER_SET, size=15_000),
        both_45k=dict(of=TRANSFER_SET, size=45_000),
      ),
    ),
    networks=networks(size),
    report=dict(
      attribution=('shallow', 'shallow_l2', 'mimic_labelled', 'mimic', 'teacher'),
      headline='mimic',
      teacher='teacher',
      note=size.note,
      sweeps=sweeps(size),
    ),
  )
  return smoke(config) if 'smoke' in chosen else config


def networks(size: Size) -> dict[str, dict]:
  compared = teachers(size) | controls(size) | losses(size)
  swept = students(size) | transfer_sizes(size) | followers(size) | overfitting(size)
  for entry in swept.values():
    entry['seeds'] = size.sweep_seeds
  return compared | depths(size) | swept


def sweeps(size: Size) -> dict[str, dict]:
  """The figures, a claim each."""
  widths = sorted((size.hidden, *size.widths))
  ranks = sorted((size.rank, *size.ranks))
  by_size = {
    'shallow mimic': tuple(
      f'shallow_mimic_{name}' for name, *_ in (*size.budgets, size.larger_shallow)
    ),
    'deep mimic': tuple(f'deep_mimic_{name}' for name, *_ in size.budgets),
    'deep on labels': tuple(f'deep_labels_{name}' for name, *_ in size.budgets),
  }
  claim_0 = dict(series=by_size, log_x=True, references=('teacher',))
  return dict(
    depth_by_parameters=claim_0
    | dict(
      title='Does it need to be deep? At equal parameters',
      x='parameters',
      factor=dict(of='shallow mimic', against=('deep mimic', 'deep on labels')),
    ),
    depth_by_hidden_units=claim_0
    | dict(title='Does it need to be deep? At equal hidden units', x='hidden_units'),
    depth_by_multiply_adds=claim_0
    | dict(title='Does it need to be deep? At equal multiply-adds', x='multiply_adds'),
    depth_by_latency=claim_0
    | dict(title='Does it need to be deep? At equal latency, 256 images', x='latency_ms.256'),
    controls=dict(
      kind='bars',
      title='The same shallow net, taught in eight ways',
      series={'': tuple(controls(size))},
      references=('teacher',),
    ),
    losses=dict(
      kind='bars',
      title='What to match: logits, softened or plain probabilities',
      series={'': ('mimic', *losses(size))},
    ),
    dropout=dict(
      title='Dropout on the mimic',
      x='model.dropout',
      series={'mimic': ('mimic', 'mimic_dropout_20', 'mimic_dropout_50')},
    ),
    width=dict(
      title='Width',
      x='model.hidden',
      x_label='hidden units behind the bottleneck',
      log_x=True,
      series={
        'mimic': tuple(name_of('mimic', 'hidden', width, size.hidden) for width in widths),
        'on labels': tuple(name_of('shallow', 'hidden', width, size.hidden) for width in widths),
      },
      references=('teacher',),
    ),
    rank=dict(
      title='The bottleneck',
      x='model.bottleneck',
      x_label='rank of the first layer (line: not factorised)',
      log_x=True,
      series={'mimic': tuple(name_of('mimic', 'rank', rank, size.rank) for rank in ranks)},
      references=('mimic_full_rank',),
    ),
    rank_by_steps=rank_curves(size, ranks, 'steps'),
    rank_by_seconds=rank_curves(size, ranks, 'seconds'),
    transfer_size=dict(
      title='How many images to learn from, at equal steps',
      x='transfer_size',
      log_x=True,
      series={
        "the teacher's training images": ('mimic_train_5k', 'mimic_train_15k', 'mimic_labelled'),
        'unlabelled images': ('mimic_unlabelled_5k', 'mimic_unlabelled_15k', 'mimic_unlabelled'),
        'both': ('mimic_both_15k', 'mimic_both_45k', 'mimic'),
      },
      references=('teacher',),
    ),
    student_and_teacher=dict(
      title='Student against teacher',
      x='teacher_accuracy',
      y='accuracy',
      diagonal=True,
      series={
        notation.width_name(width): tuple(
          f'follows_{name}_{width}' for name in (*WEAK_TEACHERS, 'cnn', 'teacher')
        )
        for width in (min(widths), size.hidden)
      },
    ),
    overfitting=dict(
      kind='curves',
      title='Who overfits? A constant learning rate',
      x='epochs',
      series={'': tuple(overfitting(size))},
    ),
  )


def rank_curves(size: Size, ranks: list[int], clock: str) -> dict:
  names = [name_of('mimic', 'rank', rank, size.rank) for rank in ranks]
  return dict(
    kind='curves',
    title=f'The bottleneck: convergence by {clock}',
    x=clock,
    series={'': (*names, 'mimic_full_rank')},
  )


def name_of(kind: str, key: str, value: int, base: int) -> str:
  """The network of a sweep; the one at the base value is there already."""
  return kind if value == base else f'{kind}_{key}_{value}'


def teachers(size: Size) -> dict[str, dict]:
  return dict(
    cnn=deep(size, size.teacher, label='CNN') | dict(seeds=size.teachers),
    teacher=dict(ensemble=('cnn',), label=f'ensemble of {size.teachers} CNNs'),
  )


def controls(size: Size) -> dict[str, dict]:
  """Claim 1: one thing at a time from the labels to the teacher's logits on unlabelled images."""
  return dict(
    shallow=on_labels(size, 'labels'),
    shallow_dropout=on_labels(size, 'labels, dropout', dropout=0.5, input_dropout=0.2),
    shallow_smooth=on_labels(size, 'labels, smoothing')
    | dict(loss=dict(name='cross_entropy', label_smoothing=0.1)),
    shallow_l2=on_labels(size, 'labels, L2')
    | dict(loss=dict(name='label_l2'), search=rates(*L2_RATES)),
    hard_labels=mimic(size, "teacher's hard labels", loss='hard_cross_entropy')
    | dict(search=rates(*LABEL_RATES)),
    hard_labels_l2=mimic(size, "teacher's hard labels, L2", loss='hard_l2'),
    mimic_labelled=mimic(size, 'mimic, labelled images') | dict(examples=('train',)),
    mimic=mimic(size, 'mimic'),
  )


def losses(size: Size) -> dict[str, dict]:
  """Claim 6, and the paper's remark on normalised logits; claim 8 is the limit of high T."""
  found = {
    f'kl_{temperature}': mimic(size, f'KL, T = {temperature}', temperature=temperature)
    | dict(search=rates(*KL_RATES))
    for temperature in (1, 4, 20)
  }
  return found | dict(
    probability_l2=mimic(size, 'L2 on probabilities', loss='probability_l2')
    | dict(search=rates(*PROBABILITY_RATES)),
    mimic_raw=mimic(size, 'L2 on raw logits', normalize=False) | dict(search=rates(*RAW_RATES)),
  )


def students(size: Size) -> dict[str, dict]:
  """Claims 2, 3 and 5: dropout, width and rank of the mimic."""
  found = dict(
    mimic_dropout_20=mimic(size, 'mimic, dropout 0.2', dropout=0.2),
    mimic_dropout_50=mimic(size, 'mimic, dropout 0.5', dropout=0.5),
    mimic_full_rank=mimic(size, 'mimic, not factorised', rank=0),
  )
  for rank in size.ranks:
    found[f'mimic_rank_{rank}'] = mimic(size, f'mimic, rank {rank}', rank=rank)
  for width in size.widths:
    name = notation.width_name(width)
    rank = min(size.rank, width)  # a bottleneck is not wider than what is behind it
    found[f'mimic_hidden_{width}'] = mimic(size, f'mimic, {name}', hidden=width, rank=rank)
    found[f'shallow_hidden_{width}'] = on_labels(size, f'labels, {name}', hidden=width, rank=rank)
  return found


def transfer_sizes(size: Size) -> dict[str, dict]:
  """Claim 7: fewer images, and images that the teacher was not trained on."""
  names = ('train_5k', 'train_15k', 'unlabelled_5k', 'unlabelled_15k', 'both_15k', 'both_45k')
  return {
    f'mimic_{name}': mimic(size, f'mimic on {name}')
    | dict(examples=(name,), search=rates(*size.known_rates))
    for name in (*names, 'unlabelled')
  }


WEAK_TEACHERS = dict(narrow='8c-p-8c-p-16c-p-64fc', middle='16c-p-16c-p-32c-p-128fc')


def followers(size: Size) -> dict[str, dict]:
  """Claim 4: teachers of different accuracy, students of two widths."""
  found = {
    name: deep(size, architecture, label=f'CNN {architecture}')
    for name, architecture in WEAK_TEACHERS.items()
  }
  for teacher in (*WEAK_TEACHERS, 'cnn', 'teacher'):
    for width in (min(*size.widths, size.hidden), size.hidden):
      label = f'{notation.width_name(width)} of {teacher}'
      found[f'follows_{teacher}_{width}'] = mimic(
        size, label, hidden=width, rank=min(size.rank, width)
      ) | dict(targets=teacher, search=rates(*size.known_rates))
  return found


def overfitting(size: Size) -> dict[str, dict]:
  """Claim 2: longer, at a constant rate, on the labelled images alone, and without selection."""
  nets = dict(
    long_labels=on_labels(size, 'labels'),
    long_dropout=on_labels(size, 'labels, dropout', dropout=0.5, input_dropout=0.2),
    long_mimic=mimic(size, 'mimic') | dict(examples=('train',)),
  )
  for entry in nets.values():
    entry.update(
      optimizer=dict(schedule='constant', learning_rate=0.03, warmup_steps=EPOCH),
      num_steps=4 * entry['num_steps'],
      select='last',
      search={},
    )
  return nets


def depths(size: Size) -> dict[str, dict]:
  """Claim 0: deep nets on labels, deep mimics and shallow mimics of about equal size."""
  found = {}
  for name, deep_net, shallow_net in size.budgets:
    found[f'deep_labels_{name}'] = deep(size, deep_net, label=f'deep on labels, {name}')
    found[f'deep_mimic_{name}'] = deep(size, deep_net, label=f'deep mimic, {name}') | taught()
    found[f'shallow_mimic_{name}'] = shallow(size, shallow_net, label=f'shallow mimic, {name}')
  name, shallow_net = size.larger_shallow
  found[f'shallow_mimic_{name}'] = shallow(size, shallow_net, label=f'shallow mimic, {name}')
  for entry in found.values():
    entry['model'] |= dict(kernel_size=3)
  return found


# Learning rates that are tried: as many for each, around what is stable for its loss.
LABEL_RATES = (0.03, 0.1)
L2_RATES = (0.03, 0.1)
RAW_RATES = (0.003, 0.01)
KL_RATES = (0.03, 0.1)
PROBABILITY_RATES = (0.3, 1.0)


def rates(*values: float) -> dict:
  return dict(optimizer=dict(learning_rate=values))


def on_labels(size: Size, label: str, **model: Any) -> dict:
  return trained(size, label, student(size, **model)) | dict(search=rates(*LABEL_RATES))


def mimic(
  size: Size,
  label: str,
  *,
  loss: str = 'logit_l2',
  temperature: float = 0.0,
  normalize: bool = True,
  **model: Any,
) -> dict:
  """The student's net on the ensemble's logits over all images; with a temperature by KL."""
  settings = dict(name='kl', temperature=temperature) if temperature else dict(name=loss)
  entry = trained(size, label, student(size, **model)) | taught()
  return entry | dict(loss=settings | dict(normalize=normalize), search=rates(*L2_RATES))


def student(
  size: Size, *, hidden: int = 0, rank: int = -1, dropout: float = 0.0, input_dropout: float = 0.0
) -> dict:
  return dict(
    name='shallow_conv',
    features=size.maps,
    kernel_size=size.kernel_size,
    bottleneck=size.rank if rank < 0 else rank,
    hidden=hidden or size.hidden,
    dropout=dropout,
    input_dropout=input_dropout,
  )


def shallow(size: Size, architecture: str, *, label: str) -> dict:
  """A mimic of a given architecture."""
  return (
    trained(size, label, notation.parse(architecture)) | taught() | dict(search=rates(*L2_RATES))
  )


def deep(size: Size, architecture: str, *, label: str) -> dict:
  model = notation.parse(architecture) | dict(kernel_size=size.kernel_size, batch_norm=True)
  entry = trained(size, label, model) | dict(search=rates(*LABEL_RATES))
  entry['optimizer'] |= dict(nesterov=True)
  return entry


def taught() -> dict:
  return dict(targets='teacher', examples=TRANSFER_SET, loss=dict(name='logit_l2'))


def trained(size: Size, label: str, model: Mapping[str, Any]) -> dict:
  return dict(
    label=label,
    model=dict(model),
    seeds=size.seeds,
    optimizer=dict(warmup_steps=EPOCH),
    batch_size=BATCH,
    num_steps=size.epochs * EPOCH,
    steps_per_call=size.steps_per_call,
    evaluate_every_steps=EPOCH // 2,
    checkpoint_every_steps=EPOCH,
  )


def smoke(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """A few networks of each kind, a few steps on a few images."""
  config.data.update(num_validation=50, max_train=1000, max_test=500, max_pool=500)
  config.data.preprocessing.name = 'standardise'  # too few images to whiten by
  for derived in config.data.sets.values():
    derived.size = 200
  config.logits.update(shard_rows=256, batch_size=64)
  for entry in config.networks.values():
    entry.seeds = 1
    entry.batch_size = 32
    if entry.search:
      entry.optimizer.learning_rate = entry.search.optimizer.learning_rate[0]
      entry.search = ml_collections.ConfigDict()
    entry.num_steps = entry.evaluate_every_steps = entry.checkpoint_every_steps = 60
    entry.optimizer.warmup_steps = 10
  return config
