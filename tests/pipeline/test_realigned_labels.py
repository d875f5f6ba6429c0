"""Phones through the whole chain: error rates, labels that a network realigns, and refusals."""

import shutil

from made_up import speech as made_up_speech
import numpy as np
import pytest

from shallow_jax import data as data_lib
from shallow_jax.pipeline import experiment as experiment_lib
from shallow_jax.pipeline import graph
from shallow_jax.pipeline import realigned_labels
from shallow_jax.pipeline import run as run_lib
from shallow_jax.pipeline import teacher
from shallow_jax.pipeline import trainings
from shallow_jax.runtime import storage
from shallow_jax.settings import defaults
from shallow_jax.speech import hmm

DNN = dict(
  model=dict(name='dnn', hidden=(24,)),
  num_steps=60,
  evaluate_every_steps=30,
  checkpoint_every_steps=60,
  optimizer=dict(learning_rate=0.1, warmup_steps=5),
)
MIMIC = dict(
  DNN,
  model=dict(name='shallow', hidden=30),
  targets='second',
  loss=dict(name='logit_l2'),
  optimizer=dict(learning_rate=0.02, warmup_steps=5),
)


@pytest.fixture(autouse=True)
def speech(monkeypatch):
  dataset = made_up_speech.make_dataset()
  monkeypatch.setattr(data_lib, 'load', lambda config, constants: dataset)
  return dataset


def config(**networks):
  entries = dict(
    dnn=dict(DNN, seeds=2),
    second=dict(DNN, targets='alignment:dnn'),
    third=dict(DNN, targets='alignment:second'),
    mimic=MIMIC,
    both=dict(ensemble=('dnn', 'second')),
  )
  return defaults.experiment(
    name='made-up speech',
    data=dict(name='digits'),
    networks=entries | networks,
    logits=dict(shard_rows=128, batch_size=64),
    evaluation=dict(
      latency_batches=(), decoding=dict(acoustic=(0.5, 1.0), lm=(1.0,), insertion=(0.0,))
    ),
    report=dict(headline='mimic', teacher='second', baseline='dnn'),
  )


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('finished')
  with pytest.MonkeyPatch.context() as patch:
    dataset = made_up_speech.make_dataset()
    patch.setattr(data_lib, 'load', lambda config, constants: dataset)
    return workdir, run_lib.run(config(), workdir)


@pytest.fixture
def copy(finished, tmp_path):
  return shutil.copytree(finished[0], tmp_path / 'copy')


def _change_weights(folder):
  record = storage.read_record(folder / 'trained.json')
  storage.write_sealed_json(folder / 'trained.json', record | {'weights_sha256': '0' * 64})


def prepared(workdir):
  return run_lib.prepare(defaults.plain(config()), workdir)


def test_every_network_has_its_phone_error_rate(finished):
  results = finished[1]
  for entry in results['networks'].values():
    per = entry['metrics']['test']['per']
    assert 0 <= per['mean'] < 40
    assert len(per['values']) == len(entry['seeds'])
    assert len(entry['metrics']['validation']['per']['scales']) == len(entry['seeds'])
  assert results['comparison']['dnn']['bootstrap']['pairs'] == 1
  assert 'mcnemar' not in results['comparison']['dnn']
  report = (finished[0] / 'report' / 'report.md').read_text()
  assert '| phone error rate % |' in ' '.join(report.split())
  assert '### Realigned labels' in report
  assert '| test0' in report
  assert (finished[0] / 'report' / 'figures' / 'phone_confusion.png').exists()


def test_an_alignment_finds_where_states_really_begin(finished, speech):
  experiment = prepared(finished[0])
  found = realigned_labels.split(experiment, 'third', 'train').arrays['label']
  thirds = speech.splits['train'].arrays['label']
  heard = made_up_speech.heard(thirds)
  assert np.mean(found == heard) > 0.95 > 0.8 > np.mean(thirds == heard)


def test_it_is_what_train_and_validation_of_its_learners_have_and_test_never(finished, speech):
  experiment = prepared(finished[0])
  for name in ('second', 'mimic'):  # the mimic's teacher learned from it
    dataset = realigned_labels.dataset(experiment, name)
    for split in ('train', 'validation'):
      stored = np.load(finished[0] / 'dnn' / 'alignment' / f'{split}.npy')
      np.testing.assert_array_equal(dataset.splits[split].arrays['label'], stored)
    assert dataset.splits['test'] is speech.splits['test']
  assert realigned_labels.dataset(experiment, 'dnn') is speech
  assert graph.aligner(experiment.networks, 'both') is None
  assert graph.aligner(experiment.networks, 'third') == 'second'


def test_the_network_really_learns_from_it(finished):
  experiment = prepared(finished[0])
  entry = experiment.networks['third']
  source = teacher.source_of(experiment, entry, 0)
  (problem,) = trainings.problems(experiment, 'third', entry, [0], source)
  for arrays, split in ((problem.examples, 'train'), (problem.validation, 'validation')):
    stored = np.load(finished[0] / 'second' / 'alignment' / f'{split}.npy')
    np.testing.assert_array_equal(arrays['label'], stored)


def test_what_it_changed_is_in_the_result(finished, speech):
  result = storage.read_json(finished[0] / 'second' / 'result.json')
  aligned = np.load(finished[0] / 'dnn' / 'alignment' / 'train.npy')
  thirds = speech.splits['train'].arrays['label']
  found = result['alignment']
  assert found['by'] == 'dnn'
  assert found['changed'] == pytest.approx(100 * np.mean(aligned != thirds))
  expected = [100 * np.mean(aligned % 3 == state) for state in range(3)]
  assert found['shares'] == pytest.approx(expected)
  assert storage.read_json(finished[0] / 'dnn' / 'result.json')['alignment'] is None


def test_beginnings_in_thirds_are_where_labels_begin():
  segments = [(0, 1000, 0), (1000, 1480, 2), (1480, 1640, 2), (1640, 4000, 1)]
  states = hmm.uniform_alignment(segments, 25)
  expected = hmm.starts(segments, 25)
  np.testing.assert_array_equal(realigned_labels._starts(states), expected)


@pytest.mark.parametrize('name', ['train.npy', 'validation.npy', 'manifest.json'])
def test_a_damaged_alignment_is_refused_by_name(name, copy):
  path = copy / 'dnn' / 'alignment' / name
  data = bytearray(path.read_bytes())
  data[-5] ^= 1
  path.write_bytes(data)
  (copy / 'second' / 'result.json').unlink()
  with pytest.raises(storage.StorageError, match=f'dnn/alignment/{name}'):
    run_lib.run(config(), copy, only=['second'])


def test_an_alignment_of_other_weights_is_refused(copy):
  _change_weights(copy / 'dnn' / 'seed-0')
  experiment = prepared(copy)
  with pytest.raises(experiment_lib.ExperimentError, match='dnn/alignment is of other weights'):
    realigned_labels.store(experiment, 'dnn')


def test_a_finished_network_that_learned_from_other_weights_is_refused(copy):
  _change_weights(copy / 'dnn' / 'seed-0')
  experiment = prepared(copy)
  with pytest.raises(experiment_lib.ExperimentError, match='other weights of alignment:dnn'):
    run_lib._is_done(experiment, 'second')


def test_the_seed_that_does_not_align_does_not_matter(copy):
  _change_weights(copy / 'dnn' / 'seed-1')
  experiment = prepared(copy)
  realigned_labels.store(experiment, 'dnn')
  assert run_lib._is_done(experiment, 'second')


def test_without_an_alignment_the_stage_is_named(copy):
  shutil.rmtree(copy / 'dnn' / 'alignment')
  with pytest.raises(experiment_lib.ExperimentError, match='run with --stage=logits first'):
    realigned_labels.dataset(prepared(copy), 'second')


def test_it_is_computed_once(copy):
  path = copy / 'dnn' / 'alignment' / 'manifest.json'
  before = path.stat().st_mtime_ns
  realigned_labels.store(prepared(copy), 'dnn')
  assert path.stat().st_mtime_ns == before


def test_parts_hold_whole_utterances_in_order(monkeypatch):
  monkeypatch.setattr(realigned_labels, '_FRAMES_AT_ONCE', 10)
  offsets = np.cumsum([0, 4, 6, 3, 25, 1, 2])
  assert list(realigned_labels._parts(offsets)) == [(0, 2), (2, 3), (3, 4), (4, 6)]


def test_images_have_no_phones_to_align(monkeypatch, tmp_path):
  monkeypatch.undo()
  with pytest.raises(defaults.ConfigError, match="'alignment:dnn' needs speech; digits has no"):
    run_lib.prepare(defaults.plain(config()), tmp_path)


def test_an_alignment_has_labels_of_train_alone(tmp_path):
  entries = dict(second=dict(DNN, targets='alignment:dnn', examples=('train', 'test')))
  with pytest.raises(defaults.ConfigError, match=r"second\.examples: expected \('train',\)"):
    run_lib.prepare(defaults.plain(config(**entries)), tmp_path)
