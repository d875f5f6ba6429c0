"""What a key of a config decides, declared beside its default (keys.py).

weights       changes weights: it is in the fingerprint, or changes the data's
figures       changes how a finished network is evaluated: it is evaluated again
presentation  is shown, and decides nothing
operation     how and where it is computed: fingerprint and results stay
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

CLASSES = ('weights', 'figures', 'presentation', 'operation')


class _Marked(NamedTuple):
  default: Any
  key_class: str


def weights(default: Any) -> Any:
  """The default of a key that changes weights, among others."""
  return _Marked(default, 'weights')


def figures(default: Any) -> Any:
  """The default of a key that changes how a network is evaluated, among others."""
  return _Marked(default, 'figures')


def presentation(default: Any) -> Any:
  """The default of a key that is only shown, among others."""
  return _Marked(default, 'presentation')


def operation(default: Any) -> Any:
  """The default of a key that changes no result, among others."""
  return _Marked(default, 'operation')


class Keys(dict[str, Any]):
  """Defaults by key, a plain dict to all who read them, and the class of each.

  `Keys('weights', a=1, b=figures(2))`: all are of the class that is named first, but for those that
  are marked. A nested dict is of one class unless it is of Keys itself.
  """

  def __init__(self, key_class: str, base: 'Keys | None' = None, **defaults: Any) -> None:
    """Takes `base`'s keys with their classes, and adds `defaults`."""
    marked = {
      key: value if isinstance(value, _Marked) else _Marked(value, key_class)
      for key, value in defaults.items()
    }
    super().__init__(base or {})
    self.classes: dict[str, str] = dict(base.classes) if base else {}
    self.update({key: value.default for key, value in marked.items()})
    self.classes |= {key: value.key_class for key, value in marked.items()}

  def of_class(self, key_class: str) -> tuple[str, ...]:
    """The dotted keys of a class: ('evaluation.latency_batches', ...)."""
    return tuple(key for key, found, _ in self.leaves() if found == key_class)

  def leaves(self) -> Iterator[tuple[str, str, Any]]:
    """Dotted key, class and default of every key at the end of a path."""
    for key, value in self.items():
      yield from _leaves(key, value, self.classes[key])


def _leaves(name: str, value: Any, key_class: str) -> Iterator[tuple[str, str, Any]]:
  if isinstance(value, Keys):
    nested = value.leaves()
  elif isinstance(value, Mapping) and value:
    nested = Keys(key_class, **value).leaves()
  else:
    yield name, key_class, value
    return
  for key, found, default in nested:
    yield f'{name}.{key}', found, default
