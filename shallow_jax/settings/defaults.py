"""Every key that an experiment's config may have, with its default and its meaning.

A config file calls `experiment`, `data` and `network` with what differs; `complete` does the same
for a plain dict. Both refuse what is not listed here, with the nearest name that is.
"""

from collections.abc import Mapping, Sequence
import re
from typing import Any

import ml_collections

from shallow_jax import models
from shallow_jax.runtime import parallel
from shallow_jax.settings import sweep_settings
from shallow_jax.settings import values as values_lib
from shallow_jax.training import losses
from shallow_jax.training import optimizer

EXPERIMENT = dict(
  name='',  # the title of the report
  splits=(),  # values of data.split_seed, each a whole run, pooled in the report; (): one run
  data={},
  networks={},
  order=(),  # of the networks in run and report; (): as they are given
  logits=dict(
    shard_rows=65_536,  # examples in a file of the logit store
    batch_size=256,  # examples that a device computes at once; divides shard_rows
    dtype='float32',  # or float16: half the bytes
    keep_members=False,  # store each member's logits beside the mean of an ensemble
  ),
  parallel=dict(  # how it is computed, not what: the results agree (runtime/parallel.py)
    compile='jit',  # or pmap, which divides the batch alone
    model=1,  # devices that share a wide layer's hidden units; the others share the batch
  ),
  evaluation=dict(
    latency_batches=(1, 32, 256),  # examples a call; (): don't measure
    decoding=dict(  # of speech: values of which validation chooses (shallow_jax.speech.viterbi)
      acoustic=(0.2, 0.3, 0.5, 0.7, 1.0, 1.5),  # times a frame's log likelihood
      lm=(0.5, 1.0, 2.0, 3.0, 4.0),  # times the bigram's log probability
      insertion=(-4.0, -2.0, 0.0, 2.0, 4.0, 6.0),  # nats for each phone
    ),
  ),
  report=dict(
    attribution=(),  # networks from the labels' to the teacher, each one change further
    baseline='',  # the network on labels; '': none
    headline='',  # the mimic that is compared with it
    teacher='',
    note='',  # under the title, such as that the nets are smaller than the paper's
    sweeps=(),  # figures of several networks, by name (sweep_settings.py: SWEEP)
  ),
)

NETWORK = dict(
  # Exactly one of the next two says what the network is.
  model=None,  # name and the constructor's arguments (shallow_jax.models.MODELS)
  ensemble=(),  # networks whose seeds' logits are averaged
  fit=None,  # of model single_layer, which is fitted without gradient descent: see FIT
  seeds=1,
  seeds_together=False,  # trained in one program: equal to one by one up to rounding
  init='',  # a network of the same model to start from; seed i starts from its seed i mod n
  targets='labels',  # or a network, or one seed of it: 'cnn/0'; of speech 'alignment:cnn' too
  examples=('train',),  # the sets to train on
  views=1,  # augmented views of each example, one an epoch in turn; 1: as it is
  loss=dict(
    name='cross_entropy',
    temperature=1.0,  # of kl
    normalize=True,  # L2 losses: in units of the targets' standard deviation per class
    label_smoothing=0.0,  # of cross_entropy
    label_weight=0.0,  # the share of the labels' cross-entropy, for examples with a label
  ),
  optimizer=dict(
    learning_rate=0.0,  # 0: STABLE_RATE / hidden units of a shallow net, 0.01 of a deep one
    momentum=0.9,
    nesterov=False,
    warmup_steps=200,
    schedule='cosine',  # constant, cosine, step, plateau
    decay_at=(0.5, 0.75),  # step: fractions of num_steps
    decay_factor=0.1,  # step and plateau
    plateau_evaluations=5,  # plateau: evaluations without a better one before the rate falls
    weight_decay=0.0,
    clip_norm=0.0,  # 0: off
  ),
  search={},  # values to try: dict(optimizer=dict(learning_rate=(0.003, 0.01)))
  compute_dtype='float32',  # or bfloat16: of the products in training; all else stays float32
  batch_size=64,
  num_steps=1000,
  steps_per_call=1,  # > 1 pays on accelerators, and on CPU for nets without convolution
  evaluate_every_steps=100,
  checkpoint_every_steps=1000,
  stop_after_evaluations=0,  # early stopping: evaluations without a better one; 0: never
  select='error',  # validation chooses step and trial by error (ties by loss) or by loss; or last
  label='',  # how the report calls it; '': its name
  paper=None,  # dict(value=15.1, source='Table 2'): the paper's figure for this row
)

FIT = dict(
  num_patches=400_000,  # that k-means clusters
  svm_c=0.002,  # a squared hinge's weight beside |w|² / 2: 100 / 50,000 images in Coates' code
)

SPEECH = dict(  # of every corpus
  data_dir='',  # the folder of the recordings
  cache_dir='',  # for their features; '': $XDG_CACHE_HOME or ~/.cache, there shallow_jax
  skip_bad=False,  # leave out damaged utterances and note them; else the first one ends the run
  max_utterances=0,  # of each split; 0: all
  pool_dir='',  # unlabelled: a folder of .wav, .flac, .sph of any rate and no phones; '': none
)

PREPROCESSING = dict(
  name='standardise',  # per_image, gcn_zca (shallow_jax/data/preprocessing.py)
  zca_epsilon=0.1,  # added to the variances that ZCA scales to 1
)

DATA = {
  'digits': dict(
    split_seed=0, num_train=400, num_validation=100, num_unlabelled=297, num_test=1000
  ),
  'cifar10': dict(
    data_dir='',  # a TFDS data_dir, or the folder of the binary archive
    num_validation=5000,
    split_seed=0,
    pool='',  # unlabelled: the other CIFAR, images, arrays, tfds:NAME (shallow_jax/data/pools.py)
    pool_dir='',  # where it is; '' for the other CIFAR: in data_dir
    near_duplicate_correlation=0.7,  # with validation or test: dropped (data/duplicates.py); 0: off
    max_train=0,  # 0: all
    max_test=0,
    max_pool=0,
    augment=dict(  # how views are made (shallow_jax.data.images.Augmentation)
      flip=False,
      crop_padding=0,  # pixels
      crop_min_scale=1.0,  # of the side; 0.75 of 32 pixels: crops of 24 to 32; 1: off
      hue_shift=0.0,  # of the colour circle
      saturation_shift=0.0,
      saturation_scale=0.0,
      value_shift=0.0,
      value_scale=0.0,
      mixup_alpha=0.0,  # in what learns from logits; 0: off
      seed=0,
    ),
  ),
  'arrays': dict(path='', num_validation=0, split_seed=0),
  'timit': dict(SPEECH),
  'timit_sample': dict(
    SPEECH,
    split_seed=0,  # the rotation, 0 to 7: which 2 of the 16 speakers are tested
  ),
  'speech': dict(
    SPEECH,
    phone_map='',  # timit, cmu_arctic, arpabet or a file (shallow_jax/speech/recordings/phones.py)
    split_file='',  # cmu_arctic, librispeech or a file (shallow_jax/speech/recordings/splits.py)
    alignment_dir='',  # a folder or one .mlf; '': beside the recordings
  ),
}
DATA['cifar100'] = DATA['cifar10']

DERIVED_SET = dict(
  of=(),  # the sets it is made of
  without_class=-1,  # a class to leave out; -1: none
  size=0,  # so many of them; 0: all
  munge=None,  # dict(size, swap_probability, local_variance, seed): Bucila et al. 2006
)
MUNGE = dict(size=0, swap_probability=0.2, local_variance=1.0, seed=0)
PAPER = dict(
  value=0.0,  # test error in per cent
  source='',
  parameters='',  # as the paper states them: '~70M'
  hidden_units='',
)

# Numbers that must be more than 0; the others may be 0.
POSITIVE = (
  *('temperature', 'kernel_size', 'patch_size', 'convs_per_stage', 'features', 'hidden'),
  *('pool_size', 'pool_stride', 'svm_c'),
)

# What a network's figures do not depend on: changed at will in a finished run.
PRESENTATION = ('label', 'paper', 'seeds')

# Keys that are younger than many runs: at its default one is left out of the fingerprint, so that
# these runs go on with the one they have.
YOUNGER = ('fit', 'compute_dtype', 'seeds_together')

ConfigError = values_lib.ConfigError
choice = values_lib.choice
local_path = values_lib.local_path


def experiment(
  *, data: Mapping[str, Any], networks: Mapping[str, Any], **changes: Any
) -> ml_collections.ConfigDict:
  """A complete experiment as a ConfigDict, ready for overrides from the command line."""
  return complete(dict(data=data, networks=networks, **changes))


def complete(config: Mapping[str, Any] | ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """Fills in every default; an unknown key or a wrong type raises ConfigError."""
  config = config.to_dict() if isinstance(config, ml_collections.ConfigDict) else config
  full = values_lib.merge(EXPERIMENT, config, 'config', free=('data', 'networks', 'report'))
  full['data'] = _data(full['data'])
  if full['splits'] and 'split_seed' not in full['data']:
    raise ConfigError(
      f'config.splits: data {full["data"]["name"]!r} has no split_seed; expected ()'
    )
  full['networks'] = {
    _network_name(name): _network(entry, f'config.networks.{name}')
    for name, entry in values_lib.mapping(full['networks'], 'config.networks').items()
  }
  choice(full['parallel']['compile'], parallel.COMPILE, 'config.parallel.compile')
  model = full['parallel']['model']
  if model < 1:
    raise ConfigError(f'config.parallel.model: expected at least 1, not {model}')
  for part, values in full['evaluation']['decoding'].items():
    _check_decoding(values, f'config.evaluation.decoding.{part}')
  full['order'] = full['order'] or tuple(full['networks'])
  if sorted(full['order']) != sorted(full['networks']):
    names = ', '.join(full['networks'])
    raise ConfigError(f'config.order: expected every network once, {names}')
  full['report'] = _report(full['report'], full['networks'])
  return ml_collections.ConfigDict(full, type_safe=True, convert_dict=True)


def plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """A complete config as plain dicts, its networks in `order` (a ConfigDict sorts its keys).

  Here a rate of 0 becomes the model's own: after every override of its width.
  """
  found = config.to_dict()
  found['networks'] = {name: found['networks'][name] for name in found['order']}
  for entry in found['networks'].values():
    if entry['model'] is not None and not entry['optimizer']['learning_rate']:
      entry['optimizer']['learning_rate'] = optimizer.default_rate(entry['model'])
  return found


def variants(variant: str, known: Sequence[str]) -> list[str]:
  """The variants that a config's `:a,b` names."""
  chosen = [name for name in variant.split(',') if name]
  for name in chosen:
    choice(name, known, 'variant')
  return chosen


def _check_decoding(values: Sequence[Any], where: str) -> None:
  if not values or not all(type(value) in (int, float) for value in values):
    raise ConfigError(f'{where}: expected one number or several, not {values!r}')


def _data(config: Mapping[str, Any]) -> dict[str, Any]:
  name = values_lib.mapping(config, 'config.data').get('name', '')
  choice(name, list(DATA), 'config.data.name')
  defaults = dict(DATA[name], name=name, preprocessing=PREPROCESSING, sets={})
  full = values_lib.merge(defaults, config, 'config.data', free=('sets',))
  for key, value in full.items():
    if isinstance(value, str):
      values_lib.local_path(value, f'config.data.{key}')
  full['sets'] = {
    key: _derived_set(entry, f'config.data.sets.{key}')
    for key, entry in values_lib.mapping(full['sets'], 'config.data.sets').items()
  }
  return full


def _derived_set(entry: Mapping[str, Any], where: str) -> dict[str, Any]:
  full = values_lib.merge(DERIVED_SET, entry, where, free=('munge',))
  if full['munge'] is not None:
    full['munge'] = values_lib.merge(MUNGE, full['munge'], f'{where}.munge')
  return full


def _network(entry: Mapping[str, Any], where: str) -> dict[str, Any]:
  full = values_lib.merge(NETWORK, entry, where, free=('model', 'fit', 'search', 'paper'))
  if (full['model'] is None) == (not full['ensemble']):
    raise ConfigError(f'{where}: expected exactly one of model and ensemble')
  if full['model'] is not None:
    full['model'] = _model(full['model'], f'{where}.model')
  full['fit'] = _fit(full, f'{where}.fit')
  if full['paper'] is not None:
    full['paper'] = values_lib.merge(PAPER, full['paper'], f'{where}.paper')
  full['search'] = _search(full['search'], full, f'{where}.search')
  check_values(full, where)
  return full


def check_values(entry: Mapping[str, Any], where: str) -> None:
  """Refuses names that there are not and numbers out of range, in an entry of the right types."""
  choice(entry['loss']['name'], losses.ON_LABELS + losses.ON_LOGITS, f'{where}.loss.name')
  choice(entry['optimizer']['schedule'], optimizer.SCHEDULES, f'{where}.optimizer.schedule')
  choice(entry['compute_dtype'], ('float32', 'bfloat16'), f'{where}.compute_dtype')
  choice(entry['select'], ('error', 'loss', 'last'), f'{where}.select')
  if entry['seeds_together'] and entry['stop_after_evaluations']:
    raise ConfigError(
      f'{where}.stop_after_evaluations: seeds that are trained together stop together; expected 0'
    )
  _check_steps(entry, where)
  if entry['fit'] is not None:
    _check_fit(entry, where)
  for part in ('loss', 'optimizer', 'model', 'fit'):
    for key, value in (entry[part] or {}).items():
      _check_range(key, value, f'{where}.{part}.{key}')


def _network_name(name: str) -> str:
  if not isinstance(name, str) or name == 'labels' or not re.fullmatch(r'[\w-]+', name):
    raise ConfigError(
      f'config.networks: {name!r} is no name for a network; expected letters, digits, - and _, '
      "and not 'labels'"
    )
  return name


def _report(report: Mapping[str, Any], networks: Mapping[str, Any]) -> dict[str, Any]:
  full = values_lib.merge(EXPERIMENT['report'], report, 'config.report', free=('sweeps',))
  for name in full['attribution']:
    choice(name, list(networks), 'config.report.attribution')
  for role in ('baseline', 'headline', 'teacher'):
    if full[role]:
      choice(full[role], list(networks), f'config.report.{role}')
  full['sweeps'] = sweep_settings.complete(full['sweeps'], networks)
  return full


def _model(model: Mapping[str, Any], where: str) -> dict[str, Any]:
  name = values_lib.mapping(model, where).get('name', '')
  choice(name, list(models.MODELS), f'{where}.name')
  return values_lib.merge(dict(models.arguments(name), name=name), model, where)


def _fit(entry: Mapping[str, Any], where: str) -> dict[str, Any] | None:
  if entry['model'] is not None and entry['model']['name'] == 'single_layer':
    return values_lib.merge(FIT, {} if entry['fit'] is None else entry['fit'], where)
  if entry['fit'] is not None:
    raise ConfigError(f'{where}: only a single_layer model has it, the others learn by gradient')
  return None


def _check_fit(entry: Mapping[str, Any], where: str) -> None:
  for key in ('targets', 'loss', 'init', 'views'):
    if entry[key] != NETWORK[key]:
      raise ConfigError(
        f'{where}.{key}: a single_layer model is fitted to labels by k-means and an SVM; expected '
        f'{NETWORK[key]!r}, not {entry[key]!r}'
      )
  patches, features = entry['fit']['num_patches'], entry['model']['features']
  if patches < features:
    raise ConfigError(f'{where}.fit.num_patches: {patches} are less than the {features} features')


def _search(search: Any, entry: Mapping[str, Any], where: str) -> dict[str, Any]:
  found: dict[str, Any] = {}
  for key, value in values_lib.mapping(search, where).items():
    here = f'{where}.{key}'
    if key not in entry:
      raise ConfigError(f'{where}: unknown key {key!r}{values_lib.suggestion(key, entry)}')
    if isinstance(entry[key], Mapping):
      found[key] = _search(value, entry[key], here)
    elif not isinstance(value, (tuple, list)) or not value:
      raise ConfigError(f'{here}: expected a tuple of values to try, not {value!r}')
    else:
      found[key] = tuple(values_lib.typed(entry[key], each, here) for each in value)
  return found


def _check_range(key: str, value: Any, where: str) -> None:
  if not isinstance(value, (int, float)) or isinstance(value, bool):
    return
  if key in POSITIVE:
    if value <= 0:
      raise ConfigError(f'{where}: expected more than 0, not {value}')
  elif value < 0:
    raise ConfigError(f'{where}: expected 0 or more, not {value}')
  if key in ('dropout', 'input_dropout', 'label_smoothing', 'label_weight') and value > 1:
    raise ConfigError(f'{where}: expected 0 to 1, not {value}')


def _check_steps(entry: Mapping[str, Any], where: str) -> None:
  for key in (
    'seeds',
    'views',
    'batch_size',
    'num_steps',
    'steps_per_call',
    'evaluate_every_steps',
    'checkpoint_every_steps',
  ):
    if entry[key] < 1:
      raise ConfigError(f'{where}.{key}: expected at least 1, not {entry[key]}')
  for key in ('num_steps', 'evaluate_every_steps', 'checkpoint_every_steps'):
    if entry[key] % entry['steps_per_call']:
      steps = entry['steps_per_call']
      raise ConfigError(f'{where}.{key}: {entry[key]} is not a multiple of steps_per_call, {steps}')
