import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cifar_jax.config import OptimConfig
from cifar_jax.optim import (
    ema_update,
    make_optimizer,
    make_schedule,
    orthogonalize,
    orthogonalize_all,
)
from cifar_jax.state import Packing

PLAIN = OptimConfig(learning_rate=0.1, warmup=0.0, clip_norm=0.0, weight_decay=0.0, momentum=0.0)


def test_schedule_by_formula():
    config = OptimConfig(learning_rate=0.4, final_learning_rate=0.04, warmup=0.1)
    steps, warmup = 1000, 100
    schedule = make_schedule(config, steps)
    t = np.arange(steps)
    cosine = 0.04 + 0.36 * (1 + np.cos(np.pi * (t - warmup) / (steps - warmup))) / 2
    expected = np.where(t < warmup, 0.4 * (t + 1) / warmup, cosine)
    found = jax.jit(jax.vmap(schedule))(jnp.arange(steps))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_linear_schedule_by_formula():
    config = OptimConfig(learning_rate=0.4, final_learning_rate=0.04, warmup=0.1, schedule="linear")
    t = np.arange(1000)
    expected = np.where(t < 100, 0.4 * (t + 1) / 100, 0.4 - 0.36 * (t - 100) / 900)
    found = jax.vmap(make_schedule(config, 1000))(jnp.arange(1000))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("warmup", [0.0, 0.1, 1.0])
def test_schedule_starts_above_zero_and_is_finite(warmup):
    config = OptimConfig(learning_rate=0.4, warmup=warmup)
    found = np.array([make_schedule(config, 10)(step) for step in range(10)])
    assert (found > 0).all()
    assert found.max() == np.float32(0.4)


def torch_sgd(params, gradients, *, lr, momentum, weight_decay, nesterov, clip):
    """torch.nn.utils.clip_grad_norm_ and torch.optim.SGD, in float64."""
    velocity = None
    for gradient in gradients:
        if clip:
            gradient = gradient * min(1.0, clip / (np.linalg.norm(gradient) + 1e-6))
        gradient = gradient + weight_decay * params
        velocity = gradient if velocity is None else momentum * velocity + gradient
        params = params - lr * (gradient + momentum * velocity if nesterov else velocity)
    return params


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_optimizer_is_torch_sgd(nesterov, clip):
    config = dataclasses.replace(
        PLAIN,
        momentum=0.9,
        weight_decay=0.01,
        nesterov=nesterov,
        clip_norm=clip,
        final_learning_rate=0.1,
    )
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=5), rng.normal(size=(8, 5)) * 3
    tx = make_optimizer(config, 8)
    params = jnp.asarray(start, jnp.float32)
    state = tx.init(params)
    for gradient in gradients:
        updates, state = tx.update(jnp.asarray(gradient, jnp.float32), state, params)
        params = jnp.asarray(optax.apply_updates(params, updates))
    expected = torch_sgd(
        start, gradients, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=nesterov, clip=clip
    )
    np.testing.assert_allclose(params, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (3, 5, 7)])
def test_orthogonalize_keeps_singular_vectors_and_levels_values(shape):
    matrices = np.random.default_rng(0).normal(size=shape)
    found = np.asarray(orthogonalize(jnp.asarray(matrices, jnp.float32)), np.float64)
    assert found.shape == shape
    u, _, vt = np.linalg.svd(matrices, full_matrices=False)
    inside = np.swapaxes(u, -1, -2) @ found @ np.swapaxes(vt, -1, -2)
    values = np.diagonal(inside, axis1=-2, axis2=-1)
    assert values.min() > 0.5
    assert values.max() < 1.3
    np.testing.assert_allclose(found, (u * values[..., None, :]) @ vt, atol=1e-4)


def test_matrices_are_orthogonalized_side_by_side_as_by_themselves():
    rng = np.random.default_rng(0)
    shapes = [(4, 4), (4, 9), (9, 4), (6, 4), (5, 7), (4, 9)]
    matrices = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]
    for matrix, found in zip(matrices, orthogonalize_all(matrices), strict=True):
        assert found.shape == matrix.shape
        np.testing.assert_allclose(found, orthogonalize(matrix), atol=1e-5)


def test_matrices_of_one_smaller_side_share_their_products():
    shapes = [(4, 4), (4, 9), (9, 4), (5, 7)]  # two smaller sides: 4 and 5
    program = str(jax.make_jaxpr(orthogonalize_all)([jnp.ones(shape) for shape in shapes]))
    assert program.count("dot_general") == 2 * 5 * 3


def test_muon_by_formula():
    """Kernels 1x1 move by orthogonal steps, the rest as with SGD; two steps by hand."""
    config = dataclasses.replace(
        PLAIN,
        optimizer="muon",
        momentum=0.9,
        nesterov=True,
        weight_decay=0.01,
        clip_norm=1.0,
        muon_learning_rate=0.3,
        muon_weight_decay=0.1,
        schedule="linear",
        final_learning_rate=0.0,
    )
    rng = np.random.default_rng(0)
    shapes = {"a": (1, 1, 4, 6), "b": (3, 3, 1, 4), "c": (1, 1, 6, 4), "d": (5,), "e": (4, 6)}
    start = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    gradients = [{name: rng.normal(size=shape) for name, shape in shapes.items()} for _ in "12"]
    params: Any = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), start)
    tx = make_optimizer(config, 2, Packing.of(params))
    state = tx.init(params)
    for gradient in gradients:
        gradient = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), gradient)
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    norms = [np.sqrt(sum((g**2).sum() for g in gradient.values())) for gradient in gradients]
    for name, value in start.items():
        velocity = np.zeros_like(value)
        for gradient, norm, share in zip(gradients, norms, (1.0, 0.5), strict=True):
            g = gradient[name] / norm + 0.01 * value
            velocity = 0.9 * velocity + g
            step = g + 0.9 * velocity
            if name in ("a", "c"):
                matrix = np.asarray(orthogonalize(jnp.asarray(step[0, 0], jnp.float32)))
                scale = max(1, step.shape[3] / step.shape[2]) ** 0.5
                value = value - share * 0.3 * (scale * matrix + 0.1 * value)
            else:
                value = value - share * 0.1 * step
        np.testing.assert_allclose(params[name], value, rtol=1e-3, atol=1e-4)


def test_muon_needs_to_know_the_matrices():
    with pytest.raises(ValueError, match=r"muon needs packing=state\.Packing"):
        make_optimizer(dataclasses.replace(PLAIN, optimizer="muon"), 2)


def test_ema_by_formula():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50, 4))
    expected = average = jnp.asarray(values[0], jnp.float32)
    for step, value in enumerate(values):
        decay = min(0.8, (1 + step) / (10 + step))
        expected = decay * np.asarray(expected, np.float64) + (1 - decay) * value
        average = ema_update(
            average, jnp.asarray(value, jnp.float32), decay=0.8, step=jnp.asarray(step)
        )
    np.testing.assert_allclose(average, expected, rtol=1e-4, atol=1e-6)


def test_ema_with_decay_zero_is_the_value():
    value = {"a": jnp.arange(3.0)}
    found = ema_update({"a": jnp.ones(3)}, value, decay=0.0, step=9)
    np.testing.assert_array_equal(found["a"], value["a"])
