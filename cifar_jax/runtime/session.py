"""One session of a run: from its first step, or from a checkpoint, to its results."""

import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from cifar_jax.config import Config, from_dict, to_dict
from cifar_jax.runtime import checkpoint, cluster, kernels
from cifar_jax.runtime.compatibility import check_resumable, differences
from cifar_jax.runtime.describe import describe_changes
from cifar_jax.runtime.finite import require_finite, require_finite_weights
from cifar_jax.runtime.history import (
    Row,
    check_epochs,
    describe,
    out_of_patience,
    selected,
    selected_step,
)
from cifar_jax.runtime.inputs import ImageSet, Inputs
from cifar_jax.runtime.loggers import Loggers
from cifar_jax.runtime.progress import Progress
from cifar_jax.runtime.recovery import Recovered
from cifar_jax.runtime.results import facts
from cifar_jax.runtime.run_weights import restore_selected
from cifar_jax.runtime.score import score, validation_figures
from cifar_jax.runtime.signals import Stop
from cifar_jax.runtime.teacher import Teacher
from cifar_jax.runtime.trainer import Sums, Trainer
from cifar_jax.runtime.workdir import Workdir
from cifar_jax.state import TrainState


class Session:
    """One session of a run; the history grows by each epoch.

    Attributes:
      progress: shows how far the run is.
      history: the rows of all epochs so far.
      loggers: are told each new row.
      name: shown before its lines where several runs share a screen.
      around_chunk: see ``Trainer.train_epoch``.
      last: the checkpoint that it goes on from; None for a new run.
      whole: steps of all checkpoints that are whole.
      side_by_side: the most runs that have shared a loop with it, itself among them.
    """

    around_chunk: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
    name = ""

    def __init__(
        self,
        run: Workdir,
        config: Config,
        found: Recovered | None,
        teacher: Teacher | None = None,
    ):
        """Prepare to train; nothing is compiled or written yet.

        Args:
          run: the folder.
          config: of this session.
          found: the checkpoint that it goes on from; None for a new run.
          teacher: see ``Trainer``.
        """
        self.run, self.config = run, config
        self.last, self.whole = (found.path, found.whole) if found else (None, set())
        self.saved = saved = found.progress if found else {"history": [], "compile_seconds": 0.0}
        self.history: list[Row] = saved["history"]
        self.config_changes: list[dict[str, Any]] = saved.get("config_changes", [])
        self.environment_changes: list[dict[str, Any]] = saved.get("environment_changes", [])
        self.partial: Sums | None = saved.get("partial")
        self.side_by_side: int = saved.get("side_by_side", 1)
        self.loggers = Loggers(self.say)
        self.trainer = trainer = Trainer(config, teacher)
        trainer.compile_seconds = saved["compile_seconds"]
        self.environment = kernels.recorded(trainer.model)
        self.teacher_sha256 = trainer.teacher and trainer.teacher.known["file_sha256"]
        self.step = int(self.last.name) if self.last else 0
        batch = config.train.batch_size
        self.progress = Progress(
            config.train.epochs,
            config.steps_per_epoch * batch,
            start_epoch=len(self.history),
            start_images=self.step % config.steps_per_epoch * batch,
        )

    def say(self, text: str) -> None:
        """Print a line and add it to the log."""
        self.progress.line(f"{self.name}: {text}" if self.name else text)
        self.run.append_log(text)

    def allow_changes(self, allow: bool) -> None:
        """Compare the config with the checkpoint's; raises ConfigError."""
        if self.last:
            old = from_dict(self.saved["config"])
            teachers = (self.saved.get("teacher_sha256"), self.teacher_sha256)
            for change in check_resumable(self.run.path, old, self.config, teachers, allow=allow):
                self.config_changes.append({"step": self.step, **change._asdict()})
                if change.field == "train.epochs":
                    check_epochs(self.config.train, self.history, before=change.old)

    def notes(self) -> list[str]:
        """What differs from an uninterrupted run."""
        if self.last is None:
            return []
        notes = describe_changes(self.config_changes)
        before = {"settings": self.environment["settings"]} | self.saved["environment"]
        for change in differences(before, self.environment):  # older versions saved no settings
            self.environment_changes.append({"step": self.step, "change": change})
        if self.environment_changes:
            changes = ", ".join(change["change"] for change in self.environment_changes)
            notes.append(f"bits may differ from an uninterrupted run's: {changes}")
        if selected_step(self.config.train, self.saved["history"]) not in {None, *self.whole}:
            for row in self.history:
                if row["step"] not in self.whole:
                    row["lost"] = True
            notes.append("the selected epoch has no checkpoint: epochs without one are left out")
        return notes

    def train(self, inputs: Inputs, stop: Stop) -> TrainState:
        """Train until the last epoch or until patience runs out."""
        trainer, over = self.trainer, self.is_over()
        if not over:
            self.say("compiling the training loop")
        train_state = self.restored() or trainer.initial_state()
        if not over:
            trainer.train_chunk  # noqa: B018  # compiled at its first use
            seconds = trainer.compile_seconds - self.saved["compile_seconds"]
            self.tell_compiled(seconds, loaded=trainer.loaded)
            resident = trainer.resident(inputs.train)
            with stop.postponed(), self.progress:
                while not self.is_over() and not cluster.asked_to_stop(stop):
                    train_state, sums = trainer.train_epoch(
                        train_state,
                        len(self.history) + 1,
                        resident,
                        self.progress,
                        so_far=self.partial,
                        stop=lambda: cluster.asked_to_stop(stop),
                        around_chunk=self.around_chunk,
                    )
                    self.trained(train_state, sums, inputs.validation, stop)
                self.leave(train_state)
        self.tell_patience()
        return train_state

    def restored(self) -> TrainState | None:
        """The state of the last checkpoint; None for a new run."""
        if self.last is None:
            return None
        train_state = checkpoint.restore(self.last, self.trainer.abstract_state())
        inside = f" and {self.step % self.config.steps_per_epoch} steps" if self.partial else ""
        doing = "over" if self.is_over() else "continuing"
        self.say(f"{doing} after epoch {len(self.history)}{inside}, from {self.last}")
        return train_state

    def tell_compiled(self, seconds: float, *, loaded: bool) -> None:
        """Say how long it took to compile the loop that trains this run."""
        done = "loaded from the compilation cache" if loaded else "compiled"
        self.say(f"{done} in {seconds:.1f} s")

    def trained(
        self, train_state: TrainState, sums: Sums, validation: ImageSet, stop: Stop
    ) -> None:
        """Note what an epoch has given, or the part of one where the run is asked to stop; save.

        Args:
          train_state: after it.
          sums: of ``Trainer.train_epoch``.
          validation: may be empty.
          stop: whether it was asked to stop.
        """
        config, trainer, epoch = self.config, self.trainer, len(self.history) + 1
        if not trainer.is_whole(train_state):
            self.partial = sums
            self._save(train_state)
            return
        started = time.monotonic()
        row = trainer.row(train_state, epoch, sums)
        if len(validation[0]):
            row |= validation_figures(config, train_state, validation)
        row["seconds"] = sums["seconds"] + time.monotonic() - started
        require_finite(row, row["step"])
        row = cluster.of_first(row)
        self.partial = None
        self.history.append(row)
        self.run.append_metrics(row)
        self.loggers.epoch(row)
        self.say(describe(row, config.train.epochs))
        best = selected(self.history, config.train.min_delta)
        if (
            self.is_over()
            or (best is row and "ema_validation_accuracy" in row)
            or epoch % config.train.checkpoint_every == 0
            or stop.signum is not None
        ):
            self._save(train_state)

    def leave(self, train_state: TrainState) -> None:
        """Save the state if it is not: the run was asked to stop after it had been evaluated."""
        if int(train_state.step) != self.step:
            self._save(train_state)

    def tell_patience(self) -> None:
        """Say so where patience has run out."""
        train = self.config.train
        if out_of_patience(train, self.history):
            best = selected(self.history, train.min_delta)
            self.say(f"stopped: no gain in {train.patience} epochs since epoch {best['epoch']}")

    def _save(self, train_state: TrainState) -> None:
        """Save a checkpoint; older ones go once it is on the disk."""
        run, config = self.run, self.config
        require_finite_weights(train_state)
        self.step = int(train_state.step)
        if not cluster.is_first():
            return
        progress = {
            "history": self.history,
            "partial": self.partial,
            "compile_seconds": self.trainer.compile_seconds,
            "config": to_dict(config),
            "config_changes": self.config_changes,
            "teacher_sha256": self.teacher_sha256,
            "environment": self.environment,
            "environment_changes": self.environment_changes,
            "log_bytes": run.log_size(),
            "side_by_side": self.side_by_side,
        }
        checkpoint.save(run.checkpoints, train_state, progress)
        keep = list(checkpoint.steps(run.checkpoints))[-config.train.keep_checkpoints :]
        if (best := selected_step(config.train, self.history)) is not None:
            keep.append(best)
        checkpoint.prune(run.checkpoints, keep)

    def is_over(self) -> bool:
        """Whether the last epoch has been trained, or patience has run out."""
        train = self.config.train
        if self.partial and selected_step(train, self.history) is None:
            return False  # the last epoch is taken: one that has begun is trained to its end
        return len(self.history) >= train.epochs or out_of_patience(train, self.history)

    def results(self, train_state: TrainState, inputs: Inputs) -> dict[str, Any]:
        """Score the selected epoch on the test set, once, and describe the run."""
        config, trainer, history = self.config, self.trainer, self.history
        chosen = selected(history, config.train.min_delta)
        last = chosen["step"] == int(train_state.step)
        best = train_state if last else restore_selected(trainer, self.run, chosen["step"])
        figures = score(config, best, inputs.test, "test")
        require_finite(figures, int(best.step))
        return {
            **figures,
            **facts(trainer, best if self.partial else train_state, history, chosen),
            "config_changes": self.config_changes,
            "environment_changes": self.environment_changes,
            "side_by_side": self.side_by_side,
        }
