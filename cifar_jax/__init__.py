"""Train a tiny image classifier in JAX."""
