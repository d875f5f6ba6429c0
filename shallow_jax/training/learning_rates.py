"""Learning rates that nets on speech try: of shallow ones the largest stable rate falls as 1 / H.

From 300 steps on the TIMIT sample (500 hidden units, without and with a bottleneck of rank 32): at
three to four times the larger of two rates a net diverges. How the bound goes with the rank is an
estimate, and a generous one: a mimic of 4,000 units diverges at the larger rate.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

DEEP_ON_SPEECH = (0.01, 0.03)  # 0.1 does not learn
SMALLEST = 500  # hidden units


@dataclasses.dataclass(frozen=True)
class Shallow:
  """Rates that fall with the width, but not without limit to narrow nets.

  Below `SMALLEST` units, and below `by_rank` / rank with a bottleneck, other layers bound them.

  Attributes:
    per_unit: the rates times the hidden units.
    by_rank: of a net with a bottleneck.
  """

  per_unit: tuple[float, ...]
  by_rank: float

  def of(self, model: Mapping[str, Any]) -> tuple[float, ...]:
    """The rates of a config's `model`, with `hidden` and perhaps `bottleneck`."""
    rank = model.get('bottleneck', 0)
    units = max(model['hidden'], SMALLEST, self.by_rank / rank if rank else 0)
    return tuple(rate / units for rate in self.per_unit)


LABELS_ON_SPEECH = Shallow((6.0, 20.0), by_rank=64_000)
L2_ON_SPEECH = Shallow((3.0, 10.0), by_rank=320_000)
