"""Dense nets: the deep DNN and the wide shallow student (Ba & Caruana 2014, sections 2 and 3)."""

from collections.abc import Sequence

from flax import linen as nn
import jax

from shallow_jax.models import layers
from shallow_jax.models import notation


class DNN(nn.Module):
  """A deep net of fully connected ReLU layers, `2k-2k-2k` in Table 1.

  Maps [batch, ...] to logits [batch, num_classes]; all but the first axis are flattened.
  """

  num_classes: int
  hidden: Sequence[int] = (2000, 2000)
  dropout: float = 0.0
  input_dropout: float = 0.0
  output_init_scale: float = 1.0

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Returns the logits [batch, num_classes]."""
    x = layers.flatten(x)
    x = layers.Dropout(self.input_dropout)(x, train=train)
    x = layers.dense_hidden(self, x, self.hidden, self.dropout, train=train)
    return layers.Output(self.num_classes, self.output_init_scale)(x)

  @property
  def architecture(self) -> str:
    """The paper's notation, such as `2k-2k-2k`."""
    return '-'.join(notation.width_name(width) for width in self.hidden)

  @property
  def depth(self) -> int:
    """The number of nonlinear layers on the longest path."""
    return len(self.hidden)


class Shallow(nn.Module):
  """One hidden layer of ReLU units, `250L-8k` with and `8k` without the linear bottleneck.

  Maps [batch, ...] to logits [batch, num_classes]. With `bottleneck` k > 0 the first layer is
  factorised, W ≈ U V with rank k (section 3.2), which takes k (H + D) weights instead of H D.
  `batch_norm` normalises the bottleneck in training; it is affine in evaluation, and the net the
  paper's.
  """

  num_classes: int
  hidden: int = 2000
  bottleneck: int = 0
  batch_norm: bool = False
  dropout: float = 0.0
  input_dropout: float = 0.0
  output_init_scale: float = 0.01

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Returns the logits [batch, num_classes]."""
    x = layers.flatten(x)
    x = layers.Dropout(self.input_dropout)(x, train=train)
    x = layers.WideHidden(self.hidden, self.bottleneck, self.batch_norm)(x, train=train)
    x = layers.Dropout(self.dropout)(x, train=train)
    return layers.Output(self.num_classes, self.output_init_scale)(x)

  @property
  def architecture(self) -> str:
    """The paper's notation, such as `250L-8k`."""
    return notation.wide_name(self.hidden, self.bottleneck)

  @property
  def depth(self) -> int:
    """The number of nonlinear layers on the longest path."""
    return 1
