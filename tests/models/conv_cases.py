"""Cases of convolutions, the same by XLA, and variables of a network."""

import jax
import jax.numpy as jnp
import numpy as np

CHANNELS, FEATURES, BATCH = 5, 7, 3
TOLERANCE = {jnp.float32: 2e-6, jnp.bfloat16: 2e-2}  # of each result's largest number


def convolve(x, kernel, *, stride, padding, groups):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(padding, padding)] * 2,
        dimension_numbers=("CHWN", "HWIO", "CHWN"),
        feature_group_count=groups,
    )


def reference_depthwise(x, kernel, *, stride=1):
    return convolve(x, kernel, stride=stride, padding=1, groups=len(x))


def reference_pointwise(x, kernel):
    return convolve(x, kernel[None, None], stride=1, padding=0, groups=1)


def reference_dense(x, kernel):
    return convolve(x, kernel, stride=1, padding=1, groups=1)


def value_and_gradients(conv, x, kernel, g):
    value, pull_back = jax.vjp(conv, x, kernel)
    return value, *pull_back(g)


compiled = jax.jit(value_and_gradients, static_argnums=0)


def normal(seed, shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32).astype(dtype)


def halved(size, stride):
    return -(-size // stride)


def depthwise_case(size=(8, 8), stride=1, dtype=jnp.float32, leading=()):
    shape = (*leading, CHANNELS, *size, BATCH)
    outputs = (*shape[:-3], *(halved(side, stride) for side in size), BATCH)
    kernel = (*leading, 3, 3, 1, CHANNELS)
    return normal(0, shape, dtype), normal(1, kernel, dtype), normal(2, outputs, dtype)


def pointwise_case(size=(8, 8), dtype=jnp.float32, leading=()):
    shape, outputs = ((*leading, channels, *size, BATCH) for channels in (CHANNELS, FEATURES))
    kernel = (*leading, CHANNELS, FEATURES)
    return normal(0, shape, dtype), normal(1, kernel, dtype), normal(2, outputs, dtype)


def dense_case(size=(8, 8), dtype=jnp.float32, leading=()):
    x, _, g = pointwise_case(size, dtype, leading)
    return x, normal(1, (*leading, 3, 3, CHANNELS, FEATURES), dtype), g


def widened(arrays):
    return tuple(np.asarray(array.astype(jnp.float32)) for array in arrays)


def error(actual, expected):
    """The largest difference, as a part of the largest number expected."""
    return float(np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max())


def draw(shapes):
    """Variables of which none is constant; scales and variances are positive."""
    generator = np.random.default_rng(0)

    def of_leaf(path, leaf):
        if path[-1].key in ("scale", "var"):
            return jnp.asarray(generator.uniform(0.5, 1.5, leaf.shape), leaf.dtype)
        std = 0.2 if leaf.ndim == 1 else np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return jnp.asarray(generator.normal(0, std, leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(of_leaf, shapes)
