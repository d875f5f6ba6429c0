"""Curves of training, read from the metrics.jsonl that each seed leaves."""

from collections.abc import Mapping, Sequence
import json
import pathlib
import statistics
from typing import Any

import numpy as np

from shallow_jax.runtime import storage
from shallow_jax.runtime import workdir as workdir_lib

Curve = tuple[np.ndarray, np.ndarray]


def read(
  folders: Sequence[pathlib.Path], kind: str = 'validation', value: str = 'error'
) -> Curve | None:
  """Steps [evaluations] and values [seeds, evaluations] of a network; None if it has none.

  A seed that stopped early keeps its last value; one that diverged is left out.

  Args:
    folders: of the network, one a split.
    kind: of the lines, `validation` or `train`.
    value: `error`, in per cent, of validation; `loss` of either.
  """
  found = [by_step for path in _paths(folders) if (by_step := _by_step(path, kind, value))]
  if not found:
    return None
  steps = sorted({step for by_step in found for step in by_step})
  rows = [[_last_at(by_step, step) for step in steps] for by_step in found]
  return np.array(steps), np.array(rows)


def seconds_per_step(folders: Sequence[pathlib.Path]) -> float | None:
  """The mean over a network's finished seeds, compiling and evaluating included."""
  seeds = [path for path in _paths(folders) if (path.parent / workdir_lib.TRAINED).exists()]
  seconds = [
    storage.read_json(path.parent / workdir_lib.TRAINED)['wall_seconds'] / lines[-1]['step']
    for path in seeds
    if (lines := _lines(path))
  ]
  return statistics.fmean(seconds) if seconds else None


def _paths(folders: Sequence[pathlib.Path]) -> list[pathlib.Path]:
  return [
    path
    for folder in folders
    for path in sorted(folder.glob(f'{workdir_lib.EVERY_SEED}/{workdir_lib.METRICS}'))
  ]


def _lines(path: pathlib.Path) -> list[dict[str, Any]]:
  return [json.loads(line) for line in path.read_text().splitlines()]


def _by_step(path: pathlib.Path, kind: str, value: str) -> dict[int, float]:
  """A value by step; empty if the seed diverged."""
  lines = _lines(path)
  if any('nonfinite' in line for line in lines):
    return {}
  return {line['step']: line[value] for line in lines if line['kind'] == kind}


def _last_at(by_step: Mapping[int, float], step: int) -> float:
  before = [known for known in by_step if known <= step]
  return by_step[max(before)] if before else float('nan')
