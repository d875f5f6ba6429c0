"""What the configs on speech share: how their nets are trained, whichever nets they are."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import ml_collections


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How long and on what terms each net of a config is trained; ours, the paper gives none."""

  seeds: int
  cnn_seeds: int  # of each filter size
  dropout: float
  input_dropout: float
  batch_size: int
  epoch: int  # steps
  epochs: int
  steps_per_call: int
  shard_rows: int

  @property
  def dropouts(self) -> dict[str, float]:
    """The arguments of a net that has dropout on its inputs too."""
    return dict(dropout=self.dropout, input_dropout=self.input_dropout)

  def trained(self, label: str, model: Mapping[str, Any], rates: Sequence[float]) -> dict[str, Any]:
    """An entry of `networks` that tries these learning rates."""
    return dict(
      label=label,
      model=dict(model),
      seeds=self.seeds,
      search=dict(optimizer=dict(learning_rate=tuple(rates))),
      optimizer=dict(warmup_steps=self.epoch),
      batch_size=self.batch_size,
      num_steps=self.epochs * self.epoch,
      steps_per_call=self.steps_per_call,
      evaluate_every_steps=self.epoch,
      checkpoint_every_steps=self.epoch,
    )


FULL = Recipe(
  seeds=3,
  cnn_seeds=3,
  dropout=0.5,
  input_dropout=0.2,
  batch_size=512,
  epoch=2200,  # TIMIT's 1,124,823 frames
  epochs=15,
  steps_per_call=10,
  shard_rows=65_536,
)
SAMPLE = Recipe(
  seeds=1,
  cnn_seeds=1,
  dropout=0.3,
  input_dropout=0.1,
  batch_size=128,
  epoch=225,  # about 28,800 frames
  epochs=15,
  steps_per_call=25,
  shard_rows=8192,
)
SMOKE = dataclasses.replace(
  SAMPLE, batch_size=32, epoch=30, epochs=2, steps_per_call=10, shard_rows=256
)


def smoke(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """A few steps on a few utterances, one learning rate."""
  config.data.max_utterances = 8
  config.logits.batch_size = 64
  config.evaluation.decoding.update(acoustic=(0.3, 1.0), lm=(1.0,), insertion=(0.0,))
  for entry in config.networks.values():
    entry.num_steps = min(entry.num_steps, SMOKE.epochs * SMOKE.epoch)
    if entry.search:
      entry.optimizer.learning_rate = entry.search.optimizer.learning_rate[0]
      entry.search = ml_collections.ConfigDict()
  return config
