"""The paper's notation of architectures, such as `128c-p-1200L-30k`, read and written.

c convolution, p pool, lc locally connected, fc fully connected, L linear bottleneck; a bare number
is a layer of ReLU units, `k` a thousand.
"""

import re
from typing import Any


def parse(architecture: str) -> dict[str, Any]:
  """The config of a model in the paper's notation: its name and the arguments that it decides.

    `2000-2000`                        dnn: hidden
    `8k`, `250L-8k`                    shallow: hidden, bottleneck
    `128c-p-1200L-30k`                 shallow_conv: features, bottleneck, hidden
    `64c-p-64c-p-16lc`, `128c-p-1000fc`  cnn: features, convs_per_stage, local, dense
    `c-p-2k-2k-2k`, `128c-p-2k-2k`     speech_cnn: features where it has them, hidden (2 or more)

  Raises:
    ValueError: an architecture of another form.
  """
  parts = architecture.split('-')
  if re.fullmatch(r'(\d+k?)?c-p(-\d+k?){2,}', architecture):
    return _speech(architecture, parts)
  if 'p' not in parts:
    return _dense(architecture, parts)
  behind = parts[len(parts) - parts[::-1].index('p') :]
  stages = [stage.split('-') for stage in architecture.split('-p')[: parts.count('p')]]
  maps = [[_number(part, 'c', architecture) for part in stage if part] for stage in stages]
  if any(len(set(stage)) != 1 or len(stage) != len(maps[0]) for stage in maps):
    raise _error(architecture)
  features = tuple(stage[0] for stage in maps)
  if len(features) == 1 and behind and _is_width(behind[-1]):
    return dict(name='shallow_conv', features=features[0], **_wide(behind, architecture))
  return dict(
    name='cnn', features=features, convs_per_stage=len(maps[0]), **_head(behind, architecture)
  )


def width_name(width: int) -> str:
  """2000 -> `2k`, 500 -> `500`."""
  return f'{width // 1000}k' if width % 1000 == 0 else str(width)


def wide_name(hidden: int, bottleneck: int) -> str:
  """The paper's notation of a wide layer: `250L-8k`, or `8k` without a bottleneck."""
  return (f'{bottleneck}L-' if bottleneck else '') + width_name(hidden)


def _dense(architecture: str, parts: list[str]) -> dict[str, Any]:
  if len(parts) > 1 and all(_is_width(part) for part in parts):
    return dict(name='dnn', hidden=tuple(_number(part, '', architecture) for part in parts))
  return dict(name='shallow', **_wide(parts, architecture))


def _speech(architecture: str, parts: list[str]) -> dict[str, Any]:
  convolution, _, *dense = parts
  hidden = tuple(_number(part, '', architecture) for part in dense)
  features = {} if convolution == 'c' else {'features': _number(convolution, 'c', architecture)}
  return dict(name='speech_cnn', **features, hidden=hidden)


def _wide(parts: list[str], architecture: str) -> dict[str, int]:
  if len(parts) > 2:
    raise _error(architecture)
  bottleneck = _number(parts[0], 'L', architecture) if len(parts) == 2 else 0
  return dict(hidden=_number(parts[-1], '', architecture), bottleneck=bottleneck)


def _head(parts: list[str], architecture: str) -> dict[str, Any]:
  """`lc` layers, then `fc` ones; a bare `fc` is the output layer, which every net has."""
  local = [part for part in parts if part.endswith('lc')]
  dense = [part for part in parts if part.endswith('fc') and part != 'fc']
  if local + dense + ['fc'] * parts.count('fc') != parts:
    raise _error(architecture)
  return dict(
    local=tuple(_number(part, 'lc', architecture) for part in local),
    dense=tuple(_number(part, 'fc', architecture) for part in dense),
  )


def _is_width(part: str) -> bool:
  return re.fullmatch(r'\d+k?', part) is not None


def _number(part: str, unit: str, architecture: str) -> int:
  match = re.fullmatch(rf'(\d+)(k?){unit}', part)
  if match is None:
    raise _error(architecture)
  return int(match[1]) * (1000 if match[2] else 1)


def _error(architecture: str) -> ValueError:
  return ValueError(
    f'{architecture!r} is no architecture of this notation, which writes '
    '128c-p-128c-p-1000fc, 64c-p-16lc, 2000-2000, 250L-8k, 128c-p-1200L-30k or c-p-2k-2k-2k'
  )
