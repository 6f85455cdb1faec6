"""benchmarks/throughput.py, on a tiny network."""

import json

import pytest
from PIL import Image

TINY = ("--quick", "--batch", 16, "--side", 16, "--steps", 2, "--eval-batch", 8, "--repeats", 2)
TINY += ("--dtype", "bfloat16")  # the other tests train in float32


def test_one_point_and_scaling(benchmark, assert_rates, tmp_path):
    words = ("--scaling", "--batches", "16,32", "--sides", "16")
    done = benchmark("throughput", *TINY, *words, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    title, head, *rows = done.stdout.splitlines()
    assert "bfloat16, plain convolutions" in title
    assert head.split()[:3] == ["batch", "side", "train"]
    assert [row.split()[:2] for row in rows] == [["16", "16"], ["32", "16"]]
    report = json.loads((tmp_path / "throughput.json").read_text())
    for name in ("train", "eval", "augment"):
        assert_rates(report, name)
        program = report["programs"][name]
        assert min(program["compile_seconds"], program["temp_bytes"]) > 0
        assert min(program["flops"], program["bytes_accessed"], program["kernels"]) > 0
    ratio = report["train_images_per_second"] / report["augment_images_per_second"]
    assert report["augment_share"] == pytest.approx(ratio)
    assert report["peak_rss_bytes"] > 2**26
    assert report["peak_device_bytes"] is None
    settings = ("batch", "side", "steps_of_call", "eval_batch", "repeats", "quick")
    assert [report[name] for name in settings] == [16, 16, 2, 8, 2, True]
    assert (report["dtype"], report["convolutions"]) == ("bfloat16", "plain")
    assert report["device"]["platform"] == "cpu"
    assert report["versions"]["jax"]
    assert report["command"].startswith("python benchmarks/throughput.py --quick --batch 16 ")
    assert len(report["date"].split("-")) == 3
    points = report["scaling"]
    assert [(point["batch"], point["side"]) for point in points] == [(16, 16), (32, 16)]
    for point in (report, *points):
        assert_rates(point, "train")
        assert (point["dtype"], point["steps_of_call"]) == ("bfloat16", 2)
    with Image.open(tmp_path / "throughput.png") as picture:
        assert picture.width > 1200


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--batch", "0"), "--batch: must be a whole number of at least 1, not '0'"),
        (("--batches", "32,"), "--batches"),
        (("--dtype", "float8"), "--dtype"),
        (("--bach", "1"), "--bach"),
        (("--out", "README.md/x"), "--out: Not a directory: 'README.md/x'"),
    ],
    ids=lambda words: words[0] if isinstance(words, tuple) else "",
)
def test_refusals_are_one_line(refusal, assert_refused, words, said):
    assert_refused(refusal("throughput", *words), "throughput.py: ", said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--batch", "50000"), "train.batch_size must be at most"),
        (("--side", "4"), "side must be at least augment.hole_max, 8, not 4"),
        (("--convolutions", "native", "--dtype", "bfloat16"), "model.convolutions"),
    ],
    ids=["batch", "side", "convolutions"],
)
def test_configs_that_are_refused(refusal, assert_refused, words, said):
    assert_refused(refusal("throughput", *words), "throughput.py: ", said)
