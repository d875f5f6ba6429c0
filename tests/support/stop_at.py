"""A stop request that comes by itself, for tests of trainings that are interrupted."""

import signal

from shallow_jax.runtime import run_guard


class StopAt(run_guard.StopRequest):
  """Asks to stop when it is looked at for the n-th time: as a signal in that call would."""

  def __init__(self, calls):
    super().__init__()
    self.calls = calls

  @property
  def requested(self):
    self.calls -= 1
    if self.calls <= 0:
      self.request(signal.SIGTERM)
    return self.signum is not None
