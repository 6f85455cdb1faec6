"""The operations in a row, as a config asks for them: first pixels, then normalise, then mix.

Images are floating, [B, H, W, C]: in [0, 1] for :func:`augment_pixels`, normalised for :func:`mix`.
"""

from functools import partial

import jax
import jax.numpy as jnp

from cifar_jax.augment import color, erase, geometry, mixing
from cifar_jax.checks import require_floating
from cifar_jax.config import AugmentConfig

MIX_NAMES = ("none", "ricap", "mixup", "cutmix")  # the name of each kind of mix, by number


def augment_pixels(key: jax.Array, images: jax.Array, config: AugmentConfig) -> jax.Array:
    """Flip; crop; warp; brightness and contrast; hue, saturation and value; erase.

    Every operation draws from its own key, so switching one off leaves the others as they were. An
    operation of probability 0 is not compiled. Alternating flips need an image's number and epoch:
    :func:`cifar_jax.steps.make_train_chunk` does them.

    Args:
      key: random key.
      images: [B, H, W, C] in [0, 1]; C is 3 where ``hue_saturation_value`` is used.
      config: probabilities and ranges.

    Returns:
      Images of the same shape and dtype, in [0, 1].

    Raises:
      TypeError: if the images are integers.
      ValueError: by an operation that is used, for images that it cannot take.
    """
    require_floating(images=images)
    keys = jax.random.split(key, 6)
    flip_key, affine_key, contrast_key, hue_key, erase_key, crop_key = keys
    if _used(config.flip) and not config.alternating_flip:
        images = geometry.horizontal_flip(flip_key, images, probability=config.flip)
    if _used(config.random_crop):
        images = geometry.random_crop(
            crop_key,
            images,
            padding=config.padding,
            border=config.border,
            probability=config.random_crop,
        )
    if _used(config.shift_scale_rotate):
        images = geometry.shift_scale_rotate(
            affine_key,
            images,
            shift=config.shift,
            scale=config.scale,
            rotate=config.rotate,
            border=config.border,
            probability=config.shift_scale_rotate,
        )
    if _used(config.brightness_contrast):
        images = color.brightness_contrast(
            contrast_key,
            images,
            brightness=config.brightness,
            contrast=config.contrast,
            probability=config.brightness_contrast,
        )
    if _used(config.hue_saturation_value):
        images = color.hue_saturation_value(
            hue_key,
            images,
            hue=config.hue,
            saturation=config.saturation,
            value=config.value,
            probability=config.hue_saturation_value,
        )
    if _used(config.coarse_dropout):
        images = erase.coarse_dropout(
            erase_key,
            images,
            hole_min=config.hole_min,
            hole_max=config.hole_max,
            probability=config.coarse_dropout,
        )
    return images


def _used(probability: float | jax.Array) -> bool:
    """Whether an operation is compiled: one whose probability is traced may be drawn."""
    return not isinstance(probability, (int, float)) or probability > 0


def mix(
    key: jax.Array, images: jax.Array, targets: jax.Array, config: AugmentConfig
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mix a batch by RICAP, MixUp, CutMix or not at all.

    Only the one that is drawn is computed, unless under ``jax.vmap``, which computes all whose
    probability is not 0.

    Drawn: the kind of mix, see :func:`draw_kind`, and what that mix draws.

    Args:
      key: random key.
      images: [B, H, W, C], normalised.
      targets: [B, K], each row sums to 1.
      config: probabilities and parameters of the mixes.

    Returns:
      Images and targets of the same shapes and dtypes, and the kind, an int32 scalar that indexes
      :data:`MIX_NAMES`.
    """
    probabilities = (config.ricap, config.mixup, config.cutmix)
    if not any(map(_used, probabilities)):
        return images, targets, jnp.int32(0)
    kind_key, mix_key = jax.random.split(key)
    kind = draw_kind(kind_key, config)
    per_image = config.mix_per_image
    mixes = (
        partial(mixing.ricap, beta=config.ricap_beta),
        partial(mixing.mixup, alpha=config.mixup_alpha, per_image=per_image),
        partial(mixing.cutmix, alpha=config.cutmix_alpha, per_image=per_image),
    )
    used = [m if _used(p) else _keep for m, p in zip(mixes, probabilities, strict=True)]
    images, targets = jax.lax.switch(kind, [_keep, *used], mix_key, images, targets)
    return images, targets, kind


def _keep(key: jax.Array, images: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    return images, targets


def draw_kind(key: jax.Array, config: AugmentConfig) -> jax.Array:
    """Which mix a batch gets, with the config's probabilities; none takes what they leave.

    Args:
      key: random key.
      config: probabilities of the mixes.

    Returns:
      An int32 scalar that indexes :data:`MIX_NAMES`.
    """
    cumulative = (config.ricap, config.ricap + config.mixup)
    cumulative += (cumulative[1] + config.cutmix,)
    passed = jax.random.uniform(key, (1,), jnp.float32) >= jnp.stack(
        [jnp.float32(p) for p in cumulative]
    )
    return (1 + passed.sum(dtype=jnp.int32)) % len(MIX_NAMES)
