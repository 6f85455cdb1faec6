"""From images to logits: what the files of this folder compute."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from cifar_jax import augment
from cifar_jax.config import AugmentConfig, Config
from cifar_jax.steps import ApplyFn, to_float

Input = Literal["uint8", "float"]
DESCRIPTIONS: dict[Input, str] = {
    "uint8": "uint8 [N, 32, 32, 3], RGB, 0 to 255",
    "float": "float32 [N, 32, 32, 3], RGB, 0 to 1",
}


def classifier(
    apply_fn: ApplyFn, variables: Any, config: AugmentConfig
) -> Callable[[jax.Array], jax.Array]:
    """The network with its normalisation.

    Args:
      apply_fn: ``model.apply``.
      variables: of it.
      config: mean and std are read.

    Returns:
      A function from images [N, H, W, C], uint8 or float32 in [0, 1], to logits [N, K].
    """

    def classify(images: jax.Array) -> jax.Array:
        if images.dtype == jnp.uint8:
            images = to_float(images)
        normalised = augment.normalize(images, mean=config.mean, std=config.std)
        with jax.default_matmul_precision("float32"):  # a GPU's default is coarser
            return apply_fn(variables, normalised)

    return classify


def in_float32(config: Config) -> Config:
    """The config of the same network, computed in float32 as all files of this folder do."""
    return config.replace(model={"dtype": "float32"})
