#!/usr/bin/env python3
"""Is the input free, and how long will an experiment take? Examples/s beside the bare compute's.

  python launch/benchmark_experiment.py --config=configs/cifar10_table2.py \
      --config.data.data_dir=DIR --networks=teacher,mimic_64c --output=input.json

For each network (all that learn by gradient, if none is named), in one process and in turn, round
by round: the loop's own step on real examples (images as uint8 or frames of speech on the device,
gathered and preprocessed in the compiled step) and the same step on random float arrays that are
there already; then the sweep over real examples and the bare forward pass. Ratios of medians, first
of all; then what all the network's trainings take at the measured rate, evaluations and compilation
left out. `--keep_memory=false` leaves glibc's allocator as it is, to see what
shallow_jax/runtime/host.py is worth.
"""

from collections.abc import Callable, Mapping
import functools
import json
import pathlib
import statistics
import sys
import time
from typing import Any

from absl import app
from absl import flags
import jax
import jax.numpy as jnp
from ml_collections import config_flags
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # a checkout need not be installed

from shallow_jax import data as data_lib
from shallow_jax import models
from shallow_jax.data import dataset as dataset_lib
from shallow_jax.logits import predict
from shallow_jax.models import size as size_lib
from shallow_jax.pipeline import graph
from shallow_jax.runtime import host
from shallow_jax.settings import defaults
from shallow_jax.settings import targets as targets_lib
from shallow_jax.training import feed as feed_lib
from shallow_jax.training import optimizer
from shallow_jax.training import problem as problem_lib
from shallow_jax.training import step as step_lib

_CONFIG = config_flags.DEFINE_config_file('config', None, 'a config file, with :variant')
_NETWORKS = flags.DEFINE_list('networks', [], 'of the config; none: all that learn by gradient')
_ROUNDS = flags.DEFINE_integer('rounds', 5, 'of all that is compared')
_STEPS = flags.DEFINE_integer('steps', 4, 'a round')
_OUTPUT = flags.DEFINE_string('output', '', 'a JSON file; empty: only print')
_KEEP_MEMORY = flags.DEFINE_bool('keep_memory', True, 'as the program does')

# In training: two each for the outputs, the inputs' gradients and the weights' gradients.
_FLOPS_A_MULTIPLY_ADD = 6


def main(argv: list[str]) -> None:
  """Measures, prints and writes."""
  del argv
  if _KEEP_MEMORY.value:
    host.keep_freed_memory()
  config = defaults.plain(defaults.complete(_CONFIG.value))
  dataset = data_lib.load(config['data'])
  found: dict[str, Any] = {
    'provenance': host.provenance(),
    'keep_memory': _KEEP_MEMORY.value,
    'networks': {},
  }
  for name in _NETWORKS.value or _learning(config['networks']):
    problem = _problem(config['networks'][name], dataset)
    found['networks'][name] = {
      'architecture': problem.module.architecture,
      'batch_size': problem.entry['batch_size'],
      'training': _compare(_loops_step(problem), _bare_step(problem)),
      'sweep': _compare(_sweep(problem, config), _bare_forward(problem, config)),
    }
    for part in ('training', 'sweep'):
      print(f'{name:16} {part:9}', _shown(found['networks'][name][part]), flush=True)
    whole = found['networks'][name]['whole'] = _whole(problem, found['networks'][name]['training'])
    print(
      f'{name:16} whole     {whole["trainings"]} x {problem.entry["num_steps"]:,} steps, '
      f'{whole["petaflop"]:.3g} PFLOP: {whole["hours"]:.2f} hours',
      flush=True,
    )
  found['hours'] = sum(network['whole']['hours'] for network in found['networks'].values())
  print(f'all of these: {found["hours"]:.2f} hours', flush=True)
  if _OUTPUT.value:
    pathlib.Path(_OUTPUT.value).write_text(json.dumps(found, indent=2) + '\n')


def _learning(networks: graph.Networks) -> list[str]:
  return [name for name, entry in networks.items() if entry['model'] and not entry['fit']]


def _whole(problem: problem_lib.Problem, training: Mapping[str, Any]) -> dict[str, Any]:
  """What a network's trainings, those of its search included, take at the measured rate."""
  entry = problem.entry
  trainings = len(graph.trials(entry)) + entry['seeds'] - 1  # the best trial is the first seed
  examples = trainings * entry['num_steps'] * entry['batch_size']
  multiply_adds = size_lib.size(problem.module, problem.dataset.input_shape)['multiply_adds']
  return {
    'trainings': trainings,
    'examples': examples,
    'petaflop': _FLOPS_A_MULTIPLY_ADD * multiply_adds * examples / 1e15,
    'hours': examples / training['examples_per_second']['ours'] / 3600,
  }


def _problem(entry: Mapping[str, Any], dataset: dataset_lib.Dataset) -> problem_lib.Problem:
  """A network's problem on its own examples; a student's targets are drawn: they cost the same."""
  split = dataset_lib.concatenate([dataset.splits[name] for name in entry['examples']])
  examples, statistics_ = dict(split.arrays), None
  if targets_lib.target(entry) is not None:
    classes = len(dataset.class_names)
    shape = (len(split), entry['views'], classes)
    examples['target'] = np.random.default_rng(0).standard_normal(shape, np.float32)
    statistics_ = np.zeros(classes), np.ones(classes)
  validation = {key: array[:500] for key, array in examples.items()}
  return problem_lib.build(entry, dataset, examples, validation, target_statistics=statistics_)


def _loops_step(problem: problem_lib.Problem) -> tuple[Callable[[], Any], int]:
  """The step as the loop takes it, data and all, and the examples in it."""
  feed = feed_lib.Feed([problem])
  state = step_lib.fresh_state(problem)
  step = 0

  def call() -> Any:
    nonlocal state, step
    state, loss = feed.step(state, [1.0], step)
    step += problem.entry['steps_per_call']
    return loss

  return call, problem.entry['batch_size'] * problem.entry['steps_per_call']


def _bare_step(problem: problem_lib.Problem) -> tuple[Callable[[], Any], int]:
  """The same arithmetic on a batch that lies ready."""
  entry = problem.entry
  sgd = optimizer.build(dict(entry['optimizer'], learning_rate=1.0), entry['num_steps'])
  step = functools.partial(step_lib.train_step, problem.module, entry['loss'], sgd)
  x = jax.random.normal(jax.random.key(0), (entry['batch_size'], *problem.dataset.input_shape))
  batch = {key: jnp.asarray(problem.examples[key][: len(x)]) for key in ('label',)}
  if 'target' in problem.examples:
    batch['target'] = jnp.asarray(problem.examples['target'][: len(x), 0])
  rate, key = jnp.float32(entry['optimizer']['learning_rate']), jax.random.key(1)

  def steps(state: step_lib.State, x: jax.Array, batch: Any) -> tuple[step_lib.State, jax.Array]:
    def one(state: step_lib.State, _: None) -> tuple[step_lib.State, jax.Array]:
      return step(state, x, batch, rate, key)

    if entry['steps_per_call'] == 1:
      return one(state, None)
    return jax.lax.scan(one, state, None, entry['steps_per_call'])

  compiled = jax.jit(steps, donate_argnums=0)
  state = step_lib.fresh_state(problem)

  def call() -> Any:
    nonlocal state
    state, loss = compiled(state, x, batch)
    return loss

  return call, entry['batch_size'] * entry['steps_per_call']


def _sweep(
  problem: problem_lib.Problem, config: Mapping[str, Any]
) -> tuple[Callable[[], Any], int]:
  """The logits of real examples, as they go to the store."""
  batch_size = config['logits']['batch_size']
  rows = np.arange(min(4 * batch_size, len(problem.examples['id'])))
  members = [predict.Member(problem.module, problem.initial)]
  call = functools.partial(
    predict.logits, members, problem.dataset, problem.examples, batch_size=batch_size, rows=rows
  )
  return call, len(rows)


def _bare_forward(
  problem: problem_lib.Problem, config: Mapping[str, Any]
) -> tuple[Callable[[], Any], int]:
  batch_size = config['logits']['batch_size']
  x = jax.random.normal(jax.random.key(0), (batch_size, *problem.dataset.input_shape))
  forward = jax.jit(functools.partial(models.apply, problem.module))
  return lambda: [forward(problem.initial, x) for _ in range(4)], 4 * batch_size


def _compare(
  ours: tuple[Callable[[], Any], int], bare: tuple[Callable[[], Any], int]
) -> dict[str, Any]:
  """Examples/s of both, in turn, and the ratio of their medians."""
  rates: dict[str, list[float]] = {'ours': [], 'bare': []}
  pair = {'ours': ours, 'bare': bare}
  for call, _ in pair.values():
    jax.block_until_ready(call())  # compiles
  for _ in range(_ROUNDS.value):
    for name, (call, examples) in pair.items():
      started = time.perf_counter()
      outcomes = [call() for _ in range(_STEPS.value)]
      jax.block_until_ready(outcomes[-1])
      rates[name].append(_STEPS.value * examples / (time.perf_counter() - started))
  medians = {name: statistics.median(values) for name, values in rates.items()}
  return {'ratio': medians['ours'] / medians['bare'], 'examples_per_second': medians, 'all': rates}


def _shown(found: Mapping[str, Any]) -> str:
  rates = found['examples_per_second']
  return (
    f'{found["ratio"]:.3f} of the bare compute: {rates["ours"]:,.0f} of {rates["bare"]:,.0f} '
    'examples/s'
  )


if __name__ == '__main__':
  app.run(main)
