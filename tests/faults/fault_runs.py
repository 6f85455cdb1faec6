"""The real command, on a run of a few seconds, with faults of the tests' making."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WORDS = ("--config", "tests/faults/tiny.py", "--train.keep-checkpoints", "1")
TIMES = {"seconds", "images_per_second"}


class Command(NamedTuple):
    """What ``subprocess.run`` or ``Popen`` needs."""

    args: list[str]
    cwd: Path
    env: dict[str, str]


class Run(NamedTuple):
    """What an uninterrupted run has ended with."""

    results: dict[str, Any]
    metrics: list[dict[str, Any]]


def command(
    workdir: Path,
    *words: Any,
    name: str = "train",
    fault: str = "",
    limit: str = "",
    **environment: str,
) -> Command:
    """A command on ``workdir``.

    Args:
      workdir: of the run.
      *words: more of the command line.
      name: of the command.
      fault: as in inject/sitecustomize.py.
      limit: a command of the shell that goes before, as ``ulimit -f 9``.
      **environment: more variables.
    """
    env = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        **environment,
    }
    if fault:
        env |= {
            "PYTHONPATH": str(HERE / "inject"),
            "FAULT_FOLDER": str(workdir),
            "FAULT": fault,
        }
    named = [] if name == "train" else [name]
    line = [sys.executable, "main.py", *named, *WORDS, "--workdir", str(workdir), *map(str, words)]
    if limit:
        line = ["bash", "-c", f'{limit}; exec "$@"', "bash", *line]
    return Command(line, ROOT, env)


@contextlib.contextmanager
def begun(
    workdir: Path, *words: Any, until: str, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """The command of :func:`command`, once it has printed a line with ``until`` in it."""
    given = command(workdir, *words, **options)
    with subprocess.Popen(
        given.args, cwd=given.cwd, env=given.env, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert any(until in line for line in process.stdout)
        yield process


def start(workdir: Path, *words: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command of :func:`command` to its end."""
    given = command(workdir, *words, **options)
    return subprocess.run(
        given.args,
        cwd=given.cwd,
        env=given.env,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


def read(workdir: Path) -> Run:
    """The results and the metrics of a finished run, without what depends on the clock."""
    results = json.loads((workdir / "results.json").read_text())
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    rows = [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]
    other = TIMES | {"command", "compile_seconds", "date", "environment_changes"}
    return Run({k: v for k, v in results.items() if k not in other}, rows)


def assert_json_is_whole(workdir: Path) -> None:
    """Every JSON file can be read; temporary ones are not yet files of the run."""
    for path in workdir.rglob("*.json"):
        if not any(part.startswith(".") for part in path.relative_to(workdir).parts):
            json.loads(path.read_text())
