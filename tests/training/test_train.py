"""The loop: it learns, resumes bit for bit, stops on request, and admits failure."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import stop_at

from shallow_jax import data as data_lib
from shallow_jax.data import dataset as dataset_lib
from shallow_jax.logits import metrics
from shallow_jax.logits import predict
from shallow_jax.pipeline import trained
from shallow_jax.runtime import checkpoint
from shallow_jax.runtime import run_guard
from shallow_jax.settings import defaults
from shallow_jax.training import feed as feed_lib
from shallow_jax.training import problem as problem_lib
from shallow_jax.training import step as step_lib
from shallow_jax.training import train

SHALLOW = dict(name='shallow', hidden=64, bottleneck=16)


@pytest.fixture(scope='module')
def digits():
  return data_lib.load(defaults.complete(dict(data=dict(name='digits'))).data.to_dict())


def make_problem(digits, *, target=None, seed=0, **changes):
  entry = (
    dict(
      model=SHALLOW,
      num_steps=60,
      evaluate_every_steps=20,
      checkpoint_every_steps=10,
      optimizer=dict(learning_rate=0.02, warmup_steps=5),
      batch_size=50,
    )
    | changes
  )
  networks = dict(net=entry, other=dict(model=SHALLOW))
  entry = defaults.plain(defaults.experiment(data=dict(name='digits'), networks=networks))
  examples = dict(digits.splits['train'].arrays)
  validation = dict(digits.splits['validation'].arrays)
  statistics = None
  if target is not None:
    examples['target'] = target(examples)
    validation['target'] = target(validation)
    statistics = examples['target'].mean(axis=(0, 1)), examples['target'].std(axis=(0, 1))
  return problem_lib.build(
    entry['networks']['net'],
    digits,
    examples,
    validation,
    seed=seed,
    target_statistics=statistics,
  )


def fit(problem, folder, **arguments):
  """How the training of one seed ended."""
  (outcome,) = train.fit([problem], [folder], **arguments)
  return outcome


def assert_equal_trees(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


CASES = {
  'dense': {},
  'dropout and momentum': dict(
    model=dict(SHALLOW, dropout=0.5), optimizer=dict(nesterov=True, weight_decay=1e-3)
  ),
  'several steps a call': dict(steps_per_call=5),
  'batch statistics': dict(
    model=dict(name='cnn', features=(4,), kernel_size=3, dense=(8,), batch_norm=True)
  ),
  'plateau': dict(
    optimizer=dict(schedule='plateau', plateau_evaluations=1), evaluate_every_steps=5
  ),
  'the last step': dict(select='last'),
}


@pytest.mark.parametrize('changes', CASES.values(), ids=CASES.keys())
def test_a_run_stopped_twice_equals_the_uninterrupted_one_bit_for_bit(digits, tmp_path, changes):
  problem = make_problem(digits, **changes)
  whole = fit(problem, tmp_path / 'whole')
  for calls in (7, 3):
    with pytest.raises(run_guard.Stopped):
      fit(problem, tmp_path / 'stopped', stop=stop_at.StopAt(calls))
  resumed = fit(problem, tmp_path / 'stopped')
  assert_equal_trees(whole.variables, resumed.variables)
  assert whole.validation == resumed.validation
  assert whole.step == resumed.step
  lines = [(tmp_path / run / 'metrics.jsonl').read_text() for run in ('whole', 'stopped')]
  assert lines[0] == lines[1]


def test_steps_in_one_call_equal_single_steps(digits, tmp_path):
  single = fit(make_problem(digits), tmp_path / 'single')
  together = fit(
    make_problem(digits, steps_per_call=20, checkpoint_every_steps=20), tmp_path / 'together'
  )
  assert_equal_trees(single.variables, together.variables)


def test_data_that_do_not_fit_on_the_device_give_the_same_result(digits, tmp_path, monkeypatch):
  resident = fit(make_problem(digits), tmp_path / 'resident')
  monkeypatch.setattr(feed_lib, 'RESIDENT_BYTES', 0)
  sent = fit(make_problem(digits), tmp_path / 'sent')
  assert_equal_trees(resident.variables, sent.variables)


def test_it_learns_digits(digits, tmp_path):
  problem = make_problem(digits, num_steps=200)
  outcome = fit(problem, tmp_path)
  test = digits.splits['test'].arrays
  member = predict.Member(problem.module, outcome.variables)
  logits = predict.logits([member], digits, test, batch_size=100)[0]
  assert metrics.error(logits, test['label']) < 20  # chance: 90
  assert not outcome.collapsed


def test_a_student_recovers_a_linear_teacher(digits, tmp_path):
  weights = np.random.default_rng(0).normal(size=(64, 10))

  def teacher(arrays):
    return (arrays['input'].reshape(-1, 64) @ weights)[:, None].astype(np.float32)

  problem = make_problem(
    digits,
    target=teacher,
    targets='other',
    loss=dict(name='logit_l2'),
    num_steps=400,
    optimizer=dict(learning_rate=0.02),
  )
  outcome = fit(problem, tmp_path)
  assert outcome.validation['logit_r2'] > 0.8


def test_a_diverging_seed_has_no_weights_and_leaves_finite_checkpoints(digits, tmp_path, caplog):
  problem = make_problem(
    digits,
    loss=dict(name='label_l2'),
    optimizer=dict(learning_rate=1e4, warmup_steps=30),
    checkpoint_every_steps=1,
  )
  outcome = fit(problem, tmp_path)
  assert outcome.diverged
  assert 'no result' in caplog.text
  for step in checkpoint.steps(tmp_path / 'checkpoints'):
    assert step <= outcome.step


def test_a_collapsed_net_is_flagged(digits, tmp_path):
  problem = make_problem(digits, optimizer=dict(learning_rate=1e-9))
  dead = jax.tree.map(jnp.zeros_like, problem.initial['params'])
  problem = dataclasses.replace(problem, initial=dict(problem.initial, params=dead))
  assert fit(problem, tmp_path).collapsed


def test_targets_of_another_length_are_refused(digits):
  with pytest.raises(dataset_lib.DataError, match='target has 399 rows, input 400'):
    make_problem(
      digits,
      target=lambda arrays: np.zeros((len(arrays['id']) - 1, 1, 10), np.float32),
      targets='other',
      loss=dict(name='logit_l2'),
    )


def test_a_target_that_is_not_finite_is_refused_by_its_row(digits):
  def broken(arrays):
    target = np.zeros((len(arrays['id']), 1, 10), np.float32)
    target[17] = np.nan
    return target

  with pytest.raises(dataset_lib.DataError, match='not finite in 1 rows, the first is 17'):
    make_problem(digits, target=broken, targets='other', loss=dict(name='logit_l2'))


def test_early_stopping_waits_for_the_evaluations_asked_for(digits, tmp_path):
  problem = make_problem(
    digits,
    num_steps=400,
    evaluate_every_steps=10,
    stop_after_evaluations=3,
    optimizer=dict(learning_rate=1e-9),
  )
  fit(problem, tmp_path)
  lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  assert len(lines) < 2 * 40


def test_seeds_differ_and_one_seed_repeats(digits, tmp_path):
  first, second, again = (
    fit(make_problem(digits, seed=seed), tmp_path / str(i)) for i, seed in enumerate((0, 1, 0))
  )
  assert_equal_trees(first.variables, again.variables)
  kernels = [each.variables['params']['Output_0']['output']['kernel'] for each in (first, second)]
  assert not np.array_equal(*kernels)


def test_no_recompilation_for_another_seed_or_rate(digits, tmp_path):
  feed_lib.compiled_step.cache_clear()
  for i, rate in enumerate((0.01, 0.02, 0.02)):
    problem = make_problem(digits, seed=i, optimizer=dict(learning_rate=rate, warmup_steps=5))
    fit(problem, tmp_path / str(i))
  assert feed_lib.compiled_step.cache_info().misses == 1
  layout = feed_lib.lay_out(problem.entry, problem.module)
  compiled = feed_lib.compiled_step(layout, *step_lib.program_arguments(problem))
  assert compiled._cache_size() == 1


def test_a_flipped_bit_in_a_checkpoint_is_noticed_and_the_older_step_is_used(digits, tmp_path):
  problem = make_problem(digits)
  with pytest.raises(run_guard.Stopped):
    fit(problem, tmp_path, stop=stop_at.StopAt(25))
  folder = tmp_path / 'checkpoints'
  newest, older = checkpoint.steps(folder)
  for path in sorted((folder / str(newest)).rglob('*')):
    if path.is_file() and path.stat().st_size:
      content = bytearray(path.read_bytes())
      content[len(content) // 2] ^= 1
      path.write_bytes(content)
      break
  whole = fit(problem, tmp_path / 'whole')
  resumed = fit(problem, tmp_path)
  assert older < newest
  assert_equal_trees(whole.variables, resumed.variables)


def test_a_checkpoint_of_another_net_is_refused(digits, tmp_path):
  with pytest.raises(run_guard.Stopped):
    fit(make_problem(digits), tmp_path, stop=stop_at.StopAt(3))
  other = make_problem(digits, model=dict(SHALLOW, hidden=32))
  with pytest.raises(checkpoint.CheckpointError, match='another network'):
    fit(other, tmp_path)


def test_finished_weights_come_back_as_they_were_saved(digits, tmp_path):
  outcome = fit(make_problem(digits), tmp_path)
  trained.save_trained(tmp_path, outcome, trial={}, target_weights=[], init_weights=[])
  restored = checkpoint.restore_newest(tmp_path / 'weights', outcome.variables)
  assert_equal_trees(outcome.variables, restored[0])
  assert not (tmp_path / 'checkpoints').exists()
  assert trained.read_trained(tmp_path)['status'] == 'trained'


@pytest.fixture
def compiled_programs():
  """Grows by one with each program that XLA compiles."""
  found = []

  def listen(event, seconds, **_):
    if event == '/jax/core/compile/backend_compile_duration':
      found.append(seconds)

  jax.monitoring.register_event_duration_secs_listener(listen)
  yield found
  jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize('steps_per_call', [1, 5])
def test_nothing_is_compiled_after_the_first_evaluations(
  digits, tmp_path, monkeypatch, compiled_programs, steps_per_call
):
  feed_lib.compiled_step.cache_clear()
  by_call = []
  step = feed_lib.Feed.step

  def counted(*args):
    found = step(*args)
    by_call.append(len(compiled_programs))
    return found

  monkeypatch.setattr(feed_lib.Feed, 'step', counted)
  problem = make_problem(digits, steps_per_call=steps_per_call, num_steps=80)
  fit(problem, tmp_path)
  calls_until = 20 // steps_per_call  # an evaluation, which compiles what it needs
  assert by_call[0] > 0
  assert len(set(by_call[:calls_until])) == 1
  assert len(set(by_call[2 * calls_until :])) == 1


def test_a_step_that_was_compiled_ahead_is_not_compiled_again(
  digits, monkeypatch, compiled_programs
):
  problem = make_problem(digits)
  layout = feed_lib.lay_out(problem.entry, problem.module)
  feed_lib.compiled_step.cache_clear()
  feed, state = feed_lib.Feed([problem], layout), layout.place(step_lib.fresh_state(problem))
  count_at_meetings, before = [], len(compiled_programs)
  monkeypatch.setattr(feed_lib.processes, 'are_several', lambda: True)
  monkeypatch.setattr(
    feed_lib.processes, 'meet', lambda name: count_at_meetings.append(len(compiled_programs))
  )
  for step in range(2):
    state, _ = feed.step(state, [1.0], step)
  assert count_at_meetings == [before + 1]
  assert len(compiled_programs) == before + 1


def test_a_batch_is_on_its_way_before_the_loss_of_the_one_before_is_waited_for(
  digits, tmp_path, monkeypatch
):
  events = []
  inputs, check = feed_lib.call_inputs, train._note_diverged

  def noted_inputs(problem, step, *args, **kwargs):
    events.append(f'batch {step}')
    return inputs(problem, step, *args, **kwargs)

  def noted_check(run, *args):
    events.append(f'loss of {run.step - 1}')
    return check(run, *args)

  monkeypatch.setattr(feed_lib, 'RESIDENT_BYTES', 0)
  monkeypatch.setattr(feed_lib, 'call_inputs', noted_inputs)
  monkeypatch.setattr(train, '_note_diverged', noted_check)
  fit(make_problem(digits), tmp_path)
  assert events[2:6] == ['batch 1', 'loss of 0', 'batch 2', 'loss of 1']


def test_bfloat16_learns_with_float32_parameters(digits, tmp_path):
  outcomes = {
    dtype: fit(make_problem(digits, compute_dtype=dtype), tmp_path / dtype)
    for dtype in ('float32', 'bfloat16')
  }
  leaves = jax.tree.leaves(outcomes['bfloat16'].variables)
  assert {leaf.dtype for leaf in leaves} == {jnp.dtype('float32')}
  errors = {dtype: outcome.validation['error'] for dtype, outcome in outcomes.items()}
  assert abs(errors['bfloat16'] - errors['float32']) < 10
  kernels = [
    outcome.variables['params']['Output_0']['output']['kernel'] for outcome in outcomes.values()
  ]
  relative = float(jnp.abs(kernels[0] - kernels[1]).max() / jnp.abs(kernels[0]).max())
  assert 1e-4 < relative < 0.1  # it was rounded, and by no more than a few roundings
