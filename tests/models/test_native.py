"""The convolutions in C++ against their definition, and those in plain JAX: every result."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from native_cases import (
    JOINED,
    KINDS,
    LARGEST_STAGE,
    SEPARABLE,
    SHAPES,
    assert_agree,
    by_definition,
    compiled,
    convolve,
    draw,
    value_and_gradients,
)

from cifar_jax.models import native, plain

pytestmark = pytest.mark.usefixtures("library")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("kind", "stride"), [*KINDS, *JOINED])
def test_equals_its_definition(kind, stride, shape):
    case = draw(kind, stride, *shape)
    assert_agree(compiled(native, kind, stride, *case), by_definition(kind, stride, *case))


@pytest.mark.parametrize(("kind", "stride"), [*KINDS, *JOINED])
def test_equals_plain(kind, stride):
    case = draw(kind, stride, *SHAPES[1])
    assert_agree(compiled(native, kind, stride, *case), compiled(plain, kind, stride, *case))


@pytest.mark.parametrize(
    ("lanes", "stride", "width", "message"),
    [
        (1 / 2, 1, 8, "images must lie in lanes of"),
        (2, 1, 8, "images must lie in lanes of"),
        (1, 3, 8, "there is no stride of 3"),
        (1, 1, 0, "images must have a width"),
    ],
)
def test_what_it_refuses(library, lanes, stride, width, message):
    """Rather than reading and writing elsewhere, forward and backward."""
    convolutions = native.convolutions(library, int(library * lanes))
    y = jnp.zeros((1, 4, 8, width, int(library * lanes)))
    pending = plain.Pending(y, jnp.ones(4), jnp.zeros(4))
    taps, kernel, none = jnp.zeros((3, 3, 1, 4)), jnp.zeros((1, 1, 4, 4)), jnp.zeros(0)
    residuals = (y, none, none, none, none, kernel[0, 0], y, none)
    gradients = (y, jnp.zeros((2, 4)), none)
    pointwise = native._Convolution("Pointwise", library, stride)
    for call in (
        lambda: convolutions.pointwise(y, kernel, stride),
        lambda: convolutions.separable(pending, taps, kernel, stride),
        lambda: native._backward(pointwise, residuals, gradients),
    ):
        with pytest.raises(jax.errors.JaxRuntimeError, match=message):
            jax.block_until_ready(call())


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", SEPARABLE)
def test_at_zero_relu_has_no_slope(kind, stride):
    """Half of the input is zero, as is what a skip adds there."""
    (x, scale, shift, skip, *weights), cotangents = draw(kind, stride, *SHAPES[1])
    if skip is not None:
        skip = jnp.where(x > 0, jnp.abs(skip), 0)
    unchanged = jnp.ones_like(scale), jnp.zeros_like(shift)
    inputs = (jax.nn.relu(x), *unchanged, skip, *weights)
    actual, expected = (
        compiled(each, kind, stride, inputs, cotangents) for each in (native, plain)
    )
    assert_agree(actual, expected)
    np.testing.assert_array_equal(actual[len(cotangents)][x < 0], 0)


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
    """A step is skipped where the loss or the gradient is not finite."""
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


def test_first_derivatives_alone():
    """Forward mode and second derivatives are refused, not wrong."""
    inputs, cotangents = draw("separable", 1, *SHAPES[0])
    run = partial(value_and_gradients, native, "separable", 1)
    with pytest.raises((TypeError, ValueError), match=r"jvp|JVP|differentiat"):
        jax.grad(lambda inputs: jnp.sum(run(inputs, cotangents)[2]))(inputs)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(partial(convolve, native, "separable", 1), (inputs,), (inputs,))
