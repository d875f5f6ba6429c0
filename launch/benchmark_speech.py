#!/usr/bin/env python3
"""How long do features and decoding take, and how much memory?

  python launch/benchmark_speech.py --config=configs/timit_table1.py \
      --config.data.data_dir=DIR --output=speech.json

The features of the whole corpus are computed anew, not taken from the cache. Then the test set is
decoded without a beam from scores drawn by chance, by one setting of the scales: compiled once,
then the median of some rounds. `python tests/made_up/timit_tree.py DIR` makes a corpus of
TIMIT's size to try it on. CPU seconds are those of all threads.
"""

from collections.abc import Callable
import json
import pathlib
import resource
import statistics
import sys
import tempfile
import time
from typing import Any

from absl import app
from absl import flags
from ml_collections import config_flags
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # a checkout need not be installed

from shallow_jax import data as data_lib
from shallow_jax.data import dataset as dataset_lib
from shallow_jax.runtime import host
from shallow_jax.settings import defaults
from shallow_jax.speech import recognise
from shallow_jax.speech import viterbi

_CONFIG = config_flags.DEFINE_config_file('config', None, 'a config file of speech, with :variant')
_ROUNDS = flags.DEFINE_integer('rounds', 5, 'of decoding')
_OUTPUT = flags.DEFINE_string('output', '', 'a JSON file; empty: only print')

_SCALES = viterbi.Scales(acoustic=0.5, lm=2.0, insertion=0.0)


def main(argv: list[str]) -> None:
  """Measures, prints and writes."""
  del argv
  config = defaults.plain(defaults.complete(_CONFIG.value))
  with tempfile.TemporaryDirectory() as cache:
    dataset, features = _timed(lambda: data_lib.load(dict(config['data'], cache_dir=cache)))
  found = {
    'provenance': host.provenance(),
    'frames': {name: len(split) for name, split in dataset.splits.items()},
    'features': {**features, 'peak_gb': _peak_gb()},
    'decoding': {**_decoding(dataset), 'peak_gb': _peak_gb()},
  }
  print(_shown(found), flush=True)
  if _OUTPUT.value:
    pathlib.Path(_OUTPUT.value).write_text(json.dumps(found, indent=2) + '\n')


def _decoding(dataset: dataset_lib.Dataset) -> dict[str, Any]:
  """Of the test set, from scores that are drawn by chance."""
  assert dataset.recognition is not None
  model = recognise.estimate(dataset.recognition, dataset.splits['train'].arrays['label'])
  shape = (len(dataset.splits['test']), len(dataset.class_names))
  scores = recognise.log_posteriors(np.random.default_rng(0).normal(size=shape))
  utterances = recognise.by_utterance(scores, dataset.recognition.utterances['test'].offsets)
  rounds = [
    _timed(lambda: viterbi.decode(utterances, model, [_SCALES]))[1]
    for _ in range(_ROUNDS.value + 1)  # the first compiles
  ]
  return {
    'frames': shape[0],
    'states': shape[1],
    'compiling_wall_seconds': rounds[0]['wall_seconds'],
    **{key: statistics.median(each[key] for each in rounds[1:]) for key in rounds[0]},
  }


def _timed(call: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
  wall, cpu = time.perf_counter(), time.process_time()
  found = call()
  return found, {
    'wall_seconds': time.perf_counter() - wall,
    'cpu_seconds': time.process_time() - cpu,
  }


def _peak_gb() -> float:
  """Of the process so far, JAX and all."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _shown(found: dict[str, Any]) -> str:
  features, decoded = found['features'], found['decoding']
  return (
    f'features of {sum(found["frames"].values()):,} frames: {features["wall_seconds"]:.1f} s '
    f'({features["cpu_seconds"]:.1f} CPU s), peak {features["peak_gb"]:.2f} GB\n'
    f'decoding of {decoded["frames"]:,} frames, {decoded["states"]} states: '
    f'{decoded["wall_seconds"]:.2f} s ({decoded["cpu_seconds"]:.2f} CPU s), '
    f'compiling {decoded["compiling_wall_seconds"]:.1f} s'
  )


if __name__ == '__main__':
  app.run(main)
