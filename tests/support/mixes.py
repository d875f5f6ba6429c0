"""Who is mixed with whom."""

import numpy as np

from shallow_jax.data import views as views_lib


def all_offsets(mix, num_views):
  """The offsets of a set's partners in each of its views, [examples, views]."""
  views = [np.full(len(mix), view, np.int32) for view in range(num_views)]
  return np.stack([views_lib.partner_offsets(mix, view) for view in views], axis=1)
