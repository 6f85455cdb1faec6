"""Runs of the real command that tests begin with."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fault_runs import Run, read, start


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run that nothing happens to."""
    workdir = tmp_path_factory.mktemp("reference") / "run"
    done = start(workdir)
    assert done.returncode == 0, done.stderr
    assert [row["epoch"] for row in read(workdir).metrics] == [1, 2, 3]
    return read(workdir)


@pytest.fixture(scope="session")
def stopped(
    tmp_path_factory: pytest.TempPathFactory, reference: Run
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run that SIGTERM has stopped after its second epoch, with both checkpoints."""
    workdir = tmp_path_factory.mktemp("stopped") / "run"
    words = ("--train.keep-checkpoints", 2)
    return workdir, start(workdir, *words, fault="TERM 2 write metrics.jsonl")


@pytest.fixture
def halfway(stopped: tuple[Path, Any], tmp_path: Path) -> Path:
    """A copy of the stopped run."""
    return Path(shutil.copytree(stopped[0], tmp_path / "run"))


@pytest.fixture
def assert_finishes(reference: Run) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The same command goes on and ends as if nothing had happened."""

    def finish(workdir: Path, *words: Any) -> subprocess.CompletedProcess[str]:
        done = start(workdir, *words)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert read(workdir) == reference
        return done

    return finish
