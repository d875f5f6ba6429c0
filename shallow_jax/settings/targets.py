"""What a network's `targets` names: labels, a network's alignment of them, or its logits.

'labels', 'alignment:cnn', 'teacher', 'cnn/0'
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

LABELS = 'labels'
ALIGNMENT = 'alignment:'


class Target(NamedTuple):
  """A network whose logits are targets; `seed` where it is one of its seeds that all learn from."""

  network: str
  seed: int | None


def target(entry: Mapping[str, Any]) -> Target | None:
  """The network whose logits an entry learns from, None for labels (after `graph.check_names`)."""
  if are_labels(entry['targets']):
    return None
  name, _, seed = entry['targets'].partition('/')
  return Target(name, int(seed) if seed else None)


def are_labels(targets: str) -> bool:
  """Whether they are labels, the corpus's own or realigned, and not logits."""
  return targets == LABELS or aligner(targets) is not None


def aligner(targets: str) -> str | None:
  """The network that realigned the labels, None where they are not realigned."""
  return targets.removeprefix(ALIGNMENT) if targets.startswith(ALIGNMENT) else None
