"""The convolutions of a network: what they read that is pending, and the sums that they give."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conv_cases import (
    BATCH,
    CHANNELS,
    TOLERANCE,
    dense_case,
    error,
    normal,
    reference_dense,
    reference_depthwise,
    reference_pointwise,
    widened,
)

from cifar_jax.models import plain
from cifar_jax.models.plain import Pending

CONVOLUTIONS = plain.convolutions(BATCH)


@pytest.mark.parametrize("sums", [plain._two_sums, plain._sums_at_once, plain.channel_sums])
@pytest.mark.parametrize("shape", [(8, 4, 4, 16), (2, 8, 4, 4, 16)])
def test_channel_sums_by_their_definition(shape, sums):
    x = normal(0, shape)
    wide, others = np.asarray(x, np.float64), tuple(a for a in range(x.ndim) if a != x.ndim - 4)
    found = sums(x)
    np.testing.assert_allclose(found, [wide.sum(others), (wide**2).sum(others)], rtol=1e-4)
    assert sums(x.astype(jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_gradient_of_channel_sums_is_that_of_two_sums(dtype):
    x, g = normal(0, (8, 4, 4, 16), dtype), normal(1, (2, 8))
    (found,), (expected,) = (
        jax.vjp(sums, x)[1](g) for sums in (plain.channel_sums, plain._two_sums)
    )
    assert found.dtype == dtype
    assert error(*widened((found, expected))) < TOLERANCE[dtype]


def test_images_are_arranged_and_pooled():
    images = normal(0, (BATCH, 7, 5, CHANNELS))
    x = CONVOLUTIONS.arrange(images)
    assert x.shape == (CHANNELS, 7, 5, BATCH)
    assert x[1, 2, 3, 0] == images[0, 2, 3, 1]
    pooled = CONVOLUTIONS.pool(x.astype(jnp.bfloat16))
    assert pooled.dtype == jnp.float32
    np.testing.assert_allclose(pooled, images.mean((1, 2)), atol=0.01)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(("name", "stride"), [("dense", 1), ("pointwise", 1), ("pointwise", 2)])
def test_operations_give_sums_too(name, stride, dtype):
    x, kernel, _ = dense_case((7, 6), dtype)
    if name == "dense":
        z, sums = CONVOLUTIONS.dense(x, kernel)
        expected = reference_dense(*widened((x, kernel)))
    else:
        z, sums = CONVOLUTIONS.pointwise(x, kernel[1:2, 1:2], stride)
        expected = reference_pointwise(*widened((x[:, ::stride, ::stride], kernel[1, 1])))
    assert_output_and_sums(z, sums, expected, dtype)


def assert_output_and_sums(z, sums, expected, dtype):
    """The sums are float32 and those of the output as it was rounded."""
    assert (z.dtype, sums.dtype) == (dtype, jnp.float32)
    assert error(*widened((z, expected))) < 2 * TOLERANCE[dtype]
    (z,) = widened((z,))
    for actual, summed in zip(sums, (z, z.astype(np.float64) ** 2), strict=True):
        assert error(actual, summed.sum((1, 2, 3), np.float64)) < TOLERANCE[jnp.float32]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("skip_dtype", [None, jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_separable_convolution_computes_what_was_pending(stride, skip_dtype, dtype):
    y, kernel, _ = dense_case((7, 6), dtype)
    scale, shift, taps = normal(3, CHANNELS), normal(4, CHANNELS), normal(5, (3, 3, 1, CHANNELS))
    kernel, taps = kernel[1:2, 1:2], taps.astype(dtype)
    skip = None if skip_dtype is None else normal(6, y.shape, skip_dtype)
    pending = Pending(y, scale, shift, skip)
    z, sums, kept = CONVOLUTIONS.separable(pending, taps, kernel, stride, keep_x=True)
    by_channel = (slice(None), None, None, None)
    x = widened((y,))[0] * scale[by_channel] + shift[by_channel]
    if skip is not None:
        x += widened((skip,))[0]
    x = np.maximum(x, 0)
    assert kept.dtype == dtype
    assert error(*widened((kept, x))) < TOLERANCE[dtype]
    taps, kernel = widened((taps, kernel))
    expected = reference_pointwise(reference_depthwise(x, taps, stride=stride), kernel[0, 0])
    assert_output_and_sums(z, sums, expected, dtype)


def test_a_strided_slice_stays_out_of_its_product():
    """A GPU's compiler aborts where it is taken in: benchmarks/README.md."""
    convolve = partial(plain._pointwise_with_sums, kernel=jnp.ones((1, 1, 2, 3)))
    x = jnp.ones((2, 4, 4, 5))
    for stride, barriers in ((1, 0), (2, 1)):
        program = str(jax.make_jaxpr(partial(convolve, stride=stride))(x))
        assert program.count("optimization_barrier") == barriers
