"""A teacher's logits of augmented views: stored once, and replayed with the very same pixels."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from support import mixes

from shallow_jax import data as data_lib
from shallow_jax import models
from shallow_jax.data import dataset as dataset_lib
from shallow_jax.data import views as views_lib
from shallow_jax.logits import manifest as logit_manifest
from shallow_jax.logits import store as logit_store
from shallow_jax.pipeline import graph
from shallow_jax.pipeline import run as run_lib
from shallow_jax.pipeline import teacher as teacher_lib
from shallow_jax.pipeline import trained
from shallow_jax.pipeline import trainings
from shallow_jax.runtime import errors
from shallow_jax.settings import defaults
from shallow_jax.training import feed as feed_lib
from shallow_jax.training import problem as problem_lib
from shallow_jax.training import step as step_lib
from shallow_jax.training import train

VIEWS = 3
SIZES = {'train': 110, 'unlabelled': 90}
STEPS = dict(num_steps=4, evaluate_every_steps=4, checkpoint_every_steps=4, batch_size=32)
MIMIC = dict(
  STEPS,
  model=dict(name='shallow', hidden=20, bottleneck=4),
  targets='cnn',
  loss=dict(name='logit_l2'),
  views=VIEWS,
)
# run a few times only: quickly compiled rather than fast
QUICKLY = {'xla_backend_optimization_level': 0}


def config(folder, **augment):
  """A CNN of a few steps on labels, and a mimic of its logits on three views of two sets."""
  return defaults.experiment(
    data=dict(
      name='cifar10',
      data_dir=str(folder),
      num_validation=50,
      max_train=SIZES['train'],
      max_test=50,
      pool='cifar100',
      max_pool=SIZES['unlabelled'],
      augment=dict(flip=True, crop_min_scale=0.75, mixup_alpha=0.5) | augment,
    ),
    networks=dict(
      cnn=dict(STEPS, model=dict(name='cnn', features=(4,), kernel_size=3, dense=(8,))),
      mimic=MIMIC | dict(examples=tuple(SIZES)),
    ),
    logits=dict(shard_rows=32, batch_size=16),
    evaluation=dict(latency_batches=()),
  )


@pytest.fixture(scope='module')
def workdir(cifar_folder, tmp_path_factory):
  """A run whose teacher is trained and its logits stored, but no student."""
  workdir = tmp_path_factory.mktemp('views')
  run_lib.run(config(cifar_folder), workdir, only=['cnn'])
  run_lib.run(config(cifar_folder), workdir, only=['mimic'], stage='logits')
  return workdir


@pytest.fixture(scope='module')
def experiment(cifar_folder, workdir):
  return run_lib.prepare(defaults.plain(config(cifar_folder)), workdir)


@pytest.fixture(scope='module')
def teacher_logits(experiment):
  """The teacher as a function of what it sees: a raw batch in given views."""
  member, dataset = trained.load_member(experiment, 'cnn', 0), experiment.dataset

  def call(raw, views):
    x = dataset.inputs(dataset.constants, raw, views)
    return models.apply(member.module, member.variables, x)

  return jax.jit(call, compiler_options=QUICKLY)


@pytest.fixture
def caught(monkeypatch):
  """The problem that a network of an experiment is about to be fitted to."""

  class Fitted(BaseException):
    pass

  def fit(problems, *args, **kwargs):
    raise Fitted(*problems)

  def caught(experiment, network):
    with monkeypatch.context() as patch, pytest.raises(Fitted) as raised:
      patch.setattr(train, 'fit', fit)
      trainings.train_network(experiment, network)
    return raised.value.args[0]

  return caught


@pytest.mark.parametrize('name', SIZES)
def test_stored_logits_are_those_of_each_view_of_the_whole_set(
  experiment, workdir, teacher_logits, name
):
  augment, shape = experiment.config['data']['augment'], experiment.dataset.input_shape
  offsets = mixes.all_offsets(views_lib.build(augment, shape).mix(SIZES[name]), VIEWS)
  arrays = experiment.dataset.splits[name].arrays
  store = logit_store.load(workdir / 'cnn' / 'seed-0' / 'logits' / f'{name}-3-views')
  assert len(store.manifest.shards) > 2
  rows = np.linspace(0, SIZES[name] - 1, 64).astype(int)
  own = {key: arrays[key][rows] for key in ('input', 'id')}
  for view in range(VIEWS):
    turned = {key: np.roll(arrays[key], -offsets[0, view], axis=0)[rows] for key in own}
    raw = {**own, **{f'partner_{key}': array for key, array in turned.items()}}
    expected = teacher_logits(raw, np.full(64, view, np.int32))
    np.testing.assert_allclose(store.logits[view, rows], expected, atol=1e-4)


def test_a_step_shows_the_pixels_that_its_targets_belong_to(experiment, caught, teacher_logits):
  examples = caught(experiment, 'mimic').examples
  assert len(examples['id']) == sum(SIZES.values())
  rows = np.random.default_rng(0).permutation(sum(SIZES.values()))[:64]
  views = np.arange(64) % VIEWS
  arrays = jax.device_put(dict(examples))
  row = dict(indices=jax.numpy.asarray(rows), views=jax.numpy.asarray(views))
  batch = step_lib.batch_of(arrays, row)
  target, label = batch.pop('target'), batch.pop('label')
  np.testing.assert_array_equal(label, examples['label'][rows])
  shown = {key: batch[key] for key in ('input', 'id', 'partner_input', 'partner_id')}
  np.testing.assert_allclose(teacher_logits(shown, views), target, atol=1e-4)
  other_views = np.abs(teacher_logits(shown, (views + 1) % VIEWS) - target).max(axis=1)
  unmixed = shown | {'partner_input': shown['input'], 'partner_id': shown['id']}
  without_partner = np.abs(teacher_logits(unmixed, views) - target).max(axis=1)
  assert (other_views > 1e-3).mean() > 0.9
  assert (without_partner[views > 0] > 1e-3).mean() > 0.9


def test_partners_come_from_the_examples_own_set(experiment, caught):
  offsets = mixes.all_offsets(caught(experiment, 'mimic').examples['mix'], VIEWS)
  rows = np.arange(sum(SIZES.values()))[:, None]
  in_train = rows < SIZES['train']
  np.testing.assert_array_equal(rows + offsets < SIZES['train'], np.tile(in_train, VIEWS))
  assert (rows + offsets).min() == 0
  assert (rows + offsets).max() == rows.max()
  assert (offsets[:, 1:] != 0).all()


def test_views_that_are_learned_with_labels_are_not_mixed(cifar_folder, caught, tmp_path):
  on_labels = config(cifar_folder)
  on_labels.networks.cnn.views = 2
  experiment = run_lib.prepare(defaults.plain(on_labels), tmp_path / 'run')
  assert sorted(caught(experiment, 'cnn').examples) == ['id', 'input', 'label']


def test_examples_that_do_not_fit_on_the_device_come_with_their_partners(tmp_path, monkeypatch):
  digits = data_lib.load(defaults.complete(dict(data=dict(name='digits'))).data.to_dict())
  splits = digits.splits
  rng = np.random.default_rng(0)
  examples = splits['train'].arrays | {
    'mix': views_lib.Augmentation().mix(400),
    'target': rng.normal(size=(400, VIEWS, 10)).astype(np.float32),
  }
  targets = rng.normal(size=(100, 1, 10)).astype(np.float32)
  validation = splits['validation'].arrays | {'target': targets}

  def inputs(constants, raw, views):
    x = digits.inputs(constants, raw, None)
    if views is None:
      return x
    return x - digits.inputs(constants, {'input': raw['partner_input']}, None) / 2

  steps = dict(num_steps=40, evaluate_every_steps=40, checkpoint_every_steps=40)  # three epochs
  mimic = MIMIC | steps | dict(steps_per_call=2, optimizer=dict(learning_rate=0.01))
  networks = dict(cnn=dict(model=dict(name='cnn')), mimic=mimic)
  entry = defaults.plain(defaults.experiment(data=dict(name='digits'), networks=networks))
  problem = problem_lib.build(
    entry['networks']['mimic'],
    dataclasses.replace(digits, inputs=inputs),
    examples,
    validation,
    target_statistics=(np.zeros(10), np.ones(10)),
  )
  (resident,) = train.fit([problem], [tmp_path / 'resident'])
  monkeypatch.setattr(feed_lib, 'RESIDENT_BYTES', 0)
  (sent,) = train.fit([problem], [tmp_path / 'sent'])
  jax.tree.map(np.testing.assert_array_equal, resident.variables, sent.variables)


@pytest.mark.parametrize(
  ('key', 'value', 'was'), [('mixup_alpha', 0.4, 0.5), ('hue_shift', 0.06, 0.0), ('seed', 1, 0)]
)
def test_logits_of_other_views_are_refused_and_nothing_learns_from_them(
  cifar_folder, workdir, tmp_path, key, value, was
):
  copy = shutil.copytree(workdir, tmp_path / 'copy')
  shutil.rmtree(copy / 'mimic')
  with pytest.raises(logit_manifest.LogitStoreError) as refused:
    run_lib.run(config(cifar_folder, **{key: value}), copy)
  assert '\n' not in str(refused.value)
  assert f'view_settings.{key}: {was}, now {value}' in str(refused.value)
  assert not list(copy.glob('mimic/seed-*'))


def test_a_share_of_labels_in_the_loss_is_refused_of_mixed_views(cifar_folder, experiment):
  changed = config(cifar_folder)
  changed.networks.mimic.loss.label_weight = 0.5
  networks = defaults.plain(changed)['networks']
  with pytest.raises(defaults.ConfigError, match=r'mimic\.loss\.label_weight: .* has no label'):
    graph.check_examples(networks, experiment.dataset)
  networks['mimic']['views'] = 1
  graph.check_examples(networks, experiment.dataset)


def test_a_setting_out_of_range_is_refused_before_anything_runs(cifar_folder, tmp_path):
  with pytest.raises(dataset_lib.DataError, match=r'data\.augment\.crop_padding is 32, expected'):
    run_lib.run(config(cifar_folder, crop_padding=32), tmp_path / 'run')


def test_a_network_may_see_views_of_its_own(cifar_folder, workdir, caught, tmp_path):
  own = dict(mixup_alpha=0.0, crop_padding=3)
  changed = config(cifar_folder)
  changed.networks.mimic.augment = own
  copy = shutil.copytree(workdir, tmp_path / 'run', ignore=shutil.ignore_patterns('mimic'))
  experiment = run_lib.prepare(defaults.plain(changed), copy)
  teacher_lib.store_targets(experiment, 'mimic')
  found = caught(experiment, 'mimic')
  usual = experiment.dataset.augmentation
  assert found.dataset.augmentation == dataclasses.replace(usual, **own)
  assert sorted(found.examples) == ['id', 'input', 'label', 'target']  # no mix
  # the logits of its views lie beside those of the usual ones, and belong to its pixels
  stores = [folder.name for folder in (copy / 'cnn/seed-0/logits').glob('train-*')]
  assert len(stores) == 2 and 'train-3-views' in stores
  member, rows = trained.load_member(experiment, 'cnn', 0), np.arange(64)
  raw = {name: found.examples[name][rows] for name in ('input', 'id')}
  x = found.dataset.inputs(found.dataset.constants, raw, np.full(64, 2, np.int32))
  expected = models.apply(member.module, member.variables, x)
  np.testing.assert_allclose(found.examples['target'][rows, 2], expected, atol=1e-4)


def test_a_networks_own_views_are_in_its_fingerprint_as_if_they_were_those_of_the_data(
  cifar_folder, experiment
):
  own, of_data = config(cifar_folder), config(cifar_folder, crop_padding=3)
  own.networks.mimic.augment = dict(crop_padding=3)
  data = experiment.dataset.fingerprint()
  of_data_views = data | {'views': data['views'] | {'crop_padding': 3}}

  def fingerprint(changed, data):
    plain = defaults.plain(changed)
    return graph.fingerprint(plain['networks'], 'mimic', data, plain['logits'])

  assert fingerprint(own, data) == fingerprint(of_data, of_data_views)
  assert fingerprint(own, data) != fingerprint(config(cifar_folder), data)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(augment=dict(padding=3)), r"mimic\.augment: unknown key 'padding'; did you mean"),
    (dict(augment=dict(flip=1)), r'mimic\.augment\.flip: expected bool, not 1'),
    (dict(augment=dict(crop_padding=32)), r'mimic\.augment\.crop_padding is 32, expected 0 to 31'),
    (dict(augment=dict(flip=False), views=1), r'mimic\.augment: views is 1, each example as it is'),
  ],
)
def test_views_of_its_own_that_cannot_be_are_refused(cifar_folder, experiment, changes, message):
  given = config(cifar_folder).to_dict()
  given['networks']['mimic'].update(changes)
  with pytest.raises(errors.ExpectedError, match=message):
    graph.check_examples(defaults.plain(defaults.complete(given))['networks'], experiment.dataset)
