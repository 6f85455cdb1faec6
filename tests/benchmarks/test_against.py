"""The comparisons with PyTorch and with Albumentations, neither of which the tests need."""

import importlib.util
import json
import os
import sys

import pytest
from PIL import Image

TINY = ("--quick", "--batch", 16, "--steps", 1, "--rounds", 2, "--json")
MISSING = "raise ImportError('none of it here')"
ALBUMENTATIONS = """
__version__ = "2.0.8"

def operation(*_, **__):
    return None

HorizontalFlip = ShiftScaleRotate = RandomBrightnessContrast = operation
HueSaturationValue = CoarseDropout = Normalize = operation

class Compose:
    def __init__(self, operations):
        assert len(operations) == 6

    def __call__(self, image):
        assert image.shape == (32, 32, 3)
        return {"image": image / 255}
"""
CV2 = "__version__, BORDER_CONSTANT = '5', 0\ndef setNumThreads(count): assert count == 0\n"


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_against_torch(benchmark, assert_rates, tmp_path):
    done = benchmark("against_torch", *TINY, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert list(report["contenders"]) == [
        "cifar_jax",
        "torch",
        "torch channels_last",
        "torch channels_last bfloat16",
    ]
    for name, contender in report["contenders"].items():
        assert_rates(contender)
        low, high = contender["ratio_range"]
        assert 0 < low <= contender["ratio"] <= high
        assert contender["peak_rss_bytes"] > 2**26
        if name != "cifar_jax":
            assert contender["threads"] == len(os.sched_getaffinity(0))
    assert report["contenders"]["cifar_jax"]["ratio"] == 1
    assert report["contenders"]["cifar_jax"]["program_cached"] in (False, True)
    assert (report["batch"], report["steps"], report["rounds"]) == (16, 1, 2)
    assert report["device"]["platform"] == "cpu"
    assert json.loads((tmp_path / "against_torch.json").read_text()) == report
    with Image.open(tmp_path / "against_torch.png") as picture:
        assert min(picture.size) > 300


def test_against_albumentations_on_a_stand_in(benchmark, assert_rates, tmp_path):
    (tmp_path / "albumentations.py").write_text(ALBUMENTATIONS)
    (tmp_path / "cv2.py").write_text(CV2)
    done = benchmark("against_albumentations", *TINY[1:], path=[tmp_path])
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert list(report["contenders"]) == ["cifar_jax", "albumentations"]
    for contender in report["contenders"].values():
        assert_rates(contender)
    theirs = report["contenders"]["albumentations"]
    assert theirs["ratio"] > 0
    assert theirs["processes"] == len(os.sched_getaffinity(0))
    assert theirs["opencv"] == "5"
    assert "peak_rss_bytes" not in theirs


def test_a_pipeline_that_cannot_be_made_ends_the_benchmark(benchmark, tmp_path):
    broken = ALBUMENTATIONS.replace("len(operations) == 6", "not 'a version with other names'")
    (tmp_path / "albumentations.py").write_text(broken)
    (tmp_path / "cv2.py").write_text(CV2)
    done = benchmark("against_albumentations", *TINY[1:], path=[tmp_path])
    assert done.returncode == 1
    assert "AssertionError" in done.stderr
    assert done.stderr.splitlines()[-1] == "albumentations ended early, see above"


@pytest.mark.parametrize("name", ["torch", "albumentations"])
def test_what_is_missing_is_named_in_one_line(benchmark, assert_refused, tmp_path, name):
    (tmp_path / f"{name}.py").write_text(MISSING)
    done = benchmark(f"against_{name}", "--rounds", 1, path=[tmp_path])
    assert_refused(done, f"against_{name}.py: needs {name}", "pip install", "none of it here")


@pytest.mark.parametrize("name", ["torch", "albumentations"])
def test_refusals_are_one_line(refusal, assert_refused, name):
    assert_refused(refusal(f"against_{name}", "--rounds", "0"), "--rounds")


def test_a_contender_that_dies_between_its_turns_is_named(module, capsys):
    once = "import json, sys; print(1, flush=True); sys.stdin.readline(); print('[1, 1.0, 1]')"
    contender = module("turns").Contender("theirs", [sys.executable, "-c", once])
    contender.wait()
    contender.turn()
    contender._process.wait()
    with pytest.raises(SystemExit, match="1"):
        contender.turn()
    contender.close()
    assert capsys.readouterr().err.endswith("theirs ended early, see above\n")
