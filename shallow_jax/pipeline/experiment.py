"""An experiment in its workdir (its layout: shallow_jax/runtime/workdir.py)."""

from collections.abc import Mapping
import dataclasses
import pathlib
from typing import Any

from shallow_jax.data import dataset as dataset_lib
from shallow_jax.pipeline import graph
from shallow_jax.runtime import run_guard
from shallow_jax.runtime import workdir as workdir_lib


class ExperimentError(RuntimeError):
  """A workdir that does not hold what a stage needs; its message is one line."""


@dataclasses.dataclass(frozen=True)
class Experiment:
  """An experiment that was checked and is ready for its stages.

  Attributes:
    config: complete, as plain dicts.
    workdir: of this experiment.
    dataset: loaded.
    fingerprints: by network, all that its weights depend on (graph.fingerprint).
    stop: set when somebody asks the run to stop.
  """

  config: Mapping[str, Any]
  workdir: pathlib.Path
  dataset: dataset_lib.Dataset
  fingerprints: Mapping[str, Mapping[str, Any]]
  stop: run_guard.StopRequest

  @property
  def networks(self) -> graph.Networks:
    """The entries by name."""
    return self.config['networks']

  def folder(self, network: str, seed: int | None = None) -> pathlib.Path:
    """The folder of a network, or of one of its seeds."""
    folder = self.workdir / network
    return folder if seed is None else folder / workdir_lib.seed(seed)

  def members(self, network: str) -> list[tuple[str, int]]:
    """The (network, seed) pairs whose logits an ensemble averages; a model's own seeds."""
    entry = self.networks[network]
    return [
      (name, seed)
      for name in entry['ensemble'] or [network]
      for seed in range(self.networks[name]['seeds'])
    ]
