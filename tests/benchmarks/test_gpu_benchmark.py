"""benchmarks/gpu.py: its way through the candidates, on a CPU and a tiny network."""

import json
import math

import pytest
from PIL import Image

UNKNOWN = "--xla_no_such_flag=1"


def test_a_candidate_that_fails_costs_the_others_nothing(benchmark, assert_rates, tmp_path):
    only = ("--only", "copy,bad,float32,parts,seeds,run", "--flags", f"bad={UNKNOWN}")
    done = benchmark("gpu", "--quick", "--out", tmp_path, *only)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["environment"]["device"]["platform"] == "cpu"
    records = {record["candidate"]["name"]: record for record in report["candidates"]}
    assert list(records) == ["copy", "bad", "float32", "parts", "seeds", "run"]
    assert [name for name, record in records.items() if record["status"] != "ok"] == ["bad"]
    assert UNKNOWN in records["bad"]["error"]
    assert UNKNOWN in (tmp_path / "failures.log").read_text()
    measures = {name: list(r.get("measures", {})) for name, r in records.items()}
    assert measures == {
        "copy": ["copy"],
        "bad": [],
        "float32": ["train"],
        "parts": ["augment", "network", "eval"],
        "seeds": ["train", "2-seeds"],
        "run": ["run"],
    }
    assert records["copy"]["measures"]["copy"]["bytes_per_second"] > 0
    for name in ("float32", "parts", "seeds", "run"):
        for figures in records[name]["measures"].values():
            assert_rates(figures)
    train = records["float32"]["measures"]["train"]
    rate = train["images_per_second"]
    assert train["seconds_of_step"] == pytest.approx(16 / rate)
    assert train["seconds_of_200_epochs"] == pytest.approx(200 * 45_000 / rate)
    assert "share_of_bandwidth" not in train  # a CPU's is not known
    seeds = records["seeds"]["measures"]
    ratio = seeds["2-seeds"]["images_per_second"] / seeds["train"]["images_per_second"]
    assert seeds["2-seeds"]["ratio"] == pytest.approx(ratio)
    assert 0 < records["run"]["measures"]["run"]["seconds"] < math.inf
    rows = done.stdout.splitlines()
    assert [row.split()[0] for row in rows[1:]] == [
        "float32",
        *["parts:"] * 3,
        "seeds",
        "seeds:",
        "run",
        "copy:",
        "bad:",
    ]
    with Image.open(tmp_path / "gpu.png") as picture:
        assert min(picture.size) > 300


@pytest.mark.parametrize(
    ("device", "speed"), [("NVIDIA H100 80GB HBM3", 3.35e12), ("NVIDIA H200", 4.8e12)]
)
def test_shares_of_a_known_memory(module, device, speed):
    limits = module("gpu_candidates").limits
    (candidate,) = (c for c in module("gpu_candidates").CANDIDATES if c.name == "float32")
    figures = {"images_per_second": 1e5, "bytes_accessed": 1e9}
    found = limits(figures, candidate, device)
    assert found["share_of_bandwidth"] == pytest.approx(1e9 * 1e5 / candidate.batch / speed)
    assert found["share_of_least_traffic"] == pytest.approx(1e5 * 5e6 / speed)
    assert limits(figures, candidate, "another").keys() == {
        "seconds_of_step",
        "seconds_of_200_epochs",
    }


def test_no_candidate_is_started_without_time(benchmark, tmp_path):
    done = benchmark("gpu", "--quick", "--out", tmp_path, "--budget", 1, "--only", "float32")
    assert done.returncode == 1
    (record,) = json.loads((tmp_path / "gpu.json").read_text())["candidates"]
    assert record["status"] == "skipped"
    assert "float32: skipped" in done.stdout


def test_a_candidate_is_stopped_at_its_limit(module, tmp_path):
    candidates = module("gpu_candidates")
    candidate = candidates.quick(candidates.Candidate("slow"))
    record = module("gpu").attempt(candidate, 0.6, tmp_path / "log")
    assert record["status"] == "failed"
    assert record["error"] == "stopped after 1 s"
    assert 0.6 <= record["seconds"] < 5  # not waited for
    assert record["candidate"]["name"] == "slow"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Traceback:\n  File x\nValueError: no\n\n", "ValueError: no"),
        ("F1123 09:00 flags.cc] Unknown flag\n*** Check failure stack trace: ***\n@ 0x1", "F1123"),
        ("jaxlib.XlaRuntimeError: INTERNAL: x\nE1 bye", "jaxlib.XlaRuntimeError"),
        ("one\ntwo\n", "two"),
        ("", "said nothing"),
    ],
)
def test_the_line_that_says_why(module, text, said):
    assert module("gpu").last_line(text).startswith(said)


def test_candidates_have_names_of_their_own(module):
    candidates = module("gpu_candidates")
    names = [candidate.name for candidate in candidates.CANDIDATES]
    assert len(set(names)) == len(names)
    assert set(candidates.QUICK) <= set(names)
    assert not any("," in name or "=" in name for name in names)


def test_it_refuses_without_a_gpu(benchmark, assert_refused, tmp_path):
    done = benchmark("gpu", "--out", tmp_path)
    assert_refused(done, "gpu.py: needs a GPU", "--quick")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--out"),
        (("--out", "x", "--only", "float23"), "float23: no such candidate; there are copy, "),
        (("--out", "x", "--flags", "nothing"), "--flags must be NAME=FLAGS, not 'nothing'"),
        (("--out", "x", "--budget", "-1"), "--budget"),
    ],
    ids=["out", "only", "flags", "budget"],
)
def test_refusals_are_one_line(refusal, assert_refused, words, said):
    assert_refused(refusal("gpu", *words), "gpu.py: ", said)
