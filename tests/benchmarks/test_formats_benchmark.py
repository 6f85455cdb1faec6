"""benchmarks/formats.py, on a tiny network."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors import numpy as safetensors

import cifar_jax
from cifar_jax.interop import to_torch_state_dict
from cifar_jax.models import SeparableResNet
from cifar_jax.runtime.formats import write
from cifar_jax.runtime.imported import import_torch

ROOT = Path(__file__).parents[2]


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
    assert report["formats"].keys() == {
        "safetensors", "safetensors, plain", "stablehlo", "onnx"
    }  # fmt: skip
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


def test_torch_is_timed_if_asked(benchmark):
    torch = pytest.importorskip("torch")
    words = ("--weights", ROOT / "pretrained" / "200k_quick", "--batches", "2", "--repeats", 3)
    done = benchmark("formats", *words, "--torch", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert torch.__version__.startswith(report["versions"]["torch"])
    assert report["torch_threads"] >= 1
    assert report["formats"]["torch"]["bytes"] > 4 * 150_690
    assert report["formats"]["torch"]["batch_2"]["seconds"] > 0


def test_the_network_in_torch_is_ours(module, tmp_path):
    pytest.importorskip("torch")
    net = cifar_jax.load(ROOT / "pretrained" / "200k_quick")
    write(net, tmp_path / "x.pt", "torch")
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
    logits = module("formats").load_torch(net.config.augment, tmp_path / "x.pt")(images)
    np.testing.assert_allclose(jax.nn.softmax(logits), net.predict(images), atol=1e-5)


def test_torch_is_needed_if_asked(refusal, assert_refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    assert_refused(refusal("formats", "--torch"), "formats.py: --torch needs torch")


def test_torch_has_one_network(benchmark, weights):
    pytest.importorskip("torch")
    done = benchmark("formats", "--weights", weights, "--torch")
    assert done.returncode == 2
    assert "--torch needs weights of the network of 150,690" in done.stderr.splitlines()[-1]


def test_refusals_are_one_line(refusal, assert_refused):
    assert_refused(refusal("formats", "--weights", "nowhere"), "formats.py: nowhere/card.json")
