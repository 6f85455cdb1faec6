"""What must be finite to be a result, or to be saved."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from cifar_jax.runtime.trainer import TrainingError
from cifar_jax.state import TrainState


def require_finite(figures: Mapping[str, Any], step: int) -> None:
    """Raise TrainingError for a figure that is a NaN or an infinity; names it and the step."""
    for name, value in figures.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise TrainingError(
                f"step {step}: {name} must be finite, not {value} "
                "(is optim.learning_rate too high?)"
            )


def require_finite_weights(train_state: TrainState) -> None:
    """Refuse to save what a finite gradient at too high a learning rate has made of the weights."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(
        (train_state.variables, train_state.ema_variables)
    ):
        if not np.isfinite(leaf).all():
            name = jax.tree_util.keystr(path[1:], simple=True, separator="/")
            raise TrainingError(
                f"step {int(train_state.step)}: {name} has a NaN or an infinity and is not saved "
                "(is optim.learning_rate too high?)"
            )
