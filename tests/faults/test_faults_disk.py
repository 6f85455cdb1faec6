"""Disks that are full, and folders that cannot be written to."""

import re

import pytest
from fault_runs import start

REFUSALS = {  # events from which on the system refuses, one session of the run after the other
    "write checkpoints/.8.partial/.progress": "checkpoints/.8.partial/progress.json",
    "write log.txt": "log.txt",
    "write metrics.jsonl": "metrics.jsonl",
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
    workdir = tmp_path / "run"
    done = start(workdir, limit="ulimit -f 9")  # KiB
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
