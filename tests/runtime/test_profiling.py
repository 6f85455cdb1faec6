"""A trace that tools can open, and a run that is the same with it."""

import gzip
import json

import jax
import pytest
from tiny_runs import stop

from cifar_jax.errors import ConfigError
from cifar_jax.runtime.profiling import profiled
from cifar_jax.runtime.train import train


def read_trace(workdir):
    (path,) = (workdir / "profile").rglob("perfetto_trace.json.gz")
    assert list(path.parent.glob("*.xplane.pb"))  # what xprof opens
    with gzip.open(path) as file:
        return json.load(file)["traceEvents"]


def test_a_trace_of_whole_chunks_and_the_same_bits(whole, tiny, tmp_path):
    """Six steps of chunks of five are two chunks, the second and the third of the session."""
    results = train(tiny, tmp_path, profile=6)
    assert results["weights_sha256"] == whole[1]["weights_sha256"]
    assert results["confusion"] == whole[1]["confusion"]
    events = read_trace(tmp_path)
    chunks = [event for event in events if event.get("name") == "train_chunk"]
    assert [event["args"]["step_num"] for event in chunks] == ["1", "2"]
    assert all(event["dur"] > 0 for event in chunks)
    end = chunks[0]["ts"] + chunks[0]["dur"]
    inside = [e for e in events if e.get("ph") == "X" and chunks[0]["ts"] < e["ts"] < end]
    assert len(inside) > 100  # the program's operations
    log = (tmp_path / "log.txt").read_text()
    assert log.count("profile of 10 steps (6 asked for, in whole chunks of 5): ") == 1
    with pytest.raises(ConfigError, match=r"--profile: .* is finished: use another --workdir"):
        train(tiny, tmp_path, profile=6)


@pytest.mark.parametrize("steps", [-1, 36])
def test_more_steps_than_are_left(tiny, tmp_path, steps):
    with pytest.raises(ConfigError, match=rf"at least 1 and at most the 35 steps .*, not {steps}$"):
        train(tiny, tmp_path, profile=steps)
    assert not (tmp_path / "checkpoints").exists()


def test_a_run_that_is_stopped_has_the_trace_so_far(tiny, tmp_path):
    stop(tiny, tmp_path, chunks=3, profile=35)
    assert sum(event.get("name") == "train_chunk" for event in read_trace(tmp_path)) == 2


def test_without_a_trace_the_steps_go_on(tmp_path):
    """There can be one at a time, and the user has begun another."""
    said, done = [], 0
    jax.profiler.start_trace(tmp_path / "other")
    try:
        with profiled(tmp_path / "profile", 5, 5, 20, said.append) as chunk:
            for _ in range(4):
                with chunk():
                    done += 1
    finally:
        jax.profiler.stop_trace()
    assert done == 4
    (line,) = said
    assert line.startswith("--profile: no trace: RuntimeError: ")
    assert not (tmp_path / "profile").exists()
