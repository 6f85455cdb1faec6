"""Benchmarks are scripts: tests run them as a user does, and import what needs no device."""

import importlib
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def benchmark():
    """Run a benchmark in a process of its own, with folders in front of its search path."""

    def run(name, *words, path=()):
        search = os.pathsep.join([*map(str, path), os.environ.get("PYTHONPATH", "")])
        return subprocess.run(
            [sys.executable, f"benchmarks/{name}.py", *map(str, words)],
            cwd=ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": search.strip(os.pathsep)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


@pytest.fixture
def module(monkeypatch):
    """Import one of the benchmarks' modules."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


@pytest.fixture
def refusal(module, monkeypatch, capsys):
    """Run a benchmark that refuses its options before it works: in this process, which is quick."""

    def run(name, *words):
        monkeypatch.setattr(sys, "argv", [f"benchmarks/{name}.py", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            module(name).main()
        assert isinstance(end.value.code, int)
        return subprocess.CompletedProcess(words, end.value.code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def assert_rates():
    """Assert that images per second are finite and positive, their median in the range."""

    def check(report, name=""):
        key = f"{name}_images_per_second" if name else "images_per_second"
        low, high = report[f"{key}_range"]
        assert 0 < low <= report[key] <= high
        assert math.isfinite(high)

    return check


@pytest.fixture(scope="session")
def assert_refused():
    """Assert that a command ended with status 2 and one line that has these words."""

    def check(done, *words):
        assert done.returncode == 2, done.stderr
        assert done.stdout == ""
        (line,) = [x for x in done.stderr.splitlines() if not x.endswith(": starting")]
        for word in words:
            assert word in line

    return check
