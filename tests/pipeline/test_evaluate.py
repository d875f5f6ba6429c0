"""What result.json says of the seeds of a network, and when it is written anew."""

from made_up.speech import make_logits
from made_up.speech import make_recognition
import numpy as np
import pytest

from shallow_jax.pipeline import evaluate
from shallow_jax.pipeline import experiment as experiment_lib
from shallow_jax.pipeline import run as run_lib
from shallow_jax.runtime import storage
from shallow_jax.settings import defaults
from shallow_jax.speech import phone_errors
from shallow_jax.speech import recognise
from shallow_jax.training import train

RECOGNITION, LABELS = make_recognition()
MODEL = recognise.estimate(RECOGNITION, LABELS['train'])
ONE = dict(acoustic=(1.0,), lm=(1.0,), insertion=(0.0,))


def noisy(seed, noise=6.0):
  rng = np.random.default_rng(seed)
  return {
    name: make_logits(LABELS[name]) + noise * rng.standard_normal((len(LABELS[name]), 12))
    for name in evaluate.SETS
  }


def rates(found, name='test'):
  return [phone_errors.rate(counts) for counts in found.counts[name]]


def test_the_summary_is_over_the_seeds_that_did_not_diverge():
  found = [recognise.recognise(noisy(seed), RECOGNITION, MODEL, ONE) for seed in (1, 2)]
  summary = evaluate._phone_summary([found[0], None, found[1]], RECOGNITION, 'test')
  strict = [rates(each)[0] for each in found]
  assert summary['values'] == [strict[0], None, strict[1]]
  assert summary['mean'] == pytest.approx(np.mean(strict))
  kinds = sum(summary[kind]['mean'] for kind in ('substitutions', 'deletions', 'insertions'))
  assert kinds == pytest.approx(summary['mean'])
  assert summary['interval'][0] <= summary['mean'] <= summary['interval'][1]
  scales = dict(acoustic=1.0, lm=1.0, insertion=0.0)
  assert summary['scales'] == [scales, None, scales]
  speakers = RECOGNITION.utterances['test'].speakers
  assert set(summary['by_speaker']) == set(speakers)
  mine = [i for i, name in enumerate(speakers) if name == 'test0']
  counts = sum(each.counts['test'][0, mine].sum(axis=0) for each in found)
  assert summary['by_speaker']['test0'] == pytest.approx(100 * counts[:3].sum() / counts[3])


def test_nobody_left_is_no_rate():
  summary = evaluate._phone_summary([None], RECOGNITION, 'test')
  assert summary['mean'] is None
  assert summary['interval'] is None


NET = dict(
  model=dict(name='shallow', hidden=16),
  batch_size=32,
  num_steps=20,
  evaluate_every_steps=20,
  checkpoint_every_steps=20,
  optimizer=dict(learning_rate=0.05, warmup_steps=5),
)
NUM_TEST = 40


@pytest.fixture
def folder(tmp_path):
  """A folder with d.npz, of which a network `a` was trained and evaluated."""
  rng = np.random.default_rng(0)
  inputs = rng.normal(size=(160 + NUM_TEST, 6)).astype(np.float32)
  labels = inputs[:, :3].argmax(axis=1)
  write(tmp_path, inputs, labels)
  run(tmp_path, a=NET)
  return tmp_path


def write(folder, inputs, labels):
  parts = dict(train_input=inputs[:160], train_label=labels[:160])
  parts |= dict(test_input=inputs[160:], test_label=labels[160:])
  np.savez(folder / 'd.npz', **parts)


def run(folder, latency_batches=(), only=(), **networks):
  config = defaults.experiment(
    data=dict(name='arrays', path=str(folder / 'd.npz'), num_validation=60),
    networks=networks,
    logits=dict(shard_rows=64, batch_size=32),
    evaluation=dict(latency_batches=latency_batches),
  )
  return run_lib.run(config, folder / 'run', only=only)['networks']


def arrays_of(folder):
  with np.load(folder / 'd.npz') as held:
    parts = ('train', 'test')
    return tuple(
      np.concatenate([held[f'{p}_{kind}'] for p in parts]) for kind in ('input', 'label')
    )


@pytest.mark.parametrize('change', ['labels', 'rows'])
def test_a_network_is_evaluated_again_on_another_test_set(folder, change, caplog, monkeypatch):
  inputs, labels = arrays_of(folder)
  if change == 'labels':
    labels[-NUM_TEST // 2 :] = (labels[-NUM_TEST // 2 :] + 1) % 3
  else:
    inputs, labels = inputs[:-10], labels[:-10]
  write(folder, inputs, labels)
  with monkeypatch.context() as patch, caplog.at_level('INFO'):
    patch.setattr(train, 'fit', lambda *args, **kwargs: pytest.fail('trained again'))
    again = run(folder, a=NET)['a']
  assert 'a: to be evaluated again, sets.test.' in caplog.text
  both = run(folder, a=NET, b=NET)
  assert both['a'] == again
  for key in ('metrics', 'test_interval', 'error_by_class'):
    assert both['a'][key] == both['b'][key]  # the same net by the same seed
  assert both['a']['evaluated_on']['sets']['test']['count'] == len(labels) - 160


def test_a_network_is_evaluated_again_by_other_settings(folder):
  before = run(folder, a=NET)['a']
  assert before['latency_ms'] == {}
  after = run(folder, latency_batches=(1,), a=NET)['a']
  assert [*after['latency_ms']] == ['1']
  assert after['metrics'] == before['metrics']


def test_a_result_that_does_not_say_on_which_examples_is_evaluated_again(folder, caplog):
  path = folder / 'run' / 'a' / 'result.json'
  result = storage.read_record(path)
  del result['evaluated_on']
  storage.write_sealed_json(path, result)
  with caplog.at_level('INFO'):
    assert 'evaluated_on' in run(folder, a=NET)['a']
  assert 'a: to be evaluated again, its result does not say' in caplog.text


def test_one_test_row_has_a_result_and_a_fidelity_without_r_squared(folder):
  inputs, labels = arrays_of(folder)
  write(folder, inputs[:161], labels[:161])
  student = NET | dict(targets='a', loss=dict(name='logit_l2'))
  fidelity = run(folder, a=NET, mimic=student)['mimic']['fidelity']
  assert fidelity['logit_r2'] is None
  assert fidelity['agreement'] in (0.0, 100.0)


def test_the_report_leaves_out_what_was_trained_by_other_settings(folder, caplog):
  run(folder, b=NET | dict(seeds=2))
  config = dict(a=NET | dict(num_steps=40), b=NET | dict(seeds=2))
  assert sorted(run(folder, only=['b'], **config)) == ['b']
  assert 'a: begun under other settings, left out of the report' in caplog.text
  left_out = run_lib.report_again(folder / 'run')['left_out']
  assert left_out == {'a': 'entry.num_steps: 20, now 40'}
  text = (folder / 'run' / 'report' / 'report.md').read_text()
  assert 'which was begun or evaluated under other settings (entry.num_steps: 20, now 40).' in text


def test_a_workdir_has_one_data_set(folder):
  inputs, labels = arrays_of(folder)
  write(folder, 2 * inputs, labels)
  with pytest.raises(experiment_lib.ExperimentError, match=r'run/a was begun .*data\.prep'):
    run(folder, only=['b'], a=NET, b=NET)
  assert not (folder / 'run' / 'b').exists()


def test_the_report_leaves_out_what_was_evaluated_on_other_sets(folder):
  inputs, labels = arrays_of(folder)
  labels[-NUM_TEST // 2 :] = (labels[-NUM_TEST // 2 :] + 1) % 3
  write(folder, inputs, labels)
  assert sorted(run(folder, only=['b'], a=NET, b=NET)) == ['b']
  left_out = run_lib.report_again(folder / 'run')['left_out']
  assert left_out['a'].startswith('sets.test.labels_sha256: ')
  assert sorted(run(folder, a=NET, b=NET)) == ['a', 'b']  # evaluated again
