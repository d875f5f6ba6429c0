"""Figures 1 to 3 of the paper (Ba & Caruana 2014) on TIMIT.

  shallow-jax run --config=configs/timit_figures.py --workdir=runs/timit_figures \
      --config.data.data_dir=DIR

DIR holds TIMIT's TRAIN and TEST (LDC93S1). Accuracy is 100 less the phone error rate, but for the
curves of Figure 2, which are of frames and on validation. Grey points are the paper's, read off its
figures to about 0.05. Which nets there are is the paper's; settings are ours, as in
timit_table1.py, and each net tries two learning rates.

Variants, alone or together:
  :sample  the 16 speakers of TIMIT that are free: nets of hundreds of units, 8 rotations
  :smoke   seconds
"""

import dataclasses
from typing import Any

import ml_collections

import shallow_jax
from shallow_jax.models import notation
from shallow_jax.settings import speech_recipe
from shallow_jax.training import optimizer

VARIANTS = ('sample', 'smoke')


@dataclasses.dataclass(frozen=True)
class Size:
  """How large the experiment is."""

  snn: tuple[int, ...]  # hidden units
  dnn: tuple[int, ...]  # units in each of three layers
  mimic: tuple[int, ...]  # hidden units behind the bottleneck
  rank: int
  curves: int  # hidden units of Figure 2
  students: tuple[int, int]  # hidden units of Figure 3
  teachers: tuple[int, ...]  # units in each of three layers of Figure 3's weaker teachers
  cnn: str
  recipe: speech_recipe.Recipe
  note: str


FULL = Size(
  snn=(500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 200_000),
  dnn=(400, 500, 750, 1000, 1500, 2000, 2500, 3000, 4000),
  mimic=(
    *(2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000, 10_000, 15_000, 20_000),
    *(50_000, 200_000, 300_000),
  ),
  rank=250,
  curves=8000,
  students=(8000, 160_000),
  teachers=(50, 100, 400),
  cnn='c-p-2k-2k-2k',
  recipe=speech_recipe.FULL,
  note='',
)
SAMPLE = Size(
  snn=(30, 100, 300, 1000),
  dnn=(50, 100, 200, 400),
  mimic=(100, 300, 1000, 3000),
  rank=32,
  curves=1000,
  students=(100, 1000),
  teachers=(10, 20, 50),
  cnn='32c-p-200-200-200',
  recipe=speech_recipe.SAMPLE,
  note='12 speakers to train and nets of hundreds of units: the figures in small.',
)
SMOKE = dataclasses.replace(
  SAMPLE,
  snn=(50, 100),
  dnn=(20, 50),
  mimic=(50, 100),
  rank=16,
  curves=100,
  students=(50, 100),
  teachers=(10, 20),
  cnn='8c-p-50-50-50',
  recipe=speech_recipe.SMOKE,
  note='Seconds of training: figures without a meaning.',
)

ROTATIONS = tuple(range(8))
KERNEL_SIZES = (8, 5, 11)  # bands
SNN, DNN, MIMIC = 'SNN on labels', 'DNN on labels', 'SNN-MIMIC'
CURVE_EPOCHS = 14  # Figure 2's

# Accuracy in per cent, read off Figure 1, of the nets of FULL.
PAPER = {
  SNN: (75.4, 76.1, 76.6, 76.7, 77.0, 77.0, 77.0, 76.4),
  DNN: (76.2, 76.9, 77.9, 78.3, 78.3, 78.1, 78.5, 78.3, 78.0),
  MIMIC: (76.6, 77.3, 77.6, 77.7, 77.8, 78.1, 78.4, 78.5, 78.6, 79.0, 79.4, 79.8, 80.0, 80.05),
}


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  chosen = shallow_jax.variants(variant, VARIANTS)
  on_sample = 'sample' in chosen
  size = SMOKE if 'smoke' in chosen else SAMPLE if on_sample else FULL
  config = shallow_jax.experiment(
    name=f'The figures on {"the TIMIT sample" if on_sample else "TIMIT"}',
    splits=ROTATIONS if on_sample and size is not SMOKE else (),
    data=dict(name='timit_sample' if on_sample else 'timit'),
    networks=networks(size),
    logits=dict(shard_rows=size.recipe.shard_rows),
    report=dict(
      headline=f'mimic_{max(size.mimic)}', teacher='ecnn', note=size.note, sweeps=sweeps(size)
    ),
  )
  return speech_recipe.smoke(config) if 'smoke' in chosen else config


def networks(size: Size) -> dict[str, dict]:
  return by_width(size) | curves(size) | followers(size)


def sweeps(size: Size) -> dict[str, dict]:
  """The figures."""
  return dict(
    accuracy_by_parameters=dict(
      title='Figure 1: accuracy by number of parameters',
      x='parameters',
      y='accuracy',
      log_x=True,
      series={
        SNN: tuple(f'snn_{units}' for units in size.snn),
        DNN: tuple(f'dnn_{units}' for units in size.dnn),
        MIMIC: tuple(f'mimic_{units}' for units in size.mimic),
      },
      references=('cnn', 'ecnn'),
      paper_points=paper_points() if size is FULL else {},
    ),
    accuracy_by_epoch=dict(
      kind='curves',
      title=f'Figure 2: who overfits? {notation.width_name(size.curves)} units, a constant rate',
      x='epochs',
      y='accuracy',
      series={'': tuple(curves(size))},
    ),
    student_and_teacher=dict(
      title='Figure 3: student against teacher',
      x='teacher_accuracy',
      y='accuracy',
      diagonal=True,
      series={
        notation.width_name(units): tuple(f'follows_{name}_{units}' for name in teachers(size))
        for units in size.students
      },
    ),
  )


def paper_points() -> dict[str, tuple[tuple[int, float], ...]]:
  """Figure 1's points over the nets' numbers of weights."""
  inputs, classes, rank = 1845, 183, FULL.rank
  weights = {
    SNN: [(inputs + classes) * units for units in FULL.snn],
    DNN: [(inputs + classes) * units + 2 * units**2 for units in FULL.dnn],
    MIMIC: [rank * inputs + (rank + classes) * units for units in FULL.mimic],
  }
  return {label: tuple(zip(weights[label], PAPER[label], strict=True)) for label in PAPER}


def by_width(size: Size) -> dict[str, dict]:
  """Figure 1: nets on labels, with dropout, and mimics of the ensemble, without."""
  base, *others = KERNEL_SIZES
  members = {'cnn': cnn(size, 'CNN', base)}
  members |= {f'cnn_{bands}': cnn(size, f'CNN, filters of {bands}', bands) for bands in others}
  label = f'ensemble of {len(members) * size.recipe.cnn_seeds} CNNs'
  return {
    **members,
    'ecnn': dict(ensemble=tuple(members), label=label),
    **{f'snn_{units}': snn(size, units, **size.recipe.dropouts) for units in size.snn},
    **{f'dnn_{units}': dnn(size, units) for units in size.dnn},
    **{f'mimic_{units}': mimic(size, units, 'ecnn', label=MIMIC) for units in size.mimic},
  }


def curves(size: Size) -> dict[str, dict]:
  """Figure 2: at a constant rate and without selection; and the mimic's net on labels."""
  units, rank = size.curves, size.rank
  found = dict(
    long_snn=(snn(size, units), optimizer.LABELS_ON_SPEECH),
    long_snn_dropout=(snn(size, units, **size.recipe.dropouts), optimizer.LABELS_ON_SPEECH),
    long_control=(snn(size, units, bottleneck=rank), optimizer.LABELS_ON_SPEECH),
    long_mimic=(mimic(size, units, 'ecnn', label=MIMIC), optimizer.L2_ON_SPEECH),
  )
  return {name: constant(size, entry, rates) for name, (entry, rates) in found.items()}


def followers(size: Size) -> dict[str, dict]:
  """Figure 3: teachers of different accuracy, students of two widths."""
  weak = {f'teacher_{units}': dnn(size, units) for units in size.teachers}
  return weak | {
    f'follows_{teacher}_{units}': mimic(size, units, teacher, label=f'of {teacher}')
    for teacher in teachers(size)
    for units in size.students
  }


def teachers(size: Size) -> tuple[str, ...]:
  return (*(f'teacher_{units}' for units in size.teachers), 'cnn', 'ecnn')


def cnn(size: Size, label: str, kernel_size: int) -> dict:
  model = notation.parse(size.cnn) | dict(kernel_size=kernel_size, dropout=size.recipe.dropout)
  return size.recipe.trained(label, model, optimizer.DEEP_ON_SPEECH) | dict(
    seeds=size.recipe.cnn_seeds
  )


def dnn(size: Size, units: int) -> dict:
  model = dict(name='dnn', hidden=(units,) * 3, **size.recipe.dropouts)
  return size.recipe.trained(f'DNN-{notation.width_name(units)}', model, optimizer.DEEP_ON_SPEECH)


def snn(size: Size, units: int, **model: Any) -> dict:
  model = dict(name='shallow', hidden=units, **model)
  with_dropout = ', dropout' if model.get('dropout') else ''
  name = notation.wide_name(units, model.get('bottleneck', 0))
  return size.recipe.trained(
    f'SNN-{name}{with_dropout}', model, optimizer.LABELS_ON_SPEECH.of(model)
  )


def mimic(size: Size, units: int, teacher: str, *, label: str) -> dict:
  """No dropout, no other regularisation, as in the paper."""
  model = dict(name='shallow', hidden=units, bottleneck=size.rank)
  label = f'{label}-{notation.width_name(units)}'
  entry = size.recipe.trained(label, model, optimizer.L2_ON_SPEECH.of(model))
  return entry | dict(targets=teacher, loss=dict(name='logit_l2'))


def constant(size: Size, entry: dict, rates: optimizer.ShallowRates) -> dict:
  """The same net at the lower rate, constant, its last step kept."""
  rate = min(rates.of(entry['model']))
  return entry | dict(
    optimizer=entry['optimizer'] | dict(schedule='constant', learning_rate=rate),
    search={},
    num_steps=CURVE_EPOCHS * size.recipe.epoch,
    select='last',
  )
