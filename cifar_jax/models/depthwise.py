"""The depthwise 3x3 convolution in plain JAX, on activations [C, H, W, B], and its gradients."""

from functools import partial, reduce
from operator import add

import jax
import jax.numpy as jnp

TAPS = tuple((i, j) for i in range(3) for j in range(3))  # of a 3x3 kernel, row by row


def windows(x: jax.Array, stride: int) -> list[jax.Array]:
    """What each tap of a 3x3 kernel sees of ``x`` [..., H, W, B], zero-padded by one pixel."""
    height, width = x.shape[-3:-1]
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [(1, 1), (1, 1), (0, 0)])
    return [padded[..., i : i + height : stride, j : j + width : stride, :] for i, j in TAPS]


def _depthwise(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    # in 16 bits a GPU would round after each of the nine
    wide = jnp.float32 if x.dtype.itemsize < 4 else x.dtype
    taps = kernel.astype(wide).reshape(9, -1, 1, 1, 1)
    products = (w * tap for w, tap in zip(windows(x.astype(wide), stride), taps, strict=True))
    return reduce(add, products).astype(x.dtype)


def _depthwise_forward(x, kernel, stride):
    return _depthwise(x, kernel, stride), (x, kernel)


def _depthwise_backward(stride, residuals, g):
    x, kernel = residuals
    (dx,) = jax.linear_transpose(lambda x: _depthwise(x, kernel, stride), x)(g)
    dkernel = jax.lax.platform_dependent(
        x,
        g,
        cpu=partial(_kernel_gradient_by_channel, stride=stride),
        default=partial(_kernel_gradient_at_once, stride=stride),
    )
    return dx, dkernel.T.reshape(kernel.shape).astype(kernel.dtype)


def _kernel_gradient_by_channel(x: jax.Array, g: jax.Array, *, stride: int) -> jax.Array:
    """The nine sums of each channel, float32 [C, 9]; in a loop, so that a CPU's cache keeps it."""

    def of_one(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        x, g = (each.astype(jnp.float32) for each in pair)
        return jnp.stack([jnp.sum(w * g) for w in windows(x, stride)])

    return jax.lax.map(of_one, (x, g))


def _kernel_gradient_at_once(x: jax.Array, g: jax.Array, *, stride: int) -> jax.Array:
    """The same in one reduction with nine results, which reads ``x`` and ``g`` once: for a GPU."""
    g = g.astype(jnp.float32)
    products = tuple(w * g for w in windows(x.astype(jnp.float32), stride))
    return jnp.stack(reduce_together(products, (1, 2, 3)), axis=1)


def reduce_together(terms: tuple[jax.Array, ...], axes: tuple[int, ...]) -> tuple[jax.Array, ...]:
    """The sums of several arrays of one shape, float32, in one pass over what they come from."""
    zeros = (jnp.float32(0),) * len(terms)
    return jax.lax.reduce(terms, zeros, lambda a, b: tuple(map(add, a, b)), axes)


_depthwise_with_gradient = jax.custom_vjp(_depthwise, nondiff_argnums=(2,))
_depthwise_with_gradient.defvjp(_depthwise_forward, _depthwise_backward)


def depthwise_conv(x: jax.Array, kernel: jax.Array, *, stride: int = 1) -> jax.Array:
    """Convolve each channel with its own 3x3 kernel, zero-padded by one pixel on each side.

    Nine shifted multiply-adds, because XLA's grouped convolution is many times slower on a CPU
    (https://github.com/jax-ml/jax/issues/13800).

    Args:
      x: activations [C, H, W, B].
      kernel: [3, 3, 1, C], of the same dtype.
      stride: of the output's pixels along both axes.

    Returns:
      [C, ceil(H / stride), ceil(W / stride), B].
    """
    return _depthwise_with_gradient(x, kernel, stride)
