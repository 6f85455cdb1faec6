"""Sloppiness is an error: strict dtype and rank promotion, and every warning (see pyproject.toml)."""

import jax

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
