"""The network with the convolutions in C++: what it computes, and when it takes them."""

import dataclasses
import re
from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conv_cases import draw

from cifar_jax import optim, state, steps
from cifar_jax.config import AugmentConfig, Config
from cifar_jax.models import SeparableResNet
from cifar_jax.ranges import Probability

pytestmark = pytest.mark.usefixtures("library")

KEY = jax.random.key(0)
SMALL = SeparableResNet(num_classes=3, stem=4, stages=(6, 8), blocks=1)
CALLS = {  # of SMALL: a stem; two blocks of two convolutions and a shortcut each
    f"{kind}{way}": count
    for kind, count in {"Dense": 1, "Separable": 4, "Pointwise": 2}.items()
    for way in ("Forward", "Backward")
}
FORWARD = {name: count for name, count in CALLS.items() if name.endswith("Forward")}
IMAGES = jax.random.normal(KEY, (24, 16, 16, 3))  # a group and a half


def draw_variables(model):
    return draw(jax.eval_shape(model.init, KEY, IMAGES[:1]))


def apply(model, variables, images, *, train=False):
    options = {"rngs": {"dropout": KEY}, "mutable": ["batch_stats"]} if train else {}
    return model.apply(variables, images, train=train, **options)


def native_calls(program, *args):
    """Which functions of the library a program calls, and how often."""
    return Counter(re.findall(r"@cifar_jax\.(\w+)", lowered(program, *args)))


def lowered(program, *args):
    return jax.jit(program).lower(*args).as_text()


def error(actual, expected):
    """The largest difference of a leaf, as a part of its largest number."""

    def of_leaf(a, b):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-6))

    return max(jax.tree.leaves(jax.tree.map(of_leaf, actual, expected)))


def test_the_real_network_in_training(library):
    """Logits, statistics and every gradient.

    Where an activation is nearly zero, rounding decides whether ReLU lets its gradient pass: one of
    millions, and a hundredth of some kernel's gradient. Hence the best of six batches.
    """
    model = SeparableResNet()
    variables = draw_variables(model)

    def step(model, images):
        def loss_fn(params):
            logits, updates = apply(model, {**variables, "params": params}, images, train=True)
            return jnp.mean(jax.nn.log_softmax(logits)[:, 0]), (logits, updates)

        return jax.grad(loss_fn, has_aux=True)(variables["params"])

    native, plain = (jax.jit(partial(step, each)) for each in (model.clone(lanes=library), model))
    errors = []
    for i in range(6):
        images = IMAGES + jax.random.normal(jax.random.key(i), IMAGES.shape)
        (gradients, outputs), expected = native(images), plain(images)
        assert error(outputs, expected[1]) < 1e-5
        errors.append(error(gradients, expected[0]))
    assert min(errors) < 1e-4


def test_the_name_of_a_dtype_is_the_dtype(library):
    """It decides whether the convolutions are native."""
    networks = [SMALL.clone(lanes=library, dtype=dtype) for dtype in ("float32", jnp.float32)]
    by_name, by_type = (
        jax.make_jaxpr(partial(apply, net))(draw_variables(SMALL), IMAGES) for net in networks
    )
    assert "ffi_call" in str(by_name)
    assert str(by_name) == str(by_type)


@pytest.fixture(scope="module")
def variables():
    return draw_variables(SMALL)


def test_any_batch_in_evaluation(variables, library):
    """It is filled up to whole groups, which no image notices."""
    images = IMAGES[:, :9, :10]
    expected = jax.jit(partial(apply, SMALL))(variables, images)
    native = partial(apply, SMALL.clone(lanes=library))
    for batch in (1, 15, 17, 24):
        assert native_calls(native, variables, images[:batch]) == FORWARD
        logits = jax.jit(native)(variables, images[:batch])
        assert logits.shape == (batch, 3)
        assert error(logits, expected[:batch]) < 1e-5


@pytest.mark.parametrize("batch", [2, 16, 17])
def test_any_batch_in_training(variables, batch, library):
    """What fills it up enters no statistics."""
    images = IMAGES[:batch, :9, :10]
    native, plain = (partial(apply, SMALL.clone(lanes=lanes), train=True) for lanes in (library, 0))
    assert native_calls(native, variables, images) == FORWARD
    assert native_calls(plain, variables, images) == {}
    expected = jax.jit(plain)(variables, images)
    assert error(jax.jit(native)(variables, images), expected) < 1e-5


@pytest.mark.parametrize("train", [True, False])
def test_bfloat16_takes_the_plain_ones(variables, train, library):
    half = SMALL.clone(dtype=jnp.bfloat16)
    native, plain = (partial(apply, m, train=train) for m in (half.clone(lanes=library), half))
    assert lowered(native, variables, IMAGES) == lowered(plain, variables, IMAGES)
    assert native_calls(native, variables, IMAGES) == {}


@pytest.fixture(scope="module")
def training(variables, library):
    """Programs of one step, native and plain, and their state; unaugmented, to compile quickly."""
    off = {f.name: 0.0 for f in dataclasses.fields(AugmentConfig) if f.type == Probability}
    config = Config(augment=dataclasses.replace(AugmentConfig(), **off))
    tx = optim.make_optimizer(config.optim, 10)
    programs = (
        steps.make_train_step(SMALL.clone(lanes=lanes).apply, tx, config, num_classes=3)
        for lanes in (library, 0)
    )
    return *map(jax.jit, programs), state.create(variables, tx)


def draw_batch(seed):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (24, 8, 8, 3), np.uint8)
    return jnp.asarray(images), jnp.asarray(generator.integers(0, 3, 24, np.uint8))


def test_a_train_step(training):
    native, plain, before = training
    assert native_calls(native, before, KEY, draw_batch(0)) == CALLS
    assert native_calls(plain, before, KEY, draw_batch(0)) == {}
    errors = []
    for seed in range(3):
        (moved, metrics), expected = (
            each(before, KEY, draw_batch(seed)) for each in (native, plain)
        )
        assert metrics["skipped"] == 0
        assert error(moved.params, before.params) > 1e-3
        errors.append(error((moved, metrics), expected))
    assert min(errors) < 1e-5


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_step_that_is_not_finite_is_skipped(training, value):
    native, _, before = training
    params = jax.tree.map(jnp.copy, before.params)
    params["stem"]["kernel"] = params["stem"]["kernel"].at[0, 0, 0, 0].set(value)
    moved, metrics = native(before.replace(params=params), KEY, draw_batch(0))
    assert metrics["skipped"] == 1
    jax.tree.map(np.testing.assert_array_equal, moved.params, params)
    jax.tree.map(np.testing.assert_array_equal, moved.batch_stats, before.batch_stats)
