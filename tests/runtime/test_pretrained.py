import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import numpy as safetensors

import cifar_jax
from cifar_jax.config import to_dict
from cifar_jax.data import CLASS_NAMES
from cifar_jax.errors import ConfigError
from cifar_jax.models import count_params
from cifar_jax.runtime import cards
from cifar_jax.runtime.cards import export
from cifar_jax.runtime.checkpoint import CheckpointError
from cifar_jax.runtime.evaluate import evaluate
from cifar_jax.runtime.inputs import load_inputs
from cifar_jax.runtime.pretrained import WeightsError
from cifar_jax.runtime.run_weights import from_run
from cifar_jax.runtime.score import evaluate_weights
from cifar_jax.runtime.train import train

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(path.parent for path in ROOT.glob("pretrained/*/card.json"))
assert SHIPPED


@pytest.fixture(scope="module")
def exported(whole, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained") / "tiny"
    return folder, export(whole[0], folder, limits="It is tiny.")


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_what_comes_along_is_whole_and_has_its_results(folder):
    """Its accuracy is that of the one results.json in results/ whose config it has.

    Of a run in bfloat16 that is what "trained_in" has; the card's own is near it, in float32.
    """
    net = cifar_jax.load(folder)
    assert net.config.data.source != "synthetic"
    assert net.config.model.dtype == "float32"
    found = [json.loads(path.read_text()) for path in ROOT.glob("results/**/results.json")]
    (results,) = [r for r in found if r["config_sha256"] == net.card["config_sha256"]]
    assert net.card["seed"] == results["seed"] == net.config.train.seed
    if "trained_in" in net.card:
        trained = net.card["trained_in"]
        as_trained = net.config.replace(model={"dtype": "bfloat16"})
        assert as_trained.sha256 == results["config_sha256"]
        assert trained == {"dtype": "bfloat16", "accuracy": results["ema_test_accuracy"]}
        assert abs(net.card["accuracy"] - trained["accuracy"]) <= 0.003
    else:
        assert net.card["accuracy"] == results["ema_test_accuracy"]
    assert net.card["parameters"] == count_params(net.variables["params"])
    assert net.card["parameters"] < 200_000 or "teacher" in folder.name
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(net.predict(images).sum(1), 1, atol=1e-5)


def rewrite(folder, content):
    """Other weights, and the hash of them in the card."""
    card = json.loads((folder / "card.json").read_text())
    card["file_sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "card.json").write_text(json.dumps(card))
    (folder / "weights.safetensors").write_bytes(content)


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported[0], tmp_path / "copy")


def test_the_card(exported, whole, tiny):
    folder, card = exported
    _, results = whole
    assert json.loads((folder / "card.json").read_text()) == card
    assert card["accuracy"] == results["ema_test_accuracy"]
    assert card["per_class_accuracy"] == results["per_class_accuracy"]
    assert card["calibration_error"] == results["ema_test_calibration_error"]
    for name in (
        "parameters",
        "multiply_adds",
        "seed",
        "date",
        "versions",
        "device",
        "command",
        "settings",
    ):
        assert card[name] == results[name]
    assert card["config_sha256"] == tiny.sha256
    assert card["data_sha256"] == "synthetic"
    chosen = f"epoch {results['selected_epoch']}, chosen on 40 training images held out"
    assert card["protocol"].startswith(f"trained on 200 images; {chosen}; ")
    assert card["limits"].endswith("It is tiny.")


def test_a_run_in_bfloat16_is_exported_and_scored_in_float32(light, tmp_path, monkeypatch):
    model, train_ = {"dtype": "bfloat16"}, {"epochs": 1}
    config = light.replace(model=model, train=train_, eval={"tta": "none"})
    results = train(config, tmp_path / "run")
    card = export(tmp_path / "run", tmp_path / "net")
    net = cifar_jax.load(tmp_path / "net")
    assert net.config == config.replace(model={"dtype": "float32"})
    report = evaluate(
        net.config, net.variables, load_inputs(net.config, report=lambda line: None).test
    )
    assert (card["accuracy"], card["loss"]) == (report.accuracy, report.loss)
    assert card["loss"] != results["ema_test_loss"]
    assert card["trained_in"] == {"dtype": "bfloat16", "accuracy": results["ema_test_accuracy"]}
    assert "then in float32 (in bfloat16, as trained, " in card["protocol"]
    (tmp_path / "net" / "weights.safetensors").write_bytes(b"others")
    monkeypatch.setattr(cards, "load_inputs", None)  # refused before anything is scored
    with pytest.raises(ConfigError, match="holds another network"):
        export(tmp_path / "run", tmp_path / "net")


def test_a_card_of_something_else_is_not_replaced(whole, tmp_path):
    (tmp_path / "card.json").write_text('{"mine": "my own model card"}')
    with pytest.raises(ConfigError, match=r"card\.json is not of exported weights: use another"):
        export(whole[0], tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["card.json"]
    assert "mine" in (tmp_path / "card.json").read_text()


def test_another_network_is_not_replaced(whole, copy):
    assert export(whole[0], copy, limits="Again.")["limits"].endswith("Again.")
    rewrite(copy, b"others")
    before = (copy / "card.json").read_bytes()
    with pytest.raises(ConfigError, match=f"^{copy} holds another network: use another --output"):
        export(whole[0], copy)
    assert (copy / "weights.safetensors").read_bytes() == b"others"
    assert (copy / "card.json").read_bytes() == before


def test_what_is_read_back_must_be_the_network(whole, tmp_path, monkeypatch):
    def save(arrays, save=cards.safetensors.save):
        name = min(arrays)
        return save(arrays | {name: arrays[name] + np.float32(1)})

    monkeypatch.setattr(cards.safetensors, "save", save)
    with pytest.raises(WeightsError, match="net: what is read back must be the network, and is "):
        export(whole[0], tmp_path / "net")


def test_a_run_and_exported_weights_are_not_the_same(whole, copy, run_here):
    refused = run_here("eval", "--weights", whole[0])
    text = f"main.py: --weights: {whole[0]} is a run: give it as --workdir\n"
    assert (refused.returncode, refused.stderr) == (2, text)
    refused = run_here("eval", "--workdir", copy)
    text = f"main.py: --workdir: {copy} has exported weights: give it as --weights\n"
    assert (refused.returncode, refused.stderr) == (2, text)


def test_figures_are_printed_before_they_are_drawn(copy, run_here):
    (copy / "confusion.png").mkdir()
    done = run_here("eval", "--weights", copy, "--eval.tta", "none", "--pictures", copy)
    assert done.returncode == 1
    assert f"{copy / 'confusion.png'}: cannot be written: " in done.stderr
    assert "the card says" in done.stdout


def test_the_network_is_the_run_s(exported, whole, tiny):
    folder, card = exported
    net = cifar_jax.load(folder)
    assert net.config == tiny
    assert net.card == card
    inputs = load_inputs(tiny, report=lambda line: None)
    report = evaluate(tiny, net.variables, inputs.test)
    assert report.accuracy == whole[1]["ema_test_accuracy"]
    np.testing.assert_array_equal(net.predict(inputs.test[0]), report.probabilities)
    found = net.predict(inputs.test[0][:3])
    assert found.shape == (3, len(CLASS_NAMES))
    np.testing.assert_allclose(found, report.probabilities[:3], atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    flipped = net.predict(inputs.test[0][:3, :, ::-1], mode="flip")
    np.testing.assert_allclose(flipped, net.predict(inputs.test[0][:3], mode="flip"), atol=1e-6)


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 32, 32, 3)), np.zeros((32, 32, 3), np.uint8), np.zeros((0, 32, 32, 3), np.uint8)],
)
def test_other_images_are_refused(exported, images):
    with pytest.raises(ValueError, match=r"images must be uint8 \[N, 32, 32, 3\], not "):
        cifar_jax.load(exported[0]).predict(images)


def test_evaluation_reproduces_the_card(exported, whole):
    folder, card = exported
    net = cifar_jax.load(folder)
    found = evaluate_weights(net)
    for name in ("accuracy", "loss", "calibration_error", "tta_accuracy", "per_class_accuracy"):
        assert found[name] == card[name]
    assert found["confusion"] == whole[1]["confusion"]
    assert found["images"] == 1000
    held_out = evaluate_weights(net, split="validation")
    assert held_out["accuracy"] == whole[1]["ema_validation_accuracy"]
    assert held_out["images"] == 40
    assert "card_accuracy" not in held_out
    without = net._replace(config=net.config.replace(data={"validation_examples": 0}))
    with pytest.raises(ConfigError, match="there is no validation split"):
        evaluate_weights(without, split="validation")


def test_what_is_missing_or_damaged_is_one_line(whole, copy, tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere/card\.json: cannot be read: No such file"):
        cifar_jax.load(tmp_path / "nowhere")
    with pytest.raises(WeightsError, match=r"is a run: export it, or load it by .*\.from_run$"):
        cifar_jax.load(whole[0])
    exported_card = json.loads((copy / "card.json").read_text())
    content = bytearray((copy / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "weights.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=r"weights\.safetensors: SHA-256 must be \w+, not \w+"):
        cifar_jax.load(copy)
    (copy / "weights.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"weights\.safetensors: cannot be read"):
        cifar_jax.load(copy)
    for accuracy in (None, "0.9", 92.67):
        (copy / "card.json").write_text(json.dumps(exported_card | {"accuracy": accuracy}))
        with pytest.raises(WeightsError, match=r"card\.json: not a network's card: "):
            cifar_jax.load(copy)
    (copy / "card.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"card\.json: not a network's card"):
        cifar_jax.load(copy)


def test_weights_of_another_network(copy):
    card = json.loads((copy / "card.json").read_text())
    card["config"]["model"]["stem"] = 12
    (copy / "card.json").write_text(json.dumps(card))
    with pytest.raises(WeightsError, match=r"must be of the network that card\.json describes"):
        cifar_jax.load(copy)


@pytest.mark.parametrize(
    "card", ["[]", '{"config": []}', '{"config": {"model": {"stem": 0}}}', "{", "[" * 100_000]
)
def test_another_card(copy, card):
    (copy / "card.json").write_text(card)
    with pytest.raises(WeightsError, match=r"card\.json: not a network's card"):
        cifar_jax.load(copy)


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32"])
def test_weights_of_another_type(copy, dtype):
    weights = safetensors.load_file(copy / "weights.safetensors")
    rewrite(copy, safetensors.save({k: v.astype(dtype) for k, v in weights.items()}))
    with pytest.raises(WeightsError, match="must be of the network"):
        cifar_jax.load(copy)


def test_weights_that_numpy_has_no_type_for(copy):
    header = json.dumps({"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode()
    rewrite(copy, len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(WeightsError, match=r"weights\.safetensors: must be float32, not 'BF16'$"):
        cifar_jax.load(copy)


def test_the_epoch_of_the_results_or_none(whole, tmp_path):
    """Not the weights of one epoch with the accuracy of another."""
    run = shutil.copytree(whole[0], tmp_path / "run")
    step = 10 * whole[1]["selected_epoch"]
    shutil.rmtree(run / "checkpoints" / str(step))
    with pytest.raises(CheckpointError, match=f"checkpoints/{step}: no such step"):
        export(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_is_opened_without_its_best_epoch_and_says_so(whole, tiny, tmp_path):
    run, said = shutil.copytree(whole[0], tmp_path / "run"), []
    best = run / "checkpoints" / str(10 * whole[1]["selected_epoch"])
    shutil.rmtree(best)
    net = from_run(run, report=said.append)
    assert net.config == tiny
    assert said[-1] == f"{best}: the selected epoch's checkpoint is gone: another epoch is taken"
    assert net.card["step"] != int(best.name)
    assert evaluate_weights(net)["card_accuracy"] is None  # a run has no card that says one


def test_nothing_of_the_machine_is_in_the_card(whole, tiny, tmp_path):
    run = shutil.copytree(whole[0], tmp_path / "run")
    config = tiny.replace(data={"data_dir": "/home/someone"}, model={"convolutions": "plain"})
    (run / "config.json").write_text(json.dumps(to_dict(config)))
    card = export(run, tmp_path / "out")
    assert card["config"]["data"]["data_dir"] == "data"
    assert cifar_jax.load(tmp_path / "out").config.model.convolutions == "auto"


def test_results_of_an_older_version(whole, tmp_path):
    run = shutil.copytree(whole[0], tmp_path / "run")
    results = {k: v for k, v in whole[1].items() if k != "ema_test_calibration_error"}
    (run / "results.json").write_text(json.dumps(results))
    with pytest.raises(ConfigError, match=r"run's results: it has no ema_test_calibration_error"):
        export(run, tmp_path / "out")


def test_an_unfinished_run_is_not_exported(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    with pytest.raises(ConfigError, match=r"results\.json: must be there: only a finished run"):
        export(tmp_path / "run", tmp_path / "out")
    assert not (tmp_path / "out").exists()
