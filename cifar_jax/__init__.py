"""Train a tiny image classifier in JAX."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from cifar_jax.runtime.pretrained import Pretrained


def load(path: str | Path) -> "Pretrained":
    """Load a trained network, see :func:`cifar_jax.runtime.pretrained.load`."""
    from cifar_jax.runtime.pretrained import load

    return load(path)


def read_image(path: str | Path) -> "np.ndarray":
    """Read an image file as the network takes it, see :func:`cifar_jax.data.image.read_image`."""
    from cifar_jax.data.image import read_image

    return read_image(path)
