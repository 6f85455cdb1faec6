"""A small network, its optimiser, images and states."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from step_cases import BATCH, CLASSES, CONFIG, COUNT, KEY, MIXED, SIDE, STEPS

from cifar_jax import optim, state, steps
from cifar_jax.models import SeparableResNet


@pytest.fixture(scope="module")
def model():
    return SeparableResNet(stem=4, stages=(4, 8), blocks=1)


@pytest.fixture(scope="module")
def tx():
    return optim.make_optimizer(CONFIG.optim, 3 * STEPS)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8)
    return jnp.asarray(pixels), jnp.asarray(rng.integers(0, CLASSES, COUNT, np.uint8))


@pytest.fixture(scope="module")
def start(model, tx):
    return state.create(dict(jax.jit(model.init)(KEY, jnp.zeros((1, SIDE, SIDE, 3)))), tx)


@pytest.fixture(scope="module")
def train_step(model, tx):
    return steps.make_train_step(model.apply, tx, MIXED)


@pytest.fixture(scope="module")
def jitted_step(train_step):
    return jax.jit(train_step)


@pytest.fixture(scope="module")
def chunk(train_step):
    return jax.jit(steps.make_train_chunk(train_step, batch_size=BATCH, steps=STEPS))


@pytest.fixture(scope="module")
def half_chunk(train_step):
    """Half an epoch; it may be traced once."""
    half = steps.make_train_chunk(train_step, batch_size=BATCH, steps=STEPS // 2)
    return jax.jit(chex.assert_max_traces(half, 1))
