"""Sloppiness is an error: strict promotion of dtypes and ranks, and no warnings."""

import jax

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
