"""Small trainings on the devices that there are, for test_parallel: also run as a script.

XLA_FLAGS=--xla_force_host_platform_device_count=4 python tests/support/parallel_runs.py FILE
"""

import contextlib
import pathlib
import pickle
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from shallow_jax import data as data_lib
from shallow_jax.data import views as views_lib
from shallow_jax.logits import predict
from shallow_jax.models import layers
from shallow_jax.runtime import checkpoint
from shallow_jax.runtime import parallel
from shallow_jax.settings import defaults
from shallow_jax.speech import context
from shallow_jax.training import feed as feed_lib
from shallow_jax.training import problem as problem_lib
from shallow_jax.training import step as step_lib
from shallow_jax.training import train

WIDE = dict(name='shallow', hidden=256, bottleneck=16)
CNN = dict(name='cnn', features=(4,), kernel_size=3, dense=(8,), batch_norm=True)
CASES = {
  'dense': dict(model=WIDE),
  'full matrix': dict(model=dict(WIDE, bottleneck=0)),
  'dropout': dict(model=dict(WIDE, dropout=0.5)),
  'several steps a call': dict(model=WIDE, steps_per_call=3),
  'batch statistics': dict(model=CNN),
  'stochastic pooling': dict(model=dict(CNN, pooling='stochastic', dropout=0.5)),
}
LAYOUTS = {
  'jit': dict(compile='jit', model=1),
  'model': dict(compile='jit', model=2),
  'pmap': dict(compile='pmap', model=1),
}
RUNS = (
  *(('dense', 'jit'), ('dense', 'model'), ('dense', 'pmap')),
  ('full matrix', 'model'),
  *(('dropout', 'jit'), ('dropout', 'model'), ('dropout', 'pmap')),
  *(('several steps a call', 'model'), ('several steps a call', 'pmap')),
  *(('batch statistics', 'jit'), ('batch statistics', 'pmap')),
  *(('stochastic pooling', 'jit'), ('stochastic pooling', 'pmap')),
)
NUM_STEPS = 12


def digits():
  return data_lib.load(defaults.complete(dict(data=dict(name='digits'))).data.to_dict())


def make_problem(dataset, *, seed=0, **changes):
  """A seed of a network on the digits' labels."""
  entry = dict(
    num_steps=NUM_STEPS,
    evaluate_every_steps=6,
    checkpoint_every_steps=6,
    batch_size=40,
    optimizer=dict(learning_rate=0.02, warmup_steps=3),
  )
  config = defaults.experiment(data=dict(name='digits'), networks=dict(net=entry | changes))
  arrays = [dataset.splits[name].arrays for name in ('train', 'validation')]
  return problem_lib.build(defaults.plain(config)['networks']['net'], dataset, *arrays, seed=seed)


def steps(problem, layout, count=NUM_STEPS):
  """The state and the loss after so many steps."""
  feed, state = feed_lib.Feed([problem], layout), layout.place(step_lib.fresh_state(problem))
  for step in range(0, count, problem.entry['steps_per_call']):
    state, loss = feed.step(state, [1.0], step)
  return state, loss


def found(dataset, case, settings):
  """Variables and loss after some steps, and the bytes of the state on each device."""
  problem = make_problem(dataset, **CASES[case])
  layout = feed_lib.lay_out(problem.entry, problem.module, settings)
  state, loss = steps(problem, layout)
  return {
    'variables': jax.device_get(layout.whole(state.variables)),
    'loss': float(loss),
    'bytes': parallel.bytes_by_device(state),
    'shapes': [(x.shape, x.addressable_shards[0].data.shape) for x in jax.tree.leaves(state)],
    'resident': parallel.bytes_by_device(layout.spread(problem.examples)),
  }


def sent(dataset):
  """As `found`, of data that are sent batch by batch."""
  with limited(0):
    return found(dataset, 'dense', LAYOUTS['jit'])


def limits(dataset):
  """The bytes of a quarter of the examples, and one less."""
  quarter = sum(array.nbytes for array in dataset.splits['train'].arrays.values()) // 4
  return quarter, quarter - 1


def stay(dataset, num_bytes):
  """Whether the examples stay on the devices where so many bytes may on each."""
  problem = make_problem(dataset, **CASES['dense'])
  with limited(num_bytes):
    return feed_lib.Feed([problem])._resident is not None


@contextlib.contextmanager
def limited(num_bytes):
  limit, feed_lib.RESIDENT_BYTES = feed_lib.RESIDENT_BYTES, num_bytes
  try:
    yield
  finally:
    feed_lib.RESIDENT_BYTES = limit


def together(dataset, count, case='dropout'):
  """The variables of so many seeds that were trained together, one by one in a list."""
  problems = [make_problem(dataset, seed=seed, **CASES[case]) for seed in range(count)]
  with tempfile.TemporaryDirectory() as folder:
    folders = [pathlib.Path(folder) / str(seed) for seed in range(count)]
    outcomes = train.fit(problems, folders)
  return [jax.device_get(outcome.variables) for outcome in outcomes]


def bytes_together(dataset, count):
  """The bytes of so many seeds' states on each device, before a step and after it."""
  problems = [make_problem(dataset, seed=seed, **CASES['dense']) for seed in range(count)]
  layout = parallel.member_layout(None, members=count, batch_size=problems[0].entry['batch_size'])
  alone = [step_lib.fresh_state(problem) for problem in problems]
  states = layout.place(jax.tree.map(lambda *each: jnp.stack(each), *alone))
  before = parallel.bytes_by_device(states)
  states, _ = feed_lib.Feed(problems, layout).step(states, [1.0] * count, 0)
  return before, parallel.bytes_by_device(states)


def logits(dataset):
  """A CNN's and a wide net's logits in blocks of 64."""
  return [
    predict.logits(
      [predict.Member(problem.module, problem.initial)],
      dataset,
      dataset.splits['test'].arrays,
      batch_size=64,
    )
    for problem in (make_problem(dataset, model=model) for model in (CNN, WIDE))
  ]


def convolution(devices):
  """A convolution's values and gradients, of 8 images that so many devices divide."""
  rng = np.random.default_rng(0)
  kernel, x, weight = (
    rng.normal(size=shape).astype(np.float32)
    for shape in [(3, 3, 5, 6), (8, 6, 7, 5), (8, 6, 7, 6)]
  )
  mesh = jax.make_mesh((devices,), ('data',), devices=jax.devices()[:devices])
  by_part = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('data'))
  conv = layers.Conv(6, 3, use_bias=False)

  def both(x, kernel, weight):
    y, pull = jax.vjp(lambda x, kernel: conv.apply({'params': {'kernel': kernel}}, x), x, kernel)
    return y, *pull(weight)

  whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  shardings = dict(in_shardings=(by_part, whole, by_part), out_shardings=(by_part, by_part, whole))
  return jax.device_get(jax.jit(both, **shardings)(x, kernel, weight))


def examples_of(kind):
  """Made-up examples, of a number that four devices do not divide; 3 views where there are any."""
  rng = np.random.default_rng(0)
  count, views = 50, 3
  arrays = {
    'label': rng.integers(0, 10, count, np.int32),
    'id': rng.integers(0, 2**32, (count, 2), np.uint32),
  }
  if kind == 'speech':
    before, after = context.reach(np.array([30, 20]))
    frames = rng.normal(size=(count, 5)).astype(np.float32)
    return arrays | {'input': frames, 'before': before, 'after': after}
  return arrays | {
    'input': rng.integers(0, 256, (count, 4, 4, 3), np.uint8),
    'target': rng.normal(size=(count, views, 10)).astype(np.float32),
    'mix': views_lib.Augmentation().mix(count),
  }


EXAMPLES = ('images', 'speech')
PARTS = dict(jit=4, model=2, members=2)  # of the examples, on four devices


def rows_of_batches(kind, name):
  """Two batches gathered on the devices, the bytes each holds, and the program as XLA made it."""
  examples, axes = examples_of(kind), (('hidden/u', 1),)
  if name == 'members':
    layout = parallel.member_layout(None, members=2, batch_size=40)
  else:
    layout = parallel.layout(LAYOUTS[name], batch_size=40, hidden_axes=axes, hidden=8)
  rng = np.random.default_rng(1)
  rows = {
    'indices': rng.integers(0, len(examples['id']), (2, 40), np.int32),
    'views': rng.integers(0, 3, (2, 40), np.int32),
  }
  resident = layout.spread(examples)

  def one(state, resident, row):
    return state, step_lib.batch_of(resident, row, layout.gather)

  if name == 'members':
    batches = layout.divide({key: each[:, None] for key, each in rows.items()})
    many = jax.vmap(lambda *each: one(*each)[1], (None, None, 0), spmd_axis_name=parallel.MEMBER)
    call = jax.jit(lambda resident, rows: many(0, resident, jax.tree.map(lambda x: x[:, 0], rows)))
  else:
    batches = layout.divide(rows)
    call = jax.jit(
      lambda resident, rows: jax.lax.scan(lambda s, row: one(s, resident, row), 0, rows)[1]
    )
  program = call.lower(resident, batches).compile()
  return {
    'rows': rows,
    'batches': jax.device_get(program(resident, batches)),
    'bytes': parallel.bytes_by_device(resident),
    'program': program.as_text(),
  }


def moved(dataset):
  """Whether a state saved on each layout comes back on each other one as it was."""
  problem = make_problem(dataset, model=WIDE)
  layouts = [
    feed_lib.lay_out(problem.entry, problem.module, LAYOUTS[name]) for name in ('jit', 'model')
  ]
  equal = []
  for source in layouts:
    state, _ = steps(problem, source, 2)
    with tempfile.TemporaryDirectory() as folder:
      checkpoint.save(pathlib.Path(folder), 2, state, notes={}, keep=1)
      for target in layouts:
        template = target.place(step_lib.fresh_state(problem))
        restored, _ = checkpoint.restore_newest(pathlib.Path(folder), template)
        jax.tree.map(np.testing.assert_array_equal, restored, state)
        equal.append(jax.tree.map(lambda x: x.sharding, restored) == target.shardings(template))
  return equal


def main(path):
  dataset = digits()
  report = {
    'runs': {(case, name): found(dataset, case, LAYOUTS[name]) for case, name in RUNS},
    'again': found(dataset, 'dense', LAYOUTS['jit']),
    'sent': sent(dataset),
    'stay': [stay(dataset, limit) for limit in limits(dataset)],
    'logits': logits(dataset),
    'moved': moved(dataset),
    'convolution': {devices: convolution(devices) for devices in (1, 2, 4)},
    'gathered': {(kind, name): rows_of_batches(kind, name) for kind in EXAMPLES for name in PARTS},
    'together': {count: together(dataset, count) for count in (2, 4)},
    'bytes together': {count: bytes_together(dataset, count) for count in (2, 4)},
  }
  pathlib.Path(path).write_bytes(pickle.dumps(report))


if __name__ == '__main__':
  main(sys.argv[1])
