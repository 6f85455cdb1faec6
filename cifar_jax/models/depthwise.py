"""The depthwise 3x3 convolution in plain JAX, on activations [C, H, W, B], and its gradients."""

from functools import partial, reduce
from operator import add

import jax
import jax.numpy as jnp

TAPS = tuple((i, j) for i in range(3) for j in range(3))  # of a 3x3 kernel, row by row


def padded(x: jax.Array) -> jax.Array:
    """Pad ``x`` [..., H, W, B] by one pixel of zeros on each side: [..., H + 2, W + 2, B]."""
    return _pad(x, [(1, 1, 0), (1, 1, 0)])


def _pad(x: jax.Array, pixels: list[tuple[int, int, int]]) -> jax.Array:
    """Put zeros around H and W: (before, after, between two pixels) of each, in ``pixels``."""
    edges = [(0, 0, 0)] * (x.ndim - 3) + pixels + [(0, 0, 0)]
    return jax.lax.pad(x, jnp.zeros((), x.dtype), edges)


def windows(x: jax.Array, stride: int) -> list[jax.Array]:
    """What each tap of a 3x3 kernel sees of a padded ``x`` [..., H + 2, W + 2, B]."""
    height, width = (size - 2 for size in x.shape[-3:-1])
    return [x[..., i : i + height : stride, j : j + width : stride, :] for i, j in TAPS]


def _in_memory(x: jax.Array) -> jax.Array:
    """Write what nine taps read; but for a CPU XLA would find edges, and ``x`` again, for each."""
    return jax.lax.platform_dependent(x, cpu=lambda x: x, default=jax.lax.optimization_barrier)


def _correlate(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """The sum of the nine windows of a padded ``x``, each times its tap: [C, H', W', B]."""
    # in 16 bits a GPU would round after each of the nine
    wide = jnp.float32 if x.dtype.itemsize < 4 else x.dtype
    taps = kernel.astype(wide).reshape(9, -1, 1, 1, 1)
    products = (w.astype(wide) * tap for w, tap in zip(windows(x, stride), taps, strict=True))
    return reduce(add, products).astype(x.dtype)


def _depthwise(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return _depthwise_forward(x, kernel, stride)[0]


def _depthwise_forward(x, kernel, stride):
    x = _in_memory(padded(x))
    return _correlate(x, kernel, stride), (x, kernel)


def _depthwise_backward(stride, residuals, g):
    x, kernel = residuals
    # each output's gradient where its window's middle was, so that x's is a correlation, too
    sizes = zip(x.shape[-3:-1], g.shape[-3:-1], strict=True)
    between = [(1, size - 2 - stride * (n - 1), stride - 1) for size, n in sizes]
    dx = _in_memory(_correlate(_in_memory(_pad(g, between)), kernel[::-1, ::-1], 1))
    dkernel = jax.lax.platform_dependent(
        x,
        g,
        cpu=partial(_kernel_gradient_by_channel, stride=stride),
        default=partial(_kernel_gradient_at_once, stride=stride),
    )
    return dx, dkernel.T.reshape(kernel.shape).astype(kernel.dtype)


def _kernel_gradient_by_channel(x: jax.Array, g: jax.Array, *, stride: int) -> jax.Array:
    """The nine sums of each channel, float32 [C, 9]; in a loop, so that a CPU's cache keeps it.

    Args:
      x: padded, [C, H + 2, W + 2, B].
      g: the gradient of the output, [C, ceil(H / stride), ceil(W / stride), B].
      stride: of the convolution.
    """

    def of_one(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        x, g = (each.astype(jnp.float32) for each in pair)
        return jnp.stack([jnp.sum(w * g) for w in windows(x, stride)])

    return jax.lax.map(of_one, (x, g))


def _kernel_gradient_at_once(x: jax.Array, g: jax.Array, *, stride: int) -> jax.Array:
    """The same in one reduction with nine results, which reads ``x`` and ``g`` once: for a GPU."""
    g = g.astype(jnp.float32)
    products = tuple(w.astype(jnp.float32) * g for w in windows(x, stride))
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
