"""A network's metrics: those of results.json and of the command "eval"."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cifar_jax import tta
from cifar_jax.config import Config
from cifar_jax.data import CLASS_NAMES
from cifar_jax.errors import ConfigError
from cifar_jax.runtime.evaluate import Watch, evaluate, evaluate_modes
from cifar_jax.runtime.inputs import ImageSet, load_inputs
from cifar_jax.runtime.pretrained import Pretrained
from cifar_jax.runtime.run_weights import restore_selected
from cifar_jax.runtime.trainer import Trainer
from cifar_jax.runtime.workdir import Workdir
from cifar_jax.state import TrainState


def score(
    config: Config,
    state: TrainState,
    images: ImageSet,
    split: str,
    *,
    all_views: bool = False,
    watch: Watch = iter,
) -> dict[str, Any]:
    """Evaluate the weights, their average, and the average with test-time augmentation.

    Args:
      config: the sections "model", "augment" and "eval" are read.
      state: its variables and averages are.
      images: and labels.
      split: "test" or "validation", for the names.
      all_views: see :func:`score_variables`.
      watch: see :func:`cifar_jax.runtime.evaluate.evaluate_modes`.

    Returns:
      JSON-ready figures; accuracies are fractions. Those without the name of the split are of the
      averaged weights; see :func:`score_variables`.
    """
    plain = evaluate(config, state.variables, images, watch=watch)
    averaged = score_variables(
        config, state.ema_variables, images, all_views=all_views, watch=watch
    )
    return {
        f"{split}_accuracy": plain.accuracy,
        f"{split}_loss": plain.loss,
        f"ema_{split}_accuracy": averaged.pop("accuracy"),
        f"ema_{split}_loss": averaged.pop("loss"),
        f"ema_{split}_calibration_error": averaged.pop("calibration_error"),
        f"{split}_images": averaged.pop("images"),
        **averaged,
    }


def validation_figures(config: Config, state: TrainState, images: ImageSet) -> dict[str, float]:
    """What a row of history says of the validation images."""
    plain = evaluate(config, state.variables, images)
    averaged = evaluate(config, state.ema_variables, images)
    return {
        "validation_loss": plain.loss,
        "validation_accuracy": plain.accuracy,
        "ema_validation_loss": averaged.loss,
        "ema_validation_accuracy": averaged.accuracy,
    }


def score_variables(
    config: Config,
    variables: Any,
    images: ImageSet,
    *,
    all_views: bool = False,
    watch: Watch = iter,
) -> dict[str, Any]:
    """Evaluate one set of variables, without and with test-time augmentation.

    Args:
      config: the sections "model", "augment" and "eval" are read.
      variables: of the network.
      images: and labels.
      all_views: whether to evaluate with each kind of test-time augmentation, for "views".
      watch: see :func:`cifar_jax.runtime.evaluate.evaluate_modes`.

    Returns:
      JSON-ready figures; accuracies are fractions. All but those of "tta" and "views" are without
      test-time augmentation; what there is no image for is None.
    """
    modes = tta.VIEWS if all_views else dict.fromkeys(("none", config.eval.tta))
    reports = evaluate_modes(config, variables, images, tuple(modes), watch=watch)
    plain, views = reports["none"], reports[config.eval.tta]
    return {
        "accuracy": plain.accuracy,
        "loss": plain.loss,
        "calibration_error": plain.calibration_error(),
        "images": len(images[0]),
        "tta": config.eval.tta,
        "tta_accuracy": views.accuracy,
        "tta_loss": views.loss,
        "top2_accuracy": plain.top_k_accuracy(2),
        "per_class_accuracy": dict(
            zip(CLASS_NAMES, _known(plain.per_class_accuracy()), strict=True)
        ),
        "confusion": plain.confusion().tolist(),
        "reliability": {name: _known(bars) for name, bars in plain.reliability().items()},
        "views": {
            mode: {"accuracy": report.accuracy, "loss": report.loss}
            for mode, report in reports.items()
        },
    }


def _known(values: np.ndarray) -> list[Any]:
    return [None if x != x else x for x in values.tolist()]


def evaluate_run(
    workdir: str | Path,
    config: Config,
    *,
    split: str = "test",
    step: int | None = None,
    all_views: bool = False,
    report: Callable[[str], None] = lambda line: None,
    watch: Watch = iter,
) -> dict[str, Any]:
    """Evaluate a checkpoint of a run.

    Args:
      workdir: of the run.
      config: of the run; only "eval", data.source and fields that decide no result may differ.
      split: "test" or "validation".
      step: of the checkpoint; the selected one by default.
      all_views: see :func:`score_variables`.
      report: told what fetching the data set takes, and each damaged checkpoint passed over.
      watch: see :func:`cifar_jax.runtime.evaluate.evaluate_modes`.

    Returns:
      The figures of :func:`score`, and the step.

    Raises:
      ConfigError: when the config is not the run's or there is no validation split.
      CheckpointError: when there is no such checkpoint or it cannot be read.
      DataError: when the data set cannot be had.
    """
    run = Workdir(workdir)
    run.require_same(config, besides=("eval",))
    images = load_split(config, split, report=report)
    state = restore_selected(Trainer(config), run, step, report=report)
    figures = score(config, state, images, split, all_views=all_views, watch=watch)
    return {"step": int(state.step), **figures}


def evaluate_weights(
    net: Pretrained,
    *,
    split: str = "test",
    all_views: bool = False,
    report: Callable[[str], None] = lambda line: None,
    watch: Watch = iter,
) -> dict[str, Any]:
    """Score a trained network.

    Args:
      net: of :func:`cifar_jax.load`, or of a run; of its config, "eval" and fields that decide
        no result may be others.
      split: "test" or "validation", that of the run.
      all_views: see :func:`score_variables`.
      report: told what fetching the data set takes.
      watch: see :func:`cifar_jax.runtime.evaluate.evaluate_modes`.

    Returns:
      The figures of :func:`score_variables`; for the test set also "card_accuracy", what the
      card says, or None if nothing.

    Raises:
      ConfigError: when there is no validation split.
      DataError: when the data set cannot be had.
    """
    images = load_split(net.config, split, report=report)
    found = score_variables(net.config, net.variables, images, all_views=all_views, watch=watch)
    return found | ({"card_accuracy": net.card.get("accuracy")} if split == "test" else {})


def load_split(
    config: Config, split: str, *, report: Callable[[str], None] = lambda line: None
) -> ImageSet:
    """Images and labels of a split.

    Args:
      config: the section "data" is read.
      split: "test" or "validation".
      report: told what fetching the data set takes.

    Raises:
      ConfigError: when there is no validation split.
      DataError: when the data set cannot be had.
    """
    if split == "validation" and not config.data.validation_examples:
        raise ConfigError("there is no validation split: data.validation_examples is 0")
    inputs = load_inputs(config, report=report)
    return inputs.test if split == "test" else inputs.validation
