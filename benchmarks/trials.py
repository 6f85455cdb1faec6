"""Trains trials of search.py, side by side if there are several, and saves them on the way."""

import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from cifar_jax.config import Config
from cifar_jax.files import WriteError
from cifar_jax.runtime import checkpoint, kernels
from cifar_jax.runtime.compatibility import differences
from cifar_jax.runtime.evaluate import evaluate
from cifar_jax.runtime.inputs import ImageSet, load_inputs
from cifar_jax.runtime.members import Members, varied_fields
from cifar_jax.runtime.progress import Progress
from cifar_jax.runtime.signals import Stop
from cifar_jax.state import TrainState

Row = dict[str, Any]
CHOSEN_BY = "ema_validation_accuracy"
DIVERGED: Row = {CHOSEN_BY: 0.0, "validation_accuracy": 0.0, "train_loss": None}
SAVE_SECONDS = 300.0  # after which an epoch that has ended is saved


@dataclasses.dataclass
class Trial:
    """A trial, and what is saved of it beside its state.

    Attributes:
      config: of it.
      folder: of its checkpoints.
      seconds: that its whole epochs have taken.
      sums: of its last epoch, or of what there is of it.
      failed: why it can train no more.
      side_by_side: the most trials that have shared a loop with it, itself among them.
      environment_changes: between its sessions, as in results.json.
    """

    config: Config
    folder: Path
    seconds: float = 0.0
    sums: dict[str, float] | None = None
    failed: str | None = None
    side_by_side: int = 1
    environment_changes: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def restore(self, step: int, like: TrainState, now: dict[str, Any]) -> TrainState:
        """Go on from a checkpoint, in the environment ``now``."""
        path = self.folder / str(step)
        saved = checkpoint.read_progress(path)
        self.seconds, self.sums, self.failed = saved["seconds"], saved["sums"], saved["failed"]
        self.side_by_side = saved.get("side_by_side", 1)
        changes = differences(saved["environment"], now)
        self.environment_changes = saved["environment_changes"]
        self.environment_changes += [{"step": step, "change": change} for change in changes]
        return jax.device_get(checkpoint.restore(path, like))

    def save(self, state: TrainState, now: dict[str, Any]) -> None:
        """Write a checkpoint in the place of the last one."""
        names = ("seconds", "sums", "failed", "side_by_side", "environment_changes")
        about = {name: getattr(self, name) for name in names}
        path = checkpoint.save(self.folder, state, {"history": [], "environment": now, **about})
        checkpoint.prune(self.folder, [int(path.name)])

    def row(self, state: TrainState, validation: ImageSet) -> Row:
        """Its figures, once it is over."""
        row: Row = {"seconds": round(self.seconds, 1)}
        row["environment_changes"] = self.environment_changes
        averaged = evaluate(self.config, state.ema_variables, validation)
        if self.failed or not self.sums or not math.isfinite(averaged.loss):
            return row | DIVERGED | {"error": self.failed or "the loss is not finite"}
        return row | {
            CHOSEN_BY: averaged.accuracy,
            "ema_validation_loss": averaged.loss,
            "validation_accuracy": evaluate(self.config, state.variables, validation).accuracy,
            "train_loss": self.sums["loss"] / self.sums["examples"],
        }


def run(configs: Sequence[Config], title: str, folders: Sequence[Path], stop: Stop) -> list[Row]:
    """Train recipes, or go on with them; figures of the last epoch.

    Args:
      configs: of the trials; any two of them fit, see ``cifar_jax.runtime.members``. Those that
        stand at the same step share a loop.
      title: said before the work.
      folders: of the checkpoints of each, which stay there.
      stop: when it is asked, the trials are saved and Interrupted is raised.
    """
    say = Progress(1, 1).line
    inputs = load_inputs(configs[0], report=lambda line: None)
    newest = [checkpoint.latest_valid(folder, report=say) for folder in folders]
    steps = [int(path.name) if path else 0 for path in newest]
    rows: dict[int, Row] = {}
    for step in sorted(set(steps), reverse=True):
        own = [number for number, begun in enumerate(steps) if begun == step]
        members = Members([configs[i] for i in own], varied=varied_fields(configs))
        trials = [Trial(configs[i], folders[i]) for i in own]
        say(f"{title}: {len(own)} going on after {step} steps" if step else title)
        states = _train(members, trials, step, inputs.train, stop)
        for number, trial, state in zip(own, trials, states, strict=True):
            row = trial.row(state, inputs.validation)
            rows[number] = row | {"side_by_side": trial.side_by_side}
    return [rows[number] for number in range(len(configs))]


def _train(
    members: Members, trials: Sequence[Trial], step: int, images: ImageSet, stop: Stop
) -> Sequence[TrainState]:
    """Train to the end of the last epoch; the states of all."""
    config, now = members.config, kernels.recorded(members.model)
    like = members.abstract_state()
    states: Sequence[TrainState]
    states = [trial.restore(step, like, now) for trial in trials] if step else ()
    states = states or members.initial_states()
    for trial in trials:
        trial.side_by_side = max(trial.side_by_side, len(trials))
    members.failed = {i: trial.failed for i, trial in enumerate(trials) if trial.failed}
    epoch, begun = divmod(step, config.steps_per_epoch)
    sums = members.join([trial.sums for trial in trials]) if begun else None
    size = config.train.batch_size * len(trials)
    progress = Progress(
        config.train.epochs,
        config.steps_per_epoch * size,
        start_epoch=epoch,
        start_images=begun * size,
    )
    members.train_chunk  # noqa: B018  # compiled at its first use
    resident, saved = members.resident(images), time.monotonic()
    with stop.postponed(), progress:
        while epoch < config.train.epochs and len(members.failed) < len(trials):
            states, sums = members.train_epoch(
                list(states),
                epoch + 1,
                resident,
                progress,
                so_far=sums,
                stop=lambda: stop.signum is not None,
            )
            epoch, begun = divmod(int(states[0].step), config.steps_per_epoch)
            for i, (trial, own) in enumerate(zip(trials, members.split(sums), strict=True)):
                trial.sums, trial.failed = own, members.failed.get(i)
                trial.seconds += 0 if begun else own["seconds"]
            sums = sums if begun else None
            asked, over = stop.signum is not None, epoch == config.train.epochs
            if asked or over or time.monotonic() - saved > SAVE_SECONDS:
                try:
                    for trial, state in zip(trials, states, strict=True):
                        trial.save(state, now)
                except WriteError as error:
                    if asked:
                        raise
                    progress.line(str(error))  # a full disk, say: the row may still find room
                saved = time.monotonic()
            if asked:
                break
    return states
