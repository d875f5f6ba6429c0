"""The whole chain on digits: order, resume, refusals, stages, stores."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from shallow_jax.logits import manifest as logit_manifest
from shallow_jax.logits import store as logit_store
from shallow_jax.pipeline import experiment as experiment_lib
from shallow_jax.pipeline import graph
from shallow_jax.pipeline import run as run_lib
from shallow_jax.pipeline import teacher
from shallow_jax.pipeline import trained
from shallow_jax.pipeline import trainings
from shallow_jax.report import predictions
from shallow_jax.runtime import run_guard
from shallow_jax.runtime import storage
from shallow_jax.settings import defaults
from shallow_jax.training import train


def tiny(**networks):
  """A CNN, its ensemble, the shallow net on labels and as a mimic: seconds."""
  small = dict(num_steps=60, evaluate_every_steps=20, checkpoint_every_steps=20, seeds=2)
  shallow = dict(name='shallow', hidden=100, bottleneck=16)
  rates = dict(optimizer=dict(learning_rate=(0.01, 0.05)))
  entries = dict(
    cnn=dict(
      small,
      model=dict(name='cnn', features=(8,), kernel_size=3, dense=(16,), batch_norm=True),
      optimizer=dict(learning_rate=0.05, warmup_steps=5),
    ),
    teacher=dict(ensemble=('cnn',)),
    shallow=dict(small, model=shallow, search=rates),
    mimic=dict(
      small,
      model=shallow,
      targets='teacher',
      loss=dict(name='logit_l2'),
      search=rates,
      examples=('train', 'unlabelled'),
      optimizer=dict(warmup_steps=5),
    ),
  )
  for name, changes in networks.items():
    entries[name] = entries.get(name, {}) | changes
  return defaults.experiment(
    name='tiny',
    data=dict(name='digits'),
    networks=entries,
    logits=dict(shard_rows=128, batch_size=64),
    evaluation=dict(latency_batches=(1,)),
  )


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """The workdir and results of a whole run."""
  workdir = tmp_path_factory.mktemp('finished')
  return workdir, run_lib.run(tiny(), workdir)


@pytest.fixture
def copy(finished, tmp_path):
  """A copy of the finished run, to be damaged."""
  return shutil.copytree(finished[0], tmp_path / 'copy')


def test_every_network_learned_something_and_has_its_figures(finished):
  results = finished[1]['networks']
  assert list(results) == ['cnn', 'teacher', 'shallow', 'mimic']
  for entry in results.values():
    error = entry['metrics']['test']['error']
    chance, standard_error = 90.0, 100 * np.sqrt(0.9 * 0.1 / 1000)
    assert error['mean'] < chance - 4 * standard_error
    assert entry['latency_ms']['1'] > 0
  assert len(results['mimic']['metrics']['test']['error']['values']) == 2
  assert len(results['teacher']['metrics']['test']['error']['values']) == 1
  assert results['mimic']['fidelity']['agreement'] > 50
  assert results['shallow']['fidelity'] is None
  assert results['mimic']['parameters']['weights'] == 64 * 16 + 16 * 100 + 100 * 10


def test_the_search_is_logged_and_validation_chose(finished):
  search = json.loads((finished[0] / 'shallow' / 'search.json').read_text())
  assert [trial['settings'] for trial in search['trials']] == [
    {'optimizer.learning_rate': 0.01},
    {'optimizer.learning_rate': 0.05},
  ]
  errors = [trial['validation']['error'] for trial in search['trials']]
  assert errors[search['chosen']] == min(errors)


def test_stored_logits_are_the_mean_of_the_members(finished):
  workdir, _ = finished
  store = logit_store.load(workdir / 'teacher' / 'logits' / 'train')
  assert len(store.manifest.shards) == 4  # 400 rows in shards of 128
  experiment = run_lib.prepare(defaults.plain(tiny()), workdir)
  arrays = experiment.dataset.splits['train'].arrays
  members = [
    teacher.predict.logits(
      [trained.load_member(experiment, 'cnn', seed)],
      experiment.dataset,
      arrays,
      batch_size=64,
    )[0]
    for seed in range(2)
  ]
  np.testing.assert_allclose(store.logits[0], np.mean(members, axis=0), rtol=1e-5, atol=1e-5)


def test_predictions_on_the_test_set_are_kept(finished):
  workdir, results = finished
  for name, seeds in (('shallow', 2), ('teacher', 1)):
    errors = results['networks'][name]['metrics']['test']['error']['values']
    wrong = predictions.wrong(workdir, name, errors)
    assert [100 * row.mean() for row in wrong] == pytest.approx(errors) and len(wrong) == seeds


def test_a_second_run_trains_nothing_and_gives_the_same(finished, monkeypatch):
  workdir, results = finished
  monkeypatch.setattr(trainings.train, 'fit', None)
  assert run_lib.run(tiny(), workdir) == results


def test_another_student_leaves_the_teacher_alone(copy, monkeypatch):
  trained = []
  fit = trainings.train.fit

  def counted(*args, label, **kwargs):
    trained.append(label.split('/')[0])
    return fit(*args, label=label, **kwargs)

  monkeypatch.setattr(trainings.train, 'fit', counted)
  wider = dict(
    model=dict(name='shallow', hidden=120),
    targets='teacher',
    loss=dict(name='kl'),
    num_steps=20,
    evaluate_every_steps=20,
  )
  run_lib.run(tiny(wider=wider), copy)
  assert set(trained) == {'wider'}


def test_more_seeds_train_only_the_new_one(copy, monkeypatch):
  before = (copy / 'shallow' / 'seed-0' / 'trained.json').read_text()
  results = run_lib.run(tiny(shallow=dict(seeds=3)), copy, only=['shallow'])
  assert len(results['networks']['shallow']['metrics']['test']['error']['values']) == 3
  assert (copy / 'shallow' / 'seed-0' / 'trained.json').read_text() == before


def test_changed_settings_are_refused_with_the_key(copy):
  config = tiny()
  config.networks.mimic.optimizer.momentum = 0.8
  with pytest.raises(experiment_lib.ExperimentError, match=r'mimic.*momentum: 0.9, now 0.8'):
    run_lib.run(config, copy)


def test_a_change_for_show_is_no_change(copy):
  config = tiny()
  config.networks.mimic.label = 'the mimic'
  run_lib.run(config, copy)


def test_only_runs_a_network_and_what_it_needs(tmp_path):
  run_lib.run(tiny(), tmp_path, only=['mimic'])
  assert (tmp_path / 'mimic' / 'result.json').exists()
  assert not (tmp_path / 'shallow').exists()


def test_stages_one_by_one_give_what_all_at_once_give(finished, tmp_path):
  _, results = finished
  with pytest.raises(experiment_lib.ExperimentError, match='--stage=train first'):
    run_lib.run(tiny(), tmp_path, only=['mimic'], stage='logits')
  run_lib.run(tiny(), tmp_path, only=['cnn'], stage='train')
  with pytest.raises(experiment_lib.ExperimentError, match='--stage=logits first'):
    run_lib.run(tiny(), tmp_path, only=['mimic'], stage='train')
  for stage in ('logits', 'train', 'evaluate'):
    run_lib.run(tiny(), tmp_path, only=['mimic'], stage=stage)
  alone = run_lib.run(tiny(), tmp_path, stage='report')
  for name in ('cnn', 'teacher', 'mimic'):
    assert alone['networks'][name]['metrics'] == results['networks'][name]['metrics']


def test_a_flipped_byte_in_a_stored_logit_is_named_before_training(copy):
  path = copy / 'teacher' / 'logits' / 'train' / 'shard-00002-of-00004.npy'
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  path.write_bytes(content)
  shutil.rmtree(copy / 'mimic')
  with pytest.raises(logit_store_error(), match=r'shard-00002-of-00004\.npy'):
    run_lib.run(tiny(), copy)


def test_a_retrained_teacher_makes_the_store_stale(copy):
  changed = tiny(cnn=dict(num_steps=40))
  for name in ('cnn', 'mimic'):
    shutil.rmtree(copy / name)
  (copy / 'teacher' / 'result.json').unlink()
  (copy / 'teacher' / 'fingerprint.json').unlink()
  with pytest.raises(logit_store_error(), match='weights'):
    run_lib.run(changed, copy)


def test_a_student_of_other_weights_is_refused(copy):
  path = copy / 'mimic' / 'seed-1' / 'trained.json'
  storage.write_sealed_json(path, storage.read_record(path) | {'target_weights': ['0' * 64]})
  for _ in ('finished', 'not evaluated yet'):
    with pytest.raises(experiment_lib.ExperimentError, match='learned from other weights'):
      run_lib.run(tiny(), copy)
    (copy / 'mimic' / 'result.json').unlink(missing_ok=True)


@pytest.mark.parametrize(
  ('file', 'way_out', 'read'),
  [
    ('mimic/seed-0/trained.json', 'delete .*mimic/seed-0 to train it anew', 'run'),
    ('mimic/search.json', 'delete .*mimic to train it anew', 'run'),
    ('mimic/fingerprint.json', 'delete .*mimic to begin it anew', 'run'),
    ('mimic/result.json', 'delete it to evaluate again', 'run'),
    ('mimic/result.json', 'delete it to evaluate again', 'report'),
    ('data/notes.json', 'delete .*data; run writes it anew', 'report'),
    ('data/fingerprint.json', 'delete .*data to begin it anew', 'report'),
    ('config.json', 'delete it; run writes it anew', 'report'),
  ],
)
def test_a_flipped_digit_in_a_record_is_refused_by_name(copy, file, way_out, read):
  path = copy / file
  content = bytearray(path.read_bytes())
  digits = [i for i, byte in enumerate(content) if byte in b'2345678']
  content[digits[len(digits) // 2]] ^= 1
  path.write_bytes(content)
  json.loads(content)  # still JSON
  if file.endswith('search.json'):
    (copy / 'mimic' / 'result.json').unlink()  # which has the search's content, else nothing asks
  with pytest.raises(storage.StorageError, match=f'{file}: changed .*; {way_out}$'):
    run_lib.run(tiny(), copy) if read == 'run' else run_lib.report_again(copy)


def test_a_run_of_before_records_had_hashes_goes_on(copy, finished, monkeypatch):
  for path in copy.rglob('*.json'):
    if path.name in ('trained.json', 'search.json', 'fingerprint.json', 'result.json'):
      storage.write_json(path, storage.read_record(path))
  monkeypatch.setattr(trainings.train, 'fit', None)
  assert run_lib.run(tiny(), copy) == finished[1]


def test_rows_of_another_example_are_noticed(copy):
  """A store that is whole, but whose rows belong to other examples."""
  folder = copy / 'teacher' / 'logits' / 'unlabelled'
  store = logit_store.load(folder)
  shutil.rmtree(folder)
  shutil.rmtree(copy / 'mimic')
  shuffled = np.asarray(store.logits)[:, ::-1]
  spec = store.manifest.spec
  for shard in logit_store.missing_shards(folder, spec):
    logit_store.write_shard(folder, spec, shard, shuffled[:, shard.start : shard.stop])
  logit_store.finish(folder, spec)
  with pytest.raises(logit_store_error(), match='not what its teacher gives'):
    run_lib.run(tiny(), copy)


def test_members_of_an_ensemble_are_kept_if_asked_for(copy):
  shutil.rmtree(copy / 'teacher' / 'logits')
  shutil.rmtree(copy / 'mimic')
  config = tiny()
  config.logits.keep_members = True
  run_lib.run(config, copy)
  members = [
    logit_store.load(copy / 'cnn' / f'seed-{seed}' / 'logits' / 'train').logits for seed in (0, 1)
  ]
  mean = logit_store.load(copy / 'teacher' / 'logits' / 'train').logits
  np.testing.assert_allclose(mean, np.mean(members, axis=0), rtol=1e-5, atol=1e-5)


def test_members_are_kept_of_a_run_that_was_finished_without(copy, monkeypatch):
  monkeypatch.setattr(train, 'fit', lambda *args, **kwargs: pytest.fail('trained again'))
  before = logit_store.load(copy / 'teacher' / 'logits' / 'train').logits
  config = tiny()
  config.logits.keep_members = True
  run_lib.run(config, copy)
  member = logit_store.load(copy / 'cnn' / 'seed-1' / 'logits' / 'train').logits
  assert member.shape == before.shape
  np.testing.assert_array_equal(
    logit_store.load(copy / 'teacher' / 'logits' / 'train').logits, before
  )


def test_a_student_seed_learns_from_the_teachers_seed_of_that_number(tmp_path):
  mimic = dict(targets='cnn', search={}, seeds=2)
  run_lib.run(tiny(mimic=mimic), tmp_path, only=['mimic'])
  for seed in (0, 1):
    learned = json.loads((tmp_path / 'mimic' / f'seed-{seed}' / 'trained.json').read_text())
    weights = json.loads((tmp_path / 'cnn' / f'seed-{seed}' / 'trained.json').read_text())
    assert learned['target_weights'] == [weights['weights_sha256']]


@pytest.mark.parametrize(
  ('start', 'targets', 'loss'),
  [('shallow', 'teacher', 'logit_l2'), ('mimic', 'labels', 'cross_entropy')],
)
def test_a_network_starts_as_the_function_of_another_seed_by_seed(copy, start, targets, loss):
  """The logits of one step at a rate of nothing are those of the network that it starts from."""
  still = dict(init=start, targets=targets, loss=dict(name=loss), seeds=2, num_steps=1)
  still |= dict(model=dict(name='shallow', hidden=100, bottleneck=16))
  config = defaults.plain(tiny(still=dict(still, optimizer=dict(learning_rate=1e-12))))
  run_lib.run(config, copy, only=['still'])
  experiment = run_lib.prepare(config, copy, only=['still'])
  arrays = experiment.dataset.splits['test'].arrays
  for seed in (0, 1):
    before, after = (
      teacher.predict.logits(
        [trained.load_member(experiment, name, seed)], experiment.dataset, arrays, batch_size=64
      )
      for name in (start, 'still')
    )
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-5 * np.abs(before).max())


def test_a_net_with_batch_norm_goes_on_with_its_running_statistics(copy):
  again = dict(tiny().networks.cnn.to_dict(), init='cnn', seeds=1, num_steps=1)
  again['optimizer'] |= dict(learning_rate=1e-12)
  config = tiny(again=again)
  run_lib.run(config, copy, only=['again'], stage='train')
  experiment = run_lib.prepare(defaults.plain(config), copy, only=['again'])
  before, after = (
    trained.load_member(experiment, name, 0).variables['batch_stats'] for name in ('cnn', 'again')
  )
  mean, goes_on = (jax.tree.leaves(each)[0] for each in (before, after))
  assert np.abs(goes_on - mean).max() < 0.1 * np.abs(mean).max()


def test_splits_are_pooled(tmp_path):
  config = tiny(shallow=dict(search={}))
  config.splits = (0, 1)
  results = run_lib.run(config, tmp_path, only=['shallow'])
  assert len(results['networks']['shallow']['metrics']['test']['error']['values']) == 4


@pytest.mark.slow
def test_killed_at_random_points_it_ends_with_the_same_result(finished, tmp_path):
  """SIGKILL at seeded times, then the run that is left alone: metrics and weights are equal."""
  script = 'import sys, test_run as t; t.run_lib.run(t.tiny(), sys.argv[1])'
  environment = os.environ | {'PYTHONPATH': str(pathlib.Path(__file__).parent)}
  times = np.random.default_rng(0).uniform(3, 20, 8)
  for seconds in times:
    process = subprocess.Popen([sys.executable, '-c', script, str(tmp_path)], env=environment)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
  results = run_lib.run(tiny(), tmp_path)
  for name, entry in finished[1]['networks'].items():
    assert results['networks'][name]['metrics'] == entry['metrics']
  for path in finished[0].rglob('metrics.jsonl'):
    assert (tmp_path / path.relative_to(finished[0])).read_text() == path.read_text()
  assert not list(tmp_path.rglob('*.partial'))


def test_a_stop_request_ends_between_two_calls(tmp_path, monkeypatch):
  request = run_guard.StopRequest()
  request.request(signal.SIGTERM)
  config = defaults.plain(tiny())
  experiment = run_lib.prepare(config, tmp_path, stop=request)
  with pytest.raises(run_guard.Stopped, match='cnn/seed-0 at step 1'):
    trainings.train_network(experiment, 'cnn')


def test_a_stop_request_ends_within_a_shard_of_logits(copy):
  store = copy / 'teacher' / 'logits' / 'train'
  shutil.rmtree(store)
  shutil.rmtree(copy / 'mimic')
  request = run_guard.StopRequest()
  request.request(signal.SIGTERM)
  experiment = run_lib.prepare(defaults.plain(tiny()), copy, stop=request)
  with pytest.raises(run_guard.Stopped, match='logits of teacher on train within a shard'):
    teacher.store_targets(experiment, 'mimic')
  assert not list(store.glob('shard-*'))


def test_the_log_says_how_many_examples_and_classes(tmp_path, caplog):
  caplog.set_level('INFO', 'shallow_jax')
  run_lib.prepare(defaults.plain(tiny()), tmp_path)
  assert 'digits: train 400, validation 100, unlabelled 297, test 1000; 10 classes' in caplog.text


def test_trials_are_all_combinations():
  entry = dict(search=dict(optimizer=dict(learning_rate=(1, 2)), batch_size=(3, 4)))
  assert len(graph.trials(entry)) == 4


def logit_store_error():
  return logit_manifest.LogitStoreError


@pytest.mark.parametrize(('share', 'refused'), [(0.0015, False), (0.05, True)])
def test_logits_of_another_kind_of_device_are_taken(monkeypatch, share, refused):
  """A TPU's products in bfloat16 moved digits' logits by 0.0015 of the largest."""
  again = np.random.default_rng(0).normal(size=(1, 64, 3)).astype(np.float32)
  largest = float(np.abs(again).max())
  arrays = {'id': np.zeros((64, 2), np.uint32)}
  dataset = SimpleNamespace(with_partners=lambda *_: SimpleNamespace(arrays=arrays))
  experiment = SimpleNamespace(dataset=dataset, config=dict(logits=dict(batch_size=8)))
  monkeypatch.setattr(teacher.trained, 'load_members', lambda *_: [])
  monkeypatch.setattr(teacher.predict, 'logits', lambda *_, **__: again)
  arguments = experiment, teacher.LABELS, graph.LogitSet('train', 1), pathlib.Path('store')
  if refused:
    with pytest.raises(logit_store_error(), match=r'differ by .* another kind of device'):
      teacher._check_recomputed(*arguments, again + share * largest)
  else:
    teacher._check_recomputed(*arguments, again + share * largest)
