"""What results.json says of a finished run beside its figures on the test set."""

import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np

from cifar_jax import models
from cifar_jax.runtime import environment
from cifar_jax.runtime.history import Row
from cifar_jax.runtime.trainer import Trainer
from cifar_jax.state import TrainState


def facts(
    trainer: Trainer, train_state: TrainState, history: Sequence[Row], chosen: Row
) -> dict[str, Any]:
    """What was trained, for how long, and on what.

    Args:
      trainer: of the run.
      train_state: after its last step; of a run that was ended inside an epoch, the one scored.
      history: rows of all epochs.
      chosen: that of the epoch whose weights are scored.

    Returns:
      JSON-ready; times are in seconds.
    """
    config = trainer.config
    return {
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
        **environment.recorded(),
        "convolutions": "native" if trainer.model.lanes else "plain",
        "teacher": trainer.teacher and trainer.teacher.known,
        "config_sha256": config.sha256,
        "weights_sha256": environment.weights_sha256(train_state),
    }
