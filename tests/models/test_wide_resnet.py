"""The teacher's network: its size and cost, its layers against a formula, and its training."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conv_cases import draw
from jax.flatten_util import ravel_pytree

from cifar_jax.config_file import load_config
from cifar_jax.models import (
    WideResNet,
    count_params,
    from_config,
    multiply_adds,
    receptive_field,
)

KEY = jax.random.key(0)
SMALL = WideResNet(num_classes=3, stem=3, stages=(4, 6), blocks=2)
IMAGES = jax.random.normal(KEY, (5, 10, 10, 3))


def variables_of(model):
    return draw(jax.eval_shape(model.init, KEY, IMAGES[:1]))


def test_the_config_is_wrn_16_4():
    model = from_config(load_config("configs/wide_teacher.py").model)
    assert isinstance(model, WideResNet)
    shapes = jax.eval_shape(model.init, KEY, jnp.zeros((1, 32, 32, 3)))
    assert count_params(shapes["params"]) == 2_748_890
    kernels = [k for k in jax.tree.leaves(shapes["params"]) if k.ndim > 1]
    assert len(kernels) == 16 + 1  # convolutions, the shortcuts' among them, and the head
    assert receptive_field(model) == 3 + 4 * 2 + (2 + 3 * 4) + (4 + 3 * 8)


@pytest.mark.parametrize("side", [32, 15])
@pytest.mark.parametrize("model", [WideResNet(), SMALL])
def test_multiply_adds_of_the_convolutions_themselves(model, side):
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    variables = jax.eval_shape(model.init, KEY, image)
    jaxpr = jax.make_jaxpr(model.apply)(variables, image)
    found = 0
    for equation in jaxpr.eqns:
        (kernel, output) = equation.invars[-1].aval.shape, equation.outvars[0].aval.shape
        if equation.primitive.name == "conv_general_dilated":
            found += np.prod(kernel) * np.prod(output[1:3])
        elif equation.primitive.name == "dot_general":
            found += np.prod(kernel)
    assert multiply_adds(model, side=side) == found


@pytest.mark.parametrize("train", [False, True])
def test_the_network_by_formula(train):
    """In float64, with convolutions written out; each stage begins with a shortcut's kernel."""
    variables = variables_of(SMALL)
    logits, _ = SMALL.apply(variables, IMAGES, train=train, mutable=["batch_stats"])
    params, statistics = jax.tree.map(
        lambda leaf: np.asarray(leaf, float), (variables["params"], variables["batch_stats"])
    )

    def conv(x, kernel, stride=1):
        pad = kernel.shape[0] // 2
        x = np.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
        side = (x.shape[1] - kernel.shape[0]) // stride + 1
        z = np.zeros((len(x), side, side, kernel.shape[-1]))
        for i in range(side):
            for j in range(side):
                top, left = stride * i, stride * j
                window = x[:, top : top + kernel.shape[0], left : left + kernel.shape[1]]
                z[:, i, j] = np.einsum("bhwc,hwcf->bf", window, kernel)
        return z

    def norm_relu(x, weights, running):
        mean, var = running["mean"], running["var"]
        if train:
            mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        z = (x - mean) / np.sqrt(var + 1e-5) * weights["scale"] + weights["bias"]
        return np.maximum(z, 0)

    x = conv(np.asarray(IMAGES, float), params["stem"]["kernel"])
    for stage in (1, 2):
        for block in (1, 2):
            p, s = (tree[f"stage{stage}_block{block}"] for tree in (params, statistics))
            stride = 2 if (stage, block) == (2, 1) else 1
            assert ("shortcut" in p) == (block == 1)
            y = norm_relu(x, p["norm1"], s["norm1"])
            x = conv(y, p["shortcut"]["kernel"], stride) if block == 1 else x
            y = norm_relu(conv(y, p["conv1"]["kernel"], stride), p["norm2"], s["norm2"])
            x = x + conv(y, p["conv2"]["kernel"])
    x = norm_relu(x, params["norm"], statistics["norm"]).mean((1, 2))
    expected = x @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_running_statistics_move_by_a_tenth_towards_the_batch():
    variables = variables_of(SMALL)
    _, updated = SMALL.apply(variables, IMAGES, train=True, mutable=["batch_stats"])
    stem = variables["params"]["stem"]["kernel"]
    z = jax.lax.conv_general_dilated(
        IMAGES, stem, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    trees: Any = (variables["batch_stats"], updated["batch_stats"])
    old, new = (tree["stage1_block1"]["norm1"] for tree in trees)
    np.testing.assert_allclose(new["mean"], 0.9 * old["mean"] + 0.1 * z.mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(new["var"], 0.9 * old["var"] + 0.1 * z.var((0, 1, 2)), atol=1e-5)


def test_kernels_begin_as_he_has_them():
    """A normal distribution with a variance of 2 over the outputs' fan."""
    model = WideResNet(stem=32, stages=(64,), blocks=1)
    params: Any = model.init(KEY, IMAGES[:1])["params"]
    kernel = params["stage1_block1"]["conv1"]["kernel"]
    assert kernel.shape == (3, 3, 32, 64)
    np.testing.assert_allclose(np.std(kernel), np.sqrt(2 / (9 * 64)), rtol=0.02)


def test_bfloat16_computes_what_float32_does():
    variables = variables_of(SMALL)
    exact = jnp.asarray(jax.jit(SMALL.apply)(variables, IMAGES))
    with jax.numpy_dtype_promotion("standard"):  # which flax's BatchNorm needs
        rounded = jnp.asarray(jax.jit(SMALL.clone(dtype=jnp.bfloat16).apply)(variables, IMAGES))
    assert rounded.dtype == jnp.float32
    assert not np.array_equal(rounded, exact)
    np.testing.assert_allclose(rounded, exact, atol=0.1 * float(jnp.abs(exact).max()))


def test_bfloat16_trains_float32_parameters():
    variables, model = variables_of(SMALL), SMALL.clone(dtype=jnp.bfloat16)

    def loss(params, model):
        variables_now = {"params": params, "batch_stats": variables["batch_stats"]}
        logits, updated = model.apply(variables_now, IMAGES, train=True, mutable=["batch_stats"])
        return jnp.mean(jax.nn.logsumexp(logits, axis=1)), updated

    with jax.numpy_dtype_promotion("standard"):
        found, expected = (
            jax.jit(jax.grad(partial(loss, model=each), has_aux=True))(variables["params"])
            for each in (model, SMALL)
        )
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype("float32")}
    (a, _), (b, _) = (ravel_pytree(gradient) for gradient, _ in (found, expected))
    assert 0 < np.linalg.norm(a - b) < 0.1 * np.linalg.norm(b)
    old, new = (ravel_pytree(updated)[0] for _, updated in (expected, found))
    np.testing.assert_allclose(new, old, atol=0.01 * float(np.abs(old).max()))


def test_dropout_is_only_in_training():
    model = SMALL.clone(dropout=0.5)
    variables = variables_of(model)
    with_it, without = (jax.jit(each.apply)(variables, IMAGES) for each in (model, SMALL))
    np.testing.assert_array_equal(with_it, without)
    train = jax.jit(partial(model.apply, train=True, mutable=["batch_stats"]))
    drawn = [train(variables, IMAGES, rngs={"dropout": jax.random.key(i)})[0] for i in range(2)]
    assert not np.array_equal(*drawn)
