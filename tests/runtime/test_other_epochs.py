"""Another number of epochs: runs that are ended early, or trained for longer in copies."""

import shutil

import pytest
from tiny_runs import read_metrics, stop

from cifar_jax.config import ConfigError
from cifar_jax.runtime import checkpoint, environment, score
from cifar_jax.runtime.run_weights import restore_selected
from cifar_jax.runtime.sweep import sweep
from cifar_jax.runtime.train import train
from cifar_jax.runtime.trainer import Trainer
from cifar_jax.runtime.workdir import Workdir


def test_fewer_epochs_than_were_begun(light, tmp_path):
    stop(light, tmp_path, chunks=5)
    fewer = light.replace(train={"epochs": 2})
    results = train(fewer, tmp_path, allow_config_change=True)
    assert results["epochs"] == 2
    found = score.evaluate_run(tmp_path, fewer)
    assert found["step"] == 10 * results["selected_epoch"]
    for name in ("test_accuracy", "ema_test_accuracy", "tta_accuracy"):
        assert found[name] == results[name]
    chosen = restore_selected(Trainer(fewer), Workdir(tmp_path))
    assert results["weights_sha256"] == environment.weights_sha256(chosen)  # of whole epochs alone
    assert " over after epoch 2 and 5 steps, from " in (tmp_path / "log.txt").read_text()


def test_an_epoch_that_has_begun_is_the_last(light, tmp_path):
    """Without validation: no checkpoint of the one before it is kept."""
    config = light.replace(data={"validation_examples": 0}, train={"checkpoint_every": 50})
    stop(config, tmp_path, chunks=3)
    assert [path.name for path in (tmp_path / "checkpoints").glob("[0-9]*")] == ["15"]
    with pytest.raises(checkpoint.CheckpointError, match="15 is inside an epoch, and no other"):
        score.evaluate_run(tmp_path, config)
    fewer = config.replace(train={"epochs": 1})
    results = train(fewer, tmp_path, allow_config_change=True)
    assert results["epochs"] == results["selected_epoch"] == 2
    assert score.evaluate_run(tmp_path, fewer)["step"] == 20


def test_a_copy_without_results(whole, tiny, tmp_path):
    run = tmp_path / "longer"
    shutil.copytree(whole[0], run)
    (run / "results.json").unlink()
    results = train(tiny.replace(train={"epochs": 6}), run, allow_config_change=True)
    change = {"step": 40, "field": "train.epochs", "old": 4, "new": 6}
    assert results["config_changes"] == [change]
    rates = {row["epoch"]: row["learning_rate"] for row in read_metrics(run)}
    assert list(rates) == [1, 2, 3, 4, 5, 6]
    assert rates[4] < rates[5] > rates[6]  # those of six epochs
    assert results["epochs"] == 6
    assert train(tiny, whole[0]) == whole[1]


@pytest.mark.parametrize("side_by_side", [1, 2])
def test_a_copy_of_a_sweep(light, tmp_path, side_by_side):
    how, seeds, copy = {"side_by_side": side_by_side}, [3, 1], tmp_path / "longer"
    sweep(light.replace(train={"epochs": 1}), seeds, tmp_path / "sweep", **how)
    shutil.copytree(tmp_path / "sweep", copy)
    for seed in seeds:
        (copy / f"seed{seed}" / "results.json").unlink()
    longer = light.replace(train={"epochs": 2})
    found = sweep(longer, seeds, copy, allow_config_change=True, **how)
    change = {"step": 10, "field": "train.epochs", "old": 1, "new": 2}
    assert [run["config_changes"] for run in found["runs"]] == [[change], [change]]
    for seed in seeds:
        assert [row["epoch"] for row in read_metrics(copy / f"seed{seed}")] == [1, 2]


def test_patience_that_has_run_out(light, tmp_path):
    short = light.replace(train={"patience": 1, "min_delta": 1.0})  # no gain is enough
    assert train(short, tmp_path)["epochs"] == 2
    (tmp_path / "results.json").unlink()
    assert train(short, tmp_path)["epochs"] == 2
    (tmp_path / "results.json").unlink()
    longer = short.replace(train={"epochs": 5})
    with pytest.raises(ConfigError, match=r"train\.patience must be 0, or more than 1, for more"):
        train(longer, tmp_path, allow_config_change=True)
    assert not (tmp_path / "results.json").exists()
    longer = longer.replace(train={"patience": 0})
    assert train(longer, tmp_path, allow_config_change=True)["epochs"] == 5


def test_fewer_epochs_than_are_trained(light, tmp_path):
    stop(light, tmp_path, chunks=5)
    before = (tmp_path / "metrics.jsonl").read_text()
    with pytest.raises(
        ConfigError, match=r"train\.epochs must be 2 at least, which are trained, not"
    ):
        train(light.replace(train={"epochs": 1}), tmp_path, allow_config_change=True)
    assert (tmp_path / "metrics.jsonl").read_text() == before
    assert train(light, tmp_path)["epochs"] == light.train.epochs
