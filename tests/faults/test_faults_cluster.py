"""Two processes on one machine train one run: they stop together, die, and go on."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = ["--config", "configs/smoke.py", "--data.train-examples", "250", "--eval.tta", "none"]
CONFIG += ["--model.stages", "8", "--augment.ricap", "0", "--augment.shift-scale-rotate", "0"]
CONFIG += ["--augment.hue-saturation-value", "0", "--model.convolutions", "plain"]
EPOCHS = 8
MAIN = """
import os, sys, time
from cifar_jax.runtime import cluster
from cifar_jax.runtime.trainer import Trainer
cluster.HEARTBEAT = 20  # seconds: a death is seen sooner
train_epoch = Trainer.train_epoch
def slowly(*arguments, **options):
    time.sleep(float(os.environ["PAUSE"]))
    return train_epoch(*arguments, **options)
Trainer.train_epoch = slowly
from cifar_jax.cli import main
sys.exit(main(sys.argv[1:]))
"""  # as main.py


@pytest.fixture(scope="module")
def start():
    """Starts the processes of a run, whose programs are compiled once."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    started = []

    def processes(workdir, epochs, count=2, pause=0.0, last=()):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        words = [*CONFIG, "--train.epochs", str(epochs), "--workdir", str(workdir)]
        found = []
        for i in range(count):
            where = ["--coordinator", f"localhost:{port}", "--processes", str(count)]
            where = [*where, "--process", str(i)] if count > 1 else []
            found.append(
                subprocess.Popen(
                    [sys.executable, "-c", MAIN, *words, *where, *last * (i == count - 1)],
                    cwd=ROOT,
                    env=environment | {"PAUSE": str(pause)},  # before an epoch [seconds]
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        started.extend(found)
        return found

    yield processes
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def rows(workdir):
    path = workdir / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(workdir, epochs, processes):
    deadline = time.monotonic() + 240
    while len(rows(workdir)) < epochs:
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes), [
            process.communicate() for process in processes
        ]
        time.sleep(0.05)


def finish(processes):
    return [(*process.communicate(timeout=240), process.returncode) for process in processes]


@pytest.fixture(scope="module")
def alone(start, tmp_path_factory):
    """The run by a single process: its losses."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    ((_, errors, status),) = finish(start(workdir, EPOCHS, count=1))
    assert status == 0, errors
    return [row["train_loss"] for row in rows(workdir)]


def test_stopped_together_killed_and_finished(start, alone, tmp_path):
    """A signal to one stops both after the same step; one is killed; both are started again."""
    workdir = tmp_path / "run"
    processes = start(workdir, EPOCHS, pause=0.5)  # so that they do not end before the signal
    wait_for(workdir, 2, processes)
    processes[1].send_signal(signal.SIGTERM)
    first, second = finish(processes)
    assert (first[2], second[2]) == (143, 143), (first[1], second[1])
    stopped = len(rows(workdir))
    assert 2 <= stopped < EPOCHS

    processes = start(workdir, EPOCHS, pause=0.5)
    wait_for(workdir, stopped + 1, processes)
    processes[1].kill()
    first, second = finish(processes)
    assert second[2] == -signal.SIGKILL
    assert first[2] != 0
    assert "continuing after epoch" in first[0]
    assert not (workdir / "results.json").exists()

    first, second = finish(start(workdir, EPOCHS))
    assert (first[2], second[2]) == (0, 0), (first[1], second[1])
    assert [row["train_loss"] for row in rows(workdir)] == pytest.approx(alone, rel=2e-2)
    results = json.loads((workdir / "results.json").read_text())
    assert results["device"]["processes"] == 2
    assert f"epoch {EPOCHS}/{EPOCHS}" in first[0]
    assert second[0] == ""  # the first alone speaks
    assert [path.name for path in tmp_path.iterdir()] == ["run"]  # and writes


@pytest.mark.parametrize(
    ("name", "message"),
    [("run", "cannot be a workdir"), ("run/curves.png", "has no config.json beside it")],
)
def test_a_refusal_of_the_first_ends_all(start, tmp_path, name, message):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("a file")
    for _, errors, status in finish(start(tmp_path / "run", EPOCHS)):
        assert status == 2
        assert message in errors


def test_processes_of_other_configs_are_refused(start, tmp_path):
    processes = start(tmp_path / "run", EPOCHS, last=("--optim.momentum", "0.8"))
    (_, first, status), (_, second, other) = finish(processes)
    assert (status, other) == (2, 2)
    text = "main.py: process 1 must have what process 0 has: optim.momentum: 0.9 -> 0.8\n"
    assert (first, second) == (text, text)
    assert not list(tmp_path.iterdir())
