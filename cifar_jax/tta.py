"""Test-time augmentation: several views of an image, whose probabilities are averaged."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp

from cifar_jax import augment
from cifar_jax.augment.geometry import Border

Mode = Literal["none", "flip", "full"]
VIEWS: dict[Mode, int] = {"none": 1, "flip": 2, "full": 8}  # those of one are the first of the next

ANGLE = 15.0  # of the rotated views [degrees]
FACTORS = (0.8, 1.2)  # of brightness and of contrast
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601


def views(images: jax.Array, mode: Mode, *, border: Border = "constant") -> list[jax.Array]:
    """The views of a batch that a mode averages over.

    Args:
      images: [B, H, W, C] in [0, 1], not yet normalised.
      mode: "none": the images; "flip": and mirrored; "full": the eight views of the original
        project: plain, mirrored, rotated by +-15 degrees, brightness x 0.8 and x 1.2, contrast
        x 0.8 and x 1.2 about the mean grey.
      border: what a rotation sees outside of the image.

    Returns:
      1, 2 or 8 batches of the same shape, in [0, 1].

    Raises:
      ValueError: for another mode.
    """
    if mode not in get_args(Mode):
        raise ValueError(f"mode must be one of {', '.join(get_args(Mode))}, not {mode!r}")
    if mode == "none":
        return [images]
    flipped = images[:, :, ::-1]
    if mode == "flip":
        return [images, flipped]
    grey = jnp.sum(images * jnp.asarray(LUMA, images.dtype).reshape(1, 1, 1, 3), axis=-1)
    grey = jnp.mean(grey, axis=(1, 2))[:, None, None, None]
    rotated = [_rotate(images, angle, border) for angle in (ANGLE, -ANGLE)]
    brighter = [jnp.clip(images * factor, 0, 1) for factor in FACTORS]
    steeper = [jnp.clip(grey + (images - grey) * factor, 0, 1) for factor in FACTORS]
    return [images, flipped, *rotated, *brighter, *steeper]


def _rotate(images: jax.Array, angle: float, border: Border) -> jax.Array:
    zero, one = jnp.zeros(len(images)), jnp.ones(len(images))
    return augment.affine(
        images,
        angle=zero + angle,
        scale_x=one,
        scale_y=one,
        shift_x=zero,
        shift_y=zero,
        border=border,
    )
