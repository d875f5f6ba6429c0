"""The layout of a workdir: the name of every file and folder in it, and how its records are kept.

<workdir>/config.json, lock
<workdir>/split-<n>/                   a workdir for each of an experiment's `splits`
<workdir>/data/                        fingerprint.json, notes.json, preprocessing.npz,
                                       test_labels.npy
<workdir>/report/                      results.json, report.md, figures/
<workdir>/<network>/fingerprint.json   the settings that it was begun under
<network>/trial-<i>/, search.json      its search; the best trial becomes seed 0
<network>/seed-<i>/                    metrics.jsonl, TensorBoard events, checkpoints/ until it is
                                       trained, then weights/ and (last) trained.json
<network>/seed-<i>/logits/<set>/       <set>-<n>-views/ of several, and with a hash where they are
                                       made as the student says; an ensemble's under <network>/
<network>/alignment/                   <set>.npy, manifest.json: labels that it realigned
<network>/predictions.npy              of speech phone_errors.npz
<network>/result.json                  written last: the network is done

The JSON files but for the lock hold a hash of themselves, which is checked when they are read.
"""

from collections.abc import Mapping
import pathlib
from typing import Any

from shallow_jax.runtime import storage

CONFIG = 'config.json'
LOCK = 'lock'

DATA = 'data'
NOTES = 'notes.json'
PREPROCESSING = 'preprocessing.npz'
TEST_LABELS = 'test_labels.npy'

REPORT = 'report'
RESULTS = 'results.json'
REPORT_TEXT = 'report.md'
FIGURES = 'figures'

FINGERPRINT = 'fingerprint.json'  # of the data and of each network
SEARCH = 'search.json'
PREDICTIONS = 'predictions.npy'
PHONE_ERRORS = 'phone_errors.npz'
RESULT = 'result.json'
ALIGNMENT = 'alignment'
MANIFEST = 'manifest.json'

METRICS = 'metrics.jsonl'
CHECKPOINTS = 'checkpoints'
WEIGHTS = 'weights'
TRAINED = 'trained.json'
LOGITS = 'logits'

EVERY_SEED = 'seed-*'  # a pattern for glob

# What to do about a record that was changed or damaged.
_REMEDIES = {
  CONFIG: 'delete it; run writes it anew',
  NOTES: 'delete {folder}; run writes it anew',
  FINGERPRINT: 'delete {folder} to begin it anew',
  SEARCH: 'delete {folder} to train it anew',
  TRAINED: 'delete {folder} to train it anew',
  RESULT: 'delete it to evaluate again',
  RESULTS: 'delete it; report writes it anew',
}


def write_record(path: pathlib.Path, value: Mapping[str, Any]) -> None:
  """Writes one of a workdir's JSON files, with a hash of its content."""
  storage.write_sealed_json(path, value)


def read_record(path: pathlib.Path) -> dict[str, Any]:
  """Reads what `write_record` wrote, or an older run without a hash.

  Raises:
    storage.StorageError: the file can't be read, or is not as it was written; says what to do.
  """
  try:
    return storage.read_sealed_json(path, or_never_sealed=True)
  except storage.StorageError as error:
    if not path.exists():
      raise
    remedy = _REMEDIES[path.name].format(folder=path.parent)
    raise storage.StorageError(f'{error}; {remedy}') from error


def split(number: int) -> str:
  """The workdir of one of `splits`."""
  return f'split-{number}'


def seed(number: int) -> str:
  """A network's seed."""
  return f'seed-{number}'


def trial(number: int) -> str:
  """A trial of a network's search."""
  return f'trial-{number}'


def logit_set(name: str, views: int, other_views: str = '') -> str:
  """A store of logits over a set, within LOGITS; views made otherwise than usual have a hash."""
  parts = [name, *([f'{views}-views'] if views > 1 else []), *filter(None, [other_views])]
  return '-'.join(parts)
