"""Every experiment builds, and its smoke variant learns something."""

import math
import pkgutil

import pytest
from support import shipped

from shallow_jax import models
from shallow_jax.models import size as size_lib
from shallow_jax.pipeline import graph
from shallow_jax.pipeline import run as run_lib
from shallow_jax.settings import defaults

NAMES = [module.name for module in pkgutil.iter_modules([str(shipped.CONFIGS)])]
LARGE = ('cifar10_claims', 'cifar10_table2')  # many networks, seconds each
ON_SPEECH = ('timit_table1', 'timit_figures')  # test_timit_configs.py runs these
INPUT_SHAPES = {
  'digits': (8, 8, 1),
  'cifar10': (32, 32, 3),
  'cifar100': (32, 32, 3),
  **dict.fromkeys(('timit', 'timit_sample', 'speech'), (15, 123)),
}


@pytest.mark.parametrize('name', NAMES)
def test_every_variant_builds(name):
  module = shipped.load(name)
  for variant in ('', *module.VARIANTS):
    config = defaults.plain(defaults.complete(module.get_config(variant)))
    graph.check_names(config['networks'])
    for entry in config['networks'].values():
      if entry['model'] is not None:
        size = size_lib.size(models.build(entry['model'], 10), INPUT_SHAPES[config['data']['name']])
        assert size['parameters']['weights'] > 0


@pytest.mark.parametrize(
  'name',
  [
    pytest.param(name, marks=pytest.mark.slow if name in LARGE else ())
    for name in NAMES
    if name not in ON_SPEECH
  ],
)
def test_the_smoke_variant_learns(name, tmp_path, cifar_folder):
  """Each network's test error is below chance by 4 standard errors."""
  config = shipped.load(name).get_config('smoke')
  if 'data_dir' in config.data:
    config.data.data_dir = str(cifar_folder)
  results = run_lib.run(config, tmp_path)
  data = results['data']
  assert data is not None
  for network, entry in results['networks'].items():
    error = entry['metrics']['test']['error']['mean']
    assert error < 90 - 400 * math.sqrt(0.1 * 0.9 / 100), network


def test_an_unknown_variant_is_refused():
  with pytest.raises(defaults.ConfigError, match="did you mean 'smoke'"):
    shipped.load('digits').get_config('smok')
