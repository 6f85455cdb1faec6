"""What operations that compute with values ask of them: a result would be cut to an integer."""

import jax
import jax.numpy as jnp


def require_floating(**arrays: jax.Array) -> None:
    """Check that arrays are floating; raises TypeError with the name of the first that is not."""
    for name, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(f"{name} must be floating, not {array.dtype}")
