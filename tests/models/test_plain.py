"""The convolutions against XLA's, in values and gradients: no step may be faster by being wrong."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conv_cases import (
    CHANNELS,
    TOLERANCE,
    compiled,
    dense_case,
    depthwise_case,
    error,
    normal,
    pointwise_case,
    reference_dense,
    reference_depthwise,
    reference_pointwise,
    value_and_gradients,
    widened,
)

from cifar_jax.models import depthwise
from cifar_jax.models.plain import dense_conv, depthwise_conv, pointwise_conv

SIZES = [(8, 8), (7, 5), (1, 4)]
LARGEST_STAGE = (20, 32, 32, 64)  # C, H, W, B


def assert_agree(actual, expected, tolerance):
    for name, a, b in zip(("value", "dx", "dkernel"), actual, expected, strict=True):
        assert a.shape == b.shape, name
        assert a.dtype == b.dtype, name
        (a, b) = widened((a, b))
        assert np.abs(b).max() > 0.1, name
        assert error(a, b) < tolerance, name


def assert_agrees_with_xla(conv, reference, case, dtype):
    """The reference convolves the same, perhaps rounded, numbers in float32."""
    actual = compiled(conv, *case)
    expected = compiled(reference, *widened(case))
    assert_agree(actual, [a.astype(dtype) for a in expected], TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", SIZES)
def test_depthwise_equals_a_grouped_convolution(size, stride, dtype):
    assert_agrees_with_xla(
        partial(depthwise_conv, stride=stride),
        partial(reference_depthwise, stride=stride),
        depthwise_case(size, stride, dtype),
        dtype,
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("size", SIZES)
def test_pointwise_and_dense_equal_convolutions(size, dtype):
    case = pointwise_case(size, dtype)
    assert_agrees_with_xla(pointwise_conv, reference_pointwise, case, dtype)
    assert_agrees_with_xla(dense_conv, reference_dense, dense_case(size, dtype), dtype)


TRANSFORMED = [
    pytest.param(depthwise_conv, reference_depthwise, depthwise_case, id="depthwise"),
    pytest.param(
        partial(depthwise_conv, stride=2),
        partial(reference_depthwise, stride=2),
        partial(depthwise_case, (7, 6), 2),
        id="strided",
    ),
    pytest.param(pointwise_conv, reference_pointwise, pointwise_case, id="pointwise"),
    pytest.param(dense_conv, reference_dense, dense_case, id="dense"),
]


@pytest.mark.parametrize(("conv", "reference", "make_case"), [TRANSFORMED[0], *TRANSFORMED[2:]])
def test_jit_equals_eager(conv, reference, make_case):
    case = make_case()
    eager = value_and_gradients(conv, *case)
    assert_agree(eager, compiled(conv, *case), 1e-6)
    assert_agree(eager, compiled(reference, *case), 2e-6)


@pytest.mark.parametrize(("conv", "reference", "make_case"), TRANSFORMED)
def test_under_vmap_over_inputs_and_kernels(conv, reference, make_case):
    case = make_case(leading=(2,))
    actual = jax.jit(jax.vmap(partial(value_and_gradients, conv)))(*case)
    for i in range(2):
        expected = compiled(reference, *(array[i] for array in case))
        assert_agree([array[i] for array in actual], expected, 2e-6)


@pytest.mark.parametrize(("conv", "reference", "make_case"), TRANSFORMED)
def test_under_vmap_over_kernels_alone(conv, reference, make_case):
    x, kernels, g = make_case(leading=(2,))
    run = jax.jit(jax.vmap(partial(value_and_gradients, conv), in_axes=(None, 0, 0)))
    actual = run(x[0], kernels, g)
    for i in range(2):
        expected = compiled(reference, x[0], kernels[i], g[i])
        assert_agree([array[i] for array in actual], expected, 2e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gradients_of_a_whole_stage_are_accurate(dtype):
    """At the largest stage a kernel's gradient sums 65,536 numbers: against float64."""
    kernel = (3, 3, 1, LARGEST_STAGE[0])
    x, g = (normal(seed, LARGEST_STAGE, dtype) for seed in (0, 2))
    case = x, normal(1, kernel, dtype), g
    y, dx, dkernel = widened(compiled(depthwise_conv, *case))
    x, kernel, g = (array.astype(np.float64) for array in widened(case))
    exact_y, exact_dx, exact_dkernel = np.zeros_like(x), np.zeros_like(x), np.zeros_like(kernel)
    height, width = x.shape[1:3]
    for i in range(3):
        for j in range(3):
            # output pixel p reads input pixel p + (i - 1, j - 1), where there is one
            there = np.s_[:, max(i - 1, 0) : height + i - 1, max(j - 1, 0) : width + j - 1]
            here = np.s_[:, max(1 - i, 0) : height + 1 - i, max(1 - j, 0) : width + 1 - j]
            tap = kernel[i, j, 0, :, None, None, None]
            exact_y[here] += x[there] * tap
            exact_dx[there] += g[here] * tap
            exact_dkernel[i, j, 0] = np.einsum("chwb,chwb->c", x[there], g[here])
    assert error(y, exact_y) < TOLERANCE[dtype]
    assert error(dx, exact_dx) < TOLERANCE[dtype]
    assert error(dkernel, exact_dkernel) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_pointwise_gradients_of_a_whole_stage_are_accurate(dtype):
    x, g = (normal(seed, LARGEST_STAGE, dtype) for seed in (0, 2))
    case = x, normal(1, (20, 20), dtype), g
    actual = widened(compiled(pointwise_conv, *case))
    x, kernel, g = (array.astype(np.float64) for array in widened(case))
    rows, g_rows = x.reshape(20, -1), g.reshape(20, -1)
    exact = kernel.T @ rows, kernel @ g_rows, rows @ g_rows.T
    for a, b in zip(actual, exact, strict=True):
        assert error(a.reshape(b.shape), b) < TOLERANCE[dtype]


@pytest.mark.parametrize(("conv", "reference", "make_case"), TRANSFORMED)
def test_second_derivatives(conv, reference, make_case):
    x, kernel, g = make_case()

    def curvature(conv):
        def along(x, kernel):
            dx, dkernel = jax.vjp(conv, x, kernel)[1](g)
            return jnp.sum(dx * x**2) + jnp.sum(dkernel * kernel**2)

        return jax.jit(jax.grad(along, (0, 1)))(x, kernel)

    for actual, expected in zip(curvature(conv), curvature(reference), strict=True):
        assert error(actual, expected) < 2e-6


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    "gradient", [depthwise._kernel_gradient_by_channel, depthwise._kernel_gradient_at_once]
)
def test_both_kernel_gradients_by_their_definition(gradient, stride):
    x, _, g = depthwise_case((6, 5), stride)
    padded = np.pad(np.asarray(x, np.float64), [(0, 0), (1, 1), (1, 1), (0, 0)])
    np.testing.assert_array_equal(depthwise.padded(x), padded)
    expected = np.zeros((CHANNELS, 9))
    for c, i, j in np.ndindex(CHANNELS, 3, 3):
        window = padded[c, i : i + 6 : stride, j : j + 5 : stride]
        expected[c, 3 * i + j] = (window * np.asarray(g[c], np.float64)).sum()
    np.testing.assert_allclose(
        gradient(depthwise.padded(x), g, stride=stride), expected, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_sums_of_sixteen_bits_are_in_float32(stride):
    """Where a GPU would otherwise round after each operation."""
    x, kernel, g = depthwise_case((8, 8), stride, jnp.bfloat16)
    conv = partial(depthwise_conv, stride=stride)
    text = str(jax.make_jaxpr(partial(value_and_gradients, conv))(x, kernel, g))
    found = re.findall(r":(\w+)\[[^\]]*\] = (?:mul|add|add_any|reduce|reduce_sum)\b", text)
    assert len(found) > 50
    assert set(found) == {"f32"}


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("platform", "barriers"), [("cuda", 3), ("cpu", 0)])
def test_a_gpu_writes_what_nine_taps_read(platform, barriers, stride):
    """The padded input, the padded gradient, and the gradient that is found from it."""
    case = depthwise_case((8, 8), stride)
    conv = partial(value_and_gradients, partial(depthwise_conv, stride=stride))
    traced = jax.jit(conv).trace(*case)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("optimization_barrier") == barriers
