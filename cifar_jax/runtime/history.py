"""The history of a run, one row an epoch as in metrics.jsonl, and what is decided by it."""

from typing import Any

from cifar_jax.config import TrainConfig
from cifar_jax.errors import ConfigError
from cifar_jax.runtime.progress import format_duration

Row = dict[str, Any]


def selected(history: list[Row], min_delta: float = 0.0) -> Row:
    """The epoch to take: the last that gained more than ``min_delta`` over the best before it.

    Args:
      history: rows of all epochs, at least one. Those marked "lost", whose checkpoint was damaged,
        are passed over while there are others.
      min_delta: gain in the averaged weights' validation accuracy above which it counts [fraction].

    Returns:
      The row; the last one where there is no validation set.
    """
    history = [row for row in history if not row.get("lost")] or history
    best = history[0]
    if "ema_validation_accuracy" not in best:
        return history[-1]
    for row in history[1:]:
        if row["ema_validation_accuracy"] > best["ema_validation_accuracy"] + min_delta:
            best = row
    return best


def selected_step(config: TrainConfig, history: list[Row]) -> int | None:
    """The step that a run with this history will have to restore.

    None if it has no epoch yet, or no validation: then the last epoch is taken, at its end.
    """
    if not history or "ema_validation_accuracy" not in history[-1]:
        return None
    return selected(history, config.min_delta)["step"]


def out_of_patience(config: TrainConfig, history: list[Row]) -> bool:
    """Whether ``config.patience`` epochs have passed without a gain; never when it is 0."""
    if not config.patience or not history:
        return False
    best = selected(history, config.min_delta)
    return history[-1]["epoch"] - best["epoch"] >= config.patience


def check_epochs(config: TrainConfig, history: list[Row], *, before: int) -> None:
    """Check that a run can go on with another number of epochs.

    Args:
      config: of this session.
      history: rows of all epochs so far.
      before: the number of epochs that the run had until now.

    Raises:
      ConfigError: when more are trained already, or when it was to be longer and patience has run
        out.
    """
    if config.epochs < len(history):
        raise ConfigError(
            f"train.epochs must be {len(history)} at least, which are trained, not {config.epochs}"
        )
    if config.epochs > before and out_of_patience(config, history):
        raise ConfigError(
            f"train.patience must be 0, or more than {config.patience}, for more epochs: so many "
            "have passed without a gain"
        )


def describe(row: Row, epochs: int) -> str:
    """One line about an epoch, for people."""
    text = f"epoch {row['epoch']}/{epochs}  loss {row['train_loss']:.4f}"
    if "validation_accuracy" in row:
        text += (
            f"  validation {row['validation_accuracy']:.2%}"
            f" (averaged {row['ema_validation_accuracy']:.2%})"
        )
    text += f"  lr {row['learning_rate']:.4f}  {row['images_per_second']:.0f} images/s"
    text += f"  {format_duration(row['seconds'])}"
    return text + (f"  {row['skipped']} updates skipped" if row["skipped"] else "")
