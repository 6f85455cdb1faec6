"""SIGTERM, Ctrl-C, a second run in the same folder, and a terminal that is not one."""

import os
import re
import socket
import subprocess

import pytest
from fault_runs import WORDS, begun, command, read, start

NOTICE = "stopping after this chunk of steps; once more to stop at once"


def test_sigterm_saves_and_says_how_to_go_on(stopped, halfway, assert_finishes):
    workdir, done = stopped
    assert done.returncode == 143
    again = f"python main.py {' '.join(WORDS)} --workdir {workdir} --train.keep-checkpoints 2"
    assert done.stderr.splitlines() == [NOTICE, "", f"stopped by SIGTERM; to go on: {again}"]
    assert {path.name for path in (workdir / "checkpoints").iterdir()} == {"8", "16", "latest"}
    finished = assert_finishes(halfway)
    assert "continuing after epoch 2, from" in finished.stdout


@pytest.mark.usefixtures("hears_ctrl_c")
def test_ctrl_c(tmp_path, assert_finishes):
    workdir = tmp_path / "run"
    done = start(workdir, fault="INT 1 write metrics.jsonl")
    assert done.returncode == 130
    assert "stopped by SIGINT; to go on: python main.py" in done.stderr
    assert_finishes(workdir)


def test_a_second_signal(halfway, assert_finishes):
    done = start(halfway, fault="TERM,TERM 1 write checkpoints/.24.partial/SHA256SUMS")
    assert done.returncode == 143
    assert done.stderr == f"{NOTICE}\n"  # and nothing more: it has gone at once
    assert (halfway / "checkpoints" / ".24.partial").exists()  # in the middle of saving
    assert not (halfway / "checkpoints" / "24").exists()
    assert_finishes(halfway)


def test_two_runs_in_one_workdir(halfway, assert_finishes):
    words = ("--train.epochs", 2000, "--allow-config-change")
    with begun(halfway, *words, until="cifar_jax") as first:
        second = start(halfway)
        first.kill()
    assert second.returncode == 2
    assert second.stdout == ""
    holder = f"process {first.pid} on {socket.gethostname()}"
    expected = f"main.py: {halfway}: in use by {holder}; use another --workdir\n"
    assert second.stderr == expected
    assert_finishes(halfway)  # the lock has died with its process


def test_no_terminal_no_reader_and_another_locale(tmp_path, reference):
    workdir = tmp_path / "a run with spaces, ünïcode and 日本"
    given = command(
        workdir,
        NO_COLOR="1",
        TERM="dumb",
        TZ="Asia/Kathmandu",
        LC_ALL="C",
        PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0",
        COLUMNS="10",
        PYTHONIOENCODING="ascii",
    )
    done = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$@" | head -1', "bash", *given.args],
        cwd=given.cwd,
        env=given.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert done.stdout.startswith(b"cifar_jax ")
    assert done.stdout.count(b"\n") == 1
    assert read(workdir) == reference
    log = (workdir / "log.txt").read_text(encoding="utf-8")
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00 cifar_jax ", log)
    assert str(workdir) in log


def test_nobody_reads_the_errors(halfway):
    for step in ("8", "16"):
        (halfway / "checkpoints" / step / "progress.json").unlink()
    given = command(halfway)
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen(given.args, cwd=given.cwd, env=given.env, stderr=writer) as process:
        os.close(writer)
    assert process.returncode == 1


@pytest.mark.usefixtures("hears_ctrl_c")
@pytest.mark.parametrize("package", [r"cifar_jax\.cli", "tyro", "jax"])
def test_ctrl_c_while_packages_are_imported(tmp_path, package):
    done = start(tmp_path / "run", fault=f"INT 1 import {package}$")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\ninterrupted\n")


@pytest.mark.parametrize("name", [b"caf\xe9", b"two\nlines"])
def test_a_workdir_that_cannot_be_named(run_here, tmp_path, name):
    done = run_here(*WORDS, "--workdir", tmp_path / os.fsdecode(name))
    assert done.returncode == 2
    assert done.stderr.endswith("the name of a workdir must be printable UTF-8\n")
    assert done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_a_gpu_that_is_not_there(run_here, tmp_path):
    done = run_here(*WORDS, "--workdir", tmp_path / "run", "--require-gpu")
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(
        r"main\.py: --require-gpu: jax \S+ must have a GPU, not cpu only \(pip install .*\)\n",
        done.stderr,
    )
    assert os.listdir(tmp_path) == []
    done = start(tmp_path / "run", JAX_PLATFORMS="cuda")
    assert done.returncode == 2
    assert re.fullmatch(
        r"main\.py: jax \S+ has no device as JAX_PLATFORMS names it, 'cuda': .*\n", done.stderr
    )
