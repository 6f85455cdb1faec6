"""The steps with networks, optimisers and augmentations that are not ours."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from step_cases import BATCH, CONFIG, KEY, LIGHT, first_batch

from cifar_jax import state, steps
from cifar_jax.losses import cross_entropy
from cifar_jax.rng import stream_key

CLASSES = 10


class Plain(nn.Module):
    """No normalisation, so there is no collection "batch_stats"."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images, *, train):  # no default: each call has to say it
        x = nn.Conv(4, (3, 3), strides=4, dtype=self.dtype)(images.astype(self.dtype))
        x = nn.Dropout(0.5, deterministic=not train)(nn.relu(x).mean(axis=(1, 2)))
        return nn.Dense(CLASSES, dtype=self.dtype)(x)


class Normalized(nn.Module):
    """Flax's own batch normalisation; it trains unless it is told not to."""

    @nn.compact
    def __call__(self, images, train=True):
        x = nn.Conv(4, (3, 3), strides=4)(images)
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(CLASSES)(nn.relu(x).mean(axis=(1, 2)))


def begin(model, images, tx):
    seen = jnp.zeros((1, *images[0].shape[1:]))
    return state.create(dict(model.init(KEY, seen, train=False)), tx)


def differ(a, b):
    return any(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a != b).any()), a, b)))


@pytest.mark.parametrize("model", [Plain(), Normalized()], ids=["plain", "normalized"])
def test_a_step_and_its_evaluation(model, images):
    tx = optax.sgd(0.1)
    before = begin(model, images, tx)
    step = jax.jit(steps.make_train_step(model.apply, tx, LIGHT))
    after, metrics = step(before, KEY, first_batch(images))
    assert metrics["examples"] == BATCH
    assert differ(after.params, before.params)
    assert differ(after.batch_stats, before.batch_stats) == isinstance(model, Normalized)
    eval_step = jax.jit(steps.make_eval_step(model.apply, CONFIG.augment))
    pixels, labels = first_batch(images)
    found = eval_step(after.ema_variables, (pixels, labels, jnp.ones(BATCH)))["none"]
    np.testing.assert_allclose(found["probabilities"].sum(axis=1), 1, rtol=1e-5)


def test_logits_of_16_bits_are_read_in_float32(images):
    """Else the softmax, the loss and the probabilities would have eight bits."""
    model, tx = Plain(jnp.bfloat16), optax.sgd(0.1)
    before = begin(model, images, tx)
    batch = first_batch(images)
    _, metrics = jax.jit(steps.make_train_step(model.apply, tx, LIGHT))(before, KEY, batch)
    seen, targets, _ = steps.augmented_batch(
        KEY, before.step, batch, LIGHT.augment, num_classes=CLASSES
    )
    rngs = {"dropout": stream_key(KEY, "dropout", before.step)}
    logits = jnp.asarray(
        jax.jit(partial(model.apply, train=True))(before.variables, seen, rngs=rngs)
    )
    assert logits.dtype == jnp.bfloat16
    losses = cross_entropy(
        logits.astype(jnp.float32), targets, smoothing=LIGHT.optim.label_smoothing
    )
    assert metrics["loss"] == pytest.approx(float(losses.sum()), rel=1e-4)
    eval_step = jax.jit(steps.make_eval_step(model.apply, CONFIG.augment))
    found = eval_step(before.variables, (*batch, jnp.ones(BATCH)))["none"]
    assert {value.dtype for value in found.values()} == {np.dtype(np.float32)}
    np.testing.assert_allclose(found["probabilities"].sum(axis=1), 1, rtol=1e-6)


def test_another_augmentation(images):
    """It gets what augmented_batch gets, and the network sees what it gives."""
    model, tx = Plain(), optax.sgd(0.1)
    before, given = begin(model, images, tx), []

    def grey(key, step, batch, config, *, num_classes):
        given.append((key, step, batch, config, num_classes))
        pixels, labels = batch
        return jnp.zeros(pixels.shape), jax.nn.one_hot(labels, num_classes), None

    batch = first_batch(images)
    step = steps.make_train_step(model.apply, tx, LIGHT, augmentation=grey)
    after, _ = step(before, KEY, batch)
    ((key, count, seen, *others),) = given
    assert key is KEY
    assert count is before.step
    assert seen is batch
    assert others == [LIGHT.augment, CLASSES]
    assert not differ(after.params["Conv_0"]["kernel"], before.params["Conv_0"]["kernel"])
    assert differ(after.params["Dense_0"]["bias"], before.params["Dense_0"]["bias"])


def test_a_function_that_keeps_its_statistics(images):
    model, tx = Normalized(), optax.sgd(0.1)
    before = begin(model, images, tx)

    def frozen(variables, x, *, train, **_):
        logits = model.apply(variables, x, train=False)
        return (logits, {}) if train else logits

    after, _ = jax.jit(steps.make_train_step(frozen, tx, LIGHT))(before, KEY, first_batch(images))
    assert differ(after.params, before.params)
    assert not differ(after.batch_stats, before.batch_stats)
