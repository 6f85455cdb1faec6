"""Erasing: one rectangle of zeros in an image.

Images are floating, [B, H, W, C]. Sides and positions are in pixels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Box(NamedTuple):
    """Rectangles, rows ``top <= y < bottom`` and columns ``left <= x < right``; each int32 [N]."""

    top: jax.Array
    bottom: jax.Array
    left: jax.Array
    right: jax.Array

    @property
    def area(self) -> jax.Array:
        """Pixels in each rectangle, int32 [N]."""
        return (self.bottom - self.top) * (self.right - self.left)

    def mask(self, height: int, width: int) -> jax.Array:
        """Which pixels of an image lie inside, bool [N, height, width, 1].

        >>> box = Box(*(jnp.array([edge]) for edge in (0, 1, 1, 3)))
        >>> print(box.mask(2, 4)[0, :, :, 0].astype(int))
        [[0 1 1 0]
         [0 0 0 0]]
        """
        top, bottom, left, right = (edge.reshape(-1, 1, 1, 1) for edge in self)
        y = jnp.arange(height, dtype=jnp.int32).reshape(1, -1, 1, 1)
        x = jnp.arange(width, dtype=jnp.int32).reshape(1, 1, -1, 1)
        return (top <= y) & (y < bottom) & (left <= x) & (x < right)


def coarse_dropout(
    key: jax.Array,
    images: jax.Array,
    *,
    hole_min: int = 4,
    hole_max: int = 8,
    probability: float = 0.3,
) -> jax.Array:
    """Set one rectangle of each image to 0.

    Drawn per image: the rectangle, see :func:`draw_holes`, and whether the image is touched at all.

    Args:
      key: random key.
      images: [B, H, W, C].
      hole_min: smallest side of the rectangle [pixels].
      hole_max: largest side of the rectangle [pixels].
      probability: of erasing in each image.

    Returns:
      Images of the same shape and dtype.

    Raises:
      ValueError: by :func:`draw_holes`.

    Reference: ``CoarseDropout`` of Albumentations, with the values that the original documents;
    DeVries and Taylor, Improved regularization of CNNs with cutout, arXiv:1708.04552.
    """
    touched_key, hole_key = jax.random.split(key)
    batch, height, width, _ = images.shape
    touched = jax.random.uniform(touched_key, (batch,), jnp.float32) < probability
    holes = draw_holes(
        hole_key, batch, height=height, width=width, hole_min=hole_min, hole_max=hole_max
    )
    erased = holes.mask(height, width) & touched.reshape(-1, 1, 1, 1)
    return jnp.where(erased, jnp.zeros((), images.dtype), images)


def draw_holes(
    key: jax.Array, count: int, *, height: int, width: int, hole_min: int, hole_max: int
) -> Box:
    """Rectangles that lie fully inside an image.

    Drawn per rectangle, all integer and uniform: both sides in [hole_min, hole_max], then the
    position among all that fit.

    Args:
      key: random key.
      count: how many.
      height: of the image [pixels].
      width: of the image [pixels].
      hole_min: smallest side [pixels].
      hole_max: largest side [pixels].

    Returns:
      ``count`` rectangles.

    Raises:
      ValueError: unless 1 <= hole_min <= hole_max <= height and width.
    """
    if not 1 <= hole_min <= hole_max <= min(height, width):
        raise ValueError(
            "holes need 1 <= hole_min <= hole_max <= the shorter side of the image "
            f"({min(height, width)}), not hole_min={hole_min}, hole_max={hole_max}"
        )
    y, x, h, w = jax.random.uniform(key, (4, count), jnp.float32)
    rows = hole_min + to_integer(h, hole_max - hole_min + 1)
    columns = hole_min + to_integer(w, hole_max - hole_min + 1)
    top, left = to_integer(y, height - rows + 1), to_integer(x, width - columns + 1)
    return Box(top, top + rows, left, left + columns)


def to_integer(uniform: jax.Array, count: int | jax.Array) -> jax.Array:
    """Turn uniform float32 numbers in [0, 1) into uniform int32 numbers in [0, count).

    >>> print(to_integer(jnp.array([0.0, 0.5, 0.99]), 4))
    [0 2 3]
    """
    return jnp.floor(uniform * jnp.asarray(count, jnp.float32)).astype(jnp.int32)
