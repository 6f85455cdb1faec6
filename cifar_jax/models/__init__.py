"""Networks as Flax modules, and their analysis."""

import jax.numpy as jnp

from cifar_jax.config import ModelConfig
from cifar_jax.models.analysis import Network, count_params, multiply_adds, receptive_field
from cifar_jax.models.preact_resnet import PreactResNet
from cifar_jax.models.separable_resnet import SeparableResNet

__all__ = [
    "Network",
    "PreactResNet",
    "SeparableResNet",
    "count_params",
    "from_config",
    "multiply_adds",
    "receptive_field",
]


def from_config(config: ModelConfig, *, lanes: int = 0) -> Network:
    """The network that the section "model" of a config describes.

    Args:
      config: all but ``convolutions`` is read.
      lanes: of the convolutions in C++; cifar_jax.runtime.kernels knows them. 0: plain ones.

    Returns:
      The module; it tells the ten classes of CIFAR-10 apart.
    """
    module = SeparableResNet if config.architecture == "separable" else PreactResNet
    return module(
        stem=config.stem,
        stages=config.stages,
        blocks=config.blocks,
        dropout=config.dropout,
        dtype=jnp.dtype(config.dtype),
        lanes=lanes,
    )
