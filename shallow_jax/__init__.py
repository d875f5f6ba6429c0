"""Shallow students trained on the logits of deep teachers, in JAX.

The way in; all else is internal, and its place may change:

  import shallow_jax

  config = shallow_jax.experiment(  # what differs from the defaults, shallow_jax/settings/keys.py
    data=dict(name='digits'),
    networks=dict(
      cnn=dict(model=dict(name='cnn')),
      mimic=dict(
        model=dict(name='shallow', hidden=2000), targets='cnn', loss=dict(name='logit_l2')
      ),
    ),
  )
  results = shallow_jax.run(config, 'runs/digits')  # only=['cnn'], stage='train': a part of it
  results['networks']['mimic']['metrics']['test']['error']['mean']  # in per cent

  # In a config file, which may have variants: --config=my.py:full,smoke
  chosen = shallow_jax.variants(variant, ('full', 'smoke'))
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = '0.1.0'

# Imported when it is first asked for: who only wants `run` waits for no JAX before.
_PLACES = {
  'experiment': 'shallow_jax.settings.defaults',
  'run': 'shallow_jax.pipeline.run',
  'variants': 'shallow_jax.settings.defaults',
}

if TYPE_CHECKING:
  from shallow_jax.pipeline.run import run as run
  from shallow_jax.settings.defaults import experiment as experiment
  from shallow_jax.settings.defaults import variants as variants
else:
  __all__ = list(_PLACES)

  def __getattr__(name: str) -> Any:
    if name not in _PLACES:
      raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(_PLACES[name]), name)

  def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
