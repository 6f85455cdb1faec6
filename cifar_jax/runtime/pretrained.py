"""Trained networks to take along: weights as safetensors, and a card that says what they are."""

import dataclasses
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
from cifar_jax.config import Config, DataConfig, from_dict, to_dict
from cifar_jax.data import CLASS_NAMES
from cifar_jax.data.dataset import SHA256
from cifar_jax.errors import CifarJaxError, ConfigError
from cifar_jax.files import describe_failure, write_bytes, write_json
from cifar_jax.runtime.evaluate import Watch, evaluate
from cifar_jax.runtime.kernels import network
from cifar_jax.runtime.score import load_split, restore_selected, score_variables
from cifar_jax.runtime.trainer import IMAGE_SHAPE, Trainer
from cifar_jax.runtime.workdir import Workdir

WEIGHTS, CARD = "weights.safetensors", "card.json"
LIMITS = (
    "Knows ten classes of centred objects in 32x32 pixels, as in CIFAR-10, and gives one of them "
    "for any image. Some test images of CIFAR-10 have near-duplicates among its training images "
    "(https://arxiv.org/abs/1902.00423), so accuracy on new images is lower."
)
FROM_RESULTS = {  # of the card, and what it is in results.json
    "accuracy": "ema_test_accuracy",
    "loss": "ema_test_loss",
    "calibration_error": "ema_test_calibration_error",
    **{name: name for name in ("per_class_accuracy", "tta", "tta_accuracy")},
    **{name: name for name in ("parameters", "multiply_adds", "receptive_field")},
    **{name: name for name in ("command", "seed", "epochs", "seconds", "date", "versions")},
    **{name: name for name in ("device", "convolutions", "config_sha256")},
    **{name: name for name in ("config_changes", "environment_changes")},
}


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
        config, expected = from_dict(card["config"]), card["file_sha256"]
        if "imported" not in card or card["accuracy"] is not None:  # whose nobody measured
            float(card["accuracy"])
        content = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        failed = Path(error.filename or folder)
        raise WeightsError(describe_failure(failed, error, what="cannot be read")) from error
    except (ValueError, TypeError, KeyError, AttributeError, ConfigError) as error:
        raise WeightsError(f"{folder / CARD}: not a network's card: {error}") from error
    if (found := hashlib.sha256(content).hexdigest()) != expected:
        raise WeightsError(f"{folder / WEIGHTS}: SHA-256 must be {expected}, not {found}")
    try:
        weights = safetensors.load(content)
    except (SafetensorError, KeyError) as error:  # a KeyError for a type that numpy has not
        raise WeightsError(f"{folder / WEIGHTS}: {error}") from error
    model = network(config)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, *IMAGE_SHAPE), np.float32))
    needed: dict[str, Any] = traverse_util.flatten_dict(dict(shapes), sep="/")
    if {name: (array.shape, array.dtype) for name, array in weights.items()} != {
        name: (array.shape, array.dtype) for name, array in needed.items()
    }:
        raise WeightsError(f"{folder / WEIGHTS}: must be of the network that {CARD} describes")
    return Pretrained(config, model, traverse_util.unflatten_dict(weights, sep="/"), card)


def from_run(
    workdir: str | Path,
    config: Config,
    *,
    step: int | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Pretrained:
    """The averaged weights of a run, finished or not.

    Args:
      workdir: of the run.
      config: of the run; only "eval" and fields that decide no result may differ.
      step: of the checkpoint; that of the selected epoch by default.
      report: told each damaged checkpoint that is passed over.

    Returns:
      The network; its card holds the workdir and the step.

    Raises:
      ConfigError: when the config is not the run's.
      CheckpointError: when there is no such checkpoint or it cannot be read.
    """
    run, trainer = Workdir(workdir), Trainer(config)
    run.require_same(config, besides=("eval",))
    state = restore_selected(trainer, run, step, report=report)
    card = {"workdir": str(workdir), "step": int(state.step), "config": to_dict(config)}
    return Pretrained(config, trainer.model, jax.device_get(state.ema_variables), card)


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
      CheckpointError: when the selected epoch's checkpoint is gone or cannot be read.
      WriteError: when the folder cannot be written to.
    """
    run, folder = Workdir(workdir), Path(folder)
    config = run.read_config()
    if not run.results.exists():
        raise ConfigError(f"{run.results}: must be there: only a finished run can be exported")
    results = run.read_results()
    if missing := set(FROM_RESULTS.values()) - set(results):
        raise ConfigError(f"{run.results}: has no {min(missing)}: written by an older version")
    step = results["selected_epoch"] * config.steps_per_epoch
    state = restore_selected(Trainer(config), run, step, report=report)
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, data_dir=DataConfig().data_dir),
        model=dataclasses.replace(config.model, convolutions="auto"),
    )
    card = {
        "protocol": protocol(config, results),
        **{name: results[source] for name, source in FROM_RESULTS.items()},
        "data_sha256": "synthetic" if config.data.source == "synthetic" else dict(SHA256),
    }
    return write_folder(folder, state.ema_variables, config, card, limits=limits)


def write_folder(
    folder: Path, variables: Any, config: Config, card: dict[str, Any], *, limits: str = ""
) -> dict[str, Any]:
    """Make or replace a folder that :func:`load` reads.

    Args:
      folder: of weights and card.
      variables: of the network.
      config: of it.
      card: what is known besides.
      limits: what a user of the network should know besides.

    Returns:
      The whole card.
    """
    weights = traverse_util.flatten_dict(jax.device_get(variables), sep="/")
    content = safetensors.save({name: np.asarray(weights[name]) for name in sorted(weights)})
    card = {
        **card,
        "classes": list(CLASS_NAMES),
        "input": "uint8 [N, 32, 32, 3], RGB; divided by 255, minus augment.mean, over augment.std",
        "config": to_dict(config),
        "file_sha256": hashlib.sha256(content).hexdigest(),
        "limits": " ".join([LIMITS, limits]).strip(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(describe_failure(folder, error, what="cannot be made")) from error
    write_bytes(folder / WEIGHTS, content)
    write_json(folder / CARD, card)
    return card


def protocol(config: Config, results: dict[str, Any]) -> str:
    """What the accuracy of results.json is of, in words."""
    held_out = config.data.validation_examples
    chosen = f"epoch {results['selected_epoch']}, chosen on {held_out:,} training images held out"
    if not held_out:
        chosen = "last epoch"
    images = f"trained on {config.train_images:,} images"
    return f"{images}; {chosen}; averaged weights; no test-time augmentation; test set scored once"


def evaluate_weights(
    net: Pretrained, *, split: str = "test", all_views: bool = False, watch: Watch = iter
) -> dict[str, Any]:
    """Score a trained network.

    Args:
      net: of :func:`load`; of its config, "eval" and fields that decide no result may be others.
      split: "test" or "validation", that of the run.
      all_views: see :func:`cifar_jax.runtime.score.score_variables`.
      watch: see :func:`cifar_jax.runtime.evaluate.evaluate`.

    Returns:
      The figures of ``score.score_variables``; for the test set also "card_accuracy", what the
      card says, or None.

    Raises:
      ConfigError: when there is no validation split.
      DataError: when the data set cannot be had.
    """
    images = load_split(net.config, split)
    found = score_variables(net.config, net.variables, images, all_views=all_views, watch=watch)
    return found | ({"card_accuracy": net.card["accuracy"]} if split == "test" else {})
