"""Colour operations: brightness and contrast, hue, saturation and value, normalisation.

Images are floating RGB in [0, 1], [B, H, W, 3]. In HSV, saturation and value are in [0, 1] and hue
is in sextants (60 degrees): 0 red, 2 green, 4 blue, 6 red again. Their shifts are in OpenCV's 8-bit
units: 1 of hue is 2 degrees, 1 of saturation or value is 1/255 of full scale. Unlike in OpenCV's
8-bit HSV, nothing is rounded.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from cifar_jax.checks import require_floating


def brightness_contrast(
    key: jax.Array,
    images: jax.Array,
    *,
    brightness: float = 0.2,
    contrast: float = 0.2,
    probability: float = 0.5,
) -> jax.Array:
    """Change brightness and contrast: ``x * (1 + c) + b``, clipped to [0, 1].

    Drawn per image, uniformly and independently: b, c and whether the image is touched at all; an
    untouched image comes back bit for bit.

    Args:
      key: random key.
      images: [B, H, W, C] in [0, 1].
      brightness: largest b either way [fraction of full scale].
      contrast: largest c either way.
      probability: of changing each image.

    Returns:
      Images of the same shape and dtype, in [0, 1].

    Raises:
      TypeError: if the images are integers.

    Reference: ``RandomBrightnessContrast`` of Albumentations 2.0.8, ``brightness_by_max=True``.
    """
    coin, b, c = jax.random.uniform(key, (3, images.shape[0]), jnp.float32)
    changed = adjust_brightness_contrast(
        images, brightness=brightness * (2 * b - 1), contrast=contrast * (2 * c - 1)
    )
    return jnp.where((coin < probability).reshape(-1, 1, 1, 1), changed, images)


def adjust_brightness_contrast(
    images: jax.Array, *, brightness: jax.Array, contrast: jax.Array
) -> jax.Array:
    """``x * (1 + contrast) + brightness``, clipped to [0, 1].

    Args:
      images: [B, H, W, C] in [0, 1].
      brightness: [B], added [fraction of full scale].
      contrast: [B], change of the factor.

    Returns:
      Images of the same shape and dtype, in [0, 1].

    Raises:
      TypeError: if the images are integers.

    >>> gray = jnp.full((1, 1, 1, 3), 0.5)
    >>> out = adjust_brightness_contrast(
    ...     gray, brightness=jnp.array([0.1]), contrast=jnp.array([0.2])
    ... )
    >>> print(out[0, 0, 0])
    [0.70000005 0.70000005 0.70000005]
    """
    require_floating(images=images)
    factor = 1.0 + contrast.astype(jnp.float32).reshape(-1, 1, 1, 1)
    offset = brightness.astype(jnp.float32).reshape(-1, 1, 1, 1)
    changed = images.astype(jnp.float32) * factor + offset
    return jnp.clip(changed, 0.0, 1.0).astype(images.dtype)


def hue_saturation_value(
    key: jax.Array,
    images: jax.Array,
    *,
    hue: float = 20.0,
    saturation: float = 30.0,
    value: float = 20.0,
    probability: float = 0.5,
) -> jax.Array:
    """Shift hue, saturation and value.

    Drawn per image, uniformly and independently: the three shifts and whether the image is touched
    at all; an untouched image comes back bit for bit.

    Args:
      key: random key.
      images: [B, H, W, 3] in [0, 1].
      hue: largest shift either way [2 degrees].
      saturation: largest shift either way [1/255 of full scale].
      value: largest shift either way [1/255 of full scale].
      probability: of changing each image.

    Returns:
      Images of the same shape and dtype, in [0, 1].

    Raises:
      TypeError, ValueError: by :func:`shift_hsv`.

    Reference: ``HueSaturationValue`` of Albumentations 2.0.8.
    """
    coin, h, s, v = jax.random.uniform(key, (4, images.shape[0]), jnp.float32)
    changed = shift_hsv(
        images,
        hue=hue * (2 * h - 1),
        saturation=saturation * (2 * s - 1),
        value=value * (2 * v - 1),
    )
    return jnp.where((coin < probability).reshape(-1, 1, 1, 1), changed, images)


def shift_hsv(
    images: jax.Array, *, hue: jax.Array, saturation: jax.Array, value: jax.Array
) -> jax.Array:
    """Shift hue (wrapping), saturation and value (both clipped); gray pixels stay gray.

    Args:
      images: [B, H, W, 3] in [0, 1].
      hue: [B], shift [2 degrees].
      saturation: [B], shift [1/255 of full scale].
      value: [B], shift [1/255 of full scale].

    Returns:
      Images of the same shape and dtype, in [0, 1].

    Raises:
      TypeError: if the images are integers.
      ValueError: if they do not have 3 channels.

    Reference: ``shift_hsv`` of Albumentations 2.0.8.
    """
    require_floating(images=images)
    hue, saturation, value = (
        shift.astype(jnp.float32).reshape(-1, 1, 1, 1) for shift in (hue, saturation, value)
    )
    h, s, v = rgb_to_hsv(images.astype(jnp.float32))
    s = jnp.where(s > 0, jnp.clip(s + saturation / 255, 0.0, 1.0), 0.0)
    v = jnp.clip(v + value / 255, 0.0, 1.0)
    return hsv_to_rgb(h + hue / 30, s, v).astype(images.dtype)


def rgb_to_hsv(images: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Hue, saturation and value of each pixel.

    Args:
      images: [..., 3] in [0, 1].

    Returns:
      Hue in [-1, 5) sextants (0 for gray), saturation and value in [0, 1]; each [..., 1].

    Raises:
      TypeError: if the images are integers.
      ValueError: if they do not have 3 channels.

    Reference: A. R. Smith, Color gamut transform pairs, SIGGRAPH 1978.

    >>> h, s, v = rgb_to_hsv(jnp.array([0.0, 0.5, 0.0]))
    >>> print(h, s, v)
    [2.] [1.] [0.5]
    """
    require_floating(images=images)
    if images.shape[-1] != 3:
        raise ValueError(f"images must have 3 channels, not {images.shape[-1]}")
    red, green, blue = images[..., 0:1], images[..., 1:2], images[..., 2:3]
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    divisor = jnp.where(chroma > 0, chroma, 1.0)
    hue = jnp.where(
        value == red,
        (green - blue) / divisor,
        jnp.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    return hue, chroma / jnp.where(value > 0, value, 1.0), value


def hsv_to_rgb(hue: jax.Array, saturation: jax.Array, value: jax.Array) -> jax.Array:
    """The inverse of :func:`rgb_to_hsv`, without branches.

    Args:
      hue: [..., 1], any number of sextants; it wraps at 6.
      saturation: [..., 1] in [0, 1].
      value: [..., 1] in [0, 1].

    Returns:
      RGB in [0, 1], [..., 3].

    Reference: https://en.wikipedia.org/wiki/HSL_and_HSV#HSV_to_RGB_alternative
    """
    start = jnp.array([5.0, 3.0, 1.0], hue.dtype).reshape((1,) * (hue.ndim - 1) + (3,))
    phase = hue + start
    phase = phase - 6 * jnp.floor(phase / 6)  # jnp.mod, of positive numbers
    return value - value * saturation * jnp.clip(jnp.minimum(phase, 4 - phase), 0.0, 1.0)


def normalize(
    images: jax.Array,
    *,
    mean: jax.Array | Sequence[float],
    std: jax.Array | Sequence[float],
) -> jax.Array:
    """``(x - mean) / std``, channel by channel.

    Args:
      images: [B, H, W, C] in [0, 1].
      mean: [C], in the same units.
      std: [C], in the same units.

    Returns:
      Images of the same shape and dtype.

    Raises:
      TypeError: if the images are integers.
      ValueError: if mean or std has another number of channels than the images.

    >>> print(normalize(jnp.full((1, 1, 1, 2), 0.5), mean=(0.5, 0.25), std=(0.25, 0.25))[0, 0, 0])
    [0. 1.]
    """
    require_floating(images=images)
    mean, std = (jnp.asarray(x, jnp.float32).reshape(1, 1, 1, -1) for x in (mean, std))
    if not mean.size == std.size == images.shape[-1]:
        raise ValueError(
            f"mean and std must have a number for each of the images' {images.shape[-1]} channels, "
            f"not {mean.size} and {std.size}"
        )
    return ((images.astype(jnp.float32) - mean) / std).astype(images.dtype)
