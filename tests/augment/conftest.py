"""Images to try the operations on."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.fixture
def key():
    return jax.random.key(7)


@pytest.fixture
def images():
    """Sixteen images of noise; height and width differ, so that no test confuses them."""
    return jax.random.uniform(jax.random.key(1), (16, 12, 18, 3), jnp.float32)


@pytest.fixture
def targets():
    """One-hot labels; as many classes as images, so that a soft label names its images."""
    return jnp.eye(16, dtype=jnp.float32)


@pytest.fixture(scope="session")
def reference():
    """What Albumentations and OpenCV made, see tests/fixtures/make_augment.py."""
    with np.load(Path(__file__).parents[1] / "fixtures" / "augment.npz") as arrays:
        return dict(arrays)
