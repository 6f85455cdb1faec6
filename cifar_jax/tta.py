"""Test-time augmentation: several views of an image, whose probabilities are averaged."""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp

from cifar_jax import augment
from cifar_jax.augment.geometry import Border

Mode = Literal["none", "flip", "full"]
VIEWS: dict[Mode, int] = {"none": 1, "flip": 2, "full": 8}  # each: the first of the next ones

ANGLE = 15.0  # of the rotated views [degrees]
FACTORS = (0.8, 1.2)  # of brightness and of contrast
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601


def views(images: jax.Array, mode: Mode, *, border: Border = "constant") -> list[jax.Array]:
    """The views of a batch that a mode averages over.

    Args:
      images: [B, H, W, C] in [0, 1], not yet normalised; C is 1 or 3 for "full".
      mode: "none": the images; "flip": and mirrored; "full": the eight views of the original
        project: plain, mirrored, rotated by +-15 degrees, brightness x 0.8 and x 1.2, contrast
        x 0.8 and x 1.2 about the mean grey.
      border: what a rotation sees outside of the image.

    Returns:
      1, 2 or 8 batches of the same shape, in [0, 1].

    Raises:
      TypeError: for "full" and images that are integers.
      ValueError: for another mode; for "full" and images of 2 or more than 3 channels, or by
        :func:`cifar_jax.augment.affine` for the border.
    """
    _require_known(mode)
    if mode == "none":
        return [images]
    flipped = images[:, :, ::-1]
    if mode == "flip":
        return [images, flipped]
    if images.shape[-1] not in (1, 3):
        raise ValueError(f"mode full takes images of 1 or 3 channels, not {images.shape[-1]}")
    grey = jnp.sum(images * jnp.asarray(LUMA, images.dtype).reshape(1, 1, 1, 3), axis=-1)
    grey = jnp.mean(grey, axis=(1, 2))[:, None, None, None]
    rotated = [_rotate(images, angle, border) for angle in (ANGLE, -ANGLE)]
    brighter = [jnp.clip(images * factor, 0, 1) for factor in FACTORS]
    steeper = [jnp.clip(grey + (images - grey) * factor, 0, 1) for factor in FACTORS]
    return [images, flipped, *rotated, *brighter, *steeper]


def most_views(modes: Sequence[Mode]) -> Mode:
    """The mode whose views begin with those of all the others.

    Raises:
      ValueError: for no mode, one that is unknown, or a string.
    """
    if isinstance(modes, str):
        raise ValueError(f"modes must be a sequence, ({modes!r},) for one, not {modes!r}")
    if not modes:
        raise ValueError("modes must have at least one of them, not none")
    for mode in modes:
        _require_known(mode)
    return max(modes, key=VIEWS.__getitem__)


def _require_known(mode: str) -> None:
    if mode not in VIEWS:
        raise ValueError(f"mode must be one of {', '.join(VIEWS)}, not {mode!r}")


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
