"""The convolutions in C++ against those in plain JAX: outputs, sums and every gradient."""

import hashlib
import itertools
import os
import platform
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_jax.models import native, plain
from cifar_jax.runtime import kernels

pytestmark = pytest.mark.usefixtures("library")

KEPT = ("first", "residual")  # separable ones that keep x, without and with a skip
SEPARABLE = ("separable", *KEPT, "joined")  # which has a skip, and keeps nothing
KINDS = [
    ("dense", 1),
    *((kind, stride) for kind in ("pointwise", "separable", *KEPT) for stride in (1, 2)),
]
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


def error(actual, expected):
    """The largest difference, as a part of the largest number expected."""
    return float(np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max())


def assert_agree(actual, expected, tolerance=ROUNDING):
    for i, (a, b) in enumerate(zip(actual, expected, strict=True)):
        assert (a.shape, a.dtype) == (b.shape, jnp.float32), i
        assert np.abs(b).max() > 0.1, i
        assert error(a, b) < tolerance, i


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("kind", "stride"), [*KINDS, ("joined", 1), ("joined", 2)])
def test_equals_plain(kind, stride, shape):
    case = draw(kind, stride, *shape)
    assert_agree(compiled(native, kind, stride, *case), compiled(plain, kind, stride, *case))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", SEPARABLE)
def test_at_zero_relu_has_no_slope(kind, stride):
    """Half of the input is zero, as is what a skip adds there."""
    (x, scale, shift, skip, *weights), cotangents = draw(kind, stride, *SHAPES[0])
    if skip is not None:
        skip = jnp.where(x > 0, jnp.abs(skip), 0)
    unchanged = jnp.ones_like(scale), jnp.zeros_like(shift)
    inputs = (jax.nn.relu(x), *unchanged, skip, *weights)
    actual, expected = (
        compiled(each, kind, stride, inputs, cotangents) for each in (native, plain)
    )
    assert_agree(actual, expected)
    np.testing.assert_array_equal(actual[len(cotangents)][x < 0], 0)


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


@pytest.mark.parametrize(("kind", "stride"), KINDS)
def test_a_whole_stage_is_accurate(kind, stride):
    """A sum here is of 65,536 numbers."""
    case = draw(kind, stride, *LARGEST_STAGE)
    assert_agree(compiled(native, kind, stride, *case), by_definition(kind, stride, *case))


@pytest.mark.parametrize(("kind", "stride"), KINDS)
def test_jit_equals_eager(kind, stride):
    case = draw(kind, stride, *SHAPES[1])
    eager = value_and_gradients(native, kind, stride, *case)
    assert_agree(compiled(native, kind, stride, *case), eager, 1e-6)


@pytest.mark.parametrize("images", [0, None], ids=["over images too", "over others alone"])
@pytest.mark.parametrize(
    ("kind", "stride"),
    [("dense", 1), ("pointwise", 2), ("separable", 2), ("first", 1), ("residual", 2)],
)
def test_vmap_equals_a_loop(kind, stride, images):
    (x, *weights), cotangents = draw(kind, stride, *SHAPES[1])
    (x2, *weights2), cotangents2 = draw(kind, stride, *SHAPES[1], seed=1)
    sets = [(x, *weights), (x2 if images == 0 else x, *weights2)], [cotangents, cotangents2]
    one, many = (partial(each, native, kind, stride) for each in (compiled, value_and_gradients))
    inputs, stacked = (jax.tree.map(lambda *leaves: jnp.stack(leaves), *each) for each in sets)
    if images is None:
        inputs = (x, *inputs[1:])
    run = jax.jit(jax.vmap(many, in_axes=((images, *[0] * len(weights)), 0)))
    together = run(inputs, stacked)
    for i, case in enumerate(zip(*sets, strict=True)):
        assert_agree([result[i] for result in together], one(*case), 1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("kind", "where"),
    [
        *itertools.product(
            ["dense", "pointwise", "separable", "residual"], ["images", "kernel", "gradient"]
        ),
        ("residual", "skip"),
        ("residual", "gradient of x"),
    ],
)
def test_what_is_not_finite_spreads_as_in_plain(kind, where, value):
    """The trainer's guard looks at the gradients alone."""
    (x, *weights, kernel), (dz, dsums, *dx) = draw(kind, 1, *SHAPES[1])
    if where == "images":
        x = x.at[20, 3, 2, 1].set(value)
    elif where == "kernel":
        kernel = kernel.at[0, 0, 2, 3].set(value)
    elif where == "skip":
        weights[2] = weights[2].at[20, 3, 2, 1].set(value)
    elif where == "gradient":
        dz = dz.at[20, 3, 2, 1].set(value)
    else:
        scale, shift, skip = map(np.asarray, weights[:3])
        where_open = np.argwhere(scale * np.asarray(x) + shift + skip > 0)[0]
        dx = [dx[0].at[tuple(where_open)].set(value)]
    case = (x, *weights, kernel), (dz, dsums, *dx)
    actual, expected = (compiled(each, kind, 1, *case) for each in (native, plain))
    values = 2 + len(dx)  # before the gradients: output, sums, and what is kept
    untouched = {
        "images": (),
        "skip": (),
        "kernel": range(2, values),
        "gradient": range(values),
        "gradient of x": (*range(values), *range(len(actual) - 2, len(actual))),
    }[where]  # what x's gradient does not reach: the kernels' gradients
    for i, (a, b) in enumerate(zip(actual, expected, strict=True)):
        np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))
        assert np.isfinite(a).all() == (i in untouched)


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


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no such call")
def test_one_thread_and_all_give_the_same_bits():
    alone = f"""
import os
os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])
import {Path(__file__).stem} as tests
from cifar_jax.runtime import kernels
assert not kernels.load().missing
print(tests.fingerprint())
"""
    done = subprocess.run(
        [sys.executable, "-c", alone],
        cwd=Path(__file__).parent,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [fingerprint()], done.stderr


NARROWER = f"""
import {Path(__file__).stem} as tests
from cifar_jax.runtime import kernels
print(kernels.load())
for kind, stride in tests.KINDS:
    case = tests.draw(kind, stride, *tests.SHAPES[1])
    results = (tests.compiled(each, kind, stride, *case) for each in (tests.native, tests.plain))
    tests.assert_agree(*results)
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="its vectors have one width")
@pytest.mark.parametrize(("without", "most"), [("avx512f", 8), ("avx", 4)])
def test_processors_of_narrower_vectors(without, most, compiler):
    done = subprocess.run(
        [sys.executable, "-c", NARROWER],
        cwd=Path(__file__).parent,
        env=os.environ
        | {"JAX_PLATFORMS": "cpu", "CXX": shlex.join([*compiler, f"-mno-{without}"])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lanes = min(most, kernels.load().lanes)
    assert done.stdout == f"Library(lanes={lanes}, missing='')\n"


def test_calls_repeat_bit_for_bit():
    assert len({fingerprint() for _ in range(3)}) == 1


def test_first_derivatives_alone():
    """Forward mode and second derivatives are refused, not wrong."""
    inputs, cotangents = draw("separable", 1, *SHAPES[0])
    run = partial(value_and_gradients, native, "separable", 1)
    with pytest.raises((TypeError, ValueError), match=r"jvp|JVP|differentiat"):
        jax.grad(lambda inputs: jnp.sum(run(inputs, cotangents)[2]))(inputs)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(partial(convolve, native, "separable", 1), (inputs,), (inputs,))
