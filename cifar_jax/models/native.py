"""The convolutions in C++ for a CPU, see native.cc: several times as fast as the plain ones.

Activations are float32 [G, C, H, W, lanes], G groups of as many images as one vector of the
processor has numbers. The operations are those of :class:`cifar_jax.models.plain.Convolutions`,
with first derivatives only. They work once JAX knows the library that cifar_jax.runtime.kernels
compiles, which also tells the lanes.
"""

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cifar_jax.models.plain import Convolutions, dense_conv

HANDLERS = tuple(  # of the library; JAX knows them as cifar_jax.NAME
    f"{kind}{way}"
    for kind in ("Dense", "Separable", "Pointwise")
    for way in ("Forward", "Backward")
)


def _float32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


class _Convolution(NamedTuple):
    """What is known before the arrays are: which one, the output's stride, and how many images."""

    kind: str
    stride: int
    images: int

    def call(self, way: str, results: list[jax.ShapeDtypeStruct], *arrays: jax.Array):
        name = f"cifar_jax.{self.kind}{way}"
        call = jax.ffi.ffi_call(name, results, vmap_method="sequential")
        return call(*arrays, stride=self.stride, images=self.images)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolve(convolution, x, scale, shift, taps, kernel) -> Any:
    return _forward(convolution, x, scale, shift, taps, kernel)[0]


def _forward(convolution, x, scale, shift, taps, kernel):
    groups, _, height, width, lanes = x.shape
    outputs = kernel.shape[1]
    size = (-(-side // convolution.stride) for side in (height, width))
    results = [
        _float32(groups, outputs, *size, lanes),
        _float32(2, outputs),
        _float32(groups, 2, outputs),  # the sums of each group, as all last results here
    ]
    inputs = (x, scale, shift, taps, kernel)
    z, sums, _ = convolution.call("Forward", results, *inputs)
    return (z, sums), (*inputs, z)


def _backward(convolution, residuals, gradients):
    dense = convolution.kind == "Dense"
    *inputs, z = residuals
    x, scale, _, taps, kernel = inputs
    dz, dsums = gradients
    results = [
        _float32(*((0,) if dense else x.shape)),
        _float32(2, len(scale)),
        _float32(*taps.shape),
        _float32(*kernel.shape),
        _float32(len(x), 2 * len(scale) + taps.size + kernel.size),
    ]
    dx, daffine, dtaps, dkernel, _ = convolution.call("Backward", results, *inputs, z, dz, dsums)
    if dense:  # images: seldom asked for, and removed by the compiler if it is not
        dx = _dense_input_gradient(x, kernel, z, dz, dsums)
    return dx, daffine[0], daffine[1], dtaps, dkernel


def _dense_input_gradient(x, kernel, z, dz, dsums):
    by_channel = dsums[:, None, :, None, None, None]
    dz = dz + by_channel[0] + 2 * z * by_channel[1]
    kernel = kernel.reshape(3, 3, x.shape[1], -1)
    return jax.vjp(jax.vmap(lambda x: dense_conv(x, kernel)), x)[1](dz)[0]


_convolve.defvjp(_forward, _backward)


def _arrange(lanes: int, images: jax.Array) -> jax.Array:
    missing = -len(images) % lanes
    images = jnp.pad(images, [(0, missing), (0, 0), (0, 0), (0, 0)])
    return jnp.transpose(images.reshape(-1, lanes, *images.shape[1:]), (0, 4, 2, 3, 1))


def _dense(images: int, x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    none, kernel = jnp.zeros(0, jnp.float32), kernel.reshape(-1, kernel.shape[-1])
    return _convolve(_Convolution("Dense", 1, images), x, none, none, none, kernel)


def _separable(
    images, x, scale, shift, depthwise, pointwise, stride
) -> tuple[jax.Array, jax.Array]:
    convolution = _Convolution("Separable", stride, images)
    return _convolve(convolution, x, scale, shift, depthwise.reshape(9, -1), pointwise[0, 0])


def _pointwise(images, x, kernel, stride) -> tuple[jax.Array, jax.Array]:
    none = jnp.zeros(0, jnp.float32)
    return _convolve(_Convolution("Pointwise", stride, images), x, none, none, none, kernel[0, 0])


def _pool(images: int, x: jax.Array) -> jax.Array:
    return jnp.mean(x, axis=(2, 3)).transpose(0, 2, 1).reshape(-1, x.shape[1])[:images]


@cache
def convolutions(images: int, lanes: int) -> Convolutions:
    """The convolutions of a batch; its last group is filled up with zeros."""
    return Convolutions(
        images,
        partial(_arrange, lanes),
        partial(_dense, images),
        partial(_separable, images),
        partial(_pointwise, images),
        partial(_pool, images),
    )
