"""State dicts of the original network, as people have them."""

import hashlib
import json
import pickle
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors import numpy as safetensors

import cifar_jax
from cifar_jax.cli import main
from cifar_jax.config import Config
from cifar_jax.errors import ConfigError
from cifar_jax.interop import from_torch_state_dict, to_torch_state_dict
from cifar_jax.models import SeparableResNet
from cifar_jax.runtime.imported import import_torch
from cifar_jax.runtime.pretrained import WeightsError

SIZE = (108 + 8) + (36 + 16 + 8) * 2 + (36 + 24 + 12 + 54 + 36 + 12 + 24 + 12) + 70  # of small
FIXTURE = Path(__file__).parents[1] / "fixtures" / "torch.npz"


@pytest.fixture(scope="module")
def state():
    """The state dict of the original's network, made by PyTorch."""
    with np.load(FIXTURE) as arrays:
        return {name[6:]: arrays[name] for name in arrays if name.startswith("state/")}


@pytest.fixture(scope="module")
def small():
    """A state dict of two small stages."""
    import jax

    model = SeparableResNet(stem=4, stages=(4, 6), blocks=1)
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    return to_torch_state_dict(variables)


def save(path, state, **metadata):
    path.write_bytes(safetensors.save(dict(state), metadata or None))
    return path


def test_it_computes_what_pytorch_does(state, tmp_path):
    path = save(tmp_path / "best.safetensors", state)
    card = import_torch(path, tmp_path / "network")
    net = cifar_jax.load(tmp_path / "network")
    assert net.card == card
    with np.load(FIXTURE) as arrays:
        logits: Any = net.model.apply(net.variables, arrays["images"])
        np.testing.assert_allclose(logits, arrays["logits"], rtol=0, atol=2e-5)
    assert card["accuracy"] is None
    assert card["parameters"] == 150_690
    assert card["receptive_field"] == 109
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert card["imported"] == {"file": "best.safetensors", "entry": "", "sha256": digest}
    assert "How they were trained is not known" in card["limits"]
    assert net.config.model == Config().model


def test_images_are_normalised_as_the_original_s(small, tmp_path):
    card = import_torch(save(tmp_path / "x.safetensors", small), tmp_path / "network")
    augment = card["config"]["augment"]
    assert augment["mean"] == [0.4914, 0.4822, 0.4465]
    assert augment["std"] == [0.2023, 0.1994, 0.2010]
    assert card["config"]["model"]["stages"] == [4, 6]
    assert card["config"]["model"]["blocks"] == 1


def test_unless_the_file_says_otherwise(small, tmp_path):
    path = save(tmp_path / "x.safetensors", small, mean="[0, 0, 0]", std="[1, 1, 1]")
    augment = import_torch(path, tmp_path / "network")["config"]["augment"]
    assert (augment["mean"], augment["std"]) == ([0, 0, 0], [1, 1, 1])


def test_metadata_of_nothing(small, tmp_path):
    content = safetensors.save(dict(small))
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]) | {"__metadata__": None}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[end:])
    augment = import_torch(path, tmp_path / "network")["config"]["augment"]
    assert augment["std"] == [0.2023, 0.1994, 0.2010]


@pytest.mark.parametrize("mean", ["[", "7", '["a", 0, 0]', "[0, 0, 9]", '{"a": 1}'])
def test_a_file_that_says_nonsense(small, mean, tmp_path):
    path = save(tmp_path / "x.safetensors", small, mean=mean)
    with pytest.raises((WeightsError, ConfigError), match="mean "):
        import_torch(path, tmp_path / "network")
    assert not (tmp_path / "network").exists()


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrappers(small, prefix, tmp_path):
    path = save(tmp_path / "x.safetensors", {prefix + k: v for k, v in small.items()})
    import_torch(path, tmp_path / "network")
    found = to_torch_state_dict(cifar_jax.load(tmp_path / "network").variables)
    for name, array in found.items():
        np.testing.assert_array_equal(array, small[name], strict=True)


def with_array(state, name, change):
    return {**state, name: change(state[name])}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {}, r"conv1\.weight: must be an array with 4 axes, got no such name"),
        (lambda s: {k: v for k, v in s.items() if k != "fc.bias"}, r"fc\.bias: must be an array"),
        (lambda s: {**s, "extra": s["fc.bias"]}, "extra: must be a name of a SeparableResNet"),
        (lambda s: with_array(s, "fc.bias", lambda a: a * np.float32(np.nan)), "must be finite"),
        (
            lambda s: with_array(s, "bn1.running_var", lambda a: -a),
            r"bn1\.running_var must be variances, and has a negative number",
        ),
        (
            lambda s: with_array(
                with_array(s, "fc.bias", lambda a: a[:3]), "fc.weight", lambda a: a[:3]
            ),
            "outputs of fc must be 10, for CIFAR-10, not 3",
        ),
        (
            lambda s: with_array(s, "conv1.weight", lambda a: np.ascontiguousarray(a[:, :1])),
            "inputs of conv1 must be 3, for CIFAR-10, not 1",
        ),
    ],
)
def test_other_networks_are_refused(small, change, message, tmp_path):
    path = save(tmp_path / "x.safetensors", change(small))
    with pytest.raises(WeightsError, match=message) as caught:
        import_torch(path, tmp_path / "network")
    assert str(caught.value).startswith(str(path))
    assert not (tmp_path / "network").exists()


def test_damaged_files_are_one_line(small, tmp_path):
    path = save(tmp_path / "x.safetensors", small)
    content = path.read_bytes()
    for damaged in (b"", b"hello", content[: len(content) // 2], content[:8] + b"[" * 9999):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"^\S+x\.safetensors: [^\n]+$"):
            import_torch(path, tmp_path / "network")
    with pytest.raises(WeightsError, match="nowhere: cannot be read: No such file"):
        import_torch(tmp_path / "nowhere", tmp_path / "network")


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_type_that_numpy_has_not(tmp_path):
    path = tmp_path / "x.safetensors"
    header = json.dumps({"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(
        WeightsError, match=r"x\.safetensors: its arrays must be of a type .* 'BF16'$"
    ):
        import_torch(path, tmp_path / "network")


def test_nothing_in_a_pickle_is_run(tmp_path, monkeypatch):
    path, made = tmp_path / "x.pth", tmp_path / "made"
    path.write_bytes(pickle.dumps({"conv1.weight": Malicious(made)}))
    with pytest.raises((WeightsError, ConfigError), match=r"x\.pth.* torch"):
        import_torch(path, tmp_path / "network")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match=r"x\.pth needs torch: pip install torch, or take"):
        import_torch(path, tmp_path / "network")
    assert not made.exists()
    pickle.loads(path.read_bytes())
    assert made.exists()  # it would have


def test_torch_is_asked_for_nothing_but_weights(tmp_path, monkeypatch):
    asked = []

    def load(file, **options):
        asked.append(options)
        raise ValueError

    monkeypatch.setitem(
        sys.modules,
        "torch",
        SimpleNamespace(load=load, Tensor=np.ndarray, __version__="2.10.1+cpu"),
    )
    (tmp_path / "x.pth").write_bytes(pickle.dumps({}))
    with pytest.raises(WeightsError, match="holds more than tensors"):
        import_torch(tmp_path / "x.pth", tmp_path / "network")
    assert asked == [{"map_location": "cpu", "weights_only": True}]


@pytest.mark.parametrize("version", ["2.9.1+cu128", "1.13.0"])
def test_a_torch_that_strangers_files_can_make_run_code_is_refused(tmp_path, monkeypatch, version):
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(__version__=version))
    (tmp_path / "x.pth").write_bytes(pickle.dumps({}))
    with pytest.raises(ConfigError) as refused:
        import_torch(tmp_path / "x.pth", tmp_path / "network")
    assert f"x.pth needs torch 2.10 or newer, not {version}: pip install" in str(refused.value)


def test_files_of_torch(state, small, tmp_path):
    torch = pytest.importorskip("torch")
    path, folder = tmp_path / "x.pth", tmp_path / "network"
    tensors = {name: torch.from_numpy(array) for name, array in small.items()}
    halves = {k: v.bfloat16() if v.is_floating_point() else v for k, v in tensors.items()}
    wrapped = {"epoch": 3, "model_state_dict": {f"module.{k}": v for k, v in halves.items()}}
    torch.save(wrapped, path)
    card = import_torch(path, folder)
    assert card["imported"]["entry"] == "model_state_dict"
    expected = from_torch_state_dict({name: half.float() for name, half in halves.items()})
    np.testing.assert_array_equal(
        cifar_jax.load(folder).variables["params"]["head"]["kernel"],
        expected["params"]["head"]["kernel"],
    )
    for value, message in (
        ([1, 2], "must be a state dict, not list"),
        ({"epoch": 1, "weights": tensors}, "its epoch is no array of numbers"),
        ({"fc.bias": torch.ones(2, dtype=torch.complex64)}, "its fc.bias is no array of numbers"),
        (torch.nn.Linear(2, 2), r"torch\.load\(weights_only=True\) must be able to read it"),
    ):
        torch.save(value, path)
        with pytest.raises(WeightsError, match=message):
            import_torch(path, folder)


def test_the_command_and_evaluation_without_an_accuracy(small, tmp_path, capsys):
    path, folder = save(tmp_path / "x.safetensors", small), tmp_path / "network"
    words = ["--augment.mean", "0.5", "0.4", "0.3", "--data.source", "synthetic"]
    words += ["--model.convolutions", "native", "--data.data-dir", str(tmp_path)]
    assert main(["import-torch", "--output", str(folder), str(path), *words]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{folder}: {SIZE:,} parameters; accuracy not known"
    assert second.startswith("images are normalised by mean [0.5, 0.4, 0.3] and std [0.2023, ")
    assert main(["eval", "--weights", str(folder), "--eval.tta", "none"]) == 0
    shown = capsys.readouterr().out
    assert "test accuracy" in shown
    assert "the card says" not in shown
    assert main(["eval", "--weights", str(folder), "--eval.tta", "none", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["card_accuracy"] is None
    config = cifar_jax.load(folder).config  # for any machine
    assert (config.model.convolutions, config.data.data_dir) == ("auto", Config().data.data_dir)


def test_a_number_that_float32_has_not(small, tmp_path):
    arrays = {name: array.astype(np.float64) for name, array in small.items()}
    arrays["fc.bias"][3] = 1e300
    with pytest.raises(
        WeightsError, match=r"fc\.bias must be finite, and has a NaN or an infinity"
    ):
        import_torch(save(tmp_path / "x.safetensors", arrays), tmp_path / "network")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "a file and --output are required, as in best.pth --output my/network"),
        ("x.pth", "a file and --output are required"),
        ("--output y", "a file and --output are required"),
        ("--augment.border reflect101 x.pth --output y", "a file and --output are required"),
        ("--output y -- -x.pth", "-x.pth: cannot be read: No such file"),
        ("x.safetensors --output y", "x.safetensors: cannot be read: No such file"),
        ("{path} --output {folder} --model.stem 9", "is of its own network, so not model.stem: 4"),
        ("{path} --output {folder} --augment.meen 9", "did you mean --augment.mean"),
    ],
)
def test_mistakes(small, words, message, tmp_path, capsys):
    path, folder = save(tmp_path / "x.safetensors", small), tmp_path / "network"
    words = [word.format(path=path, folder=folder) for word in words.split()]
    assert main(["import-torch", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert not folder.exists()


def test_only_imported_weights_may_have_no_accuracy(small, tmp_path):
    import_torch(save(tmp_path / "x.safetensors", small), tmp_path / "network")
    other = shutil.copytree(tmp_path / "network", tmp_path / "other") / "card.json"
    card = json.loads(other.read_text())
    del card["imported"]
    other.write_text(json.dumps(card))
    with pytest.raises(WeightsError, match=r"card\.json: not a network's card"):
        cifar_jax.load(other.parent)
