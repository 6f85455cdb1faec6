"""kill -9, in each phase of a run."""

import re
import signal
import time

from fault_runs import assert_json_is_whole, begun, start

PHASES = [  # events before which a session is killed, one after the other; the slow sweep has all
    "mkdir checkpoints/.8.partial/state",
    "write checkpoints/.8.partial/SHA256SUMS",
    "rename checkpoints/.8.partial$",
    "rename checkpoints/.latest",  # the first checkpoint is there, and not yet named
    "write checkpoints/.latest",
    "write metrics.jsonl",  # the second epoch has been trained and evaluated
    "rename checkpoints/8$",  # the second checkpoint is there, the first is to go
    "rename .confusion",
    "rename .results",
]


def test_killed_in_each_phase(assert_finishes, tmp_path):
    workdir = tmp_path / "run"
    for phase in PHASES:
        done = start(workdir, fault=f"KILL 1 {phase}")
        assert done.returncode == -signal.SIGKILL, f"{phase}: {done.stdout}{done.stderr}"
        assert done.stderr == "", phase
        assert not (workdir / "results.json").exists()
        assert_json_is_whole(workdir)
    assert_finishes(workdir)
    left = {path.name for path in (workdir / "checkpoints").iterdir()}
    assert left == {"24", "latest"}
    assert {path.name for path in workdir.iterdir() if path.name.startswith(".")} == {".lock"}


def test_killed_while_it_trains_or_evaluates(assert_finishes, tmp_path):
    """In its last epoch, which takes half a second or less, or while it is scored after that."""
    workdir = tmp_path / "run"
    with begun(workdir, until="epoch 2/3") as process:
        time.sleep(0.2)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (workdir / "results.json").exists()
    assert re.search("(continuing|over) after epoch", assert_finishes(workdir).stdout)
