"""Image nets: the deep CNN and the convolutional shallow student (Ba & Caruana 2014, section 4)."""

from collections.abc import Sequence

from flax import linen as nn
import jax

from shallow_jax.models import layers
from shallow_jax.models import notation
from shallow_jax.models import pooling


class CNN(nn.Module):
  """A deep CNN, `128c-p-128c-p-128c-p-1000fc` in Table 2.

  Each stage is a convolution ("same"), batch normalisation if asked for, ReLU and a 3x3 pool with
  stride 2, 'max' or 'stochastic'; `convs_per_stage` > 1 repeats the convolution before the pool.
  Behind the stages come `local` layers (`16lc`: a 3x3 convolution with filters of its own at each
  place) and dense ones (`1000fc`), all with dropout; without any, dropout is on the last pool.
  Maps images [batch, height, width, channels] to logits [batch, num_classes].
  """

  num_classes: int
  features: Sequence[int] = (64, 64, 64)
  kernel_size: int = 5
  convs_per_stage: int = 1
  pooling: str = 'max'
  local: Sequence[int] = ()
  dense: Sequence[int] = (1000,)
  batch_norm: bool = False
  dropout: float = 0.0
  output_init_scale: float = 1.0

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Returns the logits [batch, num_classes]; ValueError where x is no such batch or too small."""
    layers.check_images(x, len(self.features))
    for maps in self.features:
      for _ in range(self.convs_per_stage):
        x = self._convolution(x, maps, train=train)
      x = layers.hidden_units(self, pooling.Pool(self.pooling)(x, train=train))
    for i, maps in enumerate(self.local):
      x = nn.relu(layers.LocallyConnected(maps, name=f'ConvLocal_{i}')(x))
      x = layers.Dropout(self.dropout)(layers.hidden_units(self, x), train=train)
    x = layers.flatten(x)
    x = layers.dense_hidden(self, x, self.dense, self.dropout, train=train)
    if not (self.local or self.dense):
      x = layers.Dropout(self.dropout)(x, train=train)
    return layers.Output(self.num_classes, self.output_init_scale)(x)

  def _convolution(self, x: jax.Array, maps: int, *, train: bool) -> jax.Array:
    x = layers.Conv(maps, self.kernel_size, use_bias=not self.batch_norm)(x)
    if self.batch_norm:
      x = layers.batch_norm(train=train)(x)
    return layers.hidden_units(self, nn.relu(x))

  @property
  def architecture(self) -> str:
    """The paper's notation, such as `64c-p-64c-p-1000fc`."""
    stages = '-'.join((f'{maps}c-' * self.convs_per_stage) + 'p' for maps in self.features)
    local = [f'{maps}lc' for maps in self.local]
    dense = [f'{width}fc' for width in self.dense]
    return '-'.join([stages, *local, *dense] if local or dense else [stages, 'fc'])

  @property
  def depth(self) -> int:
    """The number of nonlinear layers on the longest path."""
    return len(self.features) * self.convs_per_stage + len(self.local) + len(self.dense)


class ShallowConv(nn.Module):
  """The convolutional shallow student, `128c-p-1200L-30k` in Table 2.

  One convolution and pool, a linear bottleneck and one wide layer of ReLU units. The pool's outputs
  are many and all positive, so that one direction of the bottleneck's weights is curved by far the
  most and bounds the learning rate. `batch_norm` before and behind V evens that out; both are
  affine in evaluation mode, so the net stays the paper's.
  Maps images [batch, height, width, channels] to logits [batch, num_classes].
  """

  num_classes: int
  features: int = 64
  kernel_size: int = 5
  hidden: int = 30_000
  bottleneck: int = 1200
  batch_norm: bool = True
  dropout: float = 0.0
  input_dropout: float = 0.0
  output_init_scale: float = 0.01

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Returns the logits [batch, num_classes]; ValueError where x is no such batch or too small."""
    layers.check_images(x, 1)
    x = layers.Dropout(self.input_dropout)(x, train=train)
    x = layers.hidden_units(self, nn.relu(layers.Conv(self.features, self.kernel_size)(x)))
    x = layers.hidden_units(self, pooling.max_pool(x))
    if self.batch_norm:
      x = layers.batch_norm(train=train)(x)
    x = layers.flatten(x)
    x = layers.WideHidden(self.hidden, self.bottleneck, self.batch_norm)(x, train=train)
    x = layers.Dropout(self.dropout)(x, train=train)
    return layers.Output(self.num_classes, self.output_init_scale)(x)

  @property
  def architecture(self) -> str:
    """The paper's notation, such as `64c-p-1200L-30k`."""
    return f'{self.features}c-p-' + notation.wide_name(self.hidden, self.bottleneck)

  @property
  def depth(self) -> int:
    """The number of nonlinear layers on the longest path."""
    return 2
