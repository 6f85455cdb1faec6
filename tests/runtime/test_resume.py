"""Runs that were interrupted, and what they meet when they go on."""

import concurrent.futures
import errno
import fcntl
import json
import shutil

import jax
import numpy as np
import pytest
from tiny_runs import TIMES, interrupt_at, read_metrics, stop

from cifar_jax.errors import ConfigError
from cifar_jax.runtime import checkpoint, environment, evaluate, manifest, score
from cifar_jax.runtime import train as runtime_train
from cifar_jax.runtime.train import train
from cifar_jax.runtime.trainer import Trainer, TrainingError
from cifar_jax.runtime.workdir import Workdir


@pytest.mark.parametrize(("moment", "epochs"), [("prune", 1), ("save", 2), ("prune", 4)])
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


@pytest.mark.parametrize("chunks", [1, 4, 7])
def test_stopped_inside_an_epoch_and_resumed_bit_for_bit(whole, tiny, tmp_path, chunks):
    """Two chunks make an epoch; a signal comes in the given one."""
    stop(tiny, tmp_path, chunks)
    assert (tmp_path / "log.txt").read_text().endswith(" ended: stopped by SIGTERM\n")
    last = checkpoint.latest_valid(tmp_path / "checkpoints")
    assert last is not None
    assert last == tmp_path / "checkpoints" / str(5 * chunks)
    progress = checkpoint.read_progress(last)
    assert len(progress["history"]) == chunks // 2
    assert (progress["partial"] is None) == (chunks % 2 == 0)
    del progress["environment"]["settings"]  # which older versions did not save
    (last / "progress.json").write_text(json.dumps(progress))
    manifest.write(last)
    results = train(tiny, tmp_path)
    assert results["environment_changes"] == []
    assert results["weights_sha256"] == whole[1]["weights_sha256"]
    rows, whole_rows = (
        [{k: v for k, v in row.items() if k not in TIMES} for row in read_metrics(path)]
        for path in (tmp_path, whole[0])
    )
    assert rows == whole_rows
    log = (tmp_path / "log.txt").read_text()
    inside = " and 5 steps" if chunks % 2 else ""
    assert f"continuing after epoch {chunks // 2}{inside}, from " in log


def test_stopped_without_a_validation_split(light, tmp_path):
    """Between two checkpoints of whole epochs, again and again."""
    config = light.replace(
        data={"validation_examples": 0}, train={"epochs": 5, "checkpoint_every": 4}
    )
    expected = train(config, tmp_path / "whole")
    for session in range(3):
        stop(config, tmp_path / "run", chunks=3)
        step = 15 * (session + 1)
        assert max(checkpoint.steps(tmp_path / "run" / "checkpoints")) == step
    results = train(config, tmp_path / "run")
    assert results["weights_sha256"] == expected["weights_sha256"]
    rows = read_metrics(tmp_path / "run")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert not any("lost" in row for row in rows)
    assert score.evaluate_run(tmp_path / "run", config)["test_accuracy"] == results["test_accuracy"]


def test_a_change_of_the_momentum(light, tmp_path):
    stop(light, tmp_path, chunks=3)
    other = light.replace(optim={"momentum": 0.0})
    stop(other, tmp_path, chunks=1, allow_config_change=True)
    results = train(other, tmp_path)  # it is the run's own now, and not forgotten
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


def test_epochs_that_were_not_saved_are_trained_anew(light, tmp_path, monkeypatch):
    """How many those may be is what the run itself was told, not the command that goes on."""
    config = light.replace(data={"validation_examples": 0}, train={"checkpoint_every": 50})
    with monkeypatch.context() as patch:
        write = interrupt_at(3, Workdir.append_metrics)
        patch.setattr(Workdir, "append_metrics", lambda *args: write(*args))
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path)
    assert len(read_metrics(tmp_path)) == 2
    assert not (tmp_path / "checkpoints").exists()
    results = train(config.replace(train={"checkpoint_every": 1, "epochs": 3}), tmp_path)
    assert (results["epochs"], results["config_changes"]) == (3, [])


@pytest.fixture
def pruned(whole, tiny, tmp_path):
    """Makes a finished run of other accuracies, with the checkpoints of its last two epochs."""

    def make(accuracies, min_delta=0.0):
        run = shutil.copytree(whole[0], tmp_path / "run")
        config = tiny.replace(train={"min_delta": min_delta})
        Workdir(run).write_config(config)
        results = json.loads((run / "results.json").read_text())
        (run / "results.json").write_text(json.dumps(results | {"selected_epoch": 4}))
        for path in checkpoint.steps(run / "checkpoints").values():
            if int(path.name) < 30:
                shutil.rmtree(path)
        read = checkpoint.read_progress

        def other(path):
            progress = read(path)
            for row, accuracy in zip(progress["history"], accuracies, strict=False):
                row["ema_validation_accuracy"] = accuracy
            return progress

        monkey.setattr(checkpoint, "read_progress", other)
        return run, config

    with pytest.MonkeyPatch.context() as monkey:
        yield make


@pytest.mark.parametrize("accuracies", [(0.1, 0.4, 0.3, 0.5), (0.1, 0.3, 0.4, 0.5)])
def test_evaluation_takes_the_best_of_what_is_left(pruned, accuracies):
    """Of the whole checkpoints: here that of the third epoch, whatever was pruned or is damaged."""
    run, config = pruned(accuracies)
    (run / "checkpoints" / "40" / "progress.json").write_text("")
    assert score.evaluate_run(run, config)["step"] == 30


def test_epochs_that_were_pruned_still_count_for_the_least_gain(pruned):
    """The fourth is the best by more than that over the first, though not over the third."""
    run, config = pruned((0.5, 0.51, 0.52, 0.53), min_delta=0.02)
    assert score.evaluate_run(run, config)["step"] == 40


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
    tiny, tmp_path, run_here
):
    stop(tiny, tmp_path, chunks=1)
    with pytest.raises(checkpoint.CheckpointError, match="5: no epoch is finished"):
        score.evaluate_run(tmp_path, tiny)
    assert score.evaluate_run(tmp_path, tiny, step=5)["step"] == 5
    words = ("eval", "--workdir", tmp_path, "--checkpoint", 5)
    note = f"main.py: {tmp_path}: is not finished: its test set is to be scored once, at the"
    assert run_here(*words).stderr == f"{note} end\n"
    assert run_here(*words, "--split", "validation").stderr == ""


def test_the_selected_checkpoint_is_lost(tiny, tmp_path, monkeypatch):
    """Epochs whose weights are gone cannot be selected any more, and the log says so."""
    config = tiny.replace(train={"keep_checkpoints": 1, "min_delta": 1.0})
    with monkeypatch.context() as patch:  # a gain of more than 1 there is none: epoch 1 is the best
        patch.setattr(checkpoint, "prune", interrupt_at(3, checkpoint.prune))
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path)
    (tmp_path / "checkpoints" / "10" / "progress.json").write_text("{}")
    (tmp_path / "checkpoints" / "20" / "progress.json").write_text("{}")
    results = train(config, tmp_path)
    assert results["selected_epoch"] == 3
    assert [row.get("lost") for row in read_metrics(tmp_path)] == [True, True, None, None]
    log = (tmp_path / "log.txt").read_text()
    assert "set aside as 10.damaged; going on from 30" in log
    assert "the selected epoch has no checkpoint: epochs without one are left out" in log
    assert set(checkpoint.steps(tmp_path / "checkpoints")) == {30, 40}


def test_a_config_that_is_refused_moves_no_checkpoint(tiny, tmp_path, monkeypatch):
    """By the new rule a checkpoint would be selected that is not kept any more."""
    config = tiny.replace(train={"keep_checkpoints": 1, "min_delta": 1.0})
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "prune", interrupt_at(4, checkpoint.prune))
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path)
    before = set(checkpoint.steps(tmp_path / "checkpoints"))
    assert before == {10, 30, 40}

    def by_rule(rule, history):
        return 10 if rule.min_delta == 1.0 or len(history) == 1 else 20

    monkeypatch.setattr(runtime_train, "selected_step", by_rule)
    with pytest.raises(ConfigError, match=r"train\.min_delta: 1\.0 -> 0\.5"):
        train(config.replace(train={"min_delta": 0.5}), tmp_path)
    assert set(checkpoint.steps(tmp_path / "checkpoints")) == before


def test_a_checkpoint_of_another_version_is_named(whole, tiny, tmp_path):
    run = shutil.copytree(whole[0], tmp_path / "run")
    (run / "results.json").unlink()
    last = run / "checkpoints" / "40"
    progress = checkpoint.read_progress(last)
    progress["config"]["train"]["small_side"] = 24
    for message in ("train.small_side: no such field", "it has no config"):
        (last / "progress.json").write_text(json.dumps(progress))
        manifest.write(last)
        with pytest.raises(ConfigError) as error:
            train(tiny, run)
        assert str(error.value) == f"{last}: written by another version: {message}"
        progress.pop("config", None)


def test_weights_that_are_not_finite_are_not_saved(tiny, tmp_path, monkeypatch):
    config = tiny.replace(data={"validation_examples": 0})
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
    assert (tmp_path / "log.txt").read_text().endswith(f" ended: {error.value}\n")
    (tmp_path / "full" / "log.txt").mkdir(parents=True)
    Workdir(tmp_path / "full").log_end(error.value)  # and what counts is still that

    images, labels = np.zeros((64, 32, 32, 3), np.uint8), np.zeros(64, np.uint8)
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "_compiled_step", lambda *_: exhausted)
        with pytest.raises(environment.OutOfMemory) as error:
            evaluate.evaluate(tiny, {}, (images, labels))
    assert str(error.value).endswith(
        " is out of memory with eval.batch_size 64: try eval.batch_size 32"
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
    train(tiny, tmp_path)
    log = (tmp_path / "log.txt").read_text()
    assert f"{tmp_path / '.lock'}: No locks available: see that only one run uses the" in log


def test_a_lock_of_another_program_is_named_all_the_same(tiny, tmp_path):
    with (tmp_path / ".lock").open("wb", buffering=0) as lock:
        lock.write(b"\xff")
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="in use by \N{REPLACEMENT CHARACTER}; use another"):
            train(tiny, tmp_path)


def test_a_library_call_in_another_thread(whole, tiny, tmp_path):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        results = pool.submit(train, tiny, tmp_path).result()
    assert results["weights_sha256"] == whole[1]["weights_sha256"]
