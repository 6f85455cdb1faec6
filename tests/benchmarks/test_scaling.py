"""benchmarks/scaling.py, on a tiny network."""

import argparse
import json
from typing import ClassVar

import pytest
from PIL import Image

TINY = ("--quick", "--batch", 16, "--rounds", 2)

PROGRAM = """HloModule jit_chunk, is_scheduled=true

%inner (p: (s32[], f32[9])) -> (s32[], f32[9]) {
  %all-reduce.3 = (f32[], f32[8]{0}) all-reduce(%a, %b), channel_id=1, to_apply=%add
}

%one.clone (p: f32[2]) -> f32[2] {
  ROOT %all-reduce.4 = bf16[2,3]{1,0:T(8,128)} all-reduce(%p), channel_id=2, to_apply=%add
}

%other (p: f32[2]) -> f32[2] {
  ROOT %all-gather.1 = f32[2,128]{1,0} all-gather(%p), channel_id=3, dimensions={1}
}

%step (p: (s32[], f32[9])) -> (s32[], f32[9]) {
  %while.1 = s32[] while(%t), body=%inner, backend_config={"known_trip_count":{"n":"5"}}
  %call.1 = f32[2]{0} call(%x), to_apply=%one.clone
  %conditional.1 = f32[2]{0} conditional(%i, %x, %y), branch_computations={%one.clone, %other}
  ROOT %tuple = (s32[], f32[9]) tuple(%i, %all-reduce.3)
}

ENTRY %main (p: (s32[], f32[9])) -> (s32[], f32[9]) {
  ROOT %w = f32[9] while(%p), body=%step, backend_config={"known_trip_count":{"n":"2"}}
}
"""


def test_bytes_in_loops_count_as_often_as_they_run(module):
    moved_bytes = module("traffic").moved_bytes
    of_a_step = 5 * (4 + 8 * 4) + 12 + 12  # the inner loop, the call, the larger branch
    assert moved_bytes(PROGRAM, "all-reduce") == 2 * of_a_step
    assert moved_bytes(PROGRAM, "all-gather") == 2 * 2 * 128 * 4
    assert moved_bytes(PROGRAM, "all-to-all") == 0
    once = PROGRAM.replace("known_trip_count", "unknown")
    assert moved_bytes(once, "all-reduce") == 4 + 8 * 4 + 12 + 12


KERNELS = """
%body (p: (f32[9])) -> (f32[9]) {
  %gte = bf16[4,8]{1,0} get-tuple-element(%p), index=0
  %sum = (f32[4]{0}, bf16[4,8]{1,0}) fusion(%gte, /*index=1*/%gte, %elsewhere), calls=%f
  ROOT %copy = f32[4]{0} copy(%sum)
}

ENTRY %main (p: (f32[9])) -> (f32[9]) {
  ROOT %w = f32[9] while(%p), body=%body, backend_config={"known_trip_count":{"n":"3"}}
}
"""


def test_bytes_that_kernels_read_and_write(module):
    fusion, copy = (16 + 64) + 64, 16 + (16 + 64)
    assert module("traffic").memory_bytes(KERNELS) == 3 * (fusion + copy)


def test_bytes_of_a_result(module):
    bytes_of = module("traffic").bytes_of
    assert bytes_of("f32[20,3]{1,0}") == 240
    assert bytes_of("(f32[], /*index=1*/bf16[5]{0}, pred[3]{0}, f8e4m3fn[7], u32[2])") == 32


def test_members_and_devices(benchmark, assert_rates, tmp_path):
    words = ("--members", "2", "--way", "map", "--devices", "2", "--out", tmp_path)
    words += ("--train.chunk-steps", "4", "--train.batch-size", "32")  # fields
    done = benchmark("scaling", *TINY, *words)
    assert done.returncode == 0, done.stderr
    title, head, *lines = done.stdout.splitlines()
    assert f"200k_quick {' '.join(words[-4:])}, float32, jax" in title
    assert head.split()[:3] == ["images/s", "to", "1"]
    names = ["one Trainer", "lax.map, 1 member", "lax.map, 2 members"]
    names += ["plain, 1 device", "plain, 2 devices"]
    assert [line.split("  ")[0] for line in lines[:5]] == names
    report = json.loads((tmp_path / "scaling.json").read_text())
    assert (report["batch"], report["steps_of_call"], report["rounds"]) == (32, 4, 2)
    assert report["fields"] == list(words[-4:])
    assert report["device"] | {"count": 1, "platform": "cpu"} == report["device"]
    assert set(report["members"]) == {"map"}
    for way in report["members"].values():
        rows = way["rows"]
        assert [row["members"] for row in rows] == [1, 2]
        assert (rows[0]["ratio"], rows[0]["ratio_range"]) == (1, [1, 1])
        assert_consistent(rows[1]["ratio_range"], rows[1], rows[0])
        for row in rows:
            assert_rates(row)
            assert_consistent(row["over_trainer_range"], row, report["trainer"])
            assert min(row["compile_seconds"], row["peak_rss_bytes"] - 2**26) > 0
        best = max(row["images_per_second"] for row in rows)
        enough = [row["members"] for row in rows if row["images_per_second"] >= 0.9 * best]
        assert way["full_at"] == enough[0]
    one, two = report["devices"]
    assert (one["devices"], two["devices"], one["ratio"]) == (1, 2, 1)
    assert one["convolutions"] == two["convolutions"] == "plain"
    assert one["all_reduced_bytes"] == one["all_gathered_bytes"] == 0
    assert two["all_reduced_bytes"] > 0
    assert one["work_of_a_device"] == 1
    assert 0.4 < two["work_of_a_device"] <= 1.1
    assert_consistent(two["ratio_range"], two, one)
    with Image.open(tmp_path / "scaling.png") as picture:
        assert min(picture.size) > 300


def assert_consistent(ratios, row, other):
    """The ratios of rounds lie where the rates of all rounds allow them to be."""
    (low, high), (least, most) = row["images_per_second_range"], other["images_per_second_range"]
    assert low / most * 0.999 <= ratios[0] <= ratios[1] <= high / least * 1.001


@pytest.mark.parametrize(
    ("platform", "way", "ways"),
    [
        ("cpu", None, ["map", "vmap"]),
        ("cpu", "map", ["map"]),
        ("gpu", None, ["vmap"]),
        ("gpu", "map", ["map"]),
    ],
)
def test_ways_of_members(module, monkeypatch, platform, way, ways):
    class Point:
        about: ClassVar = {"device": {"platform": platform}}
        turns: ClassVar = [(128, 0.5)]
        name = ""

        def turn(self):
            pass

        close = turn

    scaling = module("scaling")
    monkeypatch.setattr(scaling, "start", lambda *words: Point())
    options = argparse.Namespace(members=[1, 4], rounds=1, way=way)
    assert list(scaling.measure_members(options)["members"]) == ways


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--members", "0"), "--members: must be a whole number of at least 1, not '0'"),
        (("--devices", "3"), "--devices: a batch of 128 cannot be spread over 3"),
        (("--only", "hosts"), "--only"),
        (("--way", "scan"), "--way"),
        (("--recipe", "none"), "none.py"),
        (("--batch", "60000"), "train.batch_size must be at most"),
        (("--members", "1", "--augment.cutmix", "2"), "augment.cutmix must be"),
        (("--membrs", "1"), "--membrs"),
    ],
    ids=lambda words: words[0] if isinstance(words, tuple) else "",
)
def test_refusals_are_one_line(refusal, assert_refused, words, said):
    assert_refused(refusal("scaling", *words), "scaling.py: ", said)
