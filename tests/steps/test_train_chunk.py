"""Many steps in one loop."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from step_cases import BATCH, COUNT, KEY, STEPS

from cifar_jax import state, steps
from cifar_jax.rng import stream_key


def test_a_chunk_is_its_single_steps(start, images, jitted_step, chunk):
    many, sums = chunk(start, KEY, *images)
    order = np.asarray(jax.random.permutation(stream_key(KEY, "order", 0), COUNT))
    one, total = start, 0.0
    for rows in order[: STEPS * BATCH].reshape(STEPS, BATCH):
        one, metrics = jitted_step(one, KEY, jax.tree.map(lambda x, r=rows: x[r], images))
        total += metrics["loss"]
    chex.assert_trees_all_close(many, one, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sums["loss"], total, rtol=1e-5)
    assert sums["examples"] == STEPS * BATCH
    assert sums["skipped"] == 0


def test_two_half_chunks_are_a_whole_one_bit_for_bit(start, images, half_chunk, chunk):
    twice, _ = half_chunk(half_chunk(start, KEY, *images)[0], KEY, *images)
    chex.assert_trees_all_equal(twice, chunk(start, KEY, *images)[0])


def test_one_trace_for_all_epochs(half_chunk, start, images):
    now = start
    for _ in range(5):
        now, _ = half_chunk(now, KEY, *images)
    assert now.step == 5 * (STEPS // 2)


@pytest.mark.parametrize("epoch", [0, 3])
def test_an_epoch_meets_each_image_at_most_once(epoch):
    def count(now, key, batch):
        return now.replace(step=now.step + 1, params=now.params.at[batch[1]].add(1)), {}

    chunk = jax.jit(steps.make_train_chunk(count, batch_size=BATCH, steps=STEPS))
    empty = state.TrainState(jnp.asarray(epoch * STEPS), jnp.zeros(COUNT), None, None, None, None)
    rows = jnp.arange(COUNT)
    met = chunk(empty, KEY, rows, rows)[0].params
    assert met.sum() == STEPS * BATCH
    assert met.max() == 1


def test_flips_alternate_by_epoch_whatever_its_order():
    def keep(now, key, batch):
        images, numbers = batch
        return now.replace(
            step=now.step + 1, params=now.params.at[numbers].set(images[:, 0, 0])
        ), {}

    chunk = jax.jit(
        steps.make_train_chunk(keep, batch_size=BATCH, steps=STEPS, alternating_flip=True)
    )
    sides = jnp.broadcast_to(jnp.asarray([1.0, 2.0]).reshape(1, 1, 2, 1), (COUNT, 1, 2, 1))
    seen = []
    for epoch in range(2):
        empty = state.TrainState(
            jnp.asarray(epoch * STEPS), jnp.zeros((COUNT, 1)), None, None, None, None
        )
        seen.append(np.asarray(chunk(empty, KEY, sides, jnp.arange(COUNT))[0].params)[:, 0])
    met = (seen[0] > 0) & (seen[1] > 0)  # not in the part of an epoch that is left out
    assert met.sum() > COUNT / 2
    np.testing.assert_array_equal((seen[0] + seen[1])[met], 3)
    assert len(set(seen[0][met])) == 2


@pytest.mark.parametrize("steps_of_a_call", [STEPS - 1, 2 * STEPS])
def test_a_chunk_divides_an_epoch(train_step, start, images, steps_of_a_call):
    chunk = steps.make_train_chunk(train_step, batch_size=BATCH, steps=steps_of_a_call)
    message = f"steps must divide the {STEPS} steps of an epoch, not be {steps_of_a_call}"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(chunk, start, KEY, *images)


def test_a_chunk_of_nothing(train_step):
    for size, count in ((0, 1), (BATCH, 0)):
        message = f"batch_size and steps must be at least 1, not {size} and {count}"
        with pytest.raises(ValueError, match=message):
            steps.make_train_chunk(train_step, batch_size=size, steps=count)


def test_arrays_of_numpy_that_no_jit_was_given():
    def note(now, key, batch):
        return now.replace(step=now.step + 1), {"sum": batch[0].sum() + batch[1].sum()}

    chunk = steps.make_train_chunk(note, batch_size=BATCH, steps=STEPS)
    empty = state.TrainState(jnp.asarray(0), None, None, None, None, None)
    rows = np.arange(STEPS * BATCH)
    _, found = chunk(empty, KEY, rows, rows)
    assert found["sum"] == 2 * rows.sum()


def test_epochs_and_seeds_have_their_own_order():
    def note(now, key, batch):
        met = jax.lax.dynamic_update_slice(now.params, batch[1], (now.step % STEPS * BATCH,))
        return now.replace(step=now.step + 1, params=met), {}

    chunk = jax.jit(steps.make_train_chunk(note, batch_size=BATCH, steps=STEPS))
    rows = jnp.arange(COUNT)

    def order(seed, epoch):
        met = jnp.zeros(STEPS * BATCH, rows.dtype)
        empty = state.TrainState(jnp.asarray(epoch * STEPS), met, None, None, None, None)
        return tuple(chunk(empty, jax.random.key(seed), rows, rows)[0].params.tolist())

    assert len({order(0, 0), order(0, 1), order(1, 0), tuple(range(STEPS * BATCH))}) == 4
