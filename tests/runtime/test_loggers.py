"""TensorBoard for real, read back from its files; a module that stands for Weights & Biases."""

import errno
import os
import struct
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2
from tiny_runs import read_metrics, stop

from cifar_jax.errors import ConfigError
from cifar_jax.runtime.loggers import numbers, opened
from cifar_jax.runtime.train import train
from cifar_jax.runtime.workdir import Workdir

ROOT = Path(__file__).parents[2]
SESSION_START = event_pb2.SessionLog.START  # pyright: ignore[reportAttributeAccessIssue]


def read_events(workdir):
    """The events of each file: [length, its checksum, event, its checksum], as TFRecords are."""
    files = []
    for path in sorted((workdir / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime):
        content, events, at = path.read_bytes(), [], 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            event = event_pb2.Event.FromString(content[at + 12 : at + 12 + length])  # pyright: ignore
            events.append(event)
            at += length + 16
        assert events[0].file_version == "brain.Event:2"
        files.append(events[1:])
    return files


def figures(event):
    return {value.tag: value.simple_value for value in event.summary.value}


def check_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == np.float32(value)


class FakeRun:
    def __init__(self, calls, offline, fail):
        self.calls, self.offline, self.fail, self.summary = calls, offline, fail, {}

    def log(self, values, step):
        self.calls.append((step, values))
        if self.fail and len(self.calls) == 2:
            raise self.fail

    def finish(self, exit_code):
        self.calls.append(("finish", exit_code, self.summary))


@pytest.fixture
def wandb(monkeypatch):
    """A module of which each call is kept: ``calls`` are those of the last run."""
    module = types.SimpleNamespace(offline=False, fail=None, begin=None)

    def init(**options):
        if module.begin:
            raise module.begin
        module.options, module.calls = options, []
        return FakeRun(module.calls, module.offline, module.fail)

    module.init, module.Settings = init, types.SimpleNamespace
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_each_epoch_once_and_the_results(tiny, whole, wandb, tmp_path):
    """In a run that was stopped in its third epoch and went on."""
    folder, log = tmp_path / "sweep" / "seed0", ["tensorboard", "wandb"]
    stop(tiny, folder, chunks=5, log=log)
    first, calls = wandb.options, wandb.calls
    results = train(tiny, folder, log=log)
    assert results["weights_sha256"] == whole[1]["weights_sha256"]
    rows = read_metrics(folder)

    before, (again, *after, last) = read_events(folder)
    assert [event.step for event in before] == [10, 20]
    assert (again.session_log.status, again.step) == (SESSION_START, 21)
    assert [event.step for event in after] == [30, 40]
    for event, row in zip([*before, *after], rows, strict=True):
        check_same(figures(event), numbers("history", row))
    names = ("train_loss", "learning_rate", "images_per_second", "ema_validation_accuracy")
    assert figures(after[0]).keys() >= {f"history/{name}" for name in names}
    assert last.step == 40
    check_same(figures(last), numbers("results", results))
    assert "results/per_class_accuracy/cat" in figures(last)

    assert [call[0] for call in calls] == [10, 20, "finish"]
    assert calls[-1] == ("finish", 1, {})
    *epochs, last = wandb.calls
    assert epochs == [(row["step"], numbers("history", row)) for row in rows[2:]]
    assert last == ("finish", 0, numbers("results", results))
    assert (first["resume"], wandb.options["resume"]) == (None, "allow")
    assert first["id"] == wandb.options["id"] == (folder / "wandb" / "id.txt").read_text().strip()
    assert (first["name"], first["dir"]) == ("sweep/seed0", folder)
    assert first["reinit"] == "create_new"  # runs side by side are apart
    assert first["config"]["train"]["epochs"] == 4


ROWS = [{"epoch": n, "step": 10 * n, "train_loss": 2.0 / n} for n in (1, 2, 3)]


def test_epochs_that_no_logger_has_seen_are_logged_as_well(tiny, wandb, tmp_path):
    with opened(["tensorboard", "wandb"], Workdir(tmp_path), tiny, ROWS[:2], print) as loggers:
        loggers.epoch(ROWS[2])
        loggers.finish({"accuracy": 0.5})
    (events,) = read_events(tmp_path)
    assert [event.step for event in events] == [10, 20, 30, 30]
    assert [call[0] for call in wandb.calls] == [10, 20, 30, "finish"]


def test_each_session_offline_is_whole(tiny, wandb, tmp_path):
    """Because "wandb sync" sends one folder in the place of another."""
    wandb.offline = True
    for done in (0, 1, 3):
        with opened(["wandb"], Workdir(tmp_path), tiny, ROWS[:done], print) as loggers:
            for row in ROWS[done:]:
                loggers.epoch(row)
        assert [call[0] for call in wandb.calls] == [10, 20, 30, "finish"]


def test_a_logger_that_fails_is_given_up_and_the_run_goes_on(tiny, whole, wandb, tmp_path, capsys):
    wandb.fail = ConnectionError("the network\nis down")
    writes, write = [], EventsWriter.write_event

    def fill(self, event):
        writes.append(event)
        if len(writes) >= 4:  # the file's version comes first
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, event)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EventsWriter, "write_event", fill)
        results = train(tiny, tmp_path, log=["tensorboard", "wandb"])
    assert results["weights_sha256"] == whole[1]["weights_sha256"]
    assert [call[0] for call in wandb.calls] == [10, 20, "finish"]
    for text in (capsys.readouterr().out, (tmp_path / "log.txt").read_text()):
        told = [line.partition("--log ")[2] for line in text.splitlines() if "--log" in line]
        assert told == [
            "wandb: given up: ConnectionError: the network is down",
            "tensorboard: given up: OSError: [Errno 28] No space left on device",
        ]


def test_a_logger_that_cannot_begin(tiny, wandb, tmp_path):
    """Before the first epoch it is the user's to put right; later the run goes on."""
    wandb.begin = RuntimeError("No API key configured.")
    with pytest.raises(
        ConfigError, match=r"^--log wandb: cannot begin: RuntimeError: No API key configured\.$"
    ):
        train(tiny, tmp_path, log=["tensorboard", "wandb"])
    assert read_metrics(tmp_path) == []
    said = []
    with opened(["wandb"], Workdir(tmp_path), tiny, ROWS, said.append) as loggers:
        loggers.epoch(ROWS[-1])
    assert said == ["--log wandb: given up: RuntimeError: No API key configured."]


def test_there_is_no_such_logger(tiny, tmp_path):
    with pytest.raises(ConfigError, match="--log must be of tensorboard, wandb, not mlflow"):
        train(tiny, tmp_path, log=["mlflow"])
    assert not [*tmp_path.iterdir()]


def test_a_missing_package_is_one_line_that_names_the_extra(tmp_path):
    (tmp_path / "wandb.py").write_text("raise ModuleNotFoundError(\"No module named 'wandb'\")")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    words = ["--config", "configs/smoke.py", "--workdir", str(tmp_path / "run"), "--log", "wandb"]
    done = subprocess.run(
        [sys.executable, "main.py", "sweep", *words],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "main.py: --log wandb: the package wandb is needed "
        "(ModuleNotFoundError: No module named 'wandb'): "
        "pip install -e '.[wandb]'\n"
    )
    assert not (tmp_path / "run").exists()
