"""The fit without gradient descent: against scikit-learn, its seeds, refusals, and in a run."""

import dataclasses
import json
import signal

import jax
import numpy as np
import pytest
from scipy import spatial
from sklearn import svm

from shallow_jax import data as data_lib
from shallow_jax.data import dataset as dataset_lib
from shallow_jax.logits import predict
from shallow_jax.models import single_layer
from shallow_jax.pipeline import graph
from shallow_jax.pipeline import run as run_lib
from shallow_jax.runtime import run_guard
from shallow_jax.settings import defaults
from shallow_jax.settings import fingerprints
from shallow_jax.training import kmeans_svm
from shallow_jax.training import losses
from shallow_jax.training import problem as problem_lib

SINGLE = dict(
  model=dict(name='single_layer', features=12, patch_size=3),
  fit=dict(num_patches=600, svm_c=0.05),
)


@pytest.fixture(scope='module')
def digits():
  return data_lib.load(defaults.complete(dict(data=dict(name='digits'))).data.to_dict())


def make_problem(dataset, *, seed=0, examples=None, **changes):
  networks = dict(net=SINGLE | changes)
  config = defaults.plain(defaults.experiment(data=dict(name='digits'), networks=networks))
  return problem_lib.build(
    config['networks']['net'],
    dataset,
    dataset.splits['train'].arrays if examples is None else examples,
    dataset.splits['validation'].arrays,
    seed=seed,
  )


@pytest.fixture(scope='module')
def problem(digits):
  return make_problem(digits)


@pytest.fixture(scope='module')
def outcome(problem):
  return kmeans_svm.fit(problem)


@pytest.fixture(scope='module')
def tight(problem):
  """The outcome of an SVM that is solved to the end."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(kmeans_svm.SVM, 'tol', 1e-6)
    patch.setitem(kmeans_svm.SVM, 'max_iter', 100_000)
    return kmeans_svm.fit(problem)


def inputs_of(dataset, name):
  return np.asarray(dataset.inputs(dataset.constants, dataset.splits[name].arrays, None))


def features_of(problem, params, name):
  layer = single_layer.TriangleFeatures(problem.module.features, problem.module.patch_size)
  apply = jax.jit(lambda x: layer.apply({'params': params['triangle']}, x))
  return np.asarray(apply(inputs_of(problem.dataset, name)), np.float64)


def logits_of(problem, outcome, name):
  member = predict.Member(problem.module, outcome.variables)
  arrays = problem.dataset.splits[name].arrays
  return predict.logits([member], problem.dataset, arrays, batch_size=100)[0]


def test_scores_are_those_of_scikit_learns_svm(problem, tight):
  """Of the primal, all classes at once, on features standardised here."""
  features = features_of(problem, tight.variables['params'], 'train')
  mean, scale = features.mean(axis=0), np.sqrt(features.var(axis=0) + 0.01)
  machine = svm.LinearSVC(C=0.05, dual=False, tol=1e-8, max_iter=10_000)
  machine.fit((features - mean) / scale, problem.examples['label'])
  tested = features_of(problem, tight.variables['params'], 'test')
  expected = machine.decision_function((tested - mean) / scale)
  assert np.abs(expected).max() > 1
  np.testing.assert_allclose(logits_of(problem, tight, 'test'), expected, atol=2e-3)


def test_the_tolerance_is_tight_enough(problem, outcome, tight):
  ours, solved = (logits_of(problem, each, 'test').argmax(axis=-1) for each in (outcome, tight))
  assert (ours == solved).mean() > 0.99


def test_it_learned_and_says_so(problem, outcome):
  labels = problem.dataset.splits['validation'].arrays['label']
  wrong = logits_of(problem, outcome, 'validation').argmax(axis=-1) != labels
  assert outcome.validation['error'] == 100 * wrong.mean()
  assert outcome.validation['error'] < 15  # of chance's 90
  assert not outcome.diverged
  assert not outcome.collapsed
  assert 0 < outcome.examples_per_second < 400 / outcome.wall_seconds * 1.01


def test_a_seed_gives_the_same_weights_again_and_another_seed_others(digits, problem, outcome):
  again = kmeans_svm.fit(problem)
  jax.tree.map(np.testing.assert_array_equal, again.variables, outcome.variables)
  other = kmeans_svm.fit(make_problem(digits, seed=1)).variables['params']['triangle']
  params = outcome.variables['params']['triangle']
  assert np.abs(other['whitening']['kernel'] - params['whitening']['kernel']).max() > 1e-3
  assert np.abs(other['centroids'] - params['centroids']).max() > 0.1


def test_weights_are_those_of_the_nets_variables(problem, outcome):
  """They are restored into a template of the initial ones."""
  shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), outcome.variables)
  assert shapes == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), dict(problem.initial))


def test_sampled_patches_are_patches_of_all_examples_and_places(problem):
  """As the net cuts and normalises them."""
  x = inputs_of(problem.dataset, 'train')
  every = single_layer.normalise_contrast(single_layer.patches(x, 3))
  sampled = kmeans_svm.sample_patches(problem, 600)
  assert sampled.shape == (600, 9)
  assert sampled.dtype == np.float32
  distances, nearest = spatial.cKDTree(np.asarray(every).reshape(-1, 9)).query(sampled, k=2)
  assert distances[:, 0].max() < 1e-5
  # digits have empty corners: only patches that are found once tell where they are from
  examples, places = np.divmod(nearest[distances[:, 1] > 1e-5, 0], 36)
  assert examples.min() < 20 < 380 < examples.max()
  assert len(np.unique(places)) == 36


def test_whitening_gives_a_regularised_identity():
  rng = np.random.default_rng(0)
  patches = (rng.normal(size=(500, 6)) @ rng.normal(size=(6, 6)) + 3).astype(np.float32)
  kernel, bias = kmeans_svm.fit_whitening(patches)
  covariance = np.cov(patches.astype(np.float64), rowvar=False)
  regularised = covariance + kmeans_svm.ZCA_EPSILON * np.eye(6)
  np.testing.assert_allclose(kernel @ regularised @ kernel, np.eye(6), atol=1e-6)
  np.testing.assert_allclose(kernel, kernel.T, atol=1e-9)
  np.testing.assert_allclose((patches @ kernel + bias).mean(axis=0), 0, atol=1e-5)


def test_centroids_are_nearer_than_patches_drawn_at_random(problem, outcome):
  params = outcome.variables['params']['triangle']
  z = kmeans_svm.sample_patches(problem, 600) @ params['whitening']['kernel']
  z = z + params['whitening']['bias']

  def squares(centroids):
    return np.square(z[:, None] - centroids[None]).sum(axis=-1).min(axis=1).mean()

  drawn = [squares(z[np.random.default_rng(i).choice(600, 12)]) for i in range(20)]
  assert squares(params['centroids']) < 0.9 * min(drawn)


def test_standardised_features_and_what_takes_them_back():
  features = np.random.default_rng(0).normal(3, [0.01, 1, 50], size=(200, 3))
  before = features.copy()
  mean, scale = kmeans_svm.standardise(features)
  np.testing.assert_allclose(scale, np.sqrt(before.var(axis=0) + 0.01))
  np.testing.assert_allclose(features * scale + mean, before, atol=1e-9)
  np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-9)


def test_two_classes_have_two_scores(digits):
  arrays = digits.splits['train'].arrays
  rows = np.flatnonzero(arrays['label'] < 2)
  examples = dataset_lib.take(arrays, rows)
  binary = dataclasses.replace(
    digits,
    class_names=('0', '1'),
    splits={name: digits.splits['train'].select(rows) for name in ('train', 'validation')},
  )
  problem = make_problem(binary, examples=examples)
  outcome = kmeans_svm.fit(problem)
  logits = logits_of(problem, outcome, 'train')
  assert logits.shape == (len(rows), 2)
  assert outcome.validation['error'] == 0
  np.testing.assert_allclose(logits[:, 0], -logits[:, 1], atol=0.05)


def test_a_class_without_an_example_is_refused_by_name(digits):
  arrays = digits.splits['train'].arrays
  examples = dataset_lib.take(arrays, np.flatnonzero(arrays['label'] != 3))
  with pytest.raises(dataset_lib.DataError, match="class '3' has no example in train") as caught:
    kmeans_svm.fit(make_problem(digits, examples=examples))
  assert '\n' not in str(caught.value)


def test_the_log_tells_each_part_and_an_svm_that_has_not_converged(
  problem, monkeypatch, caplog, capsys
):
  monkeypatch.setitem(kmeans_svm.SVM, 'max_iter', 1)
  with caplog.at_level('INFO', 'shallow_jax'):
    kmeans_svm.fit(problem, label='net/seed-0')
  assert 'net/seed-0: the SVM of 3 has not converged' in caplog.text
  assert 'net/seed-0: 600 patches, ' in caplog.text
  assert 'net/seed-0: 12 centroids, ' in caplog.text
  progress = capsys.readouterr().err
  assert 'net/seed-0 features: step 400 of 400' in progress
  assert 'net/seed-0 SVM: step 10 of 10' in progress


def test_a_stop_request_ends_it_after_the_part_at_hand(problem):
  request = run_guard.StopRequest()
  request.request(signal.SIGTERM)
  with pytest.raises(run_guard.Stopped, match='net/seed-0 after 600 patches'):
    kmeans_svm.fit(problem, label='net/seed-0', stop=request)


def networks(**entries):
  return defaults.plain(defaults.experiment(data=dict(name='digits'), networks=entries))['networks']


def test_a_single_layer_has_settings_of_its_fit_and_other_nets_have_none():
  entries = networks(single=dict(model=SINGLE['model']), cnn=dict(model=dict(name='cnn')))
  assert entries['single']['fit'] == dict(num_patches=400_000, svm_c=0.002)
  assert entries['cnn']['fit'] is None


REFUSED = [
  (dict(model=dict(name='cnn'), fit={}), 'net.fit: only a single_layer model has it'),
  (dict(model=None, ensemble=('cnn',), fit={}), 'net.fit: only a single_layer model has it'),
  (SINGLE | dict(targets='cnn'), "net.targets: a single_layer .* expected 'labels', not 'cnn'"),
  (SINGLE | dict(loss=dict(name='label_l2')), 'net.loss: a single_layer'),
  (SINGLE | dict(init='cnn'), 'net.init: a single_layer'),
  (SINGLE | dict(views=2), 'net.views: a single_layer .* expected 1, not 2'),
  (SINGLE | dict(fit=3), 'net.fit: expected a dict, not 3'),
  (SINGLE | dict(fit=dict(svm=1)), "net.fit: unknown key 'svm'; did you mean 'svm_c'"),
  (SINGLE | dict(fit=dict(svm_c=0.0)), 'net.fit.svm_c: expected more than 0'),
  (SINGLE | dict(fit=dict(num_patches=11)), 'num_patches: 11 are less than the 12 features'),
  (SINGLE | dict(search=dict(fit=dict(svm_c=(0.1, -1.0)))), 'svm_c: expected more than 0'),
]


@pytest.mark.parametrize(('entry', 'message'), REFUSED)
def test_what_cannot_be_fitted_is_refused(entry, message):
  with pytest.raises(defaults.ConfigError, match=message) as caught:
    graph.check_names(networks(net=entry, cnn=dict(model=dict(name='cnn'))))
  assert '\n' not in str(caught.value)


def fingerprint(entry):
  described = dict(name='digits', class_names=(), preprocessing={}, views={}, splits={})
  described['splits'] = dict(train={}, validation={})
  return graph.fingerprint(networks(net=entry), 'net', described, dict(dtype='float32'))


def test_runs_of_other_nets_that_began_before_this_one_go_on():
  today = fingerprint(dict(model=dict(name='cnn')))
  began = dict(today, entry={key: value for key, value in today['entry'].items() if key != 'fit'})
  assert fingerprints.differences(began, today) == []
  other = SINGLE | dict(fit=dict(SINGLE['fit'], svm_c=0.06))
  assert fingerprint(SINGLE) != fingerprint(other)


RUN = defaults.experiment(
  name='single layer',
  data=dict(name='digits'),
  networks=dict(
    single=SINGLE,
    searched=SINGLE | dict(search=dict(fit=dict(svm_c=(0.0001, 0.05)))),
    mimic=dict(
      model=dict(name='shallow', hidden=50),
      targets='single',
      loss=dict(name='logit_l2'),
      num_steps=20,
      evaluate_every_steps=20,
      checkpoint_every_steps=20,
    ),
  ),
  logits=dict(shard_rows=512, batch_size=128),
  evaluation=dict(latency_batches=()),
)


def test_in_a_run_it_is_a_net_like_any_other(tmp_path, monkeypatch):
  found = run_lib.run(RUN, tmp_path, only=['mimic'])['networks']
  single = found['single']
  assert single['metrics']['test']['error']['mean'] < 20
  assert single['loss'] == 'squared_hinge'
  assert single['loss'] not in losses.ON_LABELS  # no loss that others are trained with
  assert single['parameters']['weights'] == 9 * 9 + 12 * 9 + 4 * 12 * 10
  assert found['mimic']['fidelity']['agreement'] > 20
  monkeypatch.setattr(kmeans_svm, 'fit', None)
  assert run_lib.run(RUN, tmp_path, only=['mimic'])['networks'] == found


def test_a_killed_fit_starts_again_and_a_finished_trial_is_skipped(tmp_path, monkeypatch):
  class KilledError(Exception):
    pass

  fit, labels = kmeans_svm.fit, []

  def killed_in_the_second(problem, *, label, stop):
    labels.append(label)
    if len(labels) == 2:
      raise KilledError
    return fit(problem, label=label, stop=stop)

  monkeypatch.setattr(kmeans_svm, 'fit', killed_in_the_second)
  with pytest.raises(KilledError):
    run_lib.run(RUN, tmp_path, only=['searched'], stage='train')
  run_lib.run(RUN, tmp_path, only=['searched'], stage='train')
  assert [label.split()[0] for label in labels] == [
    'searched/trial-0',
    'searched/trial-1',
    'searched/trial-1',
  ]
  search = json.loads((tmp_path / 'searched' / 'search.json').read_text())
  assert search['chosen'] == 1
  assert search['trials'][1]['settings'] == {'fit.svm_c': 0.05}
  record = json.loads((tmp_path / 'searched' / 'seed-0' / 'trained.json').read_text())
  assert record['validation'] == search['trials'][1]['validation']
