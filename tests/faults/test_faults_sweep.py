"""The long sweep, by hand: ``pytest -m slow tests/faults -s``; an hour on two cores.

Kills at every event and at random moments, every byte region of every file of a checkpoint, a disk
that is really full. FAULTS_REPORT names a file for the figures, as JSON.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_runs import assert_json_is_whole, command, read, start

from cifar_jax.runtime import checkpoint
from cifar_jax.runtime.recovery import recover

pytestmark = pytest.mark.slow

RANDOM_KILLS = 100
REGION = 64  # bytes of a file in which one bit is flipped
SESSION = 9.0  # seconds in which a session is killed, at the most
WORDS = ("--train.epochs", 12)


@pytest.fixture(scope="module")
def figures() -> Iterator[dict[str, Any]]:
    found: dict[str, Any] = {}
    yield found
    print(json.dumps(found, indent=2))
    if path := os.environ.get("FAULTS_REPORT"):
        Path(path).write_text(json.dumps(found, indent=2) + "\n")


def test_killed_at_random_moments(tmp_path, figures):
    """Runs of 12 epochs that are killed again and again until they get through."""
    whole = tmp_path / "whole"
    assert start(whole, *WORDS).returncode == 0
    rng, kills, runs, repeated, different = random.Random(0), 0, 0, 0, 0
    while kills < RANDOM_KILLS:
        workdir, seen = tmp_path / f"run{runs}", 0
        while True:
            given = command(workdir, *WORDS)
            # the later sessions may live longer, so that each run ends
            limit = rng.uniform(2.0, SESSION + 0.2 * seen)
            with subprocess.Popen(
                given.args,
                cwd=given.cwd,
                env=given.env,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            ) as process:
                deadline = time.monotonic() + limit
                while process.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.005)
                process.kill()
                _, errors = process.communicate()
            assert errors == ""
            seen += 1
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL
            kills += 1
            assert_json_is_whole(workdir)
        runs += 1
        lines = (workdir / "log.txt").read_text().splitlines()
        repeated += sum(f" epoch {epoch}/12 " in line for line in lines for epoch in range(13)) - 12
        different += read(workdir) != read(whole)
    figures["random kills"] = {
        "kills": kills,
        "runs": runs,
        "runs with other bits": different,
        "epochs trained again": repeated,
    }
    assert different == 0


def test_killed_at_every_event(tmp_path, reference, figures):
    """Each call of the system that changes a file of the run, one after the other."""
    events = tmp_path / "events"
    done = start(tmp_path / "counted", fault="KILL 1000000 .", FAULT_EVENTS=str(events))
    assert done.returncode == 0
    count = sum(not line.startswith("read ") for line in events.read_text().splitlines())
    survived = kills = 0
    for number in range(1, count + 1):
        workdir = tmp_path / "run"
        done = start(workdir, fault=f"KILL {number} ^(?!read )")
        if done.returncode == 0:  # fewer events this time: orbax's threads race
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        kills += 1
        assert_json_is_whole(workdir)
        if start(workdir).returncode == 0 and read(workdir) == reference:
            survived += 1
        shutil.rmtree(workdir)
    figures["kills at each event"] = {"events": count, "kills": kills, "survived": survived}
    assert survived == kills > 100


def test_every_region_of_every_file(stopped, tmp_path, figures):
    folder = Path(shutil.copytree(stopped[0] / "checkpoints", tmp_path / "checkpoints"))
    flips = caught = 0
    rng = random.Random(0)
    for path in sorted(p for p in (folder / "16").rglob("*") if p.is_file()):
        whole = path.read_bytes()
        for start_of_region in range(0, len(whole), REGION):
            position = rng.randrange(start_of_region, min(start_of_region + REGION, len(whole)))
            content = bytearray(whole)
            content[position] ^= 1 << rng.randrange(8)
            path.write_bytes(content)
            flips += 1
            caught += str(path) in str(checkpoint.damage(folder / "16"))
        path.write_bytes(whole)
    said: list[str] = []
    found = recover(folder, lambda progress: None, said.append)
    assert found is not None
    assert (found.path.name, said) == ("16", [])
    figures["flipped bits"] = {"flips": flips, "caught": caught}
    assert caught == flips > 500


def test_too_little_memory(tmp_path):
    """The system refuses what a batch of 20,000 images needs."""
    words = ("--data.train-examples", 20_000, "--train.batch-size", 20_000)
    wide = ("--model.stem", 64, "--model.stages", 64, 128)
    done = start(tmp_path / "run", *words, *wide, limit="ulimit -v 6000000")  # KiB
    assert done.returncode == 1, done.stderr
    hint = "is out of memory with train.batch_size 20000: try --train.batch-size 10000\n"
    assert done.stderr.endswith(hint)
    assert done.stderr.count("\n") == 1


def test_a_disk_that_is_really_full(tmp_path, reference, figures):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("a file system cannot be mounted here")
    refused = 0
    try:
        workdir = disk / "run"
        for left in range(20, 1000, 40):  # KiB
            (disk / "fill").write_bytes(bytes((1000 - left) * 1024))
            done = start(workdir)
            if done.returncode == 0:
                break
            refused += 1
            assert done.returncode in (1, 2), done.stderr
            assert "No space left on device" in done.stderr
            assert done.stderr.count("\n") == 1
            assert_json_is_whole(workdir)
            (disk / "fill").unlink()
        assert read(workdir) == reference
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    figures["a full disk"] = {"sessions refused in one line": refused}
    assert refused >= 3
