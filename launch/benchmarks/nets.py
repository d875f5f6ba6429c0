"""The nets whose steps are timed: the students and the teacher of the paper's two tables."""

from collections.abc import Mapping
from typing import Any

# A net: `model` as in a config, the shape of an input, the number of classes.
Net = Mapping[str, Any]


def image_student(hidden: int, bottleneck: int = 1200) -> Net:
  """A shallow net on CIFAR-10's pixels, such as 3072-1200L-30k."""
  return _net(dict(name='shallow', hidden=hidden, bottleneck=bottleneck), (3072,), 10)


def speech_student(hidden: int, bottleneck: int = 250) -> Net:
  """A shallow net on 15 frames of TIMIT, such as 1845-250L-8k (Table 1)."""
  return _net(dict(name='shallow', hidden=hidden, bottleneck=bottleneck), (1845,), 183)


def _net(model: Mapping[str, Any], input_shape: tuple[int, ...], num_classes: int) -> Net:
  return dict(model=model, input_shape=input_shape, num_classes=num_classes)


STUDENTS: dict[str, Net] = {
  '3072-1200L-2k': image_student(2000),
  '3072-1200L-8k': image_student(8000),
  '3072-1200L-30k': image_student(30_000),
  '1845-250L-8k': speech_student(8000),
  '1845-250L-50k': speech_student(50_000),
  '1845-250L-400k': speech_student(400_000),
  '64c-p-1200L-30k': _net(
    dict(name='shallow_conv', features=64, hidden=30_000, bottleneck=1200), (32, 32, 3), 10
  ),
}

# Table 2's teacher, without dropout and with max pooling, which every peer has.
TEACHER = _net(dict(name='cnn', features=(128, 128, 128), dense=(1000,)), (32, 32, 3), 10)
ENSEMBLE_SIZE = 4  # ECNN
