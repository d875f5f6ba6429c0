"""Seeds in one program: each is what it is alone, up to rounding."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import parallel_runs
from support import stop_at

from shallow_jax.pipeline import graph
from shallow_jax.pipeline import run as run_lib
from shallow_jax.runtime import checkpoint
from shallow_jax.runtime import parallel
from shallow_jax.runtime import run_guard
from shallow_jax.settings import defaults
from shallow_jax.training import feed as feed_lib
from shallow_jax.training import step as step_lib
from shallow_jax.training import train

TOLERANCE = 1e-5  # relative to an array's largest value


@pytest.fixture(scope='module')
def digits():
  return parallel_runs.digits()


def problems_of(digits, count=2, **changes):
  entry = dict(model=dict(parallel_runs.WIDE, dropout=0.5), num_steps=12) | changes
  return [parallel_runs.make_problem(digits, seed=seed, **entry) for seed in range(count)]


def folders_of(path, problems):
  return [path / f'seed-{problem.seed}' for problem in problems]


@pytest.mark.parametrize(
  'changes',
  [{}, dict(steps_per_call=3, select='last'), dict(optimizer=dict(schedule='plateau'))],
  ids=['one step a call', 'three', 'plateau'],
)
def test_each_seed_is_what_it_is_alone(digits, tmp_path, changes):
  problems = problems_of(digits, **changes)
  together = train.fit(problems, folders_of(tmp_path / 'together', problems))
  for problem, found in zip(problems, together, strict=True):
    alone = train.fit([problem], [tmp_path / f'alone-{problem.seed}'])[0]
    for a, b in zip(
      jax.tree.leaves(alone.variables), jax.tree.leaves(found.variables), strict=True
    ):
      np.testing.assert_allclose(b, a, rtol=0, atol=TOLERANCE * max(np.abs(a).max(), 1e-30))
    assert found.step == alone.step
    assert found.validation == pytest.approx(alone.validation, rel=TOLERANCE)
    lines = [
      (tmp_path / folder / 'metrics.jsonl').read_text().splitlines()
      for folder in (f'together/seed-{problem.seed}', f'alone-{problem.seed}')
    ]
    assert len(lines[0]) == len(lines[1]) == 4


@pytest.mark.parametrize('still', [0, 1])
def test_each_seed_takes_its_own_part_of_the_learning_rate(digits, still):
  problems = problems_of(digits)
  layout = parallel.member_layout(None, members=2, batch_size=40)
  alone = [step_lib.fresh_state(problem) for problem in problems]
  states = jax.tree.map(lambda *each: jnp.stack(each), *alone)
  factors = [float(i != still) for i in range(2)]
  states, _ = feed_lib.Feed(problems, layout).step(states, factors, 0)
  for i, before in enumerate(alone):
    after = layout.members(states.variables['params'])[i]
    pairs = zip(jax.tree.leaves(before.variables['params']), jax.tree.leaves(after), strict=True)
    assert all(np.array_equal(*pair) for pair in pairs) == (i == still)


def test_a_stopped_group_goes_on_bit_for_bit(digits, tmp_path):
  problems = problems_of(digits)
  whole = train.fit(problems, folders_of(tmp_path / 'whole', problems))
  folders = folders_of(tmp_path / 'stopped', problems)
  with pytest.raises(run_guard.Stopped):
    train.fit(problems, folders, stop=stop_at.StopAt(7))
  assert checkpoint.steps(folders[0] / 'checkpoints') == [7, 6]
  resumed = train.fit(problems, folders)
  for a, b in zip(whole, resumed, strict=True):
    jax.tree.map(np.testing.assert_array_equal, a.variables, b.variables)
    assert a.validation == b.validation


def test_a_seed_that_diverges_leaves_the_others_alone(digits, tmp_path):
  problems = problems_of(digits)
  broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), problems[0].initial['params'])
  problems[0] = dataclasses.replace(problems[0], initial=dict(problems[0].initial, params=broken))
  first, second = train.fit(problems, folders_of(tmp_path, problems))
  alone = train.fit([problems[1]], [tmp_path / 'alone'])[0]
  assert first.diverged and not second.diverged
  assert second.validation == pytest.approx(alone.validation, rel=TOLERANCE)


OVERFLOWS = dict(schedule='constant', warmup_steps=0, learning_rate=1e18)


@pytest.mark.parametrize('select', ['error', 'last'])
def test_a_seed_whose_last_step_overflows_has_no_result(digits, tmp_path, select):
  """Its loss is finite: that of the weights before."""
  problems = problems_of(digits, num_steps=1, select=select, optimizer=OVERFLOWS)
  together = train.fit(problems, folders_of(tmp_path, problems))
  assert train.fit([problems[0]], [tmp_path / 'alone'])[0].diverged
  assert [each.diverged for each in together] == [True, True]
  for folder in folders_of(tmp_path, problems):
    assert 'NaN' not in (folder / 'metrics.jsonl').read_text()


@pytest.mark.parametrize('stop_after', [3, 4])
def test_a_seed_that_has_diverged_stays_so_when_its_group_goes_on(digits, tmp_path, stop_after):
  optimizer = dict(OVERFLOWS, learning_rate=1e3)
  problems = problems_of(
    digits, num_steps=4, evaluate_every_steps=2, checkpoint_every_steps=2, optimizer=optimizer
  )
  whole = train.fit(problems, folders_of(tmp_path / 'whole', problems))
  folders = folders_of(tmp_path / 'stopped', problems)
  with pytest.raises(run_guard.Stopped):
    train.fit(problems, folders, stop=stop_at.StopAt(stop_after))
  resumed = train.fit(problems, folders)
  assert [(each.diverged, each.step) for each in resumed] == [
    (each.diverged, each.step) for each in whole
  ]
  assert whole[0].diverged


def entries(**mimic):
  nets = dict(
    cnn=dict(model=dict(name='cnn'), seeds=2),
    mean=dict(ensemble=('cnn',)),
    mimic=dict(model=parallel_runs.WIDE, seeds=2, seeds_together=True) | mimic,
  )
  return defaults.plain(defaults.complete(dict(data=dict(name='digits'), networks=nets)))[
    'networks'
  ]


def test_seeds_that_learn_from_different_teachers_are_not_trained_together():
  logit_l2 = dict(name='logit_l2')
  graph.check_names(entries(targets='mean', loss=logit_l2))
  graph.check_names(entries(targets='cnn/0', loss=logit_l2))
  with pytest.raises(defaults.ConfigError, match=r'mimic\.seeds_together: seeds of cnn teach one'):
    graph.check_names(entries(targets='cnn', loss=logit_l2))


def test_seeds_that_stop_early_are_not_trained_together():
  with pytest.raises(defaults.ConfigError, match='stop_after_evaluations: seeds that are trained'):
    entries(stop_after_evaluations=3)


def test_together_is_jit_over_the_batch():
  with pytest.raises(parallel.ParallelError, match='seeds_together: expected config'):
    parallel.member_layout(dict(compile='pmap', model=1), members=2, batch_size=8)


def test_a_run_trains_its_seeds_together_once(tmp_path, monkeypatch):
  net = dict(model=parallel_runs.WIDE, seeds=3, seeds_together=True, batch_size=40, num_steps=6)
  net |= dict(evaluate_every_steps=6, search=dict(optimizer=dict(learning_rate=(0.01, 0.02))))
  config = defaults.experiment(
    data=dict(name='digits'), networks=dict(net=net), evaluation=dict(latency_batches=())
  )
  groups = []
  fit = train.fit

  def counted(problems, *args, **kwargs):
    groups.append([problem.seed for problem in problems])
    return fit(problems, *args, **kwargs)

  monkeypatch.setattr(train, 'fit', counted)
  results = run_lib.run(config, tmp_path)
  assert groups == [[0], [0], [1, 2]]  # seed 0 is the best trial
  assert len(results['networks']['net']['metrics']['test']['error']['values']) == 3
  assert not list(tmp_path.glob('net/*/checkpoints'))
  (tmp_path / 'net' / 'result.json').unlink()
  run_lib.run(config, tmp_path)
  assert len(groups) == 3
