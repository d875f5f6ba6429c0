"""The layout of a workdir: the name of every file and folder in it, and no other file's business.

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

The records among them (REMEDIES) are sealed by storage.write_sealed_json: they hold a hash of
themselves, which storage.read_record checks.
"""

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

# By record what to do where it was changed or damaged.
REMEDIES = {
  CONFIG: 'delete it; run writes it anew',
  NOTES: 'delete {folder}; run writes it anew',
  FINGERPRINT: 'delete {folder} to begin it anew',
  SEARCH: 'delete {folder} to train it anew',
  TRAINED: 'delete {folder} to train it anew',
  RESULT: 'delete it to evaluate again',
  RESULTS: 'delete it; report writes it anew',
}


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
