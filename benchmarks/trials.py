"""Trains trials of search.py, side by side if there are several, and saves them on the way."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cifar_jax.config import Config
from cifar_jax.runtime import checkpoint, environment
from cifar_jax.runtime.compatibility import differences
from cifar_jax.runtime.evaluate import evaluate
from cifar_jax.runtime.inputs import ImageSet, load_inputs
from cifar_jax.runtime.members import Members
from cifar_jax.runtime.progress import Progress
from cifar_jax.runtime.signals import Stop
from cifar_jax.state import TrainState

Row = dict[str, Any]
CHOSEN_BY = "ema_validation_accuracy"
DIVERGED: Row = {CHOSEN_BY: 0.0, "validation_accuracy": 0.0, "train_loss": None}
SAVE_SECONDS = 300.0  # after which an epoch that has ended is saved


def run(configs: Sequence[Config], title: str, folder: Path, stop: Stop) -> list[Row]:
    """Train recipes, or go on with them; figures of the last epoch.

    Args:
      configs: of the trials; any two of them fit, see ``cifar_jax.runtime.members``.
      title: said before the work.
      folder: of their checkpoints, which stay there.
      stop: when it is asked, the trials are saved and Interrupted is raised.
    """
    inputs = load_inputs(configs[0], report=lambda line: None)
    group = Group(configs, title, folder)
    group.train(inputs.train, stop)
    return [group.row(member, inputs.validation) for member in range(len(configs))]


class Group:
    """Trials in one compiled loop, all at the same step."""

    def __init__(self, configs: Sequence[Config], title: str, folder: Path):
        """Restore the newest checkpoint that is whole, or begin; says which."""
        self.configs, self.folder = configs, folder
        self.members, now = Members(configs), environment.recorded()
        self.seconds, self.sums, self.changes = 0.0, {}, []
        path = checkpoint.latest_valid(folder, report=Progress(1, 1).line)
        if path is None:
            self.states = self.members.initial_states()
        else:
            self.states = _restore(path, self.members.abstract_state(), len(configs))
            saved = checkpoint.read_progress(path)
            self.seconds = saved["seconds"]
            self.sums = {name: np.array(total) for name, total in saved["sums"].items()}
            self.members.failed = {int(i): why for i, why in saved["failed"].items()}
            self.changes = saved["changes"] + differences(saved["environment"], now)
            title += f": going on after {self.step} steps"
        self.environment = now
        Progress(1, 1).line(title)

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.states[0].step)

    def train(self, images: ImageSet, stop: Stop) -> None:
        """Train to the end of the last epoch."""
        config, members = self.configs[0], self.members
        per_epoch, size = config.steps_per_epoch, config.train.batch_size * len(self.configs)
        resident = members.resident(images)
        epoch, begun = divmod(self.step, per_epoch)
        progress = Progress(
            config.train.epochs, per_epoch * size, start_epoch=epoch, start_images=begun * size
        )
        saved = time.monotonic()
        with stop.postponed(), progress:
            while epoch < config.train.epochs and len(members.failed) < len(self.configs):
                self.states, self.sums = members.train_epoch(
                    list(self.states),
                    epoch + 1,
                    resident,
                    progress,
                    so_far=self.sums if begun else None,
                    stop=lambda: stop.signum is not None,
                )
                epoch, begun = divmod(self.step, per_epoch)
                self.seconds += 0 if begun else self.sums["seconds"]
                asked = stop.signum is not None
                if asked or epoch == config.train.epochs or time.monotonic() - saved > SAVE_SECONDS:
                    self._save()
                    saved = time.monotonic()
                if asked:
                    break

    def _save(self) -> None:
        progress = {
            "history": [],
            "seconds": self.seconds,
            "sums": {name: np.asarray(total).tolist() for name, total in self.sums.items()},
            "failed": self.members.failed,
            "environment": self.environment,
            "changes": self.changes,
        }
        path = checkpoint.save(self.folder, _stack(self.states), progress)
        checkpoint.prune(self.folder, [int(path.name)])

    def row(self, member: int, validation: ImageSet) -> Row:
        """The figures of a trial that is over."""
        config, state = self.configs[member], self.states[member]
        row: Row = {"seconds": round(self.seconds, 1), "side_by_side": len(self.configs)}
        row["environment_changes"] = self.changes
        averaged = evaluate(config, state.ema_variables, validation)
        if member in self.members.failed or not math.isfinite(averaged.loss):
            why = self.members.failed.get(member, "the loss is not finite")
            return row | DIVERGED | {"error": why}
        plain = evaluate(config, state.variables, validation)
        return row | {
            CHOSEN_BY: averaged.accuracy,
            "ema_validation_loss": averaged.loss,
            "validation_accuracy": plain.accuracy,
            "train_loss": float(self.sums["loss"][member] / self.sums["examples"][member]),
        }


def _stack(states: Sequence[TrainState]) -> TrainState:
    """One state, whose arrays have a leading axis; the step has none, as all share it."""
    arrays = [state.replace(step=()) for state in states]
    return jax.tree.map(lambda *x: np.stack(x), *arrays).replace(step=states[0].step)


def _restore(path: Path, one: TrainState, count: int) -> list[TrainState]:
    """The inverse of :func:`_stack`, from a checkpoint; ``one`` has the shapes of a state."""
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype), one)
    stacked = jax.device_get(checkpoint.restore(path, like.replace(step=one.step)))
    step, arrays = stacked.step, stacked.replace(step=())
    return [jax.tree.map(lambda x, i=i: x[i], arrays).replace(step=step) for i in range(count)]
