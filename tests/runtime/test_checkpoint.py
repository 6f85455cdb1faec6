import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_jax import optim, state
from cifar_jax.config import OptimConfig
from cifar_jax.models import SeparableResNet
from cifar_jax.runtime import checkpoint, environment


def make(step=7, stem=4):
    tx = optim.make_optimizer(OptimConfig(), 10)
    model = SeparableResNet(stem=stem, stages=(4,), blocks=1)
    new = state.create(dict(model.init(jax.random.key(step), jnp.zeros((1, 8, 8, 3)))), tx)
    return new.replace(step=jnp.asarray(step))


@pytest.fixture(scope="module")
def saved():
    return make()


def shapes(of):
    return jax.eval_shape(lambda: of)


def test_round_trip_is_bit_for_bit(tmp_path, saved):
    path = checkpoint.save(tmp_path / "checkpoints", saved, {"history": [{"epoch": 1}]})
    assert path == tmp_path / "checkpoints" / "7"
    found = checkpoint.restore(path, shapes(saved))
    assert isinstance(found, state.TrainState)
    chex.assert_trees_all_equal(found, saved)
    chex.assert_trees_all_equal_dtypes(found, saved)
    assert checkpoint.read_progress(path) == {"history": [{"epoch": 1}]}
    assert [p.name for p in path.parent.iterdir()] == ["7"]


def test_saving_again_replaces(tmp_path, saved):
    checkpoint.save(tmp_path, make(7), {"history": []})
    path = checkpoint.save(tmp_path, saved, {"history": [1]})
    assert checkpoint.read_progress(path) == {"history": [1]}


def test_newest_whole_checkpoint_counts(tmp_path, saved):
    assert checkpoint.latest_valid(tmp_path / "absent") is None
    assert checkpoint.latest_valid(tmp_path) is None
    for step in (9, 10):
        checkpoint.save(tmp_path, saved.replace(step=jnp.asarray(step)), {})
    (tmp_path / "11").mkdir()  # empty: not a checkpoint
    (tmp_path / ".12.partial").mkdir()  # a save that died
    (tmp_path / "notes").mkdir()
    (tmp_path / "13").write_text("a file")
    assert checkpoint.latest_valid(tmp_path) == tmp_path / "10"


def test_prune(tmp_path):
    for step in (1, 2, 3):
        (tmp_path / str(step)).mkdir()
    (tmp_path / "notes").mkdir()
    checkpoint.prune(tmp_path, {2})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "notes"]


def test_another_network_is_refused(tmp_path, saved):
    path = checkpoint.save(tmp_path, saved, {})
    with pytest.raises(checkpoint.CheckpointError, match="7: cannot be restored"):
        checkpoint.restore(path, shapes(make(stem=6)))


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"history": 3}', ""])
def test_damage_is_one_line(tmp_path, saved, text):
    path = checkpoint.save(tmp_path, saved, {})
    (path / "state" / "_METADATA").unlink()
    (path / "progress.json").write_text(text)
    with pytest.raises(checkpoint.CheckpointError) as error:
        checkpoint.restore(path, shapes(saved))
    assert "\n" not in str(error.value)
    with pytest.raises(checkpoint.CheckpointError, match=r"progress\.json: cannot be read"):
        checkpoint.read_progress(path)


def test_a_checkpoint_of_another_device_is_opened_here(tmp_path, saved):
    path = checkpoint.save(tmp_path, saved, {})
    sharding = path / "state" / "_sharding"
    text, count = re.subn(r'(device_str\\": \\")[^\\]*', r"\1cuda:0", sharding.read_text())
    assert count == len(jax.tree.leaves(saved))
    sharding.write_text(text)
    found = checkpoint.restore(path, shapes(saved))
    chex.assert_trees_all_equal(found, saved)
    assert found.step.devices() == {jax.devices()[0]}


def test_hash_depends_on_every_weight_and_on_nothing_else(saved):
    digest = environment.weights_sha256(saved)
    assert digest == environment.weights_sha256(saved.replace(step=jnp.asarray(1), opt_state=None))
    for name in ("params", "batch_stats", "ema_params", "ema_batch_stats"):
        leaves, structure = jax.tree.flatten(getattr(saved, name))
        leaves[-1] = leaves[-1].at[0].add(1e-6)
        changed = saved.replace(**{name: jax.tree.unflatten(structure, leaves)})
        assert environment.weights_sha256(changed) != digest
    host = jax.tree.map(np.asarray, saved)
    assert environment.weights_sha256(host) == digest
