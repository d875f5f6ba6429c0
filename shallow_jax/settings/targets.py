"""What a network's `targets` names: labels, a network's alignment of them, or its logits.

'labels', 'alignment:cnn', 'teacher', 'cnn/0'
"""

LABELS = 'labels'
ALIGNMENT = 'alignment:'


def are_labels(targets: str) -> bool:
  """Whether they are labels, the corpus's own or realigned, and not logits."""
  return targets == LABELS or aligner(targets) is not None


def aligner(targets: str) -> str | None:
  """The network that realigned the labels, None where they are not realigned."""
  return targets.removeprefix(ALIGNMENT) if targets.startswith(ALIGNMENT) else None
