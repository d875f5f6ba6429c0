"""A student's step in Keras' Distiller on JAX, whose teacher runs in every step."""

from collections.abc import Callable
import os
from typing import Any

os.environ['KERAS_BACKEND'] = 'jax'

import keras
import numpy as np

from launch.benchmarks import nets

Calls = dict[str, Callable[[int], None]]
_STEPS_OF_EXAMPLES = 100


def student(net: nets.Net, batch_size: int) -> tuple[dict[str, Any], Calls]:
  """A dense student's step; the teacher is a linear layer, which costs next to nothing."""
  model, shape = net['model'], tuple(net['input_shape'])
  wide = keras.Sequential(
    [
      keras.Input(shape),
      keras.layers.Dense(model['bottleneck'], use_bias=False),
      keras.layers.Dense(model['hidden'], activation='relu'),
      keras.layers.Dense(net['num_classes']),
    ]
  )
  linear = keras.Sequential([keras.Input(shape), keras.layers.Dense(net['num_classes'])])
  distiller = keras.distillation.Distiller(
    teacher=linear,
    student=wide,
    distillation_losses=keras.distillation.LogitsDistillation(loss='mse'),
    student_loss_weight=0.0,
  )
  distiller.compile(
    optimizer=keras.optimizers.SGD(1e-6, momentum=0.9),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
  )
  count = _STEPS_OF_EXAMPLES * batch_size
  inputs = np.random.default_rng(0).standard_normal((count, *shape), np.float32)
  labels = np.zeros(count, np.int32)

  def call(count: int) -> None:
    for start in range(0, count, _STEPS_OF_EXAMPLES):
      rows = slice(min(count - start, _STEPS_OF_EXAMPLES) * batch_size)
      distiller.fit(inputs[rows], labels[rows], batch_size, verbose=0)

  return {'version': keras.__version__}, {'distiller': call}
