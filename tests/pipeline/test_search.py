"""A search over any key of a net: what becomes of the network is what the winning trial is."""

import pytest

from shallow_jax.pipeline import run as run_lib
from shallow_jax.report import page
from shallow_jax.runtime import storage
from shallow_jax.settings import defaults

NET = dict(
  model=dict(name='shallow', hidden=16),
  batch_size=32,
  num_steps=20,
  steps_per_call=10,
  evaluate_every_steps=10,
  checkpoint_every_steps=20,
  optimizer=dict(learning_rate=0.05, warmup_steps=5),
)


def config(**networks):
  return defaults.experiment(
    data=dict(name='digits', num_train=200, num_test=100, num_unlabelled=100),
    networks=networks,
    logits=dict(shard_rows=256, batch_size=64),
    evaluation=dict(latency_batches=()),
  )


@pytest.fixture(scope='module')
def searched(tmp_path_factory):
  """The run, with its config: the base value is never the one that wins."""
  logit_l2 = dict(loss=dict(name='logit_l2'), optimizer=dict(learning_rate=0.003, warmup_steps=5))
  networks = dict(
    sized=NET
    | dict(
      seeds=2,
      model=dict(name='shallow', hidden=16, bottleneck=4),
      search=dict(model=dict(bottleneck=(2, 8))),
    ),
    untrained=NET | dict(optimizer=dict(learning_rate=1e-9), search={}),
    mimic=NET
    | logit_l2
    | dict(
      targets='untrained',
      search=dict(
        targets=('untrained', 'sized'),
        examples=(('unlabelled',), ('train', 'unlabelled')),
      ),
      num_steps=10,
    ),
  )
  given = config(**networks)
  workdir = tmp_path_factory.mktemp('searched')
  return given, workdir, run_lib.run(given, workdir)


def chosen(workdir, network):
  search = storage.read_json(workdir / network / 'search.json')
  return search['trials'][search['chosen']]['settings']


def test_architecture_and_size_are_the_winners(searched):
  _, workdir, results = searched
  rank = chosen(workdir, 'sized')['model.bottleneck']
  found = results['networks']['sized']
  assert rank in (2, 8)
  assert found['architecture'].startswith(f'{rank}L-16')
  assert found['parameters']['weights'] == 64 * rank + rank * 16 + 16 * 10
  assert len(found['metrics']['test']['error']['values']) == 2


def test_targets_and_fidelity_are_the_winners(searched):
  _, workdir, results = searched
  won = chosen(workdir, 'mimic')
  found = results['networks']['mimic']
  assert found['targets'] == won['targets']
  trained = storage.read_json(workdir / 'mimic' / 'seed-0' / 'trained.json')
  teacher = storage.read_json(workdir / won['targets'] / 'seed-0' / 'trained.json')
  assert trained['target_weights'] == [teacher['weights_sha256']]
  assert set(found['fidelity']) == {'agreement', 'logit_r2', 'kl'}
  assert len(storage.read_json(workdir / 'mimic' / 'search.json')['trials']) == 4


def test_it_is_finished(searched):
  given, workdir, results = searched
  again = run_lib.run(given, workdir)
  assert again['networks'] == results['networks']
  assert page.write(defaults.plain(given), workdir)['networks'] == results['networks']


def test_an_impossible_trial_is_refused_before_the_first_step(tmp_path):
  search = dict(model=dict(bottleneck=(2, 40)))  # of 16 units
  given = config(net=NET | dict(search=search))
  with pytest.raises(defaults.ConfigError, match=r'net.model: a bottleneck of 40 is wider'):
    run_lib.run(given, tmp_path)
  assert not (tmp_path / 'net').exists()
