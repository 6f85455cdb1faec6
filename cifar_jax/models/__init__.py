"""Networks as Flax modules, and their analysis."""

import jax.numpy as jnp

from cifar_jax.config import ModelConfig
from cifar_jax.models.analysis import Network, count_params, multiply_adds, receptive_field
from cifar_jax.models.preact_resnet import PreactResNet
from cifar_jax.models.separable_resnet import SeparableResNet
from cifar_jax.models.wide_resnet import WideResNet

__all__ = [
    "ARCHITECTURES",
    "Network",
    "PreactResNet",
    "SeparableResNet",
    "WideResNet",
    "count_params",
    "from_config",
    "multiply_adds",
    "receptive_field",
]


ARCHITECTURES: dict[str, type[SeparableResNet | PreactResNet | WideResNet]] = {
    "separable": SeparableResNet,
    "preact": PreactResNet,
    "wide": WideResNet,
}


def from_config(config: ModelConfig, *, lanes: int = 0) -> Network:
    """The network that the section "model" of a config describes.

    Args:
      config: all but ``convolutions`` is read.
      lanes: of the convolutions in C++; cifar_jax.runtime.kernels knows them. 0: plain ones.

    Returns:
      The module; it tells the ten classes of CIFAR-10 apart.
    """
    return ARCHITECTURES[config.architecture](
        stem=config.stem,
        stages=config.stages,
        blocks=config.blocks,
        halvings=config.halvings,
        dropout=config.dropout,
        dtype=jnp.dtype(config.dtype),
        lanes=lanes,
    )
