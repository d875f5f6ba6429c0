"""Curves of training, from the metrics.jsonl that each seed leaves; they are only drawn."""

from collections.abc import Mapping, Sequence
import json
import pathlib
from typing import Any

import numpy as np

from shallow_jax.runtime import storage
from shallow_jax.runtime import workdir as workdir_lib

Curve = tuple[np.ndarray, np.ndarray]


def read(
  folders: Sequence[pathlib.Path],
  seeds: Sequence[int],
  kind: str = 'validation',
  value: str = 'error',
) -> Curve | None:
  """Steps [evaluations] and values [seeds, evaluations] of a network; None if it has none.

  A seed that stopped early keeps its last value; one that diverged is left out.

  Args:
    folders: of the network, one a split.
    seeds: of its result: a folder may hold more, of a config of before.
    kind: `validation` or `train`.
    value: `error`, in per cent, of validation; `loss` of either.
  """
  found = []
  for path in _metric_files(folders, seeds):
    lines = _lines(path)
    by_step = {line['step']: line[value] for line in lines if line['kind'] == kind}
    if by_step and not any('nonfinite' in line for line in lines):
      found.append(by_step)
  if not found:
    return None
  steps = np.array(sorted({step for each in found for step in each}))
  return steps, np.stack([_at(each, steps) for each in found])


def _at(by_step: Mapping[int, float], steps: np.ndarray) -> np.ndarray:
  """The last known value at each step, NaN before the first."""
  known = np.array(sorted(by_step))
  values = np.array([float('nan'), *(by_step[step] for step in known.tolist())])
  return values[np.searchsorted(known, steps, side='right')]


def seconds_per_step(folders: Sequence[pathlib.Path], seeds: Sequence[int]) -> float | None:
  """The mean over a network's finished seeds, compiling and evaluating included."""
  found = []
  for path in _metric_files(folders, seeds):
    trained, lines = path.parent / workdir_lib.TRAINED, _lines(path)
    if lines and trained.exists():
      found.append(storage.read_record(trained)['wall_seconds'] / lines[-1]['step'])
  return float(np.mean(found)) if found else None


def _metric_files(folders: Sequence[pathlib.Path], seeds: Sequence[int]) -> list[pathlib.Path]:
  paths = [folder / workdir_lib.seed(s) / workdir_lib.METRICS for folder in folders for s in seeds]
  return [path for path in paths if path.exists()]


def _lines(path: pathlib.Path) -> list[dict[str, Any]]:
  """The records; what a power cut left of a last line is no record yet."""
  *lines, _ = path.read_text().split('\n')
  return [json.loads(line) for line in lines]
