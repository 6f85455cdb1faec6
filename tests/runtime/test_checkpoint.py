import contextlib
import errno
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_jax import optim, state
from cifar_jax.config import OptimConfig
from cifar_jax.files import WriteError
from cifar_jax.models import SeparableResNet
from cifar_jax.runtime import checkpoint, environment, manifest


def make(step=7, stem=4):
    tx = optim.make_optimizer(OptimConfig(), 10)
    model = SeparableResNet(stem=stem, stages=(4,), blocks=1)
    variables = jax.jit(model.init)(jax.random.key(step), jnp.zeros((1, 8, 8, 3)))
    new = state.create(dict(variables), tx)
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
    assert {p.name for p in path.parent.iterdir()} == {"7", "latest"}
    assert {p.name for p in path.iterdir()} == {"state", "progress.json", "SHA256SUMS"}


@pytest.mark.parametrize("name", ["[1]", "[a-b] x", "a\\b", "a*?"])
def test_names_that_orbax_takes_for_others(tmp_path, saved, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / name / "checkpoints"
    path = checkpoint.save(folder, saved, {"history": []})
    chex.assert_trees_all_equal(checkpoint.restore(path, shapes(saved)), saved)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_plain", contextlib.nullcontext)  # as if there was no way
        if name != "a*?":  # which it may take for itself
            with pytest.raises(WriteError, match=r"8\.partial/state: cannot be written: orbax has"):
                checkpoint.save(folder, saved.replace(step=jnp.asarray(8)), {"history": []})
            assert checkpoint.latest_valid(folder) == path


def test_saving_again_replaces(tmp_path, saved):
    checkpoint.save(tmp_path, saved, {"history": []})
    path = checkpoint.save(tmp_path, saved, {"history": [1]})
    assert checkpoint.read_progress(path) == {"history": [1]}


def test_newest_whole_checkpoint_counts(tmp_path, saved):
    assert checkpoint.latest_valid(tmp_path / "absent") is None
    assert checkpoint.latest_valid(tmp_path) is None
    for step in (9, 10):
        checkpoint.save(tmp_path, saved.replace(step=jnp.asarray(step)), {"history": []})
    (tmp_path / "11").mkdir()  # empty: not a checkpoint
    (tmp_path / ".12.partial").mkdir()  # a save that died
    (tmp_path / "notes").mkdir()
    (tmp_path / "13").write_text("a file")
    assert checkpoint.latest_valid(tmp_path) == tmp_path / "10"
    (tmp_path / "10" / "progress.json").unlink()
    assert checkpoint.latest_valid(tmp_path) == tmp_path / "9"


def test_prune(tmp_path):
    for step in (1, 2, 3):
        (tmp_path / str(step) / "state").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    (tmp_path / "4").mkdir()  # not one of ours
    checkpoint.prune(tmp_path, {2})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "4", "notes"]


def test_another_network_is_refused(tmp_path, saved):
    path = checkpoint.save(tmp_path, saved, {})
    with pytest.raises(checkpoint.CheckpointError, match="7: cannot be restored"):
        checkpoint.restore(path, jax.eval_shape(lambda: make(stem=6)))


def sum_again(path):
    """Make what is in a checkpoint look as if it had been saved so."""
    manifest.write(path)


def test_damage_is_one_line(tmp_path, saved):
    path = checkpoint.save(tmp_path, saved, {"history": []})
    (path / "state" / "_METADATA").unlink()
    with pytest.raises(checkpoint.CheckpointError, match=r"^damaged: .*state/_METADATA: No such"):
        checkpoint.restore(path, shapes(saved))
    sum_again(path)
    with pytest.raises(checkpoint.CheckpointError, match="7: cannot be restored") as error:
        checkpoint.restore(path, shapes(saved))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"history": 3}', ""])
def test_progress_of_another_kind(tmp_path, saved, text):
    path = checkpoint.save(tmp_path, saved, {"history": []})
    (path / "progress.json").write_text(text)
    sum_again(path)
    with pytest.raises(checkpoint.CheckpointError, match=r"progress\.json: cannot be read"):
        checkpoint.read_progress(path)
    assert "progress.json: cannot be read" in str(checkpoint.damage(path))
    assert checkpoint.latest_valid(tmp_path) is None


def test_a_full_disk_is_one_line_and_keeps_the_older(tmp_path, saved, monkeypatch):
    checkpoint.save(tmp_path, saved, {"history": []})

    def refuse(path, needed):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "_reserve", refuse)
    message = r"/8: cannot be written: No space left on device: [\d,]+ bytes needed, [\d,]+ free$"
    with pytest.raises(WriteError, match=message):
        checkpoint.save(tmp_path, saved.replace(step=jnp.asarray(8)), {"history": []})
    assert {path.name for path in tmp_path.iterdir()} == {"7", "latest"}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("RESOURCE_EXHAUSTED: write: No space left on device [x=1]"), WriteError),
        (OSError(errno.EROFS, "Read-only file system"), WriteError),
        (ValueError("NOT_FOUND: the folder\nhas gone"), WriteError),
    ],
)
def test_what_orbax_cannot_write(tmp_path, saved, monkeypatch, error, expected):
    def fail(self, path, state):
        path.mkdir()
        raise error

    monkeypatch.setattr(checkpoint.ocp.StandardCheckpointer, "save", fail)
    with pytest.raises(expected) as caught:
        checkpoint.save(tmp_path, saved, {"history": []})
    assert "cannot be written: " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_another_device_is_opened_here(tmp_path, saved):
    path = checkpoint.save(tmp_path, saved, {})
    sharding = path / "state" / "_sharding"
    text, count = re.subn(r'(device_str\\": \\")[^\\]*', r"\1cuda:0", sharding.read_text())
    assert count == len(jax.tree.leaves(saved))
    sharding.write_text(text)
    sum_again(path)
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


def test_a_folder_of_the_users_own_is_kept(tmp_path, saved):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "notes.txt").write_text("mine")
    checkpoint.save(tmp_path, saved, {"history": []})
    assert checkpoint.latest_valid(tmp_path) == tmp_path / "7"
    assert (tmp_path / "7.other" / "notes.txt").read_text() == "mine"
