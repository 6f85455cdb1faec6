"""The convolutions in plain JAX, on activations of shape [C, H, W, B]: any backend, any dtype.

The batch lies last: each pixel of a channel is then one contiguous row of B numbers, which makes
shifts along H and W plain offsets, 1x1 convolutions plain matrix products, and batch statistics
sums of contiguous memory. Kernels keep Flax's layout whatever the layout of the activations.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from cifar_jax.models.depthwise import depthwise_conv, padded, reduce_together, windows


@jax.custom_vjp
def pointwise_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve with a 1x1 kernel: one matrix product, with gradients that transpose nothing.

    Args:
      x: activations [C, H, W, B].
      kernel: [C, F], of the same dtype.

    Returns:
      [F, H, W, B].
    """
    # axes stay as they are: one that is spread over devices could not be merged with others
    return _product(kernel, x, (0,), (0,))


def _product(a: jax.Array, b: jax.Array, of_a: tuple[int, ...], of_b: tuple[int, ...]) -> jax.Array:
    return jax.lax.dot_general(a, b, ((of_a, of_b), ((), ())))


def _pointwise_forward(x, kernel):
    return pointwise_conv(x, kernel), (x, kernel)


def _pointwise_backward(residuals, g):
    x, kernel = residuals
    return _product(kernel, g, (1,), (0,)), _product(x, g, (1, 2, 3), (1, 2, 3))


pointwise_conv.defvjp(_pointwise_forward, _pointwise_backward)


@struct.dataclass
class Pending:
    """Activations x = relu(scale y + shift + skip) that are not computed yet.

    The convolution that reads them does it, so that they are not written to memory and read again.

    Attributes:
      y: [..., C, H, W, images].
      scale: [C], float32.
      shift: [C], float32.
      skip: of the shape of ``y``; None: nothing is added.
    """

    y: jax.Array
    scale: jax.Array
    shift: jax.Array
    skip: jax.Array | None = None


def affine(x: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
    """Scale and shift each channel of [..., C, H, W, images], in float32."""
    shape = (1,) * (x.ndim - 4) + (-1, 1, 1, 1)
    return x.astype(jnp.float32) * scale.reshape(shape) + shift.reshape(shape)


def activate(pending: Pending, dtype: Any) -> jax.Array:
    """The activations themselves, in ``dtype``."""
    x = affine(pending.y, pending.scale, pending.shift)
    if pending.skip is not None:
        x = x + pending.skip.astype(jnp.float32)
    return jax.nn.relu(x).astype(dtype)


class Convolutions(NamedTuple):
    """What the layers are made of, in one of its implementations.

    The activations' layout is the implementation's own; their last four axes are C, H, W and
    images. A convolution gives its output and, in float32 [2, F], the sums over each channel of
    that output and of its square.

    Attributes:
      images: B, how many images the batch has.
      arrange: images [B, H, W, C] -> activations.
      dense: (activations, kernel [3, 3, C, F]) -> 3x3 convolution, zero-padded by one pixel.
      separable: (pending activations, depthwise kernel [3, 3, 1, C], pointwise kernel
        [1, 1, C, F], stride, keep_x) -> both convolutions; and a third result: the activations,
        for others to read, if ``keep_x`` is true, and otherwise without meaning.
      pointwise: (activations, kernel [1, 1, C, F], stride) -> 1x1 convolution.
      pool: activations -> their mean over pixels, float32 [B, C].
    """

    images: int
    arrange: Callable[..., jax.Array]
    dense: Callable[..., tuple[jax.Array, jax.Array]]
    separable: Callable[..., tuple[jax.Array, jax.Array, jax.Array]]
    pointwise: Callable[..., tuple[jax.Array, jax.Array]]
    pool: Callable[..., jax.Array]


def _arrange(images: jax.Array) -> jax.Array:
    return jnp.transpose(images, (3, 1, 2, 0))


@jax.custom_vjp
def channel_sums(x: jax.Array) -> jax.Array:
    """Sums over each channel of [..., C, H, W, images] and of its square, float32 [2, C]."""
    return jax.lax.platform_dependent(x, cpu=_two_sums, default=_sums_at_once)


def _two_sums(x: jax.Array) -> jax.Array:
    wide = x.astype(jnp.float32)
    return jnp.stack([jnp.sum(wide, _all_but_channels(x)), jnp.sum(wide**2, _all_but_channels(x))])


def _sums_at_once(x: jax.Array) -> jax.Array:
    """The same in one reduction with two results, which reads ``x`` once: for a GPU."""
    wide = x.astype(jnp.float32)
    return jnp.stack(reduce_together((wide, wide**2), _all_but_channels(x)))


def _all_but_channels(x: jax.Array) -> tuple[int, ...]:
    return tuple(axis for axis in range(x.ndim) if axis != x.ndim - 4)


def _channel_sums_forward(x):
    return channel_sums(x), x


def _channel_sums_backward(x, g):
    return (affine(x, 2.0 * g[1], g[0]).astype(x.dtype),)


channel_sums.defvjp(_channel_sums_forward, _channel_sums_backward)


def _with_sums(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    return z, channel_sums(z)


def dense_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve with a dense 3x3 kernel: its nine windows side by side, one matrix product.

    Args:
      x: activations [C, H, W, B].
      kernel: [3, 3, C, F], of the same dtype.

    Returns:
      [F, H, W, B].
    """
    return pointwise_conv(
        jnp.concatenate(windows(padded(x), 1)), kernel.reshape(-1, kernel.shape[-1])
    )


def _dense_with_sums(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _with_sums(dense_conv(x, kernel))


def _separable(pending: Pending, depthwise, pointwise, stride, *, keep_x=False):
    x = activate(pending, depthwise.dtype)
    z = pointwise_conv(depthwise_conv(x, depthwise, stride=stride), pointwise[0, 0])
    return *_with_sums(z), x


def _pointwise_with_sums(x, kernel, stride):
    if stride > 1:  # by itself: jax 0.11's compiler for GPUs aborts where a product takes it in
        x = jax.lax.optimization_barrier(x[:, ::stride, ::stride])
    return _with_sums(pointwise_conv(x, kernel[0, 0]))


def _pool(x: jax.Array) -> jax.Array:
    return jnp.mean(x, axis=(1, 2), dtype=jnp.float32).T


def convolutions(images: int) -> Convolutions:
    """The convolutions of a batch."""
    return Convolutions(images, _arrange, _dense_with_sums, _separable, _pointwise_with_sums, _pool)
