"""Another training of a finished seed that came to other weights, for tests of who notices."""

import jax

from shallow_jax.pipeline import trained
from shallow_jax.training import train


def put(experiment, network, seed, factor=1.01):
  """Replaces a seed's weights by so many times them, and its record by that of a training to it."""
  folder = experiment.folder(network, seed)
  record = trained.read_trained(folder)
  weights = trained.load_member(experiment, network, seed).variables
  weights = jax.tree.map(lambda leaf: factor * leaf, weights)
  outcome = train.Outcome(weights, record['step'], record['validation'], False, 1.0, 1.0)
  trained.save_trained(
    folder,
    outcome,
    trial=record['trial'],
    target_weights=record['target_weights'],
    init_weights=record['init_weights'],
  )
