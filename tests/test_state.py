"""A state and its layout as vectors."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_jax import optim, state
from cifar_jax.config import OptimConfig

PARAMS = {"b": jnp.arange(6.0).reshape(2, 3), "a": {"c": jnp.full((1, 1, 2), 7.0)}}
STATS = {"mean": jnp.arange(4.0)}


@pytest.fixture
def start():
    tx = optim.make_optimizer(OptimConfig(), 10)
    return state.create({"params": PARAMS, "batch_stats": STATS}, tx)


def test_leaf_after_leaf():
    packing = state.Packing.of(PARAMS)
    np.testing.assert_array_equal(packing.pack(PARAMS), [7, 7, 0, 1, 2, 3, 4, 5])
    chex.assert_trees_all_equal(packing.unpack(packing.pack(PARAMS)), PARAMS)


@pytest.mark.parametrize("where", ["numpy", "jax", "jit"])
def test_there_and_back(start, where):
    layout = state.Layout.of(jax.eval_shape(lambda: start))
    given = jax.device_get(start) if where == "numpy" else start
    both = lambda x: (layout.pack(x), layout.unpack(layout.pack(x)))  # noqa: E731
    packed, back = jax.jit(both)(given) if where == "jit" else both(given)
    chex.assert_trees_all_equal(back, start)
    assert isinstance(packed.params, np.ndarray) == (where == "numpy")
    assert [packed.params.shape, packed.ema_batch_stats.shape] == [(8,), (4,)]


def test_the_velocity_is_a_vector_in_both(start):
    velocity = [leaf.shape for leaf in jax.tree.leaves(start.opt_state) if leaf.ndim]
    assert velocity == [(8,)]
    packed = state.Layout.of(start).pack(start)
    chex.assert_trees_all_equal(packed.opt_state, start.opt_state)


def test_the_gradient_of_a_vector_is_packed():
    packing = state.Packing.of(PARAMS)

    def loss(vector):
        tree = packing.unpack(vector)
        return jnp.sum(tree["b"] ** 2) + 3 * jnp.sum(tree["a"]["c"])

    np.testing.assert_array_equal(jax.grad(loss)(packing.pack(PARAMS)), [3, 3, 0, 2, 4, 6, 8, 10])


def test_a_network_without_batch_statistics():
    tx = optim.make_optimizer(OptimConfig(), 10)
    start = state.create({"params": PARAMS}, tx)
    layout = state.Layout.of(start)
    packed = jax.jit(layout.pack)(start)
    for where in (packed, jax.device_get(packed)):
        chex.assert_trees_all_equal(layout.unpack(where), start)
    given = {}

    def apply(variables, images, *, mutable=()):
        given.update(variables)
        return (images, {}) if mutable else images

    variables = {"params": packed.params, "batch_stats": packed.batch_stats}
    assert layout.apply(apply)(variables, 3, mutable=["batch_stats"]) == (3, {})
    assert layout.apply(apply)(variables, 3) == 3
    chex.assert_trees_all_equal(given, start.variables)


def test_another_tree_is_refused(start):
    layout = state.Layout.of(start)
    with pytest.raises(ValueError, match=r"structure|[Kk]ey"):
        layout.pack(start.replace(params={"b": PARAMS["b"]}))
