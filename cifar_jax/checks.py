"""Checks of arrays that public functions make, where others would silently give wrong numbers."""

import jax
import jax.numpy as jnp


def require_floating(**arrays: jax.Array) -> None:
    """Check that arrays are floating; raises TypeError with the name of the first that is not.

    A result of the same dtype would be cut to an integer.
    """
    for name, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(f"{name} must be floating, not {array.dtype}")


def require_shape(shape: tuple[int, ...], **arrays: jax.Array) -> None:
    """Check shapes; raises ValueError with the name of the first array that has another.

    Arrays of another shape, such as labels [N, 1], would be broadcast.
    """
    for name, array in arrays.items():
        if array.shape != shape:
            raise ValueError(f"{name} must have the shape {shape}, not {array.shape}")
