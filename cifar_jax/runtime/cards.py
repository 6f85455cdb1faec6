"""Writes the folders that pretrained.py loads: weights as safetensors, and a card about them."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from safetensors import numpy as safetensors

from cifar_jax.config import Config, DataConfig, portable, to_dict
from cifar_jax.data import CLASS_NAMES
from cifar_jax.data.dataset import SHA256
from cifar_jax.errors import ConfigError
from cifar_jax.files import make_folder, replacing
from cifar_jax.runtime.inputs import load_inputs
from cifar_jax.runtime.pretrained import WEIGHTS, WeightsError, load
from cifar_jax.runtime.run_weights import restore_selected
from cifar_jax.runtime.score import score_variables
from cifar_jax.runtime.trainer import Trainer
from cifar_jax.runtime.workdir import CARD, Workdir

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


def export(
    workdir: str | Path,
    folder: str | Path,
    *,
    limits: str = "",
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Make a folder of weights and card of a finished run's selected epoch, averaged weights.

    They are for float32: those of a run in another type are scored once more, in float32. The
    card's config is the run's, whose SHA-256 it has, but for dtype, convolutions and
    ``data.data_dir``.

    Args:
      workdir: of the run.
      folder: to make, or that of the same weights.
      limits: what a user of the network should know besides.
      report: told each damaged checkpoint that is passed over.

    Returns:
      The card. Its accuracy is that of results.json, or that in float32.

    Raises:
      ConfigError: when the workdir holds no finished run, or the folder another network.
      CheckpointError: when the selected epoch's checkpoint is gone or cannot be read.
      WriteError: when the folder cannot be written to.
      DataError: when what is scored once more cannot be had.
    """
    run, folder = Workdir(workdir), Path(folder)
    config = portable(run.read_config())
    if not run.results.exists():
        raise ConfigError(
            f"{run.results}: must be there: only a finished run can be exported (to end it "
            "early: train it with --train.epochs N --allow-config-change, N the epoch it is in)"
        )
    results = run.read_results(besides=FROM_RESULTS.values())
    step = results["selected_epoch"] * config.steps_per_epoch
    state = restore_selected(Trainer(config), run, step, report=report)
    card = {
        "protocol": protocol(config, results),
        **{name: results[source] for name, source in FROM_RESULTS.items()},
        **{name: results[name] for name in ("teacher", "settings") if results.get(name)},
        "data_sha256": "synthetic" if config.data.source == "synthetic" else dict(SHA256),
    }
    trained = config.model.dtype
    config = config.replace(
        data={"data_dir": DataConfig().data_dir},
        model={"convolutions": "auto", "dtype": "float32"},
    )
    if trained != config.model.dtype:
        _refuse_others(folder, _serialize(state.ema_variables))  # before the work
        test = load_inputs(run.read_config(), report=report).test
        figures = score_variables(config, state.ema_variables, test)
        card["protocol"] += f"; then in float32 (in {trained}, as trained, {card['accuracy']:.2%})"
        card |= {name: figures[name] for name in card.keys() & figures.keys()}
        card["trained_in"] = {"dtype": trained, "accuracy": results["ema_test_accuracy"]}
    return write_folder(folder, state.ema_variables, config, card, limits=limits)


def write_folder(
    folder: Path, variables: Any, config: Config, card: dict[str, Any], *, limits: str = ""
) -> dict[str, Any]:
    """Make a folder that ``pretrained.load`` reads, or write one of the same weights anew.

    Args:
      folder: of weights and card.
      variables: of the network.
      config: of it.
      card: what is known besides.
      limits: what a user of the network should know besides.

    Returns:
      The whole card.

    Raises:
      ConfigError: when the folder holds other weights, or cannot be made.
      WriteError: when it cannot be written to.
      WeightsError: when what is read back is not the network.
    """
    content = _serialize(variables)
    _refuse_others(folder, content)
    card = {
        **card,
        "classes": list(CLASS_NAMES),
        "input": "uint8 [N, 32, 32, 3], RGB; divided by 255, minus augment.mean, over augment.std",
        "config": to_dict(config),
        "file_sha256": hashlib.sha256(content).hexdigest(),
        "limits": " ".join([LIMITS, limits]).strip(),
    }
    make_folder(folder)
    text = json.dumps(card, indent=2, allow_nan=False) + "\n"
    needed = len(content) + len(text)
    with replacing(folder / WEIGHTS, needed) as weights_file, replacing(folder / CARD) as card_file:
        weights_file.write_bytes(content)  # both are whole before either takes its place
        card_file.write_text(text, encoding="utf-8")
    net = load(folder)  # read back
    same = jax.tree.map(np.array_equal, net.variables, jax.device_get(variables))
    if net.config != config or not all(jax.tree.leaves(same)):
        raise WeightsError(f"{folder}: what is read back must be the network, and is another one")
    return card


def _serialize(variables: Any) -> bytes:
    weights = traverse_util.flatten_dict(jax.device_get(variables), sep="/")
    return safetensors.save({name: np.asarray(weights[name]) for name in sorted(weights)})


def _refuse_others(folder: Path, content: bytes) -> None:
    """Raise ConfigError when the folder has other weights, or a card that is none of ours."""
    there, card = folder / WEIGHTS, folder / CARD
    if card.exists() and b'"file_sha256"' not in card.read_bytes():
        raise ConfigError(f"{card} is not of exported weights: use another --output, or remove it")
    if there.exists() and there.read_bytes() != content:
        raise ConfigError(f"{folder} holds another network: use another --output, or remove it")


def protocol(config: Config, results: dict[str, Any]) -> str:
    """What the accuracy of results.json is of, in words."""
    held_out = config.data.validation_examples
    chosen = f"epoch {results['selected_epoch']}, chosen on {held_out:,} training images held out"
    if not held_out:
        chosen = "last epoch"
    images = f"trained on {config.train_images:,} images"
    if teacher := results.get("teacher"):
        images += f", taught by a network of {teacher['parameters']:,} parameters"
    scored = "test set scored once"
    if any(map(_may_go_on, results["config_changes"])):
        scored = "test set scored at the end; it may also have been when the run was shorter"
    return f"{images}; {chosen}; averaged weights; no test-time augmentation; {scored}"


def _may_go_on(change: dict[str, Any]) -> bool:
    """Whether a run that was finished, and scored, goes on by a change of its config."""
    field, old, new = (change[name] for name in ("field", "old", "new"))
    ended_early = isinstance(old, int) and isinstance(new, int) and new < old
    patience = field in ("train.patience", "train.min_delta")
    return patience or (field == "train.epochs" and not ended_early)
