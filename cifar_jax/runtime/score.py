"""What a network is worth: the figures of results.json and of the command "eval"."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cifar_jax.config import Config
from cifar_jax.data import CLASS_NAMES
from cifar_jax.errors import ConfigError
from cifar_jax.runtime import checkpoint
from cifar_jax.runtime.evaluate import evaluate
from cifar_jax.runtime.history import selected
from cifar_jax.runtime.inputs import ImageSet, load_inputs
from cifar_jax.runtime.trainer import Trainer
from cifar_jax.runtime.workdir import Workdir
from cifar_jax.state import TrainState


def score(config: Config, state: TrainState, images: ImageSet, split: str) -> dict[str, Any]:
    """Evaluate the weights, their average, and the average with test-time augmentation.

    Args:
      config: the sections "model", "augment" and "eval" are read.
      state: its variables and averages are.
      images: and labels.
      split: "test" or "validation", for the names.

    Returns:
      JSON-ready figures; accuracies are fractions. Confusion and per-class accuracy are those of
      the averaged weights, without test-time augmentation.
    """
    plain = evaluate(config, state.variables, images)
    averaged = score_variables(config, state.ema_variables, images)
    return {
        f"{split}_accuracy": plain.accuracy,
        f"{split}_loss": plain.loss,
        f"ema_{split}_accuracy": averaged.pop("accuracy"),
        f"ema_{split}_loss": averaged.pop("loss"),
        f"ema_{split}_calibration_error": averaged.pop("calibration_error"),
        f"{split}_images": averaged.pop("images"),
        **averaged,
    }


def score_variables(config: Config, variables: Any, images: ImageSet) -> dict[str, Any]:
    """Evaluate one set of variables, and once more with test-time augmentation.

    Args:
      config: the sections "model", "augment" and "eval" are read.
      variables: of the network.
      images: and labels.

    Returns:
      JSON-ready figures; accuracies are fractions. All but those of "tta" are without test-time
      augmentation; the accuracy of a class without images is None.
    """
    plain = evaluate(config, variables, images)
    views = evaluate(config, variables, images, mode=config.eval.tta)
    per_class = [None if x != x else float(x) for x in plain.per_class_accuracy()]
    return {
        "accuracy": plain.accuracy,
        "loss": plain.loss,
        "calibration_error": plain.calibration_error(),
        "images": len(images[0]),
        "tta": config.eval.tta,
        "tta_accuracy": views.accuracy,
        "tta_loss": views.loss,
        "per_class_accuracy": dict(zip(CLASS_NAMES, per_class, strict=True)),
        "confusion": plain.confusion().tolist(),
    }


def restore_selected(
    trainer: Trainer,
    run: Workdir,
    step: int | None = None,
    *,
    report: Callable[[str], None] = lambda line: None,
) -> TrainState:
    """The state of a run's selected epoch, or of the checkpoint at ``step``.

    Of epochs whose checkpoint is not there any more none is selected.

    Args:
      trainer: of the run's config.
      run: its folder, in which nothing is changed.
      step: of the checkpoint; that of the selected epoch by default.
      report: told each damaged checkpoint that is passed over.

    Raises:
      CheckpointError: when the run has no such checkpoint or it cannot be read.
    """
    saved = checkpoint.steps(run.checkpoints)
    last = checkpoint.latest_valid(run.checkpoints, report)
    if last is None:
        kind = "whole checkpoint" if saved else "checkpoint"
        raise checkpoint.CheckpointError(f"{run.checkpoints}: there is no {kind}")
    if step is None:
        history = checkpoint.read_progress(last)["history"]
        min_delta = trainer.config.train.min_delta
        if history and selected(history, min_delta)["step"] not in saved:
            history = [row for row in history if row["step"] in saved]
        if not history:
            raise checkpoint.CheckpointError(f"{last}: no epoch is finished; see --checkpoint")
        step = int(selected(history, min_delta)["step"])
    if step not in saved:
        found = ", ".join(map(str, saved))
        raise checkpoint.CheckpointError(f"{run.checkpoints}/{step}: no such step; found {found}")
    return checkpoint.restore(saved[step], trainer.abstract_state())


def evaluate_run(
    workdir: str | Path,
    config: Config,
    *,
    split: str = "test",
    step: int | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Evaluate a checkpoint of a run.

    Args:
      workdir: of the run.
      config: of the run; only "eval", data.source and fields that decide no result may differ.
      split: "test" or "validation".
      step: of the checkpoint; the selected one by default.
      report: told each damaged checkpoint that is passed over.

    Returns:
      The figures of :func:`score`, and the step.

    Raises:
      ConfigError: when the config is not the run's or there is no validation split.
      CheckpointError: when there is no such checkpoint or it cannot be read.
      DataError: when the data set cannot be had.
    """
    run = Workdir(workdir)
    run.require_same(config, besides=("eval",))
    if split == "validation" and not config.data.validation_examples:
        raise ConfigError(f"{workdir} has no validation split (data.validation_examples is 0)")
    state = restore_selected(Trainer(config), run, step, report=report)
    inputs = load_inputs(config, report=lambda line: None)
    images = inputs.test if split == "test" else inputs.validation
    return {"step": int(state.step), **score(config, state, images, split)}


def describe_results(results: Mapping[str, Any], workdir: Path) -> str:
    """A few lines for people about a finished run."""
    lines = {
        "epoch": f"{results['selected_epoch']} of {results['epochs']}",
        "parameters": f"{results['parameters']:,}",
        "images/s": f"{results['images_per_second']:.0f}",
        "results": workdir / "results.json",
    }
    return "\n".join(
        [describe_accuracies(results, "test"), *(f"{k:22} {v}" for k, v in lines.items())]
    )


def describe_accuracies(found: Mapping[str, Any], split: str) -> str:
    """Lines for people about the figures of :func:`score`, or of :func:`score_variables`."""
    if "accuracy" in found:
        lines = {f"{split} accuracy": found["accuracy"]}
    else:
        lines = {
            f"{split} accuracy": found[f"{split}_accuracy"],
            "with averaged weights": found[f"ema_{split}_accuracy"],
        }
    lines[f"  and tta {found['tta']}"] = found["tta_accuracy"]
    lines |= {f"  {name}": value for name, value in found["per_class_accuracy"].items()}
    return "\n".join(f"{k:22} {'none' if v is None else f'{v:.2%}'}" for k, v in lines.items())
