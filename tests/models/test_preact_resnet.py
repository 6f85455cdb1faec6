"""The wider network: its size and cost, its blocks against a formula, and both convolutions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conv_cases import draw

from cifar_jax.config_file import load_config
from cifar_jax.models import PreactResNet, count_params, from_config, multiply_adds, plain
from cifar_jax.models.preact_resnet import PreactBlock

KEY = jax.random.key(0)
SMALL = PreactResNet(num_classes=3, stem=8, stages=(8, 16), blocks=2)
IMAGES = jax.random.normal(KEY, (19, 8, 8, 3))  # not a whole number of vectors


def variables_of(model):
    return draw(jax.eval_shape(model.init, KEY, IMAGES[:1]))


def test_the_config_is_below_200_000_parameters_and_rich_in_computation():
    model = from_config(load_config("configs/200k_best.py").model)
    assert isinstance(model, PreactResNet)
    shapes = jax.eval_shape(model.init, KEY, jnp.zeros((1, 32, 32, 3)))
    assert count_params(shapes["params"]) == 197_733
    assert multiply_adds(model) == 67_046_352


@pytest.mark.parametrize(("features", "stride"), [(8, 1), (16, 1), (16, 2)])
@pytest.mark.parametrize("train", [False, True])
def test_a_block_by_formula(features, stride, train):
    x = jax.random.normal(KEY, (8, 6, 6, 5))
    block = PreactBlock(features, plain.convolutions(5), stride, reduction=4)
    variables = draw(jax.eval_shape(partial(block.init, train=train), KEY, x))
    found, _ = block.apply(variables, x, train=train, mutable=["batch_stats"])
    p, s = variables["params"], variables["batch_stats"]

    def norm(name, z):
        mean, var = s[name]["mean"], s[name]["var"]
        if train:
            mean, var = z.mean((1, 2, 3)), z.var((1, 2, 3))
        by_channel = [
            value.reshape(-1, 1, 1, 1) for value in (mean, var, p[name]["scale"], p[name]["bias"])
        ]
        return (z - by_channel[0]) / jnp.sqrt(by_channel[1] + 1e-5) * by_channel[2] + by_channel[3]

    def conv(z, name, stride=1, groups=1):
        kernel = p[name]["kernel"]
        pad = kernel.shape[0] // 2
        return jax.lax.conv_general_dilated(
            z,
            kernel,
            (stride, stride),
            [(pad, pad)] * 2,
            dimension_numbers=("CHWN", "HWIO", "CHWN"),
            feature_group_count=groups,
        )

    y = conv(jax.nn.relu(norm("norm1", x)), "depthwise1", stride, groups=8)
    y = conv(y, "pointwise1")
    y = conv(jax.nn.relu(norm("norm2", y)), "depthwise2", groups=features)
    y = norm("norm3", conv(y, "pointwise2"))
    gate = y.mean((1, 2)).T @ p["squeeze"]["kernel"] + p["squeeze"]["bias"][None]
    gate = jax.nn.relu(gate) @ p["excite"]["kernel"] + p["excite"]["bias"][None]
    y = y * jax.nn.sigmoid(gate).T[:, None, None, :]
    shortcut = conv(x, "shortcut", stride) if features != 8 or stride != 1 else x
    np.testing.assert_allclose(found, shortcut + y, rtol=2e-4, atol=2e-4)


def test_few_channels_have_a_gate():
    model = PreactResNet(stem=4, stages=(4,), blocks=1)
    shapes = jax.eval_shape(model.init, KEY, IMAGES[:1])
    assert shapes["params"]["stage1_block1"]["squeeze"]["kernel"].shape == (4, 1)


@pytest.mark.parametrize("train", [False, True])
def test_native_convolutions_are_the_plain_ones(library, train):
    variables = variables_of(SMALL)

    def loss(params, lanes):
        logits, updated = SMALL.clone(lanes=lanes).apply(
            {"params": params, "batch_stats": variables["batch_stats"]},
            IMAGES,
            train=train,
            mutable=["batch_stats"],
        )
        return jnp.sum(jnp.sin(logits)), (logits, updated)

    results = [
        jax.jit(jax.grad(partial(loss, lanes=lanes), has_aux=True))(variables["params"])
        for lanes in (0, library)
    ]
    for plain_leaf, native_leaf in zip(*map(jax.tree.leaves, results), strict=True):
        scale = np.abs(plain_leaf).max()
        np.testing.assert_allclose(native_leaf, plain_leaf, atol=2e-3 * scale + 1e-6)


def test_bfloat16_computes_what_float32_does():
    variables = variables_of(SMALL)
    exact = jnp.asarray(jax.jit(SMALL.apply)(variables, IMAGES))
    rounded = jnp.asarray(jax.jit(SMALL.clone(dtype=jnp.bfloat16).apply)(variables, IMAGES))
    assert rounded.dtype == jnp.float32
    np.testing.assert_allclose(rounded, exact, atol=0.1 * float(jnp.abs(exact).max()))


def test_dropout_is_only_in_training():
    model = SMALL.clone(dropout=0.5)
    variables = variables_of(model)
    with_it, without = (jax.jit(each.apply)(variables, IMAGES) for each in (model, SMALL))
    np.testing.assert_array_equal(with_it, without)
    train = jax.jit(partial(model.apply, train=True, mutable=["batch_stats"]))
    drawn = [train(variables, IMAGES, rngs={"dropout": jax.random.key(i)})[0] for i in range(2)]
    assert not np.array_equal(*drawn)
