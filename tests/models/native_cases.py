"""Convolutions to be compared: in C++, in plain JAX and by definition, with all gradients."""

import hashlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from cifar_jax.models import native, plain
from cifar_jax.runtime import kernels

KEPT = ("first", "residual")  # separable ones that keep x, without and with a skip
SEPARABLE = ("separable", *KEPT, "joined")  # which has a skip, and keeps nothing
KINDS = [
    ("dense", 1),
    *((kind, stride) for kind in ("pointwise", "separable", *KEPT) for stride in (1, 2)),
]
JOINED = [("joined", 1), ("joined", 2)]
SHAPES = [  # size, channels, images: cut at the edges of the C++'s blocks, tiles and groups
    ((8, 8), (5, 4), 16),
    ((7, 5), (4, 5), 40),
    ((17, 13), (7, 11), 17),
    ((3, 70), (1, 1), 1),
    ((2, 1), (3, 2), 31),
]
LARGEST_STAGE = ((32, 32), (20, 20), 64)
LAST_STAGE = ((4, 4), (160, 160), 120)
ROUNDING = 3e-6  # of each result's largest number


def convolve(implementation, kind, stride, inputs):
    """One of its convolutions, of images [B, H, W, C] to images, the sums, and what it keeps.

    Inputs are images, [scale, shift, skip as images or none, taps] and kernel.
    """
    lanes = [kernels.load().lanes] if implementation is native else []
    images, *weights = inputs
    convolutions = implementation.convolutions(len(images), *lanes)
    y = convolutions.arrange(images)
    if kind == "dense":
        z, sums = convolutions.dense(y, *weights)
    elif kind == "pointwise":
        z, sums = convolutions.pointwise(y, *weights, stride)
    else:
        scale, shift, skip, *weights = weights
        skip = None if skip is None else convolutions.arrange(skip)
        pending, keep_x = plain.Pending(y, scale, shift, skip), kind in KEPT
        z, sums, kept = convolutions.separable(pending, *weights, stride, keep_x=keep_x)
        if keep_x:
            return as_images(z, len(images)), sums, as_images(kept, len(images))
    return as_images(z, len(images)), sums


def as_images(x, count):
    x = x.reshape(-1, *x.shape[-4:])  # [groups, F, H', W', images of a group]
    return jnp.transpose(x, (0, 4, 2, 3, 1)).reshape(-1, *x.shape[2:4], x.shape[1])[:count]


def value_and_gradients(implementation, kind, stride, inputs, cotangents):
    """What it gives, and the gradient of each input."""
    value, pull_back = jax.vjp(partial(convolve, implementation, kind, stride), inputs)
    return *value, *jax.tree.leaves(pull_back(cotangents))


compiled = jax.jit(value_and_gradients, static_argnums=(0, 1, 2))


def draw(kind, stride, size, channels, images, seed=0):
    """Inputs, and the gradients of output and sums; no number is where ReLU has its corner."""
    normal = np.random.default_rng(seed).normal
    inputs, outputs = channels
    x = normal(size=(images, *size, inputs))
    weights = [normal(size=(1 if kind != "dense" else 3,) * 2 + channels)]
    if kind in SEPARABLE:
        scale, shift = np.where(np.arange(inputs) % 3, 0.8, -1.2), normal(size=inputs)
        skip = normal(size=x.shape) if kind in ("residual", "joined") else None
        x += 0.01 * (np.abs(scale * x + shift + (0 if skip is None else skip)) < 0.001)
        weights = [scale, shift, skip, normal(size=(3, 3, 1, inputs)), *weights]
    cotangents = [
        normal(size=(images, *(-(-side // stride) for side in size), outputs)),
        normal(size=(2, outputs)),
    ]
    if kind in KEPT:
        cotangents.append(normal(size=x.shape))
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), ((x, *weights), tuple(cotangents)))


def windows(x, stride):
    """Views of the padded images for each tap."""
    height, width = x.shape[1] - 2, x.shape[2] - 2
    return [
        x[:, i : i + height : stride, j : j + width : stride] for i in range(3) for j in range(3)
    ]


def by_definition(kind, stride, inputs, cotangents):
    """In float64."""
    (x, *affine_and_taps, kernel), (dz, dsums, *dkept) = jax.tree.map(
        lambda a: np.asarray(a, np.float64), (inputs, cotangents)
    )
    rows = kernel.reshape(-1, kernel.shape[-1])
    scale, shift, skip, taps = affine_and_taps or (1, 0, None, np.ones((3, 3, 1, 1)))
    before = scale * x + shift + (0 if skip is None else skip)
    opened = before > 0 if kind in SEPARABLE else np.ones_like(x)
    seen = np.pad(before * opened, [(0, 0), (1, 1), (1, 1), (0, 0)])
    dseen = np.zeros_like(seen)
    taps = taps.reshape(9, -1)
    if kind == "dense":
        columns = np.concatenate(windows(seen, 1), axis=-1)
    elif kind == "pointwise":
        columns = windows(seen, stride)[4]
    else:
        columns = sum(w * tap for w, tap in zip(windows(seen, stride), taps, strict=True))
    z = columns @ rows
    g = dz + dsums[0] + 2 * z * dsums[1]
    dcolumns = g @ rows.T
    if kind == "dense":
        for w, part in zip(windows(dseen, 1), np.split(dcolumns, 9, axis=-1), strict=True):
            w += part
    elif kind == "pointwise":
        windows(dseen, stride)[4][...] = dcolumns
    else:
        for w, tap in zip(windows(dseen, stride), taps, strict=True):
            w += tap * dcolumns
    dx = (dseen[:, 1:-1, 1:-1] + (dkept[0] if dkept else 0)) * opened
    dkernel = np.einsum("bhwk,bhwf->kf", columns, g).reshape(kernel.shape)
    sums = np.stack([z.sum((0, 1, 2)), (z * z).sum((0, 1, 2))])
    if kind not in SEPARABLE:
        return z, sums, dx, dkernel
    kept = [seen[:, 1:-1, 1:-1]] if dkept else []
    dskip = [] if skip is None else [dx]
    dtaps = [(w * dcolumns).sum((0, 1, 2)) for w in windows(seen, stride)]
    dtaps = np.reshape(dtaps, (3, 3, 1, -1))
    daffine = (dx * x).sum((0, 1, 2)), dx.sum((0, 1, 2))
    return z, sums, *kept, dx * scale, *daffine, *dskip, dtaps, dkernel


def error(actual, expected):
    """The largest difference, as a part of the largest number expected."""
    return float(np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max())


def assert_agree(actual, expected, tolerance=ROUNDING):
    for i, (a, b) in enumerate(zip(actual, expected, strict=True)):
        assert (a.shape, a.dtype) == (b.shape, jnp.float32), i
        assert np.abs(b).max() > 0.1, i
        assert error(a, b) < tolerance, i


def fingerprint():
    """A hash of all results at the stages of the most pixels and of the most weights."""
    digest = hashlib.sha256()
    for kind, stride, shape in [
        *((*each, LARGEST_STAGE) for each in KINDS),
        ("separable", 1, LAST_STAGE),
    ]:
        for result in compiled(native, kind, stride, *draw(kind, stride, *shape)):
            digest.update(np.asarray(result).tobytes())
    return digest.hexdigest()
