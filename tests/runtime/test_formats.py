"""What is exported, read by the programs that it is for."""

import dataclasses
import json
import sys
from pathlib import Path

import jax
import numpy as np
import onnx
import onnxruntime
import pytest
from jax import export
from safetensors import numpy as safetensors
from safetensors import safe_open

from cifar_jax import models
from cifar_jax.cli import main
from cifar_jax.config import Config, ModelConfig, validate
from cifar_jax.data import CLASS_NAMES, make_synthetic
from cifar_jax.errors import ConfigError
from cifar_jax.interop import from_torch_state_dict
from cifar_jax.runtime import formats
from cifar_jax.runtime.formats import FormatError, onnx_graph, stablehlo, torch_state, write
from cifar_jax.runtime.kernels import network
from cifar_jax.runtime.pretrained import Pretrained

FIXTURE = Path(__file__).parents[1] / "fixtures" / "torch.npz"
TINY = {  # a shortcut without a stride, and one with
    "separable": ModelConfig(stem=6, stages=(8, 12), blocks=1),
    "preact": ModelConfig(architecture="preact", stem=6, stages=(8, 16), blocks=1),
    "wide": ModelConfig(architecture="wide", stem=4, stages=(6, 8), blocks=1),
    "high": ModelConfig(architecture="preact", stem=4, stages=(6, 8, 8), blocks=1, halvings=1),
}


def random_network(model: ModelConfig) -> Pretrained:
    """Weights in which no array is constant; variances are positive."""
    config = validate(Config(model=model))
    module = network(config)
    shapes = jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    generator = np.random.default_rng(0)

    def draw(path, leaf):
        numbers = generator.normal(size=leaf.shape, scale=0.3)
        name = path[-1].key
        return np.float32(np.exp(numbers) if name in ("var", "scale") else numbers)

    return Pretrained(config, module, jax.tree_util.tree_map_with_path(draw, dict(shapes)), {})


@pytest.fixture(scope="module", params=TINY)
def net(request):
    return random_network(TINY[request.param])


@pytest.fixture(scope="module")
def separable():
    return random_network(TINY["separable"])


@pytest.fixture(scope="module")
def torch():
    with np.load(FIXTURE) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def from_torch(torch):
    """The network of the fixture; its images are normalised already."""
    state = {name[6:]: array for name, array in torch.items() if name.startswith("state/")}
    config = Config().replace(augment={"mean": (0.0,) * 3, "std": (1.0,) * 3})
    return Pretrained(config, network(config), jax.device_get(from_torch_state_dict(state)), {})


IMAGES = make_synthetic(train=10, test=20).test_images


def read(path):
    """Read without this package: a function from images to logits."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path)
        return lambda images: session.run(None, {"images": images})[0]
    exported = export.deserialize(bytearray(path.read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    return exported.call


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


@pytest.mark.parametrize(
    ("kind", "input"), [("stablehlo", "uint8"), ("onnx", "uint8"), ("onnx", "float")]
)
def test_it_classifies_as_predict_does(net, kind, input, tmp_path):
    path = tmp_path / "a new folder" / f"network.{kind}"
    done = write(net, path, kind, input=input)
    assert done.size == path.stat().st_size
    assert done.difference <= 1e-5 * done.largest
    assert done.largest > 1
    call = read(path)
    expected = np.log(net.predict(IMAGES))
    assert expected.std(axis=0).min() > 0.02  # the images tell
    logits = np.asarray(call(IMAGES if input == "uint8" else np.float32(IMAGES / 255)))
    assert logits.dtype == np.float32
    np.testing.assert_allclose(log_softmax(logits), expected, rtol=0, atol=2e-4)
    assert [leftover.name for leftover in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", ["stablehlo", "onnx"])
def test_logits_are_pytorch_s(from_torch, torch, kind, tmp_path):
    path = tmp_path / f"network.{kind}"
    serialize = {"stablehlo": stablehlo, "onnx": onnx_graph}[kind].serialize
    path.write_bytes(serialize(from_torch, "float"))
    logits = np.asarray(read(path)(torch["images"]))
    np.testing.assert_allclose(logits, torch["logits"], rtol=0, atol=2e-5)


def test_what_an_onnx_file_tells(net, tmp_path):
    path = tmp_path / "network.onnx"
    write(net, path, "onnx")
    model = onnx.load(path)
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)
    told = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(told["classes"]) == list(CLASS_NAMES)
    assert told["input"] == "uint8 [N, 32, 32, 3], RGB, 0 to 255"
    (images,), (logits,) = model.graph.input, model.graph.output
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    sizes = [size.dim_param or size.dim_value for size in images.type.tensor_type.shape.dim]
    assert sizes == ["N", 32, 32, 3]
    assert (images.name, logits.name) == ("images", "logits")
    constants = [x for x in model.graph.initializer if x.name.startswith("params/")]
    assert sum(int(np.prod(x.dims)) for x in constants) == models.count_params(
        net.variables["params"]
    )


def test_nothing_of_the_machine_is_in_a_file(separable):
    contents = [stablehlo.serialize(separable, "uint8"), onnx_graph.serialize(separable, "uint8")]
    for content in contents:
        assert b".py" not in content
        assert bytes(Path.cwd()) not in content
    assert stablehlo.serialize(separable, "uint8") == contents[0]


def test_a_network_in_bfloat16_is_exported_in_float32(separable, tmp_path):
    model = separable.config.replace(model={"dtype": "bfloat16"})
    coarse = separable._replace(config=model, model=network(model))
    write(coarse, tmp_path / "network.onnx", "onnx")
    expected = onnx_graph.serialize(separable, "uint8")
    assert (tmp_path / "network.onnx").read_bytes() == expected
    expected = stablehlo.serialize(separable, "uint8")
    assert stablehlo.serialize(coarse, "uint8") == expected


def test_a_state_dict_has_pytorch_s_arrays(from_torch, torch, tmp_path):
    path = tmp_path / "network.safetensors"
    path.write_bytes(torch_state.serialize(from_torch, ".safetensors"))
    state = safetensors.load_file(path)
    assert {f"state/{name}" for name in state} == {x for x in torch if x.startswith("state/")}
    for name, array in state.items():
        expected = torch[f"state/{name}"]
        assert (array.dtype, array.tobytes()) == (expected.dtype, expected.tobytes())
    with safe_open(path, "numpy") as file:
        told = file.metadata()
    assert told["format"] == "pt"
    assert (json.loads(told["mean"]), json.loads(told["std"])) == ([0.0] * 3, [1.0] * 3)


@pytest.mark.parametrize("ending", ["pt", "pth"])
def test_a_state_dict_of_torch(from_torch, torch, ending, tmp_path):
    pytorch = pytest.importorskip("torch")
    path = tmp_path / f"network.{ending}"
    path.write_bytes(torch_state.serialize(from_torch, f".{ending}"))
    state = pytorch.load(path, weights_only=True)
    assert {f"state/{name}" for name in state} == {x for x in torch if x.startswith("state/")}
    for name, tensor in state.items():
        np.testing.assert_array_equal(tensor.numpy(), torch[f"state/{name}"], strict=True)


def test_a_state_dict_comes_back_with_the_same_bits(separable, tmp_path, monkeypatch):
    path = tmp_path / "network.safetensors"
    assert write(separable, path, "torch").difference == 0
    state = torch_state.load(path)
    jax.tree.map(np.testing.assert_array_equal, state.variables, separable.variables)
    other = jax.tree.map(lambda leaf: np.nextafter(leaf, np.float32(9)), separable.variables)
    monkeypatch.setattr(formats.torch_state, "load", lambda _: state._replace(variables=other))
    with pytest.raises(FormatError, match="weights read back from it must be equal"):
        write(separable, path, "torch")


def test_a_file_of_another_network_is_not_put_in_place(separable, tmp_path, monkeypatch):
    path = tmp_path / "network.stablehlo"
    path.write_text("the last one")
    other = jax.tree.map(lambda leaf: leaf * np.float32(1.001), separable.variables)
    content = stablehlo.serialize(separable._replace(variables=other), "uint8")
    monkeypatch.setattr(formats.stablehlo, "serialize", lambda net, input: content)
    with pytest.raises(FormatError, match=r"network\.stablehlo: not written: logits .* not "):
        write(separable, path, "stablehlo")
    assert path.read_text() == "the last one"
    assert len(list(tmp_path.iterdir())) == 1


def test_logits_that_are_no_numbers_are_refused(separable, tmp_path):
    other = jax.tree.map(lambda leaf: leaf * np.float32(np.nan), separable.variables)
    with pytest.raises(FormatError, match="not nan"):
        write(separable._replace(variables=other), tmp_path / "network.onnx", "onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("onnx", "x.bin", r"--output must end in \.onnx for --format onnx, not x\.bin"),
        ("torch", "x", r"must end in \.safetensors or \.pt or \.pth for --format torch, not x"),
        ("torch", "x.pt", r"\.pt needs torch: pip install torch, or take a \.safetensors file"),
        ("onnx", "x.onnx", r"needs the package onnx: pip install -e '\.\[onnx\]'"),
        ("onnx", "file/x.onnx", r"file: cannot be made: "),
    ],
)
def test_refusals(separable, kind, name, message, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for package in ("torch", "onnx")[: 2 - name.startswith("file")]:
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=message):
        write(separable, tmp_path / name, kind)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("other", ["preact", "wide"])
def test_a_state_dict_of_another_architecture_is_refused(other, tmp_path):
    with pytest.raises(ConfigError, match=rf"must be separable, .*, not {other}"):
        write(random_network(TINY[other]), tmp_path / "x.pt", "torch")


def test_a_state_dict_of_other_strides_is_refused(tmp_path):
    model = dataclasses.replace(TINY["separable"], halvings=0)
    with pytest.raises(ConfigError, match=r"model\.halvings must be at least 1, .*, not 0"):
        write(random_network(model), tmp_path / "x.pt", "torch")


def test_the_command(whole, tmp_path, capsys):
    workdir, path = whole[0], tmp_path / "network.onnx"
    words = ["--workdir", str(workdir), "--output", str(path)]
    assert main(["export", "--format", "onnx", *words, "--checkpoint", "30"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{path}: {path.stat().st_size:,} bytes"
    assert second.startswith("read back: its logits differ by at most ")
    early = np.asarray(read(path)(IMAGES))
    state = tmp_path / "network.safetensors"
    assert main(["export", "--format", "torch", "--workdir", words[1], "--output", str(state)]) == 0
    _, line, last = capsys.readouterr().out.splitlines()
    assert last == "read back: its arrays are the network's, bit for bit"
    assert line == "images are normalised by mean [0.4914, 0.48216, 0.44653] and std " + str(
        [0.24703, 0.24349, 0.26159]
    )
    assert main(["export", "--format", "onnx", *words, "--input", "float"]) == 0
    assert not np.allclose(np.asarray(read(path)(np.float32(IMAGES / 255))), early, atol=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--weights x", "--weights: is not for --format safetensors"),
        ("--workdir x --output y --input float", "--input: is not for --format safetensors"),
        ("--format torch --input uint8", "--input: is not for --format torch"),
        ("--format onnx --limits None.", "--limits: is for --format safetensors"),
        ("--workdir x --output n.onnx", "n.onnx: must be a folder for --format safetensors; .onnx"),
        ("--workdir x --output n.pt", "; .pt is of --format torch"),
        ("--format onnx --weights x", "--output is required, as in --format onnx"),
        ("--format onnx --output x.onnx", "--weights or --workdir is required"),
        ("runs/a=b --output x", "runs/a=b: is no option; a run is given as --workdir runs/a=b\n"),
        ("--fromat onnx", "--fromat: no such option; did you mean --format?"),
        ("--verbose", "--verbose: no such option; --help lists them"),
        ("--format onxx", "invalid choice: 'onxx'"),
    ],
)
def test_mistakes_of_the_command(words, message, capsys):
    assert main(["export", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
