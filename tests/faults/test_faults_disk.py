"""Disks that are full, and folders that cannot be written to."""

import re
import subprocess

import pytest
from fault_runs import command, start

REFUSALS = {  # events from which on the system refuses, one session of the run after the other
    "write checkpoints/.8.partial/.progress": "checkpoints/.8.partial/progress.json",
    "write log.txt": "log.txt",
    "write metrics.jsonl": "metrics.jsonl",
    "write checkpoints/.16.partial/SHA256SUMS": "checkpoints/16",
    "write .curves": "curves.png",
    "write .results": "results.json",
}


def test_a_full_disk(tmp_path, assert_finishes):
    workdir = tmp_path / "run"
    for place, name in REFUSALS.items():
        done = start(workdir, fault=f"ENOSPC 1 {place}")
        assert done.returncode == 1, (place, done.stdout, done.stderr)
        path = re.escape(str(workdir / name))
        assert re.fullmatch(
            rf"main\.py: {path}: cannot be written: No space left on device: "
            r"([\d,]+ bytes needed, )?[\d,]+ free\n",
            done.stderr,
        ), (place, done.stderr)
        assert not (workdir / "results.json").exists()
    assert_finishes(workdir)
    assert not list((workdir / "checkpoints").glob(".*"))


def test_a_limit_of_the_size_of_files(tmp_path, assert_finishes):
    """The system itself refuses."""
    workdir, given = tmp_path / "run", command(tmp_path / "run")
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 9; exec "$@"', "bash", *given.args],  # KiB
        cwd=given.cwd,
        env=given.env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert re.fullmatch(
        r"main\.py: \S+/checkpoints/8: cannot be written: File too large: [\d,]+ bytes needed, "
        r"[\d,]+ free\n",
        done.stderr,
    ), done.stderr
    assert not list((workdir / "checkpoints").iterdir())
    assert_finishes(workdir)


@pytest.mark.parametrize("code", ["EROFS", "EACCES"])
def test_a_workdir_that_cannot_be_written_to(halfway, code):
    done = start(halfway, fault=f"{code} 1 write")
    assert done.returncode == 2
    reason = {"EROFS": "Read-only file system", "EACCES": "Permission denied"}[code]
    assert done.stderr == f"main.py: {halfway}: cannot be a workdir: {reason}\n"
