"""The convolutions in C++ for a CPU, see native.cc: twice as fast as the plain ones.

Activations are float32 [G, C, H, W, lanes], G groups of as many images as one vector of the
processor has numbers. The operations are those of :class:`cifar_jax.models.plain.Convolutions`,
with first derivatives only. They work once JAX knows the library that cifar_jax.runtime.kernels
compiles, which also tells the lanes.
"""

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cifar_jax.models.plain import Convolutions, Pending, dense_conv

HANDLERS = tuple(  # of the library; JAX knows them as cifar_jax.NAME
    f"{kind}{way}"
    for kind in ("Dense", "Separable", "Pointwise")
    for way in ("Forward", "Backward")
)


def _float32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


class _Convolution(NamedTuple):
    """What is known before the arrays are: which one, of how many images, and so on."""

    kind: str
    images: int
    stride: int = 1
    keep_x: bool = False

    def call(self, way: str, results: list[jax.ShapeDtypeStruct], *arrays: jax.Array) -> Any:
        name = f"cifar_jax.{self.kind}{way}"
        call = jax.ffi.ffi_call(name, results, vmap_method="sequential")
        return call(*arrays, stride=self.stride, images=self.images)


def _convolve_primal(convolution, y, scale, shift, skip, taps, kernel):
    return _forward(convolution, y, scale, shift, skip, taps, kernel)[0]


# Any, as the types of custom_vjp say nothing of what it gives
_convolve: Any = jax.custom_vjp(_convolve_primal, nondiff_argnums=(0,))


def _forward(convolution, y, scale, shift, skip, taps, kernel):
    groups, _, height, width, lanes = y.shape
    outputs = kernel.shape[1]
    size = (-(-side // convolution.stride) for side in (height, width))
    results = [
        _float32(groups, outputs, *size, lanes),
        _float32(2, outputs),
        _float32(*(y.shape if convolution.keep_x else (0,))),
        _float32(groups, 2, outputs),  # the sums of each group, as all last results here
    ]
    inputs = (y, scale, shift, skip, taps, kernel)
    z, sums, x, _ = convolution.call("Forward", results, *inputs)
    return (z, sums, x), (*inputs, z, x)


def _backward(convolution, residuals, gradients):
    dense = convolution.kind == "Dense"
    y, scale, shift, skip, taps, kernel, z, x = residuals
    results = [
        _float32(*((0,) if dense else y.shape)),
        _float32(*skip.shape),
        _float32(2, len(scale)),
        _float32(*taps.shape),
        _float32(*kernel.shape),
        _float32(len(y), 2 * len(scale) + taps.size + kernel.size),
    ]
    inputs = (y, scale, shift, taps, kernel, z, x, *gradients)
    dy, dskip, daffine, dtaps, dkernel, _ = convolution.call("Backward", results, *inputs)
    if dense:  # images: seldom asked for, and removed by the compiler if it is not
        dy = _dense_input_gradient(y, kernel, z, *gradients[:2])
    return dy, daffine[0], daffine[1], dskip, dtaps, dkernel


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


def _without_affine(convolution: _Convolution, x, kernel) -> tuple[jax.Array, jax.Array]:
    none = jnp.zeros(0, jnp.float32)
    z, sums, _ = _convolve(convolution, x, none, none, none, none, kernel)
    return z, sums


def _dense(images: int, x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    kernel = kernel.reshape(-1, kernel.shape[-1])
    return _without_affine(_Convolution("Dense", images), x, kernel)


def _separable(images: int, pending: Pending, depthwise, pointwise, stride, *, keep_x=False):
    y, scale, shift, skip = pending.y, pending.scale, pending.shift, pending.skip
    keep_x = keep_x or skip is not None  # the backward pass has no skip
    skip = jnp.zeros(0, jnp.float32) if skip is None else skip
    convolution = _Convolution("Separable", images, stride, keep_x)
    return _convolve(convolution, y, scale, shift, skip, depthwise.reshape(9, -1), pointwise[0, 0])


def _pointwise(images: int, x, kernel, stride) -> tuple[jax.Array, jax.Array]:
    return _without_affine(_Convolution("Pointwise", images, stride), x, kernel[0, 0])


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
