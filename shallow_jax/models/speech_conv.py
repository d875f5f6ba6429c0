"""The speech CNN of Table 1, `c-p-2k-2k-2k`: convolution and pooling along frequency."""

from collections.abc import Sequence
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp

from shallow_jax.models import layers
from shallow_jax.models import notation

_STREAMS = 3  # static, Δ, ΔΔ


class SpeechCNN(nn.Module):
  """A CNN over mel bands, `128c-p-2k-2k-2k`.

  Maps frames in context [batch, frames, 3 * (bands + 1)] to logits [batch, num_classes]. The last
  axis holds static features, Δ and ΔΔ, each the mel bands and then the energy. A filter spans
  `kernel_size` bands and the whole context: its input maps are frames x 3 (45 of 15 frames), and it
  moves along frequency alone. Its ReLU maps are pooled over `pool_size` bands; the energies, which
  have no place among the bands, join the pooled maps before the dense layers. This is the
  convolution with full weight sharing of Abdel-Hamid et al. ("Convolutional neural networks for
  speech recognition", IEEE/ACM TASLP 22:10, 2014; first at ICASSP 2012), as in Deng, Abdel-Hamid
  and Yu (ICASSP 2013), who pool over several sizes.

  The paper gives no sizes. The defaults take 12.6M weights and 12.3k hidden units, of which 2.0k
  are the pool's; Table 1 says ~13M and ~10k.

  """

  num_classes: int
  features: int = 128  # maps of the convolution
  kernel_size: int = 8  # bands under a filter, no padding
  pool_size: int = 3  # bands under a pool
  pool_stride: int = 2  # bands between pools; what is left at the upper end is dropped
  hidden: Sequence[int] = (2000, 2000, 2000)
  dropout: float = 0.0
  output_init_scale: float = 1.0

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Returns the logits; ValueError for another input or fewer bands than a filter and pool."""
    bands, energies = _bands_and_energies(x)
    needed = self.kernel_size + self.pool_size - 1
    if bands.shape[1] < needed:
      raise ValueError(
        f'{bands.shape[1]} bands are too few for a pool of {self.pool_size} over filters of '
        f'{self.kernel_size}; expected at least {needed}'
      )
    x = nn.relu(BandConv(self.features, self.kernel_size)(bands))
    x = layers.hidden_units(self, x)
    x = layers.hidden_units(self, max_pool_bands(x, self.pool_size, self.pool_stride))
    x = jnp.concatenate([layers.flatten(x), energies], axis=1)
    x = layers.dense_hidden(self, x, self.hidden, self.dropout, train=train)
    return layers.Output(self.num_classes, self.output_init_scale)(x)

  @property
  def architecture(self) -> str:
    """The paper's notation, such as `128c-p-2k-2k-2k`."""
    return '-'.join([f'{self.features}c-p', *map(notation.width_name, self.hidden)])

  @property
  def depth(self) -> int:
    """The number of nonlinear layers on the longest path."""
    return 1 + len(self.hidden)


class BandConv(nn.Module):
  """A convolution along the bands, without padding and without its ReLU.

  One matrix product over all windows: as fast as XLA's convolution on CPU, and unlike it as fast
  within a scan over steps.

  Parameters: kernel [kernel_size, maps, features], normal with He's variance (He et al. 2015), and
  bias [features], zero.
  """

  features: int
  kernel_size: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [batch, bands, maps] to [batch, bands - kernel_size + 1, features]."""
    shape = (self.kernel_size, x.shape[-1], self.features)
    kernel = self.param('kernel', layers.HE_NORMAL, shape)
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    places = x.shape[1] - self.kernel_size + 1
    windows = [x[:, i : i + places] for i in range(self.kernel_size)]
    y = jnp.concatenate(windows, axis=-1) @ kernel.reshape(-1, self.features)
    return y + bias[None, None, :]


def max_pool_bands(x: jax.Array, size: int, stride: int) -> jax.Array:
  """The maximum over windows of bands, without padding.

  Written as a maximum of slices: XLA's own gradient of a pool is slow on CPU. Takes [batch, bands,
  maps], at least `size` bands, to [batch, (bands - size) // stride + 1, maps].
  """
  end = x.shape[1] - size + 1
  return functools.reduce(jnp.maximum, (x[:, i : i + end : stride] for i in range(size)))


def _bands_and_energies(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """[batch, frames, 3 (bands + 1)] -> [batch, bands, 3 frames] and [batch, 3 frames]."""
  if x.ndim != 3 or x.shape[-1] % _STREAMS:
    raise ValueError(
      f'a speech CNN needs [batch, frames, {_STREAMS} x (bands and energy)], got {x.shape}'
    )
  frames, features = x.shape[1:]
  maps = x.reshape(-1, frames * _STREAMS, features // _STREAMS).transpose(0, 2, 1)
  return maps[:, :-1], maps[:, -1]
