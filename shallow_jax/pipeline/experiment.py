"""An experiment in its workdir (its layout: shallow_jax/runtime/workdir.py)."""

from collections.abc import Mapping
import dataclasses
import pathlib
from typing import Any

from flax import linen as nn

from shallow_jax import models
from shallow_jax.data import dataset as dataset_lib
from shallow_jax.logits import predict
from shallow_jax.pipeline import graph
from shallow_jax.runtime import errors
from shallow_jax.runtime import run_guard
from shallow_jax.runtime import storage
from shallow_jax.runtime import workdir as workdir_lib

Member = tuple[str, int]  # a network and one of its seeds


class ExperimentError(errors.ExpectedError, RuntimeError):
  """A workdir that does not hold what a stage needs; its message is one line."""


@dataclasses.dataclass(frozen=True)
class Experiment:
  """An experiment that was checked and is ready for its stages.

  Attributes:
    config: complete, as plain dicts.
    fingerprints: by network, all that its weights depend on (graph.fingerprint).
    stop: set when somebody asks the run to stop.
    nets: what trained.load_members restored last, by folder and hash of the weights.
    verified: the stores that teacher.targets found whole, by folder and hashes of the weights.
    won: the settings of the trial that won, by network, once its search is over.
  """

  config: Mapping[str, Any]
  workdir: pathlib.Path
  dataset: dataset_lib.Dataset
  fingerprints: Mapping[str, Mapping[str, Any]]
  stop: run_guard.StopRequest
  nets: dict[tuple[pathlib.Path, str], predict.Member] = dataclasses.field(default_factory=dict)
  verified: set[tuple[pathlib.Path, tuple[str, ...]]] = dataclasses.field(default_factory=set)
  won: dict[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

  @property
  def networks(self) -> graph.Networks:
    """The entries by name; once a search is over, with the settings of the trial that won."""
    return {name: self._searched(name, entry) for name, entry in self.config['networks'].items()}

  def _searched(self, network: str, entry: Mapping[str, Any]) -> Mapping[str, Any]:
    path = self.folder(network) / workdir_lib.SEARCH
    if entry['search'] and network not in self.won and path.exists():
      search = storage.read_record(path)
      self.won[network] = search['trials'][search['chosen']]['settings']
    return graph.with_trial(entry, self.won.get(network, {}))

  def folder(self, network: str, seed: int | None = None) -> pathlib.Path:
    """The folder of a network, or of one of its seeds."""
    folder = self.workdir / network
    return folder if seed is None else folder / workdir_lib.seed(seed)

  def module(self, network: str) -> nn.Module:
    """A network's net."""
    return models.build(self.networks[network]['model'], len(self.dataset.class_names))

  def members(self, network: str) -> list[Member]:
    """The (network, seed) pairs whose logits an ensemble averages; a model's own seeds."""
    entry = self.networks[network]
    return [
      (name, seed)
      for name in entry['ensemble'] or [network]
      for seed in range(self.networks[name]['seeds'])
    ]
