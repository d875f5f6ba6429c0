"""Table 1 of the paper (Ba & Caruana 2014, section 3): phone error rates on TIMIT, row by row.

  shallow-jax run --config=configs/timit_table1.py --workdir=runs/timit --config.data.data_dir=DIR

DIR holds TIMIT's TRAIN and TEST (LDC93S1). The paper gives the architectures, where dropout is, and
what each net learns from. Everything else is ours: dropout rates, learning rates, epochs, batch
size, and the CNN's maps, filters and pools. The paper's ensemble has 9 CNNs; ours 3 filter sizes, 3
seeds each. Each net tries as many learning rates as the others; validation chooses.

Beside the rows, the 8k mimic's net on labels (`control`), with dropout, smoothing or the mimic's
loss, and on the teacher's hard labels; and the DNN on labels that the DNN has realigned.

Variants, alone or together:
  :sample       the 16 speakers of TIMIT that are free, 12 to train: 5 minutes of speech. Nets of
                hundreds of units; 8 rotations, in which each speaker is tested once. Rows keep
                their names
  :arctic       the rows on CMU ARCTIC: DIR holds cmu_us_bdl_arctic (validation), cmu_us_slt_arctic
                (test) and others to train
  :librispeech  on LibriSpeech: DIR holds train-clean-100, dev-clean and test-clean, and
                --config.data.alignment_dir their Montreal alignments, in the same tree. Utterances
                without one, 46 in all of LibriSpeech, are left out. Train is 36 million frames,
                18 GB; --config.data.max_utterances=4000 takes 14 hours of it
  :smoke        seconds
"""

from collections.abc import Mapping, Sequence
import dataclasses

import ml_collections

import shallow_jax
from shallow_jax.models import notation
from shallow_jax.settings import speech_recipe
from shallow_jax.training import optimizer

VARIANTS = ('sample', 'arctic', 'librispeech', 'smoke')


@dataclasses.dataclass(frozen=True)
class Size:
  """How large the rows are: the paper's architectures, and what is ours."""

  architectures: Mapping[str, str]
  control_seeds: int  # of the 8k mimic and of what it is compared with
  recipe: speech_recipe.Recipe
  note: str


FULL = Size(
  architectures=dict(
    snn_8k='8k',
    snn_50k='50k',
    snn_400k='250L-400k',
    dnn='2k-2k-2k',
    cnn='c-p-2k-2k-2k',
    mimic_8k='250L-8k',
    mimic_400k='250L-400k',
  ),
  control_seeds=3,
  recipe=speech_recipe.FULL,
  note='',
)
SAMPLE = Size(
  architectures=dict(
    snn_8k='500',
    snn_50k='1k',
    snn_400k='32L-4k',
    dnn='200-200-200',
    cnn='32c-p-200-200-200',
    mimic_8k='32L-500',
    mimic_400k='32L-4k',
  ),
  control_seeds=2,
  recipe=speech_recipe.SAMPLE,
  note='12 speakers to train and nets of hundreds of units: not Table 1, but its rows in small.',
)
SMOKE = dataclasses.replace(
  SAMPLE,
  architectures=dict(
    snn_8k='100',
    snn_50k='200',
    snn_400k='16L-400',
    dnn='50-50-50',
    cnn='8c-p-50-50-50',
    mimic_8k='16L-100',
    mimic_400k='16L-400',
  ),
  control_seeds=1,
  recipe=speech_recipe.SMOKE,
  note='Seconds of training: figures without a meaning.',
)

CORPORA = dict(
  sample=('the TIMIT sample', dict(name='timit_sample')),
  arctic=('CMU ARCTIC', dict(name='speech', phone_map='cmu_arctic', split_file='cmu_arctic')),
  librispeech=(
    'LibriSpeech',
    dict(name='speech', phone_map='arpabet', split_file='librispeech', skip_bad=True),
  ),
)
TIMIT = ('TIMIT', dict(name='timit'))
ROTATIONS = tuple(range(8))

KERNEL_SIZES = (8, 5, 11)  # bands; the first is that of the row `cnn`

# Phone error rate in per cent, and numbers of parameters and of hidden units, as Table 1 states.
PAPER = dict(
  snn_8k=(23.1, '~12M', '~8k'),
  snn_50k=(23.0, '~100M', '~50k'),
  snn_400k=(23.6, '~180M', '~400k'),
  dnn=(21.9, '~12M', '~6k'),
  cnn=(19.5, '~13M', '~10k'),
  ecnn=(18.5, '~125M', '~90k'),
  mimic_8k=(21.6, '~12M', '~8k'),
  mimic_400k=(20.0, '~180M', '~400k'),
)


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  chosen = shallow_jax.variants(variant, VARIANTS)
  corpus, data = next((CORPORA[name] for name in CORPORA if name in chosen), TIMIT)
  size = size_of(chosen)
  networks = rows(size) | controls(size)
  if data['name'] == 'timit':
    for name in PAPER:
      networks[name]['paper'] = paper(name)
  config = shallow_jax.experiment(
    name=f'Table 1 on {corpus}',
    splits=ROTATIONS if 'sample' in chosen and 'smoke' not in chosen else (),
    data=data,
    networks=networks,
    logits=dict(shard_rows=size.recipe.shard_rows),
    report=dict(
      attribution=('control', 'control_l2', 'mimic_8k', 'ecnn'),
      headline='mimic_8k',
      teacher='ecnn',
      note=size.note,
    ),
  )
  return speech_recipe.smoke(config) if 'smoke' in chosen else config


def size_of(chosen: Sequence[str]) -> Size:
  """The size that the variants ask for: of several the smallest."""
  for name, size in (('smoke', SMOKE), ('sample', SAMPLE)):
    if name in chosen:
      return size
  return FULL


def rows(size: Size) -> dict[str, dict]:
  """The eight rows, in the paper's order; before the ensemble its other members."""
  base, *others = KERNEL_SIZES
  members = {f'cnn_{bands}': cnn(size, f'CNN, filters of {bands}', bands) for bands in others}
  return dict(
    snn_8k=shallow(size, 'snn_8k', **size.recipe.dropouts),
    snn_50k=shallow(size, 'snn_50k', **size.recipe.dropouts),
    snn_400k=shallow(size, 'snn_400k', **size.recipe.dropouts),
    dnn=dnn(size, 'DNN'),
    cnn=cnn(size, 'CNN', base),
    **members,
    ecnn=dict(
      ensemble=('cnn', *members),
      label=f'ensemble of {len(KERNEL_SIZES) * size.recipe.cnn_seeds} CNNs',
    ),
    mimic_8k=mimic(size, 'mimic_8k'),
    mimic_400k=mimic(size, 'mimic_400k'),
  )


def controls(size: Size) -> dict[str, dict]:
  """What the mimic is fairly compared with: its own net, one thing changed at a time."""
  return dict(
    control=control(size, 'labels'),
    control_dropout=control(size, 'labels, dropout', **size.recipe.dropouts),
    control_smooth=control(size, 'labels, smoothing')
    | dict(loss=dict(name='cross_entropy', label_smoothing=0.1)),
    control_l2=with_l2(control(size, 'labels, L2'), 'label_l2'),
    control_hard_l2=with_l2(control(size, "teacher's hard labels, L2"), 'hard_l2')
    | dict(targets='ecnn'),
    dnn_realigned=dnn(size, 'DNN, realigned labels') | dict(targets='alignment:dnn'),
  )


def dnn(size: Size, label: str) -> dict:
  model = notation.parse(size.architectures['dnn']) | size.recipe.dropouts
  return size.recipe.trained(label, model, optimizer.DEEP_ON_SPEECH)


def cnn(size: Size, label: str, kernel_size: int) -> dict:
  model = notation.parse(size.architectures['cnn'])
  model |= dict(kernel_size=kernel_size, dropout=size.recipe.dropout)
  return size.recipe.trained(label, model, optimizer.DEEP_ON_SPEECH) | dict(
    seeds=size.recipe.cnn_seeds
  )


def shallow(size: Size, name: str, **model: float) -> dict:
  """A wide net on labels."""
  architecture = size.architectures[name]
  model = notation.parse(architecture) | model
  entry = size.recipe.trained(
    f'SNN-{width(architecture)}', model, optimizer.LABELS_ON_SPEECH.of(model)
  )
  return entry | dict(seeds=size.control_seeds if name == 'mimic_8k' else size.recipe.seeds)


def mimic(size: Size, name: str) -> dict:
  """On the ensemble's logits: no dropout, no other regularisation, as in the paper."""
  entry = with_l2(shallow(size, name), 'logit_l2') | dict(targets='ecnn')
  return entry | dict(label=f'SNN-MIMIC-{width(size.architectures[name])}')


def control(size: Size, label: str, **model: float) -> dict:
  return shallow(size, 'mimic_8k', **model) | dict(label=f'control: {label}')


def with_l2(entry: dict, loss: str) -> dict:
  return entry | dict(
    loss=dict(name=loss), search=search(optimizer.L2_ON_SPEECH.of(entry['model']))
  )


def search(rates: Sequence[float]) -> dict:
  return dict(optimizer=dict(learning_rate=tuple(rates)))


def width(architecture: str) -> str:
  """`250L-8k` -> `8k`."""
  return architecture.rpartition('-')[2]


def paper(name: str) -> dict:
  """What Table 1 states of a row."""
  error, parameters, hidden_units = PAPER[name]
  return dict(value=error, source='Table 1', parameters=parameters, hidden_units=hidden_units)
