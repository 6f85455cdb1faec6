"""From the uint8 images of a batch to what a network sees."""

import jax
import jax.numpy as jnp

from cifar_jax import augment
from cifar_jax.checks import require_shape
from cifar_jax.config import AugmentConfig
from cifar_jax.rng import stream_key

Batch = tuple[jax.Array, jax.Array]  # images uint8 [B, H, W, C]; labels, integers [B]


def to_float(images: jax.Array) -> jax.Array:
    """Map uint8 images to float32 in [0, 1]; raises TypeError for images of another dtype."""
    if images.dtype != jnp.uint8:
        raise TypeError(f"images must be uint8, not {images.dtype}")
    return images.astype(jnp.float32) / 255.0


def augmented_batch(
    key: jax.Array, step: jax.Array, batch: Batch, config: AugmentConfig, *, num_classes: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What the network sees at one step; flips that alternate are done before, by the chunk.

    Args:
      key: the run's key.
      step: global step, scalar.
      batch: images uint8 [B, H, W, C] and labels [B], in [0, K).
      config: the section "augment".
      num_classes: K.

    Returns:
      Normalised images float32 [B, H, W, C], soft labels [B, K], and the mix's index in
      ``augment.MIX_NAMES``.

    Raises:
      TypeError: for images that are not uint8.
      ValueError: for labels of another shape.
    """
    images, labels = batch
    require_shape(images.shape[:1], labels=labels)
    images = augment.augment_pixels(stream_key(key, "augment", step), to_float(images), config)
    images = augment.normalize(images, mean=config.mean, std=config.std)
    targets = jax.nn.one_hot(labels.astype(jnp.int32), num_classes, dtype=jnp.float32)
    return augment.mix(stream_key(key, "mix", step), images, targets, config)
