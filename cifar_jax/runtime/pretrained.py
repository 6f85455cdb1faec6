"""Trained networks to take along: weights as safetensors, and a card that says what they are."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from cifar_jax import models, tta
from cifar_jax.config import Config, from_dict, to_dict
from cifar_jax.data import CLASS_NAMES
from cifar_jax.data.dataset import SHA256
from cifar_jax.errors import CifarJaxError, ConfigError
from cifar_jax.files import describe_failure, write_bytes, write_json
from cifar_jax.runtime.compatibility import require_same
from cifar_jax.runtime.evaluate import evaluate
from cifar_jax.runtime.inputs import load_inputs
from cifar_jax.runtime.kernels import network
from cifar_jax.runtime.score import restore_selected
from cifar_jax.runtime.trainer import IMAGE_SHAPE, Trainer
from cifar_jax.runtime.workdir import Workdir

WEIGHTS, CARD = "weights.safetensors", "card.json"


class WeightsError(CifarJaxError):
    """Weights that cannot be read or are not a network's; one line."""

    status = 2


class Pretrained(NamedTuple):
    """A trained network.

    Attributes:
      config: it was trained with.
      model: the Flax module; ``model.apply(variables, images)`` takes normalised images.
      variables: its averaged weights and batch statistics, float32 on the host.
      card: what is known of it: accuracy, protocol, versions and so on.
    """

    config: Config
    model: models.Network
    variables: dict[str, Any]
    card: dict[str, Any]

    def predict(self, images: np.ndarray, *, mode: tta.Mode = "none") -> np.ndarray:
        """Classify images.

        Args:
          images: uint8 [N, 32, 32, 3], RGB, N at least 1; normalisation is done here.
          mode: of test-time augmentation: 1, 2 or 8 views.

        Returns:
          Probabilities float32 [N, 10], of the classes ``cifar_jax.data.CLASS_NAMES``.

        Raises:
          ValueError: for images of another type or shape.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.shape[1:] != IMAGE_SHAPE or not len(images):
            raise ValueError(
                f"images must be uint8 [N, 32, 32, 3], not {images.dtype} {list(images.shape)}"
            )
        labels = np.zeros(len(images), np.uint8)
        return evaluate(self.config, self.variables, (images, labels), mode=mode).probabilities


def load(path: str | Path) -> Pretrained:
    """Load a trained network, as ``load("pretrained/200k")``.

    Args:
      path: a folder that :func:`export` made.

    Raises:
      WeightsError: when it is not there, damaged, or of another network than its card says.
    """
    folder = Path(path)
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        config, expected = from_dict(card["config"]), card["weights_sha256"]
        content = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        failed = Path(error.filename or folder)
        raise WeightsError(describe_failure(failed, error, what="cannot be read")) from error
    except (ValueError, TypeError, KeyError, AttributeError, ConfigError) as error:
        raise WeightsError(f"{folder / CARD}: not a network's card: {error}") from error
    if (found := hashlib.sha256(content).hexdigest()) != expected:
        raise WeightsError(f"{folder / WEIGHTS}: SHA-256 must be {expected}, not {found}")
    try:
        variables = traverse_util.unflatten_dict(safetensors.load(content), sep="/")
    except SafetensorError as error:
        raise WeightsError(f"{folder / WEIGHTS}: {error}") from error
    model = network(config)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, *IMAGE_SHAPE), np.float32))
    if jax.tree.map(np.shape, variables) != jax.tree.map(np.shape, dict(shapes)):
        raise WeightsError(f"{folder / WEIGHTS}: must be of the network that {CARD} describes")
    return Pretrained(config, model, variables, card)


def export(
    workdir: str | Path,
    folder: str | Path,
    *,
    limits: str = "",
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Make a folder of weights and card of a finished run's selected epoch, averaged weights.

    Args:
      workdir: of the run.
      folder: to make or replace.
      limits: what a user of the network should know besides.
      report: told each damaged checkpoint that is passed over.

    Returns:
      The card. Its accuracy is that of results.json: nothing is scored again.

    Raises:
      ConfigError: when the workdir holds no finished run.
      CheckpointError: when the checkpoint cannot be read.
      WriteError: when the folder cannot be written to.
    """
    run, folder = Workdir(workdir), Path(folder)
    config = run.read_config()
    if not run.results.exists():
        raise ConfigError(f"{run.results}: must be there: only a finished run can be exported")
    results = run.read_results()
    trainer = Trainer(config)
    state = restore_selected(trainer, run, report=report)
    weights = traverse_util.flatten_dict(jax.device_get(state.ema_variables), sep="/")
    content = safetensors.save({name: np.asarray(weights[name]) for name in sorted(weights)})
    card = {
        "accuracy": results["ema_test_accuracy"],
        "loss": results["ema_test_loss"],
        "calibration_error": results["ema_test_calibration_error"],
        "per_class_accuracy": results["per_class_accuracy"],
        "tta": results["tta"],
        "tta_accuracy": results["tta_accuracy"],
        "protocol": _protocol(config, results),
        "parameters": results["parameters"],
        "multiply_adds": results["multiply_adds"],
        "receptive_field": results["receptive_field"],
        "classes": list(CLASS_NAMES),
        "input": "uint8 [N, 32, 32, 3], RGB; divided by 255, minus augment.mean, over augment.std",
        **{name: results[name] for name in ("command", "seed", "epochs", "seconds")},
        **{name: results[name] for name in ("date", "versions", "device", "convolutions")},
        "data_sha256": "synthetic" if config.data.source == "synthetic" else dict(SHA256),
        "config": to_dict(config),
        "config_sha256": config.sha256,
        "weights_sha256": hashlib.sha256(content).hexdigest(),
        "limits": " ".join([LIMITS, limits]).strip(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(describe_failure(folder, error, what="cannot be made")) from error
    write_bytes(folder / WEIGHTS, content)
    write_json(folder / CARD, card)
    return card


LIMITS = (
    "Knows ten classes of centred objects in 32x32 pixels, as in CIFAR-10, and gives one of them "
    "for any image. Some test images of CIFAR-10 have near-duplicates among its training images "
    "(https://arxiv.org/abs/1902.00423), so accuracy on new images is lower."
)


def _protocol(config: Config, results: dict[str, Any]) -> str:
    held_out = config.data.validation_examples
    if not held_out:
        chosen = "trained on all training images; last epoch"
    else:
        chosen = (
            f"epoch {results['selected_epoch']}, chosen on {held_out:,} training images held out"
        )
    return f"{chosen}; averaged weights; no test-time augmentation; test set scored once"


def evaluate_weights(path: str | Path, overrides: Callable[[Config], Config]) -> dict[str, Any]:
    """Score exported weights on the test set.

    Args:
      path: of the folder.
      overrides: gives the config to use for the network's own; only "eval" and fields that decide
        no result may differ.

    Returns:
      JSON-ready figures; accuracies are fractions. "accuracy" is without test-time augmentation.

    Raises:
      WeightsError: see :func:`load`.
      ConfigError: when another field differs.
      DataError: when the data set cannot be had.
    """
    net = load(path)
    config = overrides(net.config)
    require_same(Path(path), net.config, config, besides=("eval",))
    test = load_inputs(config, report=lambda line: None).test
    plain = evaluate(config, net.variables, test)
    views = evaluate(config, net.variables, test, mode=config.eval.tta)
    return {
        "accuracy": plain.accuracy,
        "loss": plain.loss,
        "calibration_error": plain.calibration_error(),
        "tta": config.eval.tta,
        "tta_accuracy": views.accuracy,
        "tta_loss": views.loss,
        "images": len(test[0]),
        "per_class_accuracy": dict(
            zip(CLASS_NAMES, map(float, plain.per_class_accuracy()), strict=True)
        ),
        "confusion": plain.confusion().tolist(),
        "card_accuracy": net.card.get("accuracy"),
    }


def describe(found: dict[str, Any]) -> str:
    """Lines for people about the figures of :func:`evaluate_weights`."""
    lines = {
        "test accuracy": found["accuracy"],
        f"  and tta {found['tta']}": found["tta_accuracy"],
        **{f"  {name}": value for name, value in found["per_class_accuracy"].items()},
        "calibration error": found["calibration_error"],
    }
    return "\n".join(f"{name:22} {value:.2%}" for name, value in lines.items())
