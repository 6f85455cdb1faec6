import json
import shutil

import pytest
from tiny_runs import interrupt_at, read_metrics, stop

from cifar_jax.config import ConfigError
from cifar_jax.runtime import checkpoint, pictures, score
from cifar_jax.runtime import session as session_module
from cifar_jax.runtime import train as train_module
from cifar_jax.runtime.train import train
from cifar_jax.runtime.trainer import Trainer, TrainingError
from cifar_jax.runtime.workdir import Workdir

NEEDED = {
    "parameters",
    "receptive_field",
    "test_accuracy",
    "ema_test_accuracy",
    "tta_accuracy",
    "validation_accuracy",
    "selected_epoch",
    "epochs",
    "seconds",
    "images_per_second",
    "compile_seconds",
    "seed",
    "versions",
    "device",
    "config_sha256",
    "weights_sha256",
}


def test_workdir(whole, tiny):
    workdir, results = whole
    assert {path.name for path in workdir.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "log.txt",
        "checkpoints",
        "results.json",
        "curves.png",
        "confusion.png",
        "augmentations.png",
        ".lock",
    }
    for picture in workdir.glob("*.png"):
        assert picture.stat().st_size > 1000  # drawn, not one of conftest's empty files
    assert json.loads((workdir / "results.json").read_text()) == results
    assert results.keys() >= NEEDED
    assert results["command"] == "python main.py"
    assert results["parameters"] == 1530
    assert results["config_sha256"] == tiny.sha256
    rows = read_metrics(workdir)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert [row["step"] for row in rows] == [10, 20, 30, 40]
    best = max(row["ema_validation_accuracy"] for row in rows)
    assert results["ema_validation_accuracy"] == best
    chosen = rows[results["selected_epoch"] - 1]
    for name in ("validation_accuracy", "ema_validation_accuracy"):
        assert chosen[name] == results[name]
    log = (workdir / "log.txt").read_text().splitlines()
    assert "cifar_jax" in log[0]
    assert " cpu" in log[0]


def test_checkpoints_kept_are_the_newest_and_the_selected(whole, tiny):
    workdir, results = whole
    kept = set(checkpoint.steps(workdir / "checkpoints"))
    assert kept == {30, 40, 10 * results["selected_epoch"]}


def test_a_finished_run_is_returned_as_it_is(whole, tiny, monkeypatch):
    workdir, results = whole
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    monkeypatch.setattr(train_module, "load_inputs", None)  # nothing is loaded
    assert train(tiny, workdir) == results
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


@pytest.mark.parametrize("allow", [False, True])
def test_a_workdir_belongs_to_one_config(whole, tiny, allow):
    message = r"holds a finished run, which does not go on \(train\.epochs: 4 -> 9\): use another"
    with pytest.raises(ConfigError, match=message):
        train(tiny.replace(train={"epochs": 9}), whole[0], allow_config_change=allow)


def test_the_test_set_is_scored_once(tiny, tmp_path, monkeypatch):
    scored = []

    def count(config, state, images, split):
        scored.append(split)
        return score.score(config, state, images, split)

    monkeypatch.setattr(session_module, "score", count)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "prune", interrupt_at(2))
        with pytest.raises(KeyboardInterrupt):
            train(tiny, tmp_path)
    assert scored == []
    train(tiny, tmp_path)
    train(tiny, tmp_path)
    assert scored == ["test"]


def test_checkpoints_every_few_epochs(light, tmp_path):
    config = light.replace(
        data={"validation_examples": 0},
        train={"epochs": 5, "checkpoint_every": 2, "keep_checkpoints": 9},
    )
    train(config, tmp_path)
    assert set(checkpoint.steps(tmp_path / "checkpoints")) == {20, 40, 50}


def test_a_run_goes_on_with_other_free_fields(whole, tiny):
    free = tiny.replace(data={"data_dir": "/elsewhere"}, train={"keep_checkpoints": 5})
    free = free.replace(eval={"batch_size": 32})
    assert train(free, whole[0]) == whole[1]
    with pytest.raises(ConfigError, match=r"data\.source: synthetic -> auto"):
        train(tiny.replace(data={"source": "auto"}), whole[0])


def test_results_without_checkpoints_still_belong_to_their_config(whole, tiny, tmp_path):
    shutil.copy(whole[0] / "config.json", tmp_path)
    shutil.copy(whole[0] / "results.json", tmp_path)
    assert train(tiny, tmp_path) == whole[1]
    with pytest.raises(ConfigError, match=r"train\.seed: 0 -> 1"):
        train(tiny.replace(train={"seed": 1}), tmp_path)
    for text in ("{", "{}", "[]", "null", '{"test_accuracy": 1}'):
        (tmp_path / "results.json").write_text(text)
        with pytest.raises(ConfigError, match=r"results\.json: not a run's results"):
            train(tiny, tmp_path)


def test_a_run_without_a_checkpoint_may_change_its_config(tiny, tmp_path):
    Workdir(tmp_path).write_config(tiny)
    train(tiny.replace(train={"seed": 3}), tmp_path)
    assert Workdir(tmp_path).read_config().train.seed == 3


def test_without_validation_the_last_epoch_counts(tiny, tmp_path):
    config = tiny.replace(data={"validation_examples": 0}, train={"patience": 1})
    results = train(config, tmp_path)
    assert results["selected_epoch"] == results["epochs"] == 4
    assert results["validation_accuracy"] is None


def test_early_stopping(tiny, tmp_path):
    config = tiny.replace(train={"patience": 2, "min_delta": 1.0})
    results = train(config, tmp_path)
    assert results["epochs"] == 3
    assert results["selected_epoch"] == 1
    assert set(checkpoint.steps(tmp_path / "checkpoints")) == {10, 20, 30}
    assert "stopped: no gain in 2 epochs since epoch 1" in (tmp_path / "log.txt").read_text()
    found = score.evaluate_run(tmp_path, config)
    assert found["step"] == 10
    for name in ("test_loss", "ema_test_loss", "confusion"):
        assert found[name] == results[name]


def test_evaluation_repeats_the_results(whole, tiny):
    workdir, results = whole
    found = score.evaluate_run(workdir, tiny)
    for name in ("test_accuracy", "ema_test_accuracy", "tta_accuracy", "confusion"):
        assert found[name] == results[name]
    validation = score.evaluate_run(workdir, tiny, split="validation")
    for name in ("validation_accuracy", "ema_validation_accuracy"):
        assert validation[name] == results[name]
    with pytest.raises(checkpoint.CheckpointError, match=r"/5: no such step; found"):
        score.evaluate_run(workdir, tiny, step=5)
    with pytest.raises(ConfigError, match=r"model\.blocks: 1 -> 2"):
        score.evaluate_run(workdir, tiny.replace(model={"blocks": 2}))


def test_an_empty_workdir_cannot_be_evaluated(tiny, tmp_path):
    with pytest.raises(ConfigError, match=r"config\.json: cannot be read"):
        score.evaluate_run(tmp_path, tiny)


@pytest.mark.parametrize(
    ("limit", "message"),
    [(2, r"step \d+: .* of the last \d+ steps"), (1000, "of every step had a ")],
)
def test_gradients_that_stay_bad_stop_the_run(light, tmp_path, limit, message):
    config = light.replace(
        optim={"learning_rate": 1e6, "clip_norm": 0.0, "nonfinite_limit": limit, "warmup": 0.0},
        train={"epochs": 40},
    )
    with pytest.raises(TrainingError, match=message) as error:
        train(config, tmp_path)
    assert (tmp_path / "log.txt").read_text().endswith(f" ended: {error.value}\n")
    saved = set(checkpoint.steps(tmp_path / "checkpoints"))
    assert saved == (set() if limit == 2 else {10})  # the latter stops in its second epoch
    assert not (tmp_path / "results.json").exists()


def test_a_training_loss_that_is_not_finite_is_no_row(light, tmp_path, monkeypatch):
    """The sum of finite losses may be infinite."""

    def row(*args, real=Trainer.row):
        return real(*args) | {"train_loss": float("inf")}

    monkeypatch.setattr(Trainer, "row", row)
    with pytest.raises(TrainingError, match="step 10: train_loss must be finite, not inf"):
        train(light, tmp_path)
    assert not (tmp_path / "metrics.jsonl").read_text()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_figures_that_are_not_finite_are_no_results(tiny, tmp_path, monkeypatch, value):
    monkeypatch.setattr(session_module, "score", lambda *_: {"test_loss": value})
    with pytest.raises(TrainingError, match=rf"step \d+: test_loss must be finite, not {value}"):
        train(tiny, tmp_path)
    assert not (tmp_path / "results.json").exists()


def test_pictures_that_fail_cost_no_results(light, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("latex could not be found")

    monkeypatch.setattr(pictures, "draw_pictures", fail)
    results = train(light.replace(train={"epochs": 1}), tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert (
        "no pictures: RuntimeError: latex could not be found\n"
        in (tmp_path / "log.txt").read_text()
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", '{"model_type": "bert"}', r"config\.json: model_type: no such section"),
        ("config.json", "[" * 100_000, r"config\.json: not a run's config"),
        ("metrics.jsonl", '{"mine": 1}\n', r"metrics\.jsonl has no config\.json beside it, so"),
        ("metrics.jsonl", "mine", r"metrics\.jsonl has no config\.json beside it, so it is no run"),
        ("log.txt", "mine", r"log\.txt has no config\.json beside it, so it is no run's: use"),
        (
            "curves.png",
            "mine",
            r"curves\.png has no config\.json beside it, so it is no run's: use",
        ),
    ],
)
def test_files_of_others_are_not_replaced(light, tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=message):
        train(light, tmp_path)
    assert (tmp_path / name).read_text() == content
    assert {path.name for path in tmp_path.iterdir()} == {name, ".lock"}


def test_muon_trains_and_goes_on_with_the_same_bits(light, tmp_path):
    optim = {"optimizer": "muon", "learning_rate": 0.1, "muon_learning_rate": 0.05}
    config = light.replace(train={"epochs": 3}, optim=optim)
    whole = train(config, tmp_path / "whole")
    assert whole["ema_test_accuracy"] > 0.2
    stop(config, tmp_path / "stopped", chunks=3)
    assert train(config, tmp_path / "stopped")["weights_sha256"] == whole["weights_sha256"]


def test_a_config_is_checked_that_no_file_was_read_for(tiny, tmp_path):
    with pytest.raises(
        ConfigError, match=r"optim\.schedule must be one of cosine, linear, not 'cos'"
    ):
        train(tiny.replace(optim={"schedule": "cos"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
