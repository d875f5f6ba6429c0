"""Our own steps as the loop takes them, and the bare operators in them: the roofline."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from launch.benchmarks import nets
from shallow_jax import models
from shallow_jax.data import dataset as dataset_lib
from shallow_jax.logits import predict
from shallow_jax.runtime import host
from shallow_jax.runtime import parallel
from shallow_jax.settings import defaults
from shallow_jax.training import feed as feed_lib
from shallow_jax.training import problem as problem_lib
from shallow_jax.training import step as step_lib

Calls = dict[str, Callable[[int], None]]
LEARNING_RATE = 1e-6  # nothing is learned: targets are drawn by chance
_OPERATORS = ('dot_general', 'conv_general_dilated')


def student(net: nets.Net, batch_size: int, num_examples: int = 0) -> tuple[dict[str, Any], Calls]:
  """A student's step on logits, and the bare products in it.

  Args:
    net: see nets.py.
    batch_size: of a step, which is the unit of work.
    num_examples: that lie on the device; 0: those of ten steps.
  """
  host.keep_freed_memory()
  problem = _problem(net, batch_size, num_examples or 10 * batch_size, 'logit_l2')
  return _notes(problem), {'step': _steps(problem), 'products': _products(problem)}


def teacher(net: nets.Net, batch_size: int) -> tuple[dict[str, Any], Calls]:
  """A teacher's step on labels, the bare operators in it, and its logits of a batch."""
  host.keep_freed_memory()
  problem = _problem(net, batch_size, 10 * batch_size, 'cross_entropy')
  calls = {'step': _steps(problem), 'products': _products(problem)}
  return _notes(problem), {**calls, 'sweep': _sweep([problem], batch_size)}


def epoch(
  net: nets.Net, teacher_net: nets.Net, members: int, batch_size: int
) -> tuple[dict[str, Any], Calls]:
  """A student's step with stored logits, with its teacher in the step, and the teacher's sweep."""
  host.keep_freed_memory()
  problem = _problem(net, batch_size, 10 * batch_size, 'logit_l2')
  teachers = [
    _problem(teacher_net, batch_size, batch_size, 'cross_entropy', seed) for seed in range(members)
  ]
  calls = {'stored': _steps(problem), 'online': _online_steps(problem, teachers)}
  return _notes(problem), {**calls, 'sweep': _sweep(teachers, batch_size)}


def memory(net: nets.Net, batch_size: int) -> tuple[dict[str, Any], Calls]:
  """The bytes of a student's weights and momentum on a device that shares its hidden units."""
  problem = _problem(net, batch_size, batch_size, 'logit_l2')
  found = {}
  for model in (1, 2, 4):
    settings = {'compile': 'jit', 'model': model}
    layout = feed_lib.lay_out(problem.entry, problem.module, settings)
    held = parallel.bytes_by_device(layout.place(step_lib.fresh_state(problem)))
    found[model] = max(held.values())
  return {'devices': jax.device_count(), 'bytes': found}, {}


def _problem(
  net: nets.Net, batch_size: int, num_examples: int, loss: str, seed: int = 0
) -> problem_lib.Problem:
  """A net on examples that are drawn by chance."""
  entry = dict(
    model=net['model'],
    loss=dict(name=loss),
    targets='labels' if loss == 'cross_entropy' else 'teacher',
    optimizer=dict(learning_rate=LEARNING_RATE),
    batch_size=batch_size,
  )
  networks = dict(net=entry, teacher=dict(model=dict(name='dnn')))
  complete = defaults.plain(defaults.experiment(data=dict(name='digits'), networks=networks))
  arrays = _arrays(tuple(net['input_shape']), net['num_classes'], num_examples)
  dataset = dataset_lib.Dataset(
    name='drawn',
    class_names=tuple(map(str, range(net['num_classes']))),
    splits={},
    preprocessing={},
    constants={},
    inputs=_as_they_are,
    input_shape=tuple(net['input_shape']),
    notes={},
  )
  statistics = np.zeros(net['num_classes']), np.ones(net['num_classes'])
  return problem_lib.build(
    complete['networks']['net'], dataset, arrays, arrays, seed=seed, target_statistics=statistics
  )


def _arrays(input_shape: tuple[int, ...], num_classes: int, count: int) -> dataset_lib.Arrays:
  rng = np.random.default_rng(0)
  return {
    'input': rng.standard_normal((count, *input_shape), np.float32),
    'label': rng.integers(num_classes, size=count).astype(np.int32),
    'id': np.zeros((count, 2), np.uint32),
    'target': rng.standard_normal((count, 1, num_classes), np.float32),
  }


def _as_they_are(constants: Any, raw: Mapping[str, jax.Array], views: Any) -> jax.Array:
  del constants, views
  return raw['input']


def _notes(problem: problem_lib.Problem) -> dict[str, Any]:
  return {
    'architecture': problem.module.architecture,
    'batch_size': problem.entry['batch_size'],
    'gflop': sum(_flop(eqn) for eqn in _equations(_step_program(problem))) / 1e9,
  }


def _steps(problem: problem_lib.Problem) -> Callable[[int], None]:
  """The loop's own steps on examples that lie on the device."""
  feed, state, step = feed_lib.Feed([problem]), step_lib.fresh_state(problem), 0

  def call(count: int) -> None:
    nonlocal state, step
    for _ in range(count):
      state, _ = feed.step(state, [1.0], step)
      step += 1
    jax.block_until_ready(state)

  return call


def _online_steps(
  problem: problem_lib.Problem, teachers: Sequence[problem_lib.Problem]
) -> Callable[[int], None]:
  """The same steps with the mean of the teachers' logits computed in each."""
  module = teachers[0].module
  program = step_lib.program(*step_lib.program_arguments(problem))

  def with_teachers(state: Any, weights: Any, resident: Any, row: Any) -> Any:
    batch = {name: resident[name][row['indices'][0]] for name in ('input', 'label')}
    each = [models.apply(module, member, batch['input']) for member in weights]
    batch['target'] = jnp.mean(jnp.stack(each), axis=0)[:, None]
    arrays = jax.tree.map(lambda array: array[None], batch)
    sent = {'arrays': arrays, 'views': row['views']}
    return program(state, {}, None, sent, jnp.float32(LEARNING_RATE), step_lib.dropout_key(problem))

  compiled = jax.jit(with_teachers, donate_argnums=0)
  weights = [each.initial for each in teachers]
  resident = jax.device_put(dict(problem.examples))
  positions = np.arange(problem.entry['batch_size'])
  order = feed_lib.order_of(problem)
  state, step = step_lib.fresh_state(problem), 0

  def call(count: int) -> None:
    nonlocal state, step
    for _ in range(count):
      row = feed_lib.call_inputs(problem, step, positions, order=order, sent=False)
      state, _ = compiled(state, weights, resident, row)
      step += 1
    jax.block_until_ready(state)

  return call


def _sweep(teachers: Sequence[problem_lib.Problem], batch_size: int) -> Callable[[int], None]:
  """The logits of all teachers for a batch, as they go to the store."""
  members = [predict.Member(each.module, each.initial) for each in teachers]
  dataset, arrays = teachers[0].dataset, teachers[0].examples

  def call(count: int) -> None:
    rows = np.arange(count * batch_size) % len(arrays['id'])
    predict.logits(members, dataset, arrays, batch_size=batch_size, rows=rows)

  return call


def _products(problem: problem_lib.Problem) -> Callable[[int], None]:
  """Every matrix product and convolution of the step, forward and backward: a program of no more.

  Of operands of their own, so that XLA may take them in any order and side by side.
  """
  equations = [*_equations(_step_program(problem))]

  @jax.jit
  def operators(operands: Sequence[Sequence[jax.Array]]) -> list[jax.Array]:
    pairs = zip(equations, operands, strict=True)
    return [eqn.primitive.bind(*each, **eqn.params) for eqn, each in pairs]

  drawn = [[_drawn(variable.aval) for variable in eqn.invars] for eqn in equations]

  def call(count: int) -> None:
    for _ in range(count):
      jax.block_until_ready(operators(drawn))

  return call


def _drawn(operand: Any) -> jax.Array:
  if jnp.issubdtype(operand.dtype, jnp.integer):
    return jnp.zeros(operand.shape, operand.dtype)  # where a loop begins
  return jax.random.normal(jax.random.key(0), operand.shape, operand.dtype)


def _step_program(problem: problem_lib.Problem) -> Any:
  """The jaxpr of a step."""
  program = step_lib.program(*step_lib.program_arguments(problem))
  positions = np.arange(problem.entry['batch_size'])
  order = feed_lib.order_of(problem)
  row = feed_lib.call_inputs(problem, 0, positions, order=order, sent=False)
  arguments = (step_lib.fresh_state(problem), {}, dict(problem.examples), row)
  traced = jax.make_jaxpr(program)
  return traced(*arguments, jnp.float32(1), step_lib.dropout_key(problem)).jaxpr


def _equations(jaxpr: Any) -> Iterator[Any]:
  """Its products and convolutions that something comes of, those of programs within it included.

  A loop of products, such as a convolution's kernel gradient, counts as one of them.
  """
  for eqn in _live(jaxpr):
    inside = list(_inside(eqn))
    if eqn.primitive.name in _OPERATORS or (eqn.primitive.name == 'scan' and inside):
      yield eqn
    else:
      yield from inside


def _inside(eqn: Any) -> Iterator[Any]:
  """The products of the programs that an equation runs; of one for each platform, the CPU's."""
  for value in eqn.params.values():
    inner = value[0] if isinstance(value, tuple) and value else value
    inner = getattr(inner, 'jaxpr', inner)
    if hasattr(inner, 'eqns'):
      yield from _equations(inner)


def _live(jaxpr: Any) -> list[Any]:
  """Its equations without those that XLA drops: the gradient of a net's input, say."""
  needed, live = {id(variable) for variable in jaxpr.outvars}, []
  for eqn in reversed(jaxpr.eqns):
    if needed & {id(variable) for variable in eqn.outvars}:
      needed |= {id(variable) for variable in eqn.invars}
      live.append(eqn)
  return live[::-1]


def _flop(eqn: Any) -> float:
  """Two for each multiplication and addition."""
  if eqn.primitive.name == 'scan':
    return eqn.params['length'] * sum(_flop(inner) for inner in _inside(eqn))
  left, right = (variable.aval.shape for variable in eqn.invars)
  out = math.prod(eqn.outvars[0].aval.shape)
  if eqn.primitive.name == 'dot_general':
    (contracted, _), _ = eqn.params['dimension_numbers']
    return 2.0 * out * math.prod(left[axis] for axis in contracted)
  _, kernel, _ = eqn.params['dimension_numbers']
  return 2.0 * out * math.prod(right) / right[kernel[0]]
