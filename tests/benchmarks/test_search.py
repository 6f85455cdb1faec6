"""benchmarks/search.py, on generated images."""

import contextlib
import dataclasses
import io
import json
import shutil
import signal
import sys
import types
from pathlib import Path

import jax
import pytest

from cifar_jax.config_file import load_config
from cifar_jax.errors import ConfigError
from cifar_jax.files import WriteError
from cifar_jax.runtime.inputs import load_inputs
from cifar_jax.runtime.members import groups_of
from cifar_jax.runtime.signals import Stop
from cifar_jax.runtime.trainer import Trainer

ROOT = Path(__file__).parents[2]
SMOKE = Path("configs/smoke.py")
TRIALS = (
    "plain\nfaster --optim.learning-rate 0.3  # and a comment\n\nstill --optim.learning-rate 1e-6\n"
)
FIELDS = {"trial", "overrides", "epochs", "seed", "date", "device", "versions", "config_sha256"}
FIELDS |= {"ema_validation_accuracy", "validation_accuracy", "ema_validation_loss", "train_loss"}


@pytest.fixture(scope="module")
def searched(benchmark, tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    (folder / "trials.txt").write_text(TRIALS)
    words = ["--config", "tests/benchmarks/recipe.py", "--trials", folder / "trials.txt"]
    words += ["--log", folder / "new" / "trials.jsonl", "--epochs", 1, 2, "--keep", 0.4]
    return folder, words, benchmark("search", *words)


def test_the_best_go_on_to_the_next_round(searched):
    folder, _, done = searched
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (folder / "new" / "trials.jsonl").read_text().splitlines()]
    first, second = rows[:3], rows[3:]
    assert [row["trial"] for row in first] == ["plain", "faster", "still"]
    assert {row["epochs"] for row in first} == {1}
    assert {row["epochs"] for row in second} == {2}
    order = sorted(first, key=lambda row: -row["ema_validation_accuracy"])
    assert {row["trial"] for row in second} == {row["trial"] for row in order[:2]}
    assert all(row.keys() >= FIELDS for row in rows)
    assert not any("test" in name for row in rows for name in row)
    assert first[1]["overrides"] == "--optim.learning-rate 0.3"
    table = done.stdout.splitlines()[-2:]
    best = max(second, key=lambda row: row["ema_validation_accuracy"])
    assert table[0].split()[:2] == [best["trial"], f"{best['ema_validation_accuracy']:.2%}"]


def test_trials_in_the_log_are_not_run_again(searched, benchmark):
    folder, words, first = searched
    before = (folder / "new" / "trials.jsonl").read_bytes()
    again = benchmark("search", *words)
    assert again.stdout.splitlines()[-3:] == first.stdout.splitlines()[-3:]
    assert (folder / "new" / "trials.jsonl").read_bytes() == before


@pytest.mark.parametrize("name", ["tuned", "best"])
def test_the_trials_that_come_along_are_valid(module, name):
    search = module("search")
    trials = search.read_trials(ROOT / "benchmarks" / f"trials_{name}.txt")
    configs = search.load_trials(ROOT / "configs" / f"200k_{name}.py", trials, 30)
    assert len({config.sha256 for config in configs.values()}) == len(trials) > 1
    assert len(groups_of(configs, 8)) == 1
    assert {config.data.validation_examples for config in configs.values()} == {5_000}


def test_a_trial_that_diverges_comes_last(benchmark, tmp_path):
    (tmp_path / "trials.txt").write_text("wild --optim.learning-rate 1e6\nplain\n")
    words = ["--config", "tests/benchmarks/recipe.py", "--trials", tmp_path / "trials.txt"]
    words += ["--log", tmp_path / "log", "--epochs", 1]
    done = benchmark("search", *words)
    assert done.returncode == 0, done.stderr
    wild, plain = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert wild["trial"] == "wild"
    assert wild["ema_validation_accuracy"] < plain["ema_validation_accuracy"]
    assert [line.split()[0] for line in done.stdout.splitlines()[-2:]] == ["plain", "wild"]


@pytest.fixture
def refused(module, monkeypatch, capsys, tmp_path):
    """Assert that the search ends with status 2 and one line; in this process, for its time."""
    search = module("search")
    monkeypatch.setattr(search, "enable_compilation_cache", lambda report: None)

    def check(trials, said, *more):
        (tmp_path / "trials.txt").write_text(trials)
        words = ["--config", "configs/smoke.py", "--trials", tmp_path / "trials.txt"]
        words += ["--log", tmp_path / "log", "--epochs", 1, *more]
        assert search.main([str(word) for word in words]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        (line,) = err.splitlines()
        assert line.startswith("search.py: ")
        assert said in line

    return check


@pytest.mark.parametrize(
    ("trials", "said"),
    [
        ("a\na\n", "a name of its own"),
        ("", "must have a trial a line"),
        ("a --optim.learning-rat 1\n", "did you mean --optim.learning-rate?"),
        ("a --model.stem '12\n", "No closing quotation"),
        ("a\nb --optim.nesterov False\n", "b: must differ from a"),
        ("a --data.validation-examples 0\n", "data.validation_examples must be at least 1"),
        (
            "a\nb --data.validation-examples 20\n",
            "b: must hold out the same images as the first: data.validation_examples: ",
        ),
        ("a --train.epochs=7\n", "a: --train.epochs: a search takes --epochs instead"),
        (
            "a --distill.teacher runs/none\n",
            "a: distill.teacher must be a folder of exported weights, and ",
        ),
    ],
)
def test_refusals_are_one_line(refused, trials, said):
    refused(trials, said)


def test_a_log_that_is_none_is_refused(refused, tmp_path):
    row = b'{"config_sha256": "0", "ema_validation_accuracy": 0.5}\n'
    for bad in (b'{"cut', b'{"config_sha256": "0"}', b"\xff"):
        (tmp_path / "log").write_bytes(row + bad)
        refused("a\n", "log, line 2: not a row of a search")
    (tmp_path / "log").unlink()
    refused("a\n", "--keep must be above 0", "--keep", 0)


def test_a_log_that_cannot_be_written_is_refused_before_the_work(module, tmp_path, monkeypatch):
    search = module("search")
    monkeypatch.setattr(search, "run", lambda *_: pytest.fail("it has begun"))
    (tmp_path / "log").symlink_to(tmp_path / "no folder" / "log")
    with pytest.raises(ConfigError, match="log: cannot be written: No such file or directory"):
        search.search(SMOKE, {"a": []}, tmp_path / "log", [1], 1.0)


def test_files_that_are_none_are_one_line(refused, module, tmp_path, capsys):
    (tmp_path / "log").mkdir()
    refused("a\n", "log: cannot be written: Is a directory")
    words = ["--config", str(SMOKE), "--trials", str(tmp_path / "none"), "--epochs", "1"]
    assert module("search").main([*words, "--log", str(tmp_path / "other")]) == 2
    assert (
        f"{tmp_path}/none: cannot be read: No such file or directory\n" in capsys.readouterr().err
    )
    with pytest.raises(SystemExit, match="2"):
        module("search").main([*words, "--log", ""])
    assert "a path must not be empty (is a variable unset?)" in capsys.readouterr().err


def test_nobody_reads(module, monkeypatch, tmp_path):
    """Neither what is said on the way nor the table at the end is worth a trial."""
    search = module("search")
    figures = {"ema_validation_accuracy": 0.5, "validation_accuracy": 0.5, "seconds": 1.0}
    monkeypatch.setattr(search, "run", lambda configs, *_: [figures] * len(configs))
    monkeypatch.setattr(search, "enable_compilation_cache", lambda report: None)
    (tmp_path / "trials.txt").write_text("a\nb --optim.momentum 0.8\n")
    words = ["--config", SMOKE, "--trials", tmp_path / "trials.txt", "--log", tmp_path / "log"]
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert search.main([*map(str, words), "--epochs", "1", "2"]) == 0
        monkeypatch.undo()
    assert len((tmp_path / "log").read_text().splitlines()) == 3


def test_a_row_of_another_teacher_is_not_taken(module, monkeypatch, tmp_path):
    """The same folder, with other weights in it."""
    search, trained = module("search"), []
    figures = {"ema_validation_accuracy": 0.5, "validation_accuracy": 0.5, "seconds": 1.0}

    def run(configs, title, folders, stop):
        trained.extend(folders)  # of their checkpoints
        return [figures] * len(configs)

    monkeypatch.setattr(search, "run", run)
    for weights in ("a", "a", "b", "a"):
        known = types.SimpleNamespace(known={"file_sha256": weights})
        monkeypatch.setattr(search, "load_teacher", lambda config, known=known: known)
        trials = {"taught": ["--distill.teacher", "runs/teacher"]}
        search.search(SMOKE, trials, tmp_path / "log", [1], 1.0)
    assert len(set(trained)) == len(trained) == 2
    rows = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [row["teacher"]["file_sha256"] for row in rows] == ["a", "b"]


@pytest.fixture
def search(module, monkeypatch, capsys, tmp_path):
    """Run a search of two trials of two epochs, side by side, in this process.

    It returns its status, what it said and the rows of its log; ``advance`` is called after each
    chunk with what stops it and the steps so far.
    """
    monkeypatch.setattr(module("search"), "enable_compilation_cache", lambda report: None)
    chunks = "--train.chunk-steps 10"
    trials = f"plain {chunks}\nfaster {chunks} --optim.learning-rate 0.3\n"
    (tmp_path / "trials.txt").write_text(trials)

    def run(log, advance=lambda stop, chunks: None):
        stop, chunks = Stop(), []

        class Watched(module("trials").Progress):
            def advance(self, images, **values):
                super().advance(images, **values)
                chunks.append(images)
                advance(stop, len(chunks))

        with monkeypatch.context() as patch:
            patch.setattr(module("search"), "listening", lambda: contextlib.nullcontext(stop))
            patch.setattr(module("trials"), "Progress", Watched)
            words = ["--config", "tests/benchmarks/recipe.py", "--trials", tmp_path / "trials.txt"]
            words += ["--log", tmp_path / log, "--epochs", 2, "--side-by-side", 2]
            status = module("search").main([str(word) for word in words])
        rows = (tmp_path / log).read_text().splitlines()
        return status, "".join(capsys.readouterr()), [json.loads(row) for row in rows]

    return run


def without(rows, *names):
    return [{name: row[name] for name in row if name not in names} for row in rows]


def test_a_search_that_was_stopped_goes_on_with_the_same_bits(search, tmp_path):
    _, said, whole = search("whole")
    assert "going on" not in said

    def stop_in_the_second_epoch(stop, chunks):
        if chunks == 3:
            stop.signum = signal.SIGTERM

    status, said, rows = search("stopped", stop_in_the_second_epoch)
    assert (status, rows) == (143, [])
    assert said.endswith("stopped by SIGTERM; the same command goes on\n")
    status, said, rows = search("stopped")
    assert (status, len(rows)) == (0, 2)
    assert "plain, faster: 2 epochs: 2 going on after 30 steps\n" in said
    assert without(rows, "seconds") == without(whole, "seconds")
    assert rows[0]["environment_changes"] == []
    assert not (tmp_path / "stopped.unfinished").exists()


def test_a_search_that_was_killed_goes_on_from_what_was_saved(
    search, module, monkeypatch, tmp_path
):
    class Killed(Exception):
        pass

    def kill_in_the_second_epoch(stop, chunks):
        if chunks == 3:
            raise Killed

    monkeypatch.setattr(module("trials"), "SAVE_SECONDS", 0.0)
    with pytest.raises(Killed):
        search("killed", kill_in_the_second_epoch)
    saved = list((tmp_path / "killed.unfinished").glob("*/20"))
    assert len(saved) == 2
    shutil.rmtree(saved[0].parent)  # as if it was killed when only one had been saved
    status, said, rows = search("killed")
    assert status == 0
    assert "plain, faster: 2 epochs: 1 going on after 20 steps\n" in said
    _, _, whole = search("whole")
    differing = ("seconds", "side_by_side")
    assert without(rows, *differing) == without(whole, *differing)
    assert sorted(row["side_by_side"] for row in rows) == [1, 2]  # one begins again, alone


def test_too_little_memory_is_one_line(search):
    def run_out(stop, chunks):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: of many lines")

    status, said, rows = search("log", run_out)
    assert (status, rows) == (1, [])
    assert said.endswith(" is out of memory with side_by_side 2: try --side-by-side 1\n")


def test_what_is_saved_of_a_trial(module, tmp_path):
    config = load_config("tests/benchmarks/recipe.py", ["--train.epochs", "1"])
    trainer = Trainer(config)
    state = trainer.initial_state()
    trial = module("trials").Trial(config, tmp_path, 2.5, {"loss": 3.0}, "it diverged", 2, [])
    trial.save(state, {"versions": {"jax": "0.1"}})
    again = module("trials").Trial(config, tmp_path)
    again.restore(0, trainer.abstract_state(), {"versions": {"jax": "0.2"}})
    change = {"step": 0, "change": "versions.jax: 0.1 -> 0.2"}
    assert again == dataclasses.replace(trial, environment_changes=[change])
    row = again.row(state, load_inputs(config, report=print).validation)
    assert (row["error"], row["validation_accuracy"]) == ("it diverged", 0)
    assert row["environment_changes"] == [change]


def test_a_checkpoint_that_finds_no_room_costs_no_trial(search, module, monkeypatch):
    def save(*words):
        raise WriteError("no room")

    monkeypatch.setattr(module("trials").checkpoint, "save", save)
    status, said, rows = search("log")
    assert (status, len(rows)) == (0, 2)
    assert said.count("no room\n") == 1

    def stop_in_the_second_epoch(stop, chunks):
        stop.signum = signal.SIGTERM if chunks == 3 else None

    status, said, rows = search("other", stop_in_the_second_epoch)
    assert (status, rows) == (1, [])
    assert said.endswith("search.py: no room\n")


def test_two_searches_have_no_log_together(refused, module, tmp_path):
    with module("search").claimed(tmp_path / "log"):
        refused("a\n", "log: in use by another search")


def test_a_full_disk_leaves_the_log_as_it_was(module, tmp_path):
    class Full(io.FileIO):
        def write(self, data):
            return super().write(data[:3])

    (tmp_path / "log").write_text("{}\n")
    with Full(tmp_path / "log", "ab") as log, pytest.raises(OSError, match="No space left"):
        module("search").add_rows(log, [{"trial": "a"}])
    assert (tmp_path / "log").read_text() == "{}\n"
