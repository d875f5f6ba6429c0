"""The same nets and steps in PyTorch, eager and compiled.

For images also in its other layout, channels last, which its users have to ask for.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from launch.benchmarks import nets
from shallow_jax.runtime import host

Calls = dict[str, Callable[[int], None]]
_LEARNING_RATE = 1e-6


def student(net: nets.Net, batch_size: int) -> tuple[dict[str, Any], Calls]:
  """A student's step on logits that lie ready."""
  return _notes(), _layouts(net, batch_size, _logit_l2)


def student_keeping_memory(net: nets.Net, batch_size: int) -> tuple[dict[str, Any], Calls]:
  """The same with our own setting of the C library, which PyTorch's users don't have."""
  host.keep_freed_memory()
  return _notes(), {'eager': _steps(net, batch_size, _logit_l2)}


def teacher(net: nets.Net, batch_size: int) -> tuple[dict[str, Any], Calls]:
  """A teacher's step on labels, and its logits of a batch."""
  return _notes(), {
    **_layouts(net, batch_size, _cross_entropy),
    'sweep': _sweep(net, batch_size),
    'sweep-channels-last': _sweep(net, batch_size, torch.channels_last),
  }


def _layouts(net: nets.Net, batch_size: int, loss: Callable[..., torch.Tensor]) -> Calls:
  calls = {
    'eager': _steps(net, batch_size, loss),
    'compiled': _steps(net, batch_size, loss, compiled=True),
  }
  if len(net['input_shape']) == 3:
    calls['channels-last'] = _steps(net, batch_size, loss, torch.channels_last)
  return calls


def _notes() -> dict[str, Any]:
  return {'version': torch.__version__, 'threads': torch.get_num_threads()}


def _steps(
  net: nets.Net,
  batch_size: int,
  loss: Callable[..., torch.Tensor],
  layout: torch.memory_format = torch.contiguous_format,
  *,
  compiled: bool = False,
) -> Callable[[int], None]:
  module = build(net).to(memory_format=layout)
  optimizer = torch.optim.SGD(module.parameters(), lr=_LEARNING_RATE, momentum=0.9)
  inputs, labels, targets = examples(net, 10 * batch_size)

  def objective(x: torch.Tensor, label: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return loss(module(x), label, target)

  forward = torch.compile(objective) if compiled else objective
  rng = np.random.default_rng(0)

  def call(count: int) -> None:
    for _ in range(count):
      rows = torch.from_numpy(rng.permutation(len(inputs))[:batch_size])
      optimizer.zero_grad()
      x = inputs[rows].contiguous(memory_format=layout)
      forward(x, labels[rows], targets[rows]).backward()
      optimizer.step()

  return call


def _sweep(
  net: nets.Net, batch_size: int, layout: torch.memory_format = torch.contiguous_format
) -> Callable[[int], None]:
  module = build(net).eval().to(memory_format=layout)
  inputs = examples(net, batch_size)[0].contiguous(memory_format=layout)

  def call(count: int) -> None:
    with torch.inference_mode():
      for _ in range(count):
        module(inputs)

  return call


def build(net: nets.Net) -> nn.Module:
  """The PyTorch module of a net, images as [batch, channels, height, width]."""
  model, classes = net['model'], net['num_classes']
  if model['name'] == 'cnn':
    layers, channels, side = [], net['input_shape'][-1], net['input_shape'][0]
    for features in model['features']:
      layers += _convolution(channels, features)
      channels, side = features, _pooled(side)
    width = channels * side * side
    for hidden in model['dense']:
      layers += [nn.Flatten(), nn.Linear(width, hidden), nn.ReLU()]
      width = hidden
    return nn.Sequential(*layers, nn.Linear(width, classes))
  layers, width = [], int(np.prod(net['input_shape']))
  if model['name'] == 'shallow_conv':
    layers = _convolution(net['input_shape'][-1], model['features'])
    width = model['features'] * _pooled(net['input_shape'][0]) ** 2
  layers.append(nn.Flatten())
  if model['bottleneck']:
    layers.append(nn.Linear(width, model['bottleneck'], bias=False))
    width = model['bottleneck']
  hidden = model['hidden']
  return nn.Sequential(*layers, nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, classes))


def _convolution(channels: int, features: int) -> list[nn.Module]:
  return [nn.Conv2d(channels, features, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)]


def _pooled(side: int) -> int:
  return (side - 3) // 2 + 1


def examples(net: nets.Net, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
  """Inputs, labels and targets, drawn by chance."""
  *sides, channels = net['input_shape']
  shape = (channels, *sides) if len(net['input_shape']) == 3 else tuple(net['input_shape'])
  labels = torch.randint(net['num_classes'], (count,))
  return torch.randn(count, *shape), labels, torch.randn(count, net['num_classes'])


def _logit_l2(logits: torch.Tensor, label: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
  del label
  return 0.5 * (logits - target).square().sum(dim=1).mean()


def _cross_entropy(logits: torch.Tensor, label: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
  del target
  return nn.functional.cross_entropy(logits, label)
