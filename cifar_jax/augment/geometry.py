"""Geometric operations: flip, crop, and shift, scale and rotate in one bilinear warp.

Images are floating, [B, H, W, C]. Angles are in degrees, counter-clockwise; shifts are fractions of
the side, positive to the right and downwards; scales above 1 enlarge. The centre of an image is the
point ((W - 1) / 2, (H - 1) / 2), so that pixel centres lie on whole numbers, as in OpenCV.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from cifar_jax.checks import require_floating

Border = Literal["constant", "reflect101"]


def horizontal_flip(key: jax.Array, images: jax.Array, *, probability: float = 0.5) -> jax.Array:
    """Mirror images left to right; one coin is drawn per image.

    Args:
      key: random key.
      images: [B, H, W, C].
      probability: of flipping each image.

    Returns:
      Images of the same shape and dtype.

    >>> print(horizontal_flip(jax.random.key(0), jnp.ones((2, 4, 4, 3)), probability=1.0).shape)
    (2, 4, 4, 3)
    """
    flipped = jax.random.uniform(key, (images.shape[0],), jnp.float32) < probability
    return jnp.where(flipped.reshape(-1, 1, 1, 1), images[:, :, ::-1], images)


def alternating_flip(
    key: jax.Array, images: jax.Array, indices: jax.Array, epoch: int | jax.Array
) -> jax.Array:
    """Mirror images left to right in every other epoch; two epochs show both sides of each.

    Keller Jordan, https://arxiv.org/abs/2404.00498. Drawn: in which epochs, by image.

    Args:
      key: random key, the same in all epochs.
      images: [B, H, W, C], of any dtype.
      indices: of the images in their data set, integers [B].
      epoch: counted from any number.

    Returns:
      Images of the same shape and dtype.
    """
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, indices)
    even = jax.vmap(jax.random.bernoulli)(keys)
    flipped = even == (epoch % 2 == 0)
    return jnp.where(flipped.reshape(-1, 1, 1, 1), images[:, :, ::-1], images)


def random_crop(
    key: jax.Array,
    images: jax.Array,
    *,
    padding: int = 4,
    border: Border = "constant",
    probability: float = 1.0,
) -> jax.Array:
    """Shift images by whole pixels: pad each and cut a window of its size at random.

    Drawn per image, uniformly: the window's corner, and whether the image is touched at all.

    Args:
      key: random key.
      images: [B, H, W, C].
      padding: on each side [pixels], less than H and W.
      border: what it consists of: zeros, or the image mirrored about its outermost pixels.
      probability: of shifting each image.

    Returns:
      Images of the same shape and dtype.

    Raises:
      ValueError: if the border is neither of the two.
    """
    if border not in ("constant", "reflect101"):
        raise ValueError(f"border must be 'constant' or 'reflect101', not {border!r}")
    batch, height, width, channels = images.shape
    corner_key, touch_key = jax.random.split(key)
    corners = jax.random.randint(corner_key, (2, batch), 0, 2 * padding + 1, jnp.int32)
    touched = jax.random.uniform(touch_key, (1, batch), jnp.float32) < probability
    top, left = jnp.where(touched, corners, padding)
    pads = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
    padded = jnp.pad(images, pads, "constant" if border == "constant" else "reflect")

    def cut(image: jax.Array, top: jax.Array, left: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (top, left, 0), (height, width, channels))

    return jax.vmap(cut)(padded, top, left)


def shift_scale_rotate(
    key: jax.Array,
    images: jax.Array,
    *,
    shift: float = 0.1,
    scale: float = 0.1,
    rotate: float = 15.0,
    border: Border = "constant",
    probability: float = 0.5,
) -> jax.Array:
    """Shift, scale and rotate about the centre, bilinearly.

    Drawn per image, uniformly and independently: two shifts, two scales, one angle and whether the
    image is touched at all; an untouched image comes back bit for bit. Albumentations truncates
    shifts to whole pixels; here they are continuous.

    Args:
      key: random key.
      images: [B, H, W, C].
      shift: largest shift along each axis [fraction of the side].
      scale: largest change of each axis' scale factor, drawn from [1 - scale, 1 + scale].
      rotate: largest rotation either way [degrees].
      border: what lies outside of the image, see :func:`affine`.
      probability: of transforming each image.

    Returns:
      Images of the same shape and dtype.

    Raises:
      TypeError, ValueError: by :func:`affine`.

    Reference: ``ShiftScaleRotate`` of Albumentations 2.0.8.
    """
    drawn = jax.random.uniform(key, (6, images.shape[0]), jnp.float32)
    touched = drawn[:1] < probability
    limits = jnp.array([rotate, scale, scale, shift, shift], jnp.float32).reshape(-1, 1)
    angle, stretch_x, stretch_y, shift_x, shift_y = jnp.where(
        touched, limits * (2 * drawn[1:] - 1), 0.0
    )
    return affine(
        images,
        angle=angle,
        scale_x=1 + stretch_x,
        scale_y=1 + stretch_y,
        shift_x=shift_x,
        shift_y=shift_y,
        border=border,
    )


def affine(
    images: jax.Array,
    *,
    angle: jax.Array,
    scale_x: jax.Array,
    scale_y: jax.Array,
    shift_x: jax.Array,
    shift_y: jax.Array,
    border: Border = "constant",
) -> jax.Array:
    """Scale about the centre, then rotate, then shift; each image by its own parameters.

    Every output pixel looks up its position in the input, the inverse of the transformation.

    Args:
      images: [B, H, W, C]; with "reflect101" sides of at least 2 pixels.
      angle: [B], counter-clockwise [degrees].
      scale_x: [B], factor along the width.
      scale_y: [B], factor along the height.
      shift_x: [B], to the right [fraction of the width].
      shift_y: [B], downwards [fraction of the height].
      border: ``"constant"`` (zeros) or ``"reflect101"`` (mirrored about the outermost pixels).

    Returns:
      Images of the same shape and dtype.

    Raises:
      TypeError: if the images are integers.
      ValueError: if the border is neither of the two, or the images are too small for it.

    Reference: the matrix of ``Affine`` in Albumentations 2.0.8, warped as ``cv2.warpAffine`` does.
    """
    require_floating(images=images)
    _, height, width, _ = images.shape
    angle, scale_x, scale_y, shift_x, shift_y = (
        parameter.astype(jnp.float32).reshape(-1, 1, 1)
        for parameter in (angle, scale_x, scale_y, shift_x, shift_y)
    )
    cos, sin = jnp.cos(jnp.deg2rad(angle)), jnp.sin(jnp.deg2rad(angle))
    center_x, center_y = (width - 1) / 2, (height - 1) / 2
    dx = jnp.arange(width, dtype=jnp.float32).reshape(1, 1, -1) - center_x - width * shift_x
    dy = jnp.arange(height, dtype=jnp.float32).reshape(1, -1, 1) - center_y - height * shift_y
    x = (cos * dx - sin * dy) / scale_x + center_x
    y = (sin * dx + cos * dy) / scale_y + center_y
    return _sample(images, x, y, border)


def _sample(images: jax.Array, x: jax.Array, y: jax.Array, border: Border) -> jax.Array:
    """Bilinear values of images at the positions x, y [B, H, W], in pixels."""
    _, height, width, _ = images.shape
    if border == "constant":  # a ring of zeros, onto which all positions outside are clipped
        images = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
        x, y = jnp.clip(x + 1, 0, width + 1), jnp.clip(y + 1, 0, height + 1)
    elif border == "reflect101":
        if min(height, width) < 2:
            raise ValueError(f"images must have sides of at least 2 pixels, not {height}x{width}")
        x, y = _fold(x, width - 1), _fold(y, height - 1)
    else:
        raise ValueError(f"border must be 'constant' or 'reflect101', not {border!r}")
    batch, height, width, channels = images.shape
    left, top = jnp.clip(jnp.floor(x), 0, width - 1), jnp.clip(jnp.floor(y), 0, height - 1)
    corner = top.astype(jnp.int32) * width + left.astype(jnp.int32)
    pixels = images.reshape(batch, -1, channels).astype(jnp.float32)

    def pixel(offset: int) -> jax.Array:  # image by image: a batch may be spread over devices
        return jax.vmap(lambda flat, i: flat.at[i].get(mode="clip"))(pixels, corner + offset)

    to_right, to_bottom = (x - left)[..., None], (y - top)[..., None]
    upper = _interpolate(pixel(0), pixel(1), to_right)
    lower = _interpolate(pixel(width), pixel(width + 1), to_right)
    return _interpolate(upper, lower, to_bottom).astype(images.dtype)


def _fold(position: jax.Array, last: int) -> jax.Array:
    """Fold positions into [0, last], reflecting at both ends as often as needed."""
    period = 2 * last
    return last - jnp.abs(position - period * jnp.floor(position / period) - last)


def _interpolate(start: jax.Array, end: jax.Array, weight: jax.Array) -> jax.Array:
    """From start (weight 0, exactly) to end (weight 1)."""
    return start + weight * (end - start)
