"""Result files of runs that never were, to report on."""

import json
import math

import numpy as np

from shallow_jax.runtime import storage
from shallow_jax.settings import defaults

CNN = dict(name='cnn', features=(8,), kernel_size=3, dense=(16,))
SHALLOW = dict(name='shallow', hidden=2000, bottleneck=32)

PAPER = dict(value=6.4, source='Table 9', parameters='~70k', hidden_units='~2k')

# Test errors by network and seed; the mimic's 2 against 4 on labels, 6 by cross-entropy, 1.
ERRORS = {
  'cnn': [2.0, 2.0],
  'teacher': [1.0],
  'shallow': [5.0, 6.0, 7.0],
  'shallow_l2': [3.0, 4.0, 5.0],
  'mimic_labelled': [2.0, 3.0, 4.0],
  'mimic': [1.0, 2.0, 3.0],
  'hard_labels_l2': [1.0, 1.5, 2.0],
}


def make_config(splits=(), more=(), **changes):
  """A complete config; `more` networks, and changes to its report."""
  networks = dict(
    cnn=dict(model=CNN, seeds=2, label='CNN'),
    teacher=dict(ensemble=('cnn',), label='ensemble of 2 CNNs'),
    shallow=dict(model=SHALLOW, seeds=3, paper=PAPER),
    shallow_l2=dict(model=SHALLOW, seeds=3, loss=dict(name='label_l2'), label='labels, L2'),
    mimic_labelled=mimic(),
    mimic=mimic(examples=('train', 'unlabelled')),
    hard_labels_l2=mimic(examples=('train', 'unlabelled'), loss=dict(name='hard_l2')),
  ) | dict(more)
  settings = dict(
    attribution=('shallow', 'shallow_l2', 'mimic_labelled', 'mimic', 'teacher'),
    headline='mimic',
    teacher='teacher',
  )
  config = dict(
    name='Toy',
    splits=splits,
    data=dict(name='digits'),
    networks=networks,
    report=settings | changes,
  )
  return defaults.plain(defaults.complete(config))


def mimic(**changes):
  entry = dict(model=SHALLOW, seeds=3, targets='teacher', loss=dict(name='logit_l2'))
  return entry | changes


def make_result(name, entry, errors, **changes):
  """A result.json as evaluate.evaluate writes it."""
  is_ensemble, is_student = bool(entry['ensemble']), entry['targets'] == 'teacher'
  finite = [error for error in errors if error is not None]
  mean = math.fsum(finite) / len(finite) if finite else None
  std = float(np.std(finite, ddof=1)) if len(finite) > 1 else None
  summary = {'mean': mean, 'std': std, 'values': errors}
  weights = 2_000 if name == 'cnn' else 4_000 if is_ensemble else 86_000
  trials = [
    {
      'settings': {'optimizer.learning_rate': rate},
      'status': 'trained',
      'collapsed': False,
      'validation': {'error': error, 'loss': 1.0},
      'step': 100,
      'wall_seconds': 2.0,
    }
    for rate, error in ((0.003, 7.0), (0.01, 4.0))
  ]
  return {
    'kind': 'ensemble' if is_ensemble else 'model',
    'label': 'as it was',
    'architecture': '8c-p-16fc' if name == 'cnn' else '2 x 8c-p-16fc' if is_ensemble else '32L-2k',
    'depth': 1 if weights == 86_000 else 2,
    'parameters': {'weights': weights, 'biases': 100},
    'hidden_units': 2032,
    'multiply_adds': weights,
    'bytes': 4 * (weights + 100),
    'targets': 'mean logits of cnn' if is_ensemble else entry['targets'],
    'loss': None if is_ensemble else entry['loss']['name'],
    'seeds': list(range(len(errors))),
    'metrics': {
      'validation': {'error': summary, 'per': None},
      'test': {'error': summary, 'per': None},
    },
    'fidelity': {'agreement': 97.0, 'logit_r2': 0.9, 'kl': 0.1} if is_student else None,
    'calibration_error': 1.5,
    'latency_ms': {'1': 0.12, '32': 0.5, '256': 2.25},
    'flags': {} if is_ensemble else {'collapsed': [], 'diverged': []},
    'search': None if is_ensemble or name == 'cnn' else {'chosen': 1, 'trials': trials},
    'paper': None,
    'provenance': {
      'device': '1 x cpu',
      'config_hash': 'ab' * 32,
      'commit': 'c' * 40,
      'command': '/somewhere/shallow_jax/main.py --config=configs/toy.py --workdir=runs/toy',
      'date': '2026-01-02',
      'wall_seconds': 10.0,
      'examples_per_second': None if is_ensemble else 5000.0,
      'versions': {'jax': '0.12.0'},
    },
    'weights': ['00' * 32 for _ in errors],
  } | changes


def write_run(config, folder, errors=ERRORS, changes=None):
  """Result files and curves of the networks in `errors`."""
  (folder / 'data').mkdir(parents=True)
  notes = {'source': 'a test', 'leaks_dropped': {'validation': 0, 'test': 2}}
  storage.write_json(folder / 'data' / 'notes.json', notes)
  counts = {'train': 400, 'test': 1000, 'unlabelled': 297}
  splits = {name: {'count': count} for name, count in counts.items()}
  described = {'name': 'digits', 'class_names': list('0123456789'), 'splits': splits}
  storage.write_json(folder / 'data' / 'fingerprint.json', described)
  for name, values in errors.items():
    result = make_result(name, config['networks'][name], values, **(changes or {}).get(name, {}))
    (folder / name).mkdir()
    storage.write_json(folder / name / 'result.json', result)
    for seed, value in enumerate(values if name != 'teacher' else []):
      write_curve(folder / name / f'seed-{seed}', value)


def write_curve(folder, final):
  folder.mkdir(parents=True)
  lines = []
  for step in (100, 200, 400):
    error = None if final is None else final + 1000 / step
    lines.append({'step': step, 'kind': 'train', 'loss': 100 / step})
    lines.append({'step': step, 'kind': 'validation', 'error': error, 'loss': 200 / step})
  if final is None:
    lines[-1]['nonfinite'] = True
  (folder / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
