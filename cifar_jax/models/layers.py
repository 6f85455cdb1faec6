"""The layers of the separable residual network, on activations of shape [C, H, W, B].

The batch lies last: each pixel of a channel is then one contiguous row of B numbers, which makes
shifts along H and W plain offsets, 1x1 convolutions plain matrix products, and batch statistics
sums of contiguous memory. Kernels keep Flax's layout whatever the layout of the activations.
"""

from collections.abc import Callable
from functools import partial, reduce
from operator import add
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

conv_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")  # Kaiming-normal, fan_out
TAPS = tuple((i, j) for i in range(3) for j in range(3))  # of a 3x3 kernel, row by row


def _windows(x: jax.Array, stride: int) -> list[jax.Array]:
    """What each tap of a 3x3 kernel sees of ``x`` [..., H, W, B], zero-padded by one pixel."""
    height, width = x.shape[-3:-1]
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [(1, 1), (1, 1), (0, 0)])
    return [padded[..., i : i + height : stride, j : j + width : stride, :] for i, j in TAPS]


def _depthwise(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    taps = kernel.reshape(9, -1, 1, 1, 1)
    return reduce(add, (w * tap for w, tap in zip(_windows(x, stride), taps, strict=True)))


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


def _kernel_gradient(x: jax.Array, g: jax.Array, stride: int) -> jax.Array:
    """The nine sums of one channel, float32 [9], of ``x`` [H, W, B] and the output's gradient."""
    return jnp.stack([jnp.sum(w * g, dtype=jnp.float32) for w in _windows(x, stride)])


def _kernel_gradient_by_channel(x: jax.Array, g: jax.Array, *, stride: int) -> jax.Array:
    """All channels in a loop, [C, 9]: each stays in a CPU's cache while its nine sums are taken."""
    return jax.lax.map(lambda pair: _kernel_gradient(pair[0], pair[1], stride), (x, g))


def _kernel_gradient_at_once(x: jax.Array, g: jax.Array, *, stride: int) -> jax.Array:
    """All channels side by side, [C, 9]: few launches, for a GPU."""
    return jax.vmap(partial(_kernel_gradient, stride=stride))(x, g)


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


@jax.custom_vjp
def pointwise_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve with a 1x1 kernel: one matrix product, with gradients that transpose nothing.

    Args:
      x: activations [C, H, W, B].
      kernel: [C, F], of the same dtype.

    Returns:
      [F, H, W, B].
    """
    return _product(kernel.T, x.reshape(len(x), -1)).reshape(-1, *x.shape[1:])


def _product(a: jax.Array, b: jax.Array, contract_b: int = 0) -> jax.Array:
    return jax.lax.dot_general(a, b, (((1,), (contract_b,)), ((), ())))


def _pointwise_forward(x, kernel):
    return pointwise_conv(x, kernel), (x, kernel)


def _pointwise_backward(residuals, g):
    x, kernel = residuals
    g_rows = g.reshape(len(g), -1)
    dx = _product(kernel, g_rows).reshape(x.shape)
    return dx, _product(x.reshape(len(x), -1), g_rows, contract_b=1)


pointwise_conv.defvjp(_pointwise_forward, _pointwise_backward)


class Depthwise(nn.Module):
    """A 3x3 depthwise convolution without bias."""

    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [C, H, W, B] to [C, H/stride, W/stride, B]."""
        kernel = self.param("kernel", conv_init, (3, 3, 1, x.shape[0]))
        return depthwise_conv(x, kernel.astype(self.dtype), stride=self.stride)


class Pointwise(nn.Module):
    """A 1x1 convolution without bias: one matrix product."""

    features: int
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [C, H, W, B] to [features, H/stride, W/stride, B]."""
        kernel = self.param("kernel", conv_init, (1, 1, x.shape[0], self.features))
        x = x[:, :: self.stride, :: self.stride]
        return pointwise_conv(x, kernel[0, 0].astype(self.dtype))


class Stem(nn.Module):
    """A dense 3x3 convolution without bias: its nine windows side by side, one matrix product."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [C, H, W, B] to [features, H, W, B]."""
        kernel = self.param("kernel", conv_init, (3, 3, x.shape[0], self.features))
        windows = jnp.concatenate(_windows(x, 1))
        kernel = kernel.reshape(-1, self.features).astype(self.dtype)
        return pointwise_conv(windows, kernel)


def batch_norm(name: str, *, train: bool, dtype: Any) -> Callable[[jax.Array], jax.Array]:
    """Batch normalisation of [C, H, W, B] over B, H and W, with statistics in float32.

    The running statistics move by a tenth towards each batch's. Their variance is the biased one
    (PyTorch's is unbiased: larger by B H W / (B H W - 1)).
    """
    norm = nn.BatchNorm(not train, axis=0, momentum=0.9, epsilon=1e-5, name=name)
    # in and out by hand: Flax promotes bfloat16 by itself, which strict promotion forbids
    return lambda x: norm(x.astype(jnp.float32)).astype(dtype)


class SeparableBlock(nn.Module):
    """Two depthwise-separable convolutions and a shortcut.

    dw3x3(stride) - pw1x1 - BN - ReLU - dw3x3 - pw1x1 - BN, plus the shortcut, then ReLU. The
    shortcut is pw1x1(stride) - BN where the shape changes, and the identity elsewhere.
    """

    features: int
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Map [C, H, W, B] to [features, H/stride, W/stride, B]."""
        norm = partial(batch_norm, train=train, dtype=self.dtype)
        y = Depthwise(self.stride, self.dtype, name="depthwise1")(x)
        y = Pointwise(self.features, dtype=self.dtype, name="pointwise1")(y)
        y = nn.relu(norm("norm1")(y))
        y = Depthwise(1, self.dtype, name="depthwise2")(y)
        y = Pointwise(self.features, dtype=self.dtype, name="pointwise2")(y)
        y = norm("norm2")(y)
        if self.stride != 1 or x.shape[0] != self.features:
            x = Pointwise(self.features, self.stride, self.dtype, name="shortcut")(x)
            x = norm("shortcut_norm")(x)
        return nn.relu(x + y)
