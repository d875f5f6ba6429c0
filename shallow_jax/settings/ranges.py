"""The numbers that a key may have, by its name: one table for all of a config."""

from collections.abc import Mapping
import math
from typing import Any, NamedTuple

from shallow_jax.settings import values as values_lib


class Range(NamedTuple):
  """From `low` to `high`, both included unless they are `open_low` or `open_high`."""

  low: float = -math.inf
  high: float = math.inf
  open_low: bool = False
  open_high: bool = False
  whole: bool = False

  def holds(self, value: float) -> bool:
    """Whether a number lies in it; what is not finite never does."""
    above = value > self.low if self.open_low else value >= self.low
    below = value < self.high if self.open_high else value <= self.high
    return math.isfinite(value) and above and below and (type(value) is int or not self.whole)

  def __str__(self) -> str:
    if self.whole and math.isinf(self.high):
      return f'at least {self.low}' if self.low else '0 or more'
    if math.isinf(self.high):
      return f'more than {self.low}' if self.open_low else f'{self.low} or more'
    low = f'more than {self.low}' if self.open_low else f'{self.low}'
    return f'{low} to {"less than " if self.open_high else ""}{self.high}'


ANY = Range(-1e9, 1e9)
COUNT = Range(1, whole=True)
COUNT_OR_0 = Range(0, whole=True)
POSITIVE = Range(0, open_low=True)
NOT_NEGATIVE = Range(0)
SHARE = Range(0, 1)

RANGES = {
  # the experiment
  **dict.fromkeys(('shard_rows', 'batch_size', 'latency_batches'), COUNT),
  'model': COUNT,  # of parallel
  'splits': COUNT_OR_0,
  'acoustic': POSITIVE,
  'lm': NOT_NEGATIVE,
  'insertion': ANY,
  # a network
  **dict.fromkeys(('seeds', 'views', 'num_steps', 'steps_per_call', 'num_patches'), COUNT),
  **dict.fromkeys(('evaluate_every_steps', 'checkpoint_every_steps', 'plateau_evaluations'), COUNT),
  **dict.fromkeys(('stop_after_evaluations', 'warmup_steps'), COUNT_OR_0),
  **dict.fromkeys(('temperature', 'svm_c'), POSITIVE),
  **dict.fromkeys(('learning_rate', 'weight_decay', 'clip_norm'), NOT_NEGATIVE),
  **dict.fromkeys(('label_smoothing', 'label_weight', 'decay_at', 'decay_factor'), SHARE),
  'momentum': Range(0, 1, open_high=True),
  # a model
  **dict.fromkeys(('hidden', 'features', 'dense', 'local', 'kernel_size', 'patch_size'), COUNT),
  **dict.fromkeys(('convs_per_stage', 'pool_size', 'pool_stride'), COUNT),
  'bottleneck': COUNT_OR_0,
  'output_init_scale': NOT_NEGATIVE,
  **dict.fromkeys(('dropout', 'input_dropout'), SHARE),
  # the data
  **dict.fromkeys(('num_train', 'num_test'), COUNT),
  **dict.fromkeys(('num_validation', 'num_unlabelled', 'max_utterances', 'size'), COUNT_OR_0),
  **dict.fromkeys(('max_train', 'max_test', 'max_pool', 'crop_padding'), COUNT_OR_0),
  **dict.fromkeys(('split_seed', 'seed'), COUNT_OR_0),
  **dict.fromkeys(('near_duplicate_correlation', 'swap_probability'), SHARE),
  'crop_min_scale': Range(0, 1, open_low=True),
  **dict.fromkeys(('hue_shift', 'saturation_shift', 'saturation_scale'), NOT_NEGATIVE),
  **dict.fromkeys(('value_shift', 'value_scale', 'mixup_alpha'), NOT_NEGATIVE),
  **dict.fromkeys(('zca_epsilon', 'local_variance'), POSITIVE),
  'without_class': Range(-1, whole=True),
  'value': ANY,  # the paper's
}


def check(settings: Mapping[str, Any], where: str) -> None:
  """Refuses a number out of range anywhere in nested settings; a search is looked at by trial."""
  for key, value in settings.items():
    if isinstance(value, Mapping):
      if key != 'search':
        check(value, f'{where}.{key}')
    elif key in RANGES:
      _check_leaf(RANGES[key], value, f'{where}.{key}')


def _check_leaf(allowed: Range, value: Any, where: str) -> None:
  if isinstance(value, (tuple, list)):
    for each in value:
      _check_leaf(allowed, each, where)
  elif isinstance(value, bool) or not isinstance(value, (int, float)):
    if value is not None:
      raise values_lib.ConfigError(f'{where}: expected a number, not {value!r}')
  elif not allowed.holds(value):
    raise values_lib.ConfigError(f'{where}: expected {allowed}, not {value}')
