import concurrent.futures
import dataclasses
import errno
import fcntl
import json
import shutil
import signal

import jax
import numpy as np
import pytest

from cifar_jax.config import Config, ConfigError, load_config
from cifar_jax.runtime import checkpoint, environment, score
from cifar_jax.runtime import session as session_module
from cifar_jax.runtime import train as train_module
from cifar_jax.runtime.progress import Progress
from cifar_jax.runtime.signals import Interrupted, listening
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
TIMES = {"seconds", "images_per_second"}


def change(config: Config, **sections) -> Config:
    parts = {
        name: dataclasses.replace(getattr(config, name), **fields)
        for name, fields in sections.items()
    }
    return dataclasses.replace(config, **parts)


def read_metrics(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    return workdir, train(tiny, workdir, command="python main.py")


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


@pytest.mark.parametrize("epochs", [1, 2, 4])
@pytest.mark.parametrize("moment", ["prune", "save"])
def test_resumed_equals_uninterrupted_bit_for_bit(
    whole, tiny, tmp_path, monkeypatch, epochs, moment
):
    original = getattr(checkpoint, moment)
    calls = []

    def interrupt(*args):
        calls.append(args)
        if len(calls) == epochs:
            raise KeyboardInterrupt
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, moment, interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(tiny, tmp_path)
    results = train(tiny, tmp_path)
    expected = whole[1]
    same = results.keys() - TIMES - {"command", "compile_seconds", "date"}
    assert {name: results[name] for name in same} == {name: expected[name] for name in same}
    rows, whole_rows = (
        [{k: v for k, v in row.items() if k not in TIMES} for row in read_metrics(path)]
        for path in (tmp_path, whole[0])
    )
    assert rows == whole_rows
    assert results["compile_seconds"] > 0


@pytest.mark.parametrize("chunks", [1, 3, 4, 7])
def test_stopped_inside_an_epoch_and_resumed_bit_for_bit(
    whole, tiny, tmp_path, monkeypatch, chunks
):
    """Two chunks make an epoch; a signal comes in the given one."""
    with monkeypatch.context() as patch:
        stop_after(patch, chunks)
        with pytest.raises(Interrupted, match="stopped by SIGTERM"), listening() as stop:
            train(tiny, tmp_path, stop=stop)
    last = checkpoint.latest_valid(tmp_path / "checkpoints")
    assert last is not None
    assert last == tmp_path / "checkpoints" / str(5 * chunks)
    progress = checkpoint.read_progress(last)
    assert len(progress["history"]) == chunks // 2
    assert (progress["partial"] is None) == (chunks % 2 == 0)
    results = train(tiny, tmp_path)
    assert results["weights_sha256"] == whole[1]["weights_sha256"]
    rows, whole_rows = (
        [{k: v for k, v in row.items() if k not in TIMES} for row in read_metrics(path)]
        for path in (tmp_path, whole[0])
    )
    assert rows == whole_rows
    log = (tmp_path / "log.txt").read_text()
    inside = " and 5 steps" if chunks % 2 else ""
    assert f"continuing after epoch {chunks // 2}{inside}, from " in log


def stop_after(patch, chunks):
    """Have a signal come after so many chunks."""
    advance, calls = Progress.advance, []

    def interrupt(self, *args, **values):
        calls.append(args)
        if len(calls) == chunks:
            signal.raise_signal(signal.SIGTERM)
        advance(self, *args, **values)

    patch.setattr(Progress, "advance", interrupt)


def test_stopped_without_a_validation_split(tiny, tmp_path, monkeypatch):
    """Between two checkpoints of whole epochs, again and again."""
    config = change(
        tiny, data={"validation_examples": 0}, train={"epochs": 5, "checkpoint_every": 4}
    )
    expected = train(config, tmp_path / "whole")
    for session in range(3):
        with monkeypatch.context() as patch:
            stop_after(patch, 3)
            with pytest.raises(Interrupted), listening() as stop:
                train(config, tmp_path / "run", stop=stop)
        step = 15 * (session + 1)
        assert max(checkpoint.steps(tmp_path / "run" / "checkpoints")) == step
    results = train(config, tmp_path / "run")
    assert results["weights_sha256"] == expected["weights_sha256"]
    rows = read_metrics(tmp_path / "run")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert not any("lost" in row for row in rows)
    assert score.evaluate_run(tmp_path / "run", config)["test_accuracy"] == results["test_accuracy"]


def test_fewer_epochs_than_were_begun(tiny, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(Interrupted), listening() as stop:
            train(tiny, tmp_path, stop=stop)
    fewer = change(tiny, train={"epochs": 2})
    results = train(fewer, tmp_path, allow_config_change=True)
    assert results["epochs"] == 2
    found = score.evaluate_run(tmp_path, fewer)
    assert found["step"] == 10 * results["selected_epoch"]
    for name in ("test_accuracy", "ema_test_accuracy", "tta_accuracy"):
        assert found[name] == results[name]


def test_a_change_of_the_momentum(tiny, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Interrupted), listening() as stop:
            train(tiny, tmp_path, stop=stop)
    other = change(tiny, optim={"momentum": 0.0})
    results = train(other, tmp_path, allow_config_change=True)
    expected = {"step": 15, "field": "optim.momentum", "old": 0.9, "new": 0.0}
    assert results["config_changes"] == [expected]


def test_checkpoints_that_are_gone_are_not_forgotten(tiny, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "prune", interrupt_at(3, checkpoint.prune))
        with pytest.raises(KeyboardInterrupt):
            train(tiny, tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    before = (tmp_path / "metrics.jsonl").read_text()
    message = r"there is no checkpoint, but \S+metrics\.jsonl has 3 epochs: put"
    with pytest.raises(checkpoint.CheckpointError, match=message):
        train(tiny, tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_evaluation_names_a_damaged_checkpoint(whole, tiny, tmp_path):
    run = shutil.copytree(whole[0], tmp_path / "run")
    newest = run / "checkpoints" / "40"
    (newest / "progress.json").write_text("")
    said: list[str] = []
    found = score.evaluate_run(run, tiny, report=said.append)
    assert found["step"] in (30, 10 * whole[1]["selected_epoch"])
    assert said[0].startswith(f"damaged: {newest / 'progress.json'}: SHA-256 must be")
    assert newest.exists()


def test_a_run_that_was_stopped_in_its_first_epoch_has_nothing_to_evaluate(
    tiny, tmp_path, monkeypatch
):
    def interrupt(self, *args, **values):
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "advance", interrupt)
        with pytest.raises(KeyboardInterrupt), listening() as stop:
            train(tiny, tmp_path, stop=stop)
    with pytest.raises(checkpoint.CheckpointError, match="5: no epoch is finished"):
        score.evaluate_run(tmp_path, tiny)
    assert score.evaluate_run(tmp_path, tiny, step=5)["step"] == 5


def test_the_selected_checkpoint_is_lost(tiny, tmp_path, monkeypatch):
    """Epochs whose weights are gone cannot be selected any more, and the log says so."""
    config = change(tiny, train={"epochs": 6, "keep_checkpoints": 1, "min_delta": 1.0})
    with monkeypatch.context() as patch:  # a gain of more than 1 there is none: epoch 1 is the best
        patch.setattr(checkpoint, "prune", interrupt_at(3, checkpoint.prune))
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path)
    (tmp_path / "checkpoints" / "10" / "progress.json").write_text("{}")
    (tmp_path / "checkpoints" / "20" / "progress.json").write_text("{}")
    results = train(config, tmp_path)
    assert results["selected_epoch"] == 3
    assert [row.get("lost") for row in read_metrics(tmp_path)] == [True, True, *[None] * 4]
    log = (tmp_path / "log.txt").read_text()
    assert "set aside as 10.damaged; going on from 30" in log
    assert "the selected epoch's checkpoint is lost: epochs without one are left out" in log
    assert set(checkpoint.steps(tmp_path / "checkpoints")) == {30, 60}


def test_weights_that_are_not_finite_are_not_saved(tiny, tmp_path, monkeypatch):
    config = change(tiny, data={"validation_examples": 0}, train={"epochs": 2})
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "prune", interrupt_at(1, checkpoint.prune))
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path)
    train_epoch = Trainer.train_epoch

    def overflow(self, *args, **options):
        state, sums = train_epoch(self, *args, **options)
        leaves, structure = jax.tree.flatten(state.ema_params)
        leaves[-1] = leaves[-1] + np.float32(np.inf)
        return state.replace(ema_params=jax.tree.unflatten(structure, leaves)), sums

    monkeypatch.setattr(Trainer, "train_epoch", overflow)
    with pytest.raises(TrainingError, match=r"step 20: \S+ has a NaN or an infinity"):
        train(config, tmp_path)
    assert set(checkpoint.steps(tmp_path / "checkpoints")) == {10}


def test_out_of_memory_is_one_line(tiny, tmp_path, monkeypatch):
    def exhausted(self, *args, **options):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\n")

    monkeypatch.setattr(Trainer, "train_epoch", exhausted)
    with pytest.raises(environment.OutOfMemory) as error:
        train(tiny, tmp_path)
    assert str(error.value).endswith(
        " is out of memory with train.batch_size 20: try --train.batch-size 10"
    )

    def other(self, *args, **options):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(Trainer, "train_epoch", other)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        train(tiny, tmp_path)


def test_a_file_system_without_locks(tiny, tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    train(change(tiny, train={"epochs": 1}), tmp_path)
    log = (tmp_path / "log.txt").read_text()
    assert f"{tmp_path / '.lock'}: No locks available: see that only one run uses the" in log


def test_a_library_call_in_another_thread(whole, tiny, tmp_path):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        results = pool.submit(train, tiny, tmp_path).result()
    assert results["weights_sha256"] == whole[1]["weights_sha256"]


def test_another_seed_is_another_run(whole, tiny, tmp_path):
    results = train(change(tiny, train={"seed": 1}), tmp_path)
    assert results["weights_sha256"] != whole[1]["weights_sha256"]


def test_a_workdir_belongs_to_one_config(whole, tiny):
    with pytest.raises(ConfigError, match=r"\(train\.epochs: 4 -> 9\): use another --workdir"):
        train(change(tiny, train={"epochs": 9}), whole[0])


def test_the_test_set_is_scored_once(tiny, tmp_path, monkeypatch):
    scored = []

    def count(config, state, images, split):
        scored.append(split)
        return score.score(config, state, images, split)

    monkeypatch.setattr(session_module, "score", count)
    config = change(tiny, train={"epochs": 2})
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "prune", interrupt_at(2))
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path)
    assert scored == []
    train(config, tmp_path)
    train(config, tmp_path)
    assert scored == ["test"]


def interrupt_at(call, original=lambda *_: None):
    """Stands for ``original`` and raises KeyboardInterrupt at the given call."""
    calls = []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == call:
            raise KeyboardInterrupt
        return original(*args)

    return interrupted


def test_checkpoints_every_few_epochs(tiny, tmp_path):
    config = change(
        tiny,
        data={"validation_examples": 0},
        train={"epochs": 5, "checkpoint_every": 2, "keep_checkpoints": 9},
    )
    train(config, tmp_path)
    assert set(checkpoint.steps(tmp_path / "checkpoints")) == {20, 40, 50}


def test_a_run_goes_on_with_other_free_fields(whole, tiny):
    free = change(tiny, data={"data_dir": "/elsewhere"}, train={"keep_checkpoints": 5})
    assert train(free, whole[0]) == whole[1]
    with pytest.raises(ConfigError, match=r"data\.source: synthetic -> auto"):
        train(change(tiny, data={"source": "auto"}), whole[0])


def test_results_without_checkpoints_still_belong_to_their_config(whole, tiny, tmp_path):
    shutil.copy(whole[0] / "config.json", tmp_path)
    shutil.copy(whole[0] / "results.json", tmp_path)
    assert train(tiny, tmp_path) == whole[1]
    with pytest.raises(ConfigError, match=r"train\.seed: 0 -> 1"):
        train(change(tiny, train={"seed": 1}), tmp_path)
    for text in ("{", "{}", "[]", "null", '{"test_accuracy": 1}'):
        (tmp_path / "results.json").write_text(text)
        with pytest.raises(ConfigError, match=r"results\.json: not a run's results"):
            train(tiny, tmp_path)


def test_a_run_without_a_checkpoint_may_change_its_config(tiny, tmp_path):
    other = change(tiny, train={"epochs": 1})
    Workdir(tmp_path).write_config(other)
    train(change(tiny, train={"epochs": 1, "seed": 3}), tmp_path)
    assert Workdir(tmp_path).read_config().train.seed == 3


def test_without_validation_the_last_epoch_counts(tiny, tmp_path):
    config = change(tiny, data={"validation_examples": 0}, train={"epochs": 2, "patience": 1})
    results = train(config, tmp_path)
    assert results["selected_epoch"] == results["epochs"] == 2
    assert results["validation_accuracy"] is None


def test_early_stopping(tiny, tmp_path):
    config = change(tiny, train={"epochs": 50, "patience": 2, "min_delta": 1.0})
    results = train(config, tmp_path)
    assert results["epochs"] == 3
    assert results["selected_epoch"] == 1
    assert set(checkpoint.steps(tmp_path / "checkpoints")) == {10, 20, 30}
    assert "stopped: no gain in 2 epochs since epoch 1" in (tmp_path / "log.txt").read_text()


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
        score.evaluate_run(workdir, change(tiny, model={"blocks": 2}))


def test_an_empty_workdir_cannot_be_evaluated(tiny, tmp_path):
    with pytest.raises(ConfigError, match=r"config\.json: cannot be read"):
        score.evaluate_run(tmp_path, tiny)


def test_gradients_that_stay_bad_stop_the_run(tiny, tmp_path):
    config = change(
        tiny,
        optim={"learning_rate": 1e6, "clip_norm": 0.0, "nonfinite_limit": 2, "warmup": 0.0},
        train={"epochs": 40},
    )
    with pytest.raises(TrainingError, match=r"step \d+: "):
        train(config, tmp_path)
    assert checkpoint.latest_valid(tmp_path / "checkpoints") is None
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_figures_that_are_not_finite_are_no_results(tiny, tmp_path, monkeypatch, value):
    monkeypatch.setattr(session_module, "score", lambda *_: {"test_loss": value})
    with pytest.raises(TrainingError, match=rf"step \d+: test_loss must be finite, not {value}"):
        train(change(tiny, train={"epochs": 1}), tmp_path)
    assert not (tmp_path / "results.json").exists()


def test_compile_seconds_count_the_initial_state_and_the_chunk(tiny):
    trainer = Trainer(tiny)
    assert trainer.compile_seconds == 0
    trainer.initial_state()
    first = trainer.compile_seconds
    assert trainer.train_chunk is trainer.train_chunk
    assert trainer.compile_seconds > first > 0


@pytest.mark.parametrize(("chunk_steps", "used"), [(64, 39), (351, 351), (1000, 351), (2, 1)])
def test_chunks_divide_the_epoch(chunk_steps, used):
    config = load_config("configs/200k.py", ["--train.chunk-steps", str(chunk_steps)])
    assert config.steps_per_epoch == 351
    assert Trainer(config).chunk_steps == used
