"""Table 2's single-layer features: k-means centroids over an image, quadrant sums, linear scores.

Coates, Ng & Lee, AISTATS 2011, section 3, with 4000 features. Our paper says `4000c-p` and no more;
patches of 6x6 at stride 1 and sums over four quadrants are theirs.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp

from shallow_jax.models import layers

# Added to a patch's variance: 10 squared grey levels in Coates' code, here in units of inputs with
# variance 1 (63 grey levels in CIFAR-10).
CONTRAST_EPSILON = 0.0025

# Images whose distances are held at once: 12 MB each for 4000 features of 32x32 images.
_IMAGES_AT_ONCE = 4


class SingleLayer(nn.Module):
  """Linear scores of `TriangleFeatures`, `4000c-p` in Table 2.

  Its weights are not learned by gradient descent but fitted, by shallow_jax/training/kmeans_svm.py.
  Maps images [batch, height, width, channels] to scores [batch, num_classes].
  """

  num_classes: int
  features: int = 4000
  patch_size: int = 6

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Returns the scores [batch, num_classes]; they do not depend on `train`."""
    del train
    x = TriangleFeatures(self.features, self.patch_size, name='triangle')(x)
    return layers.Output(self.num_classes)(layers.hidden_units(self, x))

  @property
  def architecture(self) -> str:
    """The paper's notation, such as `4000c-p-svm`."""
    return f'{self.features}c-p-svm'

  @property
  def depth(self) -> int:
    """The number of nonlinear layers on the longest path."""
    return 1


class TriangleFeatures(nn.Module):
  """How near the patches of an image are to each centroid, summed over its four quadrants.

  Every patch (stride 1, no padding) is contrast-normalised and whitened to z. Feature k of z is
  max(0, mean_j d_j - d_k) with d_k = ‖z - c_k‖: the `triangle` activation, 0 for about half of the
  centroids.

  Parameters: whitening (a dense layer of D = patch_size² channels) and centroids [features, D].
  """

  features: int
  patch_size: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps images [batch, height, width, channels] to [batch, 4 * features].

    Raises:
      ValueError: x is no batch of images, or one of less than 2x2 patches.
    """
    if x.ndim != 4 or min(x.shape[1:3]) <= self.patch_size:
      raise ValueError(
        f'patches of {self.patch_size}x{self.patch_size} need images [height, width, channels] '
        f'that are larger, got {x.shape[1:]}'
      )
    z = normalise_contrast(patches(x, self.patch_size))
    z = nn.Dense(z.shape[-1], precision=jax.lax.Precision.HIGHEST, name='whitening')(z)
    shape = (self.features, z.shape[-1])
    centroids = self.param('centroids', nn.initializers.normal(1.0), shape)
    if self.is_initializing():  # for the count of hidden units
      layers.hidden_units(self, triangle(z, centroids))
    return jax.lax.map(
      lambda image: quadrant_sums(triangle(image, centroids)), z, batch_size=_IMAGES_AT_ONCE
    )


def patches(x: jax.Array, size: int) -> jax.Array:
  """All patches of images [batch, height, width, channels], by row, column and channel.

  [batch, height - size + 1, width - size + 1, size² channels].
  """
  rows, columns = (length - size + 1 for length in x.shape[1:3])
  shifted = [x[:, i : i + rows, j : j + columns] for i in range(size) for j in range(size)]
  return jnp.concatenate(shifted, axis=-1)


def normalise_contrast(patches: jax.Array) -> jax.Array:
  """Scales each patch [..., D] to mean 0 and nearly variance 1."""
  patches = patches - patches.mean(axis=-1, keepdims=True)
  return patches / jnp.sqrt(patches.var(axis=-1, keepdims=True) + CONTRAST_EPSILON)


def triangle(z: jax.Array, centroids: jax.Array) -> jax.Array:
  """max(0, mean of the distances to all centroids - distance to each), [..., D] -> [..., features].

  ‖z - c‖² is taken as ‖z‖² - 2 z·c + ‖c‖²: a matrix product, in full precision.
  """
  products = jnp.matmul(z, centroids.T, precision=jax.lax.Precision.HIGHEST)
  square = jnp.square(z).sum(axis=-1, keepdims=True)
  squares = jnp.square(centroids).sum(axis=-1).reshape(*[1] * (z.ndim - 1), -1)
  distances = jnp.sqrt(jnp.maximum(square - 2 * products + squares, 0))
  return nn.relu(distances.mean(axis=-1, keepdims=True) - distances)


def quadrant_sums(maps: jax.Array) -> jax.Array:
  """Sums maps [rows, columns, features] over the quadrants: [4 * features], row by row.

  Of an odd number of rows or columns the first half has one more.
  """
  rows, columns = ((length + 1) // 2 for length in maps.shape[:2])
  halves = [maps[:rows], maps[rows:]]
  quadrants = [part for half in halves for part in (half[:, :columns], half[:, columns:])]
  return jnp.concatenate([quadrant.sum(axis=(0, 1)) for quadrant in quadrants])
