"""Training from the first step, or from the last checkpoint, to results.json."""

import datetime
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cifar_jax import models
from cifar_jax.config import Config
from cifar_jax.files import write_json
from cifar_jax.runtime import checkpoint, environment, kernels
from cifar_jax.runtime.evaluate import evaluate
from cifar_jax.runtime.history import Row, describe, out_of_patience, selected
from cifar_jax.runtime.inputs import ImageSet, Inputs, load_inputs
from cifar_jax.runtime.pictures import draw_pictures
from cifar_jax.runtime.progress import Progress
from cifar_jax.runtime.score import restore_selected, score
from cifar_jax.runtime.trainer import Trainer, TrainingError
from cifar_jax.runtime.workdir import Workdir
from cifar_jax.state import TrainState


def train(config: Config, workdir: str | Path, *, command: str = "") -> dict[str, Any]:
    """Train a network, or go on with a run that was interrupted.

    The epoch is chosen by the accuracy of the averaged weights on the validation split (the last
    epoch where there is no split); the test set is scored once, at the end.

    Args:
      config: checked by ``load_config``.
      workdir: folder of the run; see workdir.py. A finished run in it is returned as it is.
      command: what the user typed, for the record.

    Returns:
      What results.json holds.

    Raises:
      ConfigError: when the workdir holds a run with another config.
      DataError: when the data set cannot be had.
      CheckpointError: when the last checkpoint cannot be read.
      TrainingError: when gradients stay non-finite.
    """
    run = Workdir(workdir)
    if not run.results.exists():
        kernels.network(config)  # refuses before anything is written
    run.start(config)
    if results := run.read_results():
        return results
    last = checkpoint.latest_valid(run.checkpoints)
    saved = checkpoint.read_progress(last) if last else {"history": [], "compile_seconds": 0.0}
    history: list[Row] = saved["history"]
    run.write_metrics(history)
    epoch_images = config.steps_per_epoch * config.train.batch_size
    progress = Progress(config.train.epochs, epoch_images, start_epoch=len(history))

    def say(text: str) -> None:
        progress.line(text)
        run.append_log(text)

    say(environment.device_line())
    say(kernels.describe(config))
    inputs = load_inputs(config, report=say)
    say(
        f"{len(inputs.train[0])} training, {len(inputs.validation[0])} validation and "
        f"{len(inputs.test[0])} test images; workdir {run.path}"
    )
    trainer = Trainer(config)
    trainer.compile_seconds = saved["compile_seconds"]
    over = _is_over(config, history)
    if not over:
        say("compiling the training loop")
    if last is None:
        train_state = trainer.initial_state()
    else:
        train_state = checkpoint.restore(last, trainer.abstract_state())
        say(f"continuing after epoch {len(history)}, from {last}")
    if not over:
        trainer.train_chunk  # noqa: B018  # compiled at its first use
        seconds = trainer.compile_seconds - saved["compile_seconds"]
        done = "loaded from the compilation cache" if trainer.loaded else "compiled"
        say(f"{done} in {seconds:.1f} s")
        with progress:
            train_state = _train_epochs(trainer, run, train_state, history, inputs, progress, say)
    results = _results(trainer, run, train_state, history, inputs)
    results = {"command": command, **results}
    draw_pictures(config, run, history, inputs, results)
    write_json(run.results, results)
    say(f"done: {run.results}")
    return results


def _train_epochs(
    trainer: Trainer,
    run: Workdir,
    train_state: TrainState,
    history: list[Row],
    inputs: Inputs,
    progress: Progress,
    say: Callable[[str], None],
) -> TrainState:
    """Train until the last epoch or until patience runs out; ``history`` grows by each epoch."""
    config = trainer.config
    resident = jax.device_put(inputs.train)
    while not _is_over(config, history):
        started = time.monotonic()
        train_state, row = trainer.train_epoch(train_state, len(history) + 1, resident, progress)
        if len(inputs.validation[0]):
            row |= _validate(config, train_state, inputs.validation)
        row["seconds"] = time.monotonic() - started
        history.append(row)
        run.append_metrics(row)
        say(describe(row, config.train.epochs))
        best = selected(history, config.train.min_delta)
        if (
            _is_over(config, history)
            or (best is row and "ema_validation_accuracy" in row)
            or len(history) % config.train.checkpoint_every == 0
        ):
            host_state = {"history": history, "compile_seconds": trainer.compile_seconds}
            checkpoint.save(run.checkpoints, train_state, host_state)
            newest = list(checkpoint.steps(run.checkpoints))[-config.train.keep_checkpoints :]
            checkpoint.prune(run.checkpoints, {*newest, best["step"]})
    if out_of_patience(config.train, history):
        best = selected(history, config.train.min_delta)
        say(f"stopped: no gain in {config.train.patience} epochs since epoch {best['epoch']}")
    return train_state


def _is_over(config: Config, history: list[Row]) -> bool:
    return len(history) == config.train.epochs or out_of_patience(config.train, history)


def _validate(config: Config, train_state: TrainState, validation: ImageSet) -> dict[str, float]:
    plain = evaluate(config, train_state.variables, validation)
    averaged = evaluate(config, train_state.ema_variables, validation)
    figures = {
        "validation_loss": plain.loss,
        "validation_accuracy": plain.accuracy,
        "ema_validation_loss": averaged.loss,
        "ema_validation_accuracy": averaged.accuracy,
    }
    _require_finite(figures, train_state)
    return figures


def _require_finite(figures: dict[str, Any], train_state: TrainState) -> None:
    for name, value in figures.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise TrainingError(
                f"step {int(jax.device_get(train_state.step))}: {name} must be finite, not {value} "
                "(is optim.learning_rate too high?)"
            )


def _results(
    trainer: Trainer, run: Workdir, train_state: TrainState, history: list[Row], inputs: Inputs
) -> dict[str, Any]:
    """Score the selected epoch on the test set, once, and describe the run."""
    config = trainer.config
    chosen = selected(history, config.train.min_delta)
    best = train_state if chosen is history[-1] else restore_selected(trainer, run, chosen["step"])
    figures = score(config, best, inputs.test, "test")
    _require_finite(figures, best)
    return {
        **figures,
        "validation_accuracy": chosen.get("validation_accuracy"),
        "ema_validation_accuracy": chosen.get("ema_validation_accuracy"),
        "selected_epoch": chosen["epoch"],
        "epochs": len(history),
        "parameters": models.count_params(train_state.params),
        "receptive_field": models.receptive_field(trainer.model),
        "multiply_adds": models.multiply_adds(trainer.model),
        "seconds": sum(row["seconds"] for row in history),
        "images_per_second": float(np.median([row["images_per_second"] for row in history])),
        "compile_seconds": trainer.compile_seconds,
        "seed": config.train.seed,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": environment.versions(),
        "device": environment.device(),
        "convolutions": "native" if trainer.model.lanes else "plain",
        "config_sha256": config.sha256,
        "weights_sha256": environment.weights_sha256(train_state),
    }
