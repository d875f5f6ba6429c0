"""A student's step in torchdistill, whose teacher runs in every step."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
import torchdistill
from torchdistill.core import distillation

from launch.benchmarks import nets
from launch.benchmarks import torch_peer

Calls = dict[str, Callable[[int], None]]
_OUTPUT = {'module_path': '.', 'io': 'output'}
_CONFIG = dict(
  num_epochs=1,
  teacher=dict(forward_proc='forward_batch_only', requires_grad=False),
  student=dict(forward_proc='forward_batch_only'),
  optimizer=dict(key='SGD', kwargs=dict(lr=1e-6, momentum=0.9)),
  criterion=dict(
    key='WeightedSumLoss',
    kwargs=dict(
      sub_terms=dict(
        logits=dict(
          criterion=dict(key='MSELoss', kwargs={}),
          criterion_wrapper=dict(
            key='SimpleLossWrapper',
            kwargs=dict(
              input=dict(is_from_teacher=False, **_OUTPUT),
              target=dict(is_from_teacher=True, **_OUTPUT),
            ),
          ),
          weight=1.0,
        )
      )
    ),
  ),
)


def student(net: nets.Net, batch_size: int) -> tuple[dict[str, Any], Calls]:
  """A student's step; the teacher is a linear layer, which costs next to nothing."""
  inputs, labels, _ = torch_peer.examples(net, 10 * batch_size)
  linear = nn.Sequential(nn.Flatten(), nn.Linear(inputs[0].numel(), net['num_classes']))
  box = distillation.get_distillation_box(
    linear, torch_peer.build(net), {}, _CONFIG, torch.device('cpu'), None, False, 1.0
  )
  rng = np.random.default_rng(0)

  def call(count: int) -> None:
    for _ in range(count):
      rows = torch.from_numpy(rng.permutation(len(inputs))[:batch_size])
      box.pre_forward_process()
      loss = box.forward_process(inputs[rows], labels[rows])
      box.post_forward_process(loss)

  return {'version': torchdistill.__version__}, {'box': call}
