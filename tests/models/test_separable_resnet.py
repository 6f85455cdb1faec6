"""The network: its initial weights, and its behaviour in training and evaluation."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import errors
from flax.traverse_util import flatten_dict

from cifar_jax.models import SeparableResNet

SMALL = SeparableResNet(num_classes=3, stem=4, stages=(8, 16), blocks=1, dropout=0.5)
KEY = jax.random.key(0)


def flat(tree) -> dict[str, Any]:
    return flatten_dict(tree, sep="/")


def normal(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


IMAGES = normal(0, (6, 16, 16, 3))
OTHER_NEIGHBOURS = normal(7, IMAGES.shape).at[4].set(IMAGES[4])


def shapes_of(model, side=32):
    return jax.eval_shape(model.init, KEY, jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32))


def draw_variables(model, seed):
    """Weights and statistics of which none is constant; variances and scales are positive."""
    generator = np.random.default_rng(seed)

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            return jnp.asarray(generator.uniform(0.5, 1.5, leaf.shape), leaf.dtype)
        std = 0.2 if leaf.ndim == 1 else np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return jnp.asarray(generator.normal(0, std, leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes_of(model))


@partial(jax.jit, static_argnums=0, static_argnames="train")
def apply(model, variables, images, key=KEY, *, train=False):
    """Logits, and the batch statistics if training."""
    rngs, mutable = ({"dropout": key}, ["batch_stats"]) if train else (None, False)
    return model.apply(variables, images, train=train, rngs=rngs, mutable=mutable)


@pytest.fixture(scope="module")
def variables():
    return draw_variables(SMALL, 1)


@pytest.fixture(params=["plain", "native"])
def model(request):
    """Either way to convolve."""
    native = request.param == "native"
    return SMALL.clone(lanes=request.getfixturevalue("library") if native else 0)


def assert_close(actual, expected, tolerance=1e-5):
    """Within a part of the largest number expected."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def differ(a, b):
    return bool(np.abs(np.asarray(a) - np.asarray(b)).max() > 1e-3 * np.abs(a).max())


def test_initial_weights():
    """Kaiming-normal: variance 2 / fan_out of convolutions, 2 / fan_in of the head."""
    model = SeparableResNet(num_classes=50, stem=64, stages=(128, 192), blocks=1)
    initial = jax.jit(model.init)(KEY, jnp.zeros((1, 4, 4, 3)))
    for path, leaf in flat(initial).items():
        if path.endswith(("bias", "mean")):
            np.testing.assert_array_equal(leaf, 0)
        elif path.endswith(("scale", "var")):
            np.testing.assert_array_equal(leaf, 1)
        else:
            height, width, _, outputs = leaf.shape if leaf.ndim == 4 else (1, 1, *leaf.shape)
            fan = leaf.shape[0] if "head" in path else height * width * outputs
            z = np.asarray(leaf) / np.sqrt(2 / fan)
            assert abs(z.mean()) < 5 / np.sqrt(leaf.size), path
            assert abs((z**2).mean() - 1) < 5 * np.sqrt(2 / leaf.size), path
            assert np.abs(z).max() > 2.5, path  # not truncated at two, not uniform


def test_evaluation_gives_float32_logits_and_changes_no_statistics(model, variables):
    logits, updates = model.apply(variables, IMAGES, mutable=["batch_stats"])
    assert (logits.shape, logits.dtype) == ((6, 3), jnp.float32)
    jax.tree.map(np.testing.assert_array_equal, updates["batch_stats"], variables["batch_stats"])
    assert_close(apply(model, variables, IMAGES), logits)  # jit == eager


def test_training_moves_every_statistic_a_tenth(model, variables):
    _, updates = apply(model, variables, IMAGES, train=True)
    before, after = flat(variables["batch_stats"]), flat(updates["batch_stats"])
    assert len(after) == 2 * (1 + 2 * 3)
    assert all(differ(after[path], before[path]) for path in before)
    x = jax.lax.conv_general_dilated(
        IMAGES,
        variables["params"]["stem"]["kernel"],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    for name, statistic in (("mean", x.mean((0, 1, 2))), ("var", x.var((0, 1, 2)))):
        path = f"stem_norm/{name}"
        assert_close(after[path], 0.9 * before[path] + 0.1 * statistic)


def test_training_normalises_by_the_batch(model, variables):
    other = {**variables, "batch_stats": draw_variables(model, 9)["batch_stats"]}
    logits, _ = apply(model, variables, IMAGES, train=True)
    assert_close(apply(model, other, IMAGES, train=True)[0], logits)
    assert differ(apply(model, other, IMAGES), apply(model, variables, IMAGES))
    neighbours, _ = apply(model, variables, OTHER_NEIGHBOURS, train=True)
    assert differ(neighbours[4], logits[4])


def test_images_do_not_meet_in_evaluation(model, variables):
    logits = apply(model, variables, IMAGES)
    assert differ(logits[0], logits[1])
    assert_close(apply(model, variables, IMAGES[::-1]), logits[::-1])
    assert_close(apply(model, variables, OTHER_NEIGHBOURS)[4], logits[4])


def test_dropout_is_a_function_of_the_key(variables):
    first, same, other = (
        apply(SMALL, variables, IMAGES, jax.random.key(seed), train=True)[0] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, same)
    assert differ(first, other)


def test_dropout_needs_a_key_in_training_alone(variables):
    with pytest.raises(errors.InvalidRngError, match="dropout"):
        SMALL.apply(variables, IMAGES, train=True, mutable=["batch_stats"])


def test_dropout_comes_just_before_the_head(variables):
    logits, _ = apply(SMALL.clone(dropout=1.0), variables, IMAGES, train=True)
    bias = np.asarray(variables["params"]["head"]["bias"])
    np.testing.assert_array_equal(logits, np.broadcast_to(bias, (6, 3)))
    assert differ(apply(SMALL, variables, IMAGES), logits)  # nothing is dropped in evaluation


@pytest.mark.parametrize("train", [False, True])
def test_vmap_over_weights_equals_a_loop(model, variables, train):
    sets = [variables, draw_variables(model, 2)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *sets)
    run = partial(apply, model, images=IMAGES, train=train)
    together = jax.vmap(lambda v: run(v))(stacked)
    for i, one in enumerate(sets):
        mine = jax.tree.map(lambda leaf, i=i: leaf[i], together)
        jax.tree.map(partial(assert_close, tolerance=2e-5), mine, run(one))


@pytest.mark.parametrize("train", [False, True])
def test_bfloat16_computes_in_bfloat16_and_keeps_float32(variables, train):
    half = SMALL.clone(dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes_of(half))} == {np.dtype(np.float32)}
    exact, rounded = (apply(m, variables, IMAGES, train=train) for m in (SMALL, half))
    assert {leaf.dtype for leaf in jax.tree.leaves(rounded)} == {np.dtype(np.float32)}
    for a, b in zip(jax.tree.leaves(rounded), jax.tree.leaves(exact), strict=True):
        assert_close(a, b, 0.02)
        assert np.abs(a - b).max() > 1e-5 * np.abs(b).max()


def test_bfloat16_gradients_are_float32_and_close():
    """Rounding grows on the way back through batch normalisation, the more the smaller a batch."""
    images = normal(6, (32, 16, 16, 3))
    small = SeparableResNet(num_classes=3, stem=4, stages=(8,), blocks=1, dropout=0.0)
    variables = draw_variables(small, 1)

    def gradients(model):
        def loss_fn(params):
            logits, _ = apply(model, {**variables, "params": params}, images, train=True)
            return jnp.sum(jax.nn.log_softmax(logits)[:, 0])

        return flat(jax.jit(jax.grad(loss_fn))(variables["params"]))

    exact, rounded = gradients(small), gradients(small.clone(dtype=jnp.bfloat16))
    for name, gradient in exact.items():
        assert rounded[name].dtype == jnp.float32
        assert np.linalg.norm(rounded[name] - gradient) < 0.2 * np.linalg.norm(gradient), name


@pytest.mark.parametrize("side", [1, 7])
def test_any_size_of_image(model, variables, side):
    images = normal(5, (2, side, side, 3))
    logits = apply(model, variables, images)
    assert logits.shape == (2, 3)
    assert np.isfinite(logits).all()
