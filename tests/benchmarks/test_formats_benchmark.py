"""benchmarks/formats.py, on a tiny network."""

import json

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors import numpy as safetensors

from cifar_jax.interop import to_torch_state_dict
from cifar_jax.models import SeparableResNet
from cifar_jax.runtime.imported import import_torch


@pytest.fixture
def weights(tmp_path):
    model = SeparableResNet(stem=4, stages=(4,), blocks=1)
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    safetensors.save_file(to_torch_state_dict(variables), tmp_path / "x.safetensors")
    import_torch(tmp_path / "x.safetensors", tmp_path / "weights")
    return tmp_path / "weights"


def test_each_format(benchmark, weights, tmp_path):
    words = ("--weights", weights, "--batches", "1,2", "--repeats", 3)
    done = benchmark("formats", *words, "--json", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["formats"].keys() == {"safetensors", "stablehlo", "onnx"}
    size = sum(path.stat().st_size for path in weights.iterdir())
    assert report["formats"]["safetensors"]["bytes"] == size
    for found in report["formats"].values():
        assert found["bytes"] > 1000
        for batch in ("batch_1", "batch_2"):
            low, high = found[batch]["seconds_range"]
            assert 0 < low <= found[batch]["seconds"] <= high
    assert (report["batches"], report["repeats"]) == ([1, 2], 3)
    assert report["versions"]["onnxruntime"]
    assert json.loads((tmp_path / "out" / "formats.json").read_text()) == report
    with Image.open(tmp_path / "out" / "formats.png") as picture:
        assert min(picture.size) > 200


def test_refusals_are_one_line(refusal, assert_refused):
    assert_refused(refusal("formats", "--weights", "nowhere"), "formats.py: nowhere/card.json")
