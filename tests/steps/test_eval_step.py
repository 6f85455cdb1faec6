"""One step of evaluation."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from step_cases import BATCH, CONFIG, first_batch

from cifar_jax import augment, steps


@pytest.fixture(scope="module")
def padded(images):
    pixels, labels = first_batch(images)
    return pixels, labels, jnp.arange(BATCH) < BATCH - 3


@pytest.fixture(scope="module")
def step_of(model):
    """The compiled step of one mode."""

    @functools.cache
    def make(mode):
        return jax.jit(steps.make_eval_step(model.apply, CONFIG.augment, modes=(mode,)))

    return make


def test_evaluation_of_a_masked_batch(model, step_of, start, padded):
    pixels, labels, mask = padded
    found = step_of("none")(start.variables, padded)["none"]
    seen = augment.normalize(
        steps.to_float(pixels), mean=CONFIG.augment.mean, std=CONFIG.augment.std
    )
    probabilities = np.asarray(jax.nn.softmax(model.apply(start.variables, seen)))
    mask = np.asarray(mask)
    np.testing.assert_allclose(found["probabilities"][mask], probabilities[mask], rtol=1e-4)
    correct = np.argmax(probabilities, axis=1) == np.asarray(labels)
    np.testing.assert_array_equal(found["correct"][mask], correct[mask])
    picked = probabilities[np.arange(BATCH), np.asarray(labels)]
    np.testing.assert_allclose(found["loss"][mask], -np.log(picked[mask]), rtol=1e-4)
    assert not any(value[~mask].any() for value in found.values())


def test_what_a_network_makes_of_padding_is_left_out(padded):
    """NaN, for one that standardises each image and is given none."""

    def network(variables, images, *, train):
        return (images / jnp.std(images, axis=(1, 2, 3), keepdims=True)).mean((1, 2))

    pixels, labels, mask = padded
    pixels = jnp.where(mask[:, None, None, None], pixels, 0)
    config = dataclasses.replace(CONFIG.augment, mean=(0.0, 0.0, 0.0))
    step = jax.jit(steps.make_eval_step(network, config))
    found = step({}, (pixels, labels % 3, mask.astype(jnp.float32)))["none"]
    assert all((value[:-3] > 0).any() and not value[-3:].any() for value in found.values())


def test_labels_are_not_counted_in_8_bits(padded):
    """As jax.nn.one_hot counts, which then gives four ones of a thousand."""
    pixels, labels, mask = padded
    labels = labels.astype(jnp.uint8)
    step = jax.jit(
        steps.make_eval_step(lambda _, x, train: jnp.zeros((len(x), 1000)), CONFIG.augment)
    )
    found = step({}, (pixels, labels, mask))["none"]
    np.testing.assert_allclose(found["loss"][:-3], np.log(1000), rtol=1e-5)
    _, targets, _ = jax.jit(
        lambda *batch: steps.augmented_batch(
            jax.random.key(0), jnp.int32(0), batch, CONFIG.augment, num_classes=1000
        )
    )(pixels, labels)
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-5)


def test_rotated_views_see_the_border_of_the_config(model, start, padded):
    found = []
    for border in ("constant", "reflect101"):
        config = dataclasses.replace(CONFIG.augment, border=border)
        step = jax.jit(steps.make_eval_step(model.apply, config, modes=("full",)))
        found.append(step(start.variables, padded)["full"]["loss"])
    assert jnp.abs(found[0] - found[1]).max() > 1e-4


def test_evaluation_multiplies_in_float32(model, start, padded):
    """Where a GPU's default is coarser."""
    step = steps.make_eval_step(model.apply, CONFIG.augment)
    text = str(jax.make_jaxpr(step)(start.variables, padded))
    assert text.count("dot_general[") == text.count("precision=(Precision.HIGHEST") > 3


def test_views_are_averaged_as_probabilities(step_of, start, padded):
    pixels, labels, mask = padded

    def probabilities(mode, pixels):
        return step_of(mode)(start.variables, (pixels, labels, mask))[mode]["probabilities"]

    both = (probabilities("none", pixels) + probabilities("none", pixels[:, :, ::-1])) / 2
    np.testing.assert_allclose(probabilities("flip", pixels), both, rtol=1e-4, atol=1e-7)
    total = probabilities("full", pixels).sum(axis=1)
    np.testing.assert_allclose(total, mask.astype(jnp.float32), rtol=1e-5)


def test_modes_at_once_are_each_by_itself_and_share_their_views(model, step_of, start, padded):
    modes = ("none", "flip", "full")
    together = steps.make_eval_step(model.apply, CONFIG.augment, modes=modes)
    found = jax.jit(together)(start.variables, padded)
    assert set(found) == set(modes)
    for mode in modes:
        for name, values in step_of(mode)(start.variables, padded)[mode].items():
            np.testing.assert_allclose(found[mode][name], values, rtol=1e-5, atol=1e-7)
    text = str(jax.make_jaxpr(together)(start.variables, padded))
    assert re.findall(r"\blength=(\d+)", text) == ["8"]
