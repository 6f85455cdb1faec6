"""One step of training."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from step_cases import BATCH, CLASSES, CONFIG, KEY, LIGHT, MIXED, OFF, SIDE, STEPS, first_batch

from cifar_jax import augment, optim, state, steps
from cifar_jax.config import DistillConfig
from cifar_jax.losses import cross_entropy, distillation
from cifar_jax.models import SeparableResNet
from cifar_jax.rng import stream_key


@jax.jit
def augmented(key, step, batch):
    return steps.augmented_batch(key, step, batch, CONFIG.augment, num_classes=CLASSES)


def test_the_batch_is_a_function_of_seed_and_step(images):
    def see(seed, step):
        return augmented(jax.random.key(seed), jnp.int32(step), first_batch(images))

    chex.assert_trees_all_equal(see(0, 5), see(0, 5))
    assert (see(0, 5)[0] != see(0, 6)[0]).any()
    assert (see(0, 5)[0] != see(1, 5)[0]).any()


def test_one_step_against_its_parts(model, tx, start, images):
    """The eighth step, written out with the pieces that have tests of their own."""
    batch, config = first_batch(images), CONFIG.augment
    averages = jax.tree.map(lambda x: x + 1.0, (start.ema_params, start.ema_batch_stats))
    start = start.replace(step=jnp.int32(7), ema_params=averages[0], ema_batch_stats=averages[1])
    new, metrics = jax.jit(steps.make_train_step(model.apply, tx, CONFIG))(start, KEY, batch)

    @jax.jit
    def see(pixels, labels):
        pixels = pixels.astype(jnp.float32) / 255
        pixels = augment.augment_pixels(stream_key(KEY, "augment", 7), pixels, config)
        pixels = augment.normalize(pixels, mean=config.mean, std=config.std)
        targets = jax.nn.one_hot(labels, CLASSES, dtype=jnp.float32)
        return augment.mix(stream_key(KEY, "mix", 7), pixels, targets, config)[:2]

    seen, targets = see(*batch)

    def loss_fn(params):
        variables = {"params": params, "batch_stats": start.batch_stats}
        rngs = {"dropout": stream_key(KEY, "dropout", 7)}
        logits, updated = model.apply(
            variables, seen, train=True, mutable=["batch_stats"], rngs=rngs
        )
        smooth = 0.9 * targets + 0.01
        return -(smooth * jax.nn.log_softmax(logits)).sum() / BATCH, updated["batch_stats"]

    (loss, stats), gradient = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(start.params)
    updates, _ = tx.update(gradient, start.opt_state, start.params)
    params = jax.tree.map(lambda p, u: p + u, start.params, updates)
    chex.assert_trees_all_close(new.params, params, rtol=1e-4, atol=1e-6)
    chex.assert_trees_all_close(new.batch_stats, stats, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(metrics["loss"], loss * BATCH, rtol=1e-5)
    kept = (1 + 7) / (10 + 7)  # below ema_decay
    expected = jax.tree.map(
        lambda old, value: kept * old + (1 - kept) * value, averages, (params, stats)
    )
    found = (new.ema_params, new.ema_batch_stats)
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-6)
    assert new.step == 8


def test_a_step_with_a_teacher(model, tx, start, images):
    """Its answers to what the network sees, mixed and normalised, count beside the labels."""
    config = dataclasses.replace(
        CONFIG,
        augment=dataclasses.replace(OFF, cutmix=1.0),
        distill=DistillConfig(weight=0.7, temperature=3.0),
    )
    others = jax.jit(model.init)(jax.random.key(1), jnp.zeros((1, SIDE, SIDE, 3)))
    batch, met = first_batch(images), []

    def teacher(images):
        met.append(images)
        return model.apply(others, images)

    make = functools.partial(steps.make_train_step, model.apply, tx)
    new, metrics = make(config, teacher=teacher)(start, KEY, batch)
    alone, own = make(config)(start, KEY, batch)
    seen, targets, kind = steps.augmented_batch(
        KEY, start.step, batch, config.augment, num_classes=CLASSES
    )
    assert augment.MIX_NAMES[int(kind)] == "cutmix"
    np.testing.assert_array_equal(met[0], seen)
    logits, _ = model.apply(
        start.variables,
        seen,
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": stream_key(KEY, "dropout", 0)},
    )
    apart = distillation(logits, model.apply(others, seen), temperature=3.0).sum()
    labels = cross_entropy(logits, targets, smoothing=0.1).sum()
    np.testing.assert_allclose(own["loss"], labels, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], 0.3 * labels + 0.7 * apart, rtol=1e-5)
    assert metrics["correct"] == own["correct"]
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), new.params, alone.params)
    assert max(jax.tree.leaves(moved)) > 1e-4
    ignored = dataclasses.replace(config, distill=DistillConfig(weight=0.0))
    without, _ = make(ignored, teacher=teacher)(start, KEY, batch)
    chex.assert_trees_all_equal(without, alone)


@pytest.mark.parametrize("where", ["everywhere", "loss", "gradient"])
def test_a_nan_changes_nothing_but_the_step(model, tx, start, images, monkeypatch, where):
    def poisoned(variables, x, **options):
        logits, updated = model.apply(variables, x, **options)
        return logits * jnp.nan, jax.tree.map(lambda s: s * jnp.nan, updated)

    losses_of = cross_entropy

    def of_loss(logits, targets, **options):
        losses = losses_of(logits, targets, **options)
        if where == "loss":  # infinite, with a finite gradient
            return losses + jnp.inf
        return jnp.mean(losses) + jnp.sqrt(losses - jax.lax.stop_gradient(losses))  # its gradient

    if where != "everywhere":
        monkeypatch.setattr("cifar_jax.steps.train.cross_entropy", of_loss)
    apply_fn = poisoned if where == "everywhere" else model.apply
    step = jax.jit(steps.make_train_step(apply_fn, tx, LIGHT))
    averages = jax.tree.map(lambda x: x + 1.0, (start.ema_params, start.ema_batch_stats))
    start = start.replace(ema_params=averages[0], ema_batch_stats=averages[1])
    new, metrics = step(start, KEY, first_batch(images))
    chex.assert_trees_all_equal(new.params, start.params)
    chex.assert_trees_all_equal(new.batch_stats, start.batch_stats)
    chex.assert_trees_all_equal((new.ema_params, new.ema_batch_stats), averages)
    chex.assert_trees_all_equal(new.opt_state, start.opt_state)
    chex.assert_tree_all_finite(metrics)
    assert new.step == new.skipped == 1
    assert metrics["skipped"] == 1
    assert metrics["examples"] == metrics["loss"] == 0
    assert step(new, KEY, first_batch(images))[0].skipped == 2
    monkeypatch.undo()
    mended, _ = jax.jit(steps.make_train_step(model.apply, tx, LIGHT))(
        new, KEY, first_batch(images)
    )
    assert mended.skipped == 0


@pytest.mark.parametrize("where", [None, "loss", "gradient"])
def test_another_optimizer(model, start, images, monkeypatch, where):
    """One that does not skip what is not finite: the step does it."""
    losses_of = cross_entropy

    def of_loss(logits, targets, **options):
        losses = losses_of(logits, targets, **options)
        if where == "loss":
            return losses + jnp.inf
        return losses + jnp.sqrt(losses - jax.lax.stop_gradient(losses))  # its gradient

    if where:
        monkeypatch.setattr("cifar_jax.steps.train.cross_entropy", of_loss)
    tx = optax.adamw(1e-3)
    before = state.create(start.variables, tx)
    step = jax.jit(steps.make_train_step(model.apply, tx, LIGHT))
    with jax.numpy_dtype_promotion("standard"):  # which optax's Adam needs
        new, metrics = step(before, KEY, first_batch(images))
    assert bool(metrics["skipped"]) == (where is not None)
    assert new.step == 1
    chex.assert_tree_all_finite(new)
    assert int(new.skipped) == (where is not None)
    if where:
        chex.assert_trees_all_equal(new.replace(step=before.step, skipped=before.skipped), before)
    else:
        moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), new.params, start.params)
        assert max(jax.tree.leaves(moved)) == pytest.approx(1e-3, rel=0.01)  # Adam's first step


def test_what_a_step_refuses(model, tx, start, images):
    step = steps.make_train_step(model.apply, tx, LIGHT)
    pixels, labels = first_batch(images)
    with pytest.raises(TypeError, match="images must be uint8, not float32"):
        jax.eval_shape(step, start, KEY, (pixels.astype(jnp.float32) / 255, labels))
    taught = dataclasses.replace(LIGHT, distill=DistillConfig(teacher="runs/teacher"))
    with pytest.raises(ValueError, match=r"distill\.teacher is runs/teacher: teacher must be"):
        steps.make_train_step(model.apply, tx, taught)


def test_states_side_by_side(train_step, jitted_step, start, images):
    states = jax.tree.map(lambda x: jnp.stack([x, x]), start)
    keys = jax.random.split(KEY)
    batch = first_batch(images)
    both, _ = jax.jit(jax.vmap(train_step, in_axes=(0, 0, None)))(states, keys, batch)
    for i in range(2):
        alone, _ = jitted_step(start, keys[i], batch)
        member = jax.tree.map(lambda x, i=i: x[i], both)
        chex.assert_trees_all_close(member, alone, rtol=1e-4, atol=1e-5)


def test_bfloat16_keeps_float32_state(tx, start, images):
    model = SeparableResNet(stem=4, stages=(4, 8), blocks=1, dtype=jnp.bfloat16)
    step = jax.jit(steps.make_train_step(model.apply, tx, LIGHT))
    new, metrics = step(start, KEY, first_batch(images))
    chex.assert_trees_all_equal_dtypes(new, start)
    assert metrics["loss"].dtype == jnp.float32
    assert metrics["skipped"] == 0
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (new, start)), strict=True))


def test_training_learns_the_images(model, images):
    config = dataclasses.replace(CONFIG, augment=OFF)
    tx = optim.make_optimizer(dataclasses.replace(config.optim, warmup=0.0), 60 * STEPS)
    step = steps.make_train_step(model.clone(dropout=0.0).apply, tx, config)
    chunk = jax.jit(steps.make_train_chunk(step, batch_size=BATCH, steps=STEPS))
    now = state.create(dict(jax.jit(model.init)(KEY, jnp.zeros((1, SIDE, SIDE, 3)))), tx)
    accuracies = []
    for _ in range(60):
        now, metrics = chunk(now, KEY, *images)
        accuracies.append(float(metrics["correct"] / metrics["examples"]))
    assert accuracies[0] < 0.4
    assert accuracies[-1] > 0.8


def test_a_packed_state_takes_the_same_step(model, tx, start, images, jitted_step):
    """Vectors in place of trees: the same sums, but for the order of those of the global norm."""
    layout = state.Layout.of(start)
    packed_step = jax.jit(steps.make_train_step(layout.apply(model.apply), tx, MIXED))
    packed, metrics = packed_step(layout.pack(start), KEY, first_batch(images))
    assert packed.params.shape == packed.ema_params.shape == (610,)
    expected, sums = jitted_step(start, KEY, first_batch(images))
    chex.assert_trees_all_close(layout.unpack(packed), expected, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(metrics, sums, rtol=1e-5)
