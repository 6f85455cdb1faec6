"""Train a tiny image classifier in JAX."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cifar_jax.runtime.pretrained import Pretrained


def load(path: str | Path) -> "Pretrained":
    """Load a trained network, see :func:`cifar_jax.runtime.pretrained.load`."""
    from cifar_jax.runtime.pretrained import load

    return load(path)
