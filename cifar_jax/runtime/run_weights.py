"""The weights of a run: of its selected epoch, or of one of its checkpoints."""

from collections.abc import Callable
from pathlib import Path

import jax

from cifar_jax.config import Config, portable, to_dict
from cifar_jax.runtime import checkpoint
from cifar_jax.runtime.history import selected
from cifar_jax.runtime.pretrained import Pretrained
from cifar_jax.runtime.trainer import Trainer
from cifar_jax.runtime.workdir import Workdir
from cifar_jax.state import TrainState


def restore_selected(
    trainer: Trainer,
    run: Workdir,
    step: int | None = None,
    *,
    report: Callable[[str], None] = lambda line: None,
) -> TrainState:
    """The state of a run's selected epoch, or of the checkpoint at ``step``.

    Of epochs whose checkpoint is not there any more none is selected, and that is reported.

    Args:
      trainer: of the run's config.
      run: its folder, in which nothing is changed.
      step: of the checkpoint; that of the selected epoch by default.
      report: told each damaged checkpoint that is passed over, and of a selected one that is gone.

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
        if not history:
            raise checkpoint.CheckpointError(f"{last}: no epoch is finished; see --checkpoint")
        chosen = wanted = selected(history, min_delta)["step"]
        if run.results.exists():  # the checkpoint may be of an earlier epoch
            wanted = run.read_results()["selected_epoch"] * trainer.config.steps_per_epoch
        if wanted not in saved:
            gone = run.checkpoints / str(wanted)
            report(f"{gone}: the selected epoch's checkpoint is gone: another epoch is taken")
        if chosen not in saved:
            left = [row for row in history if row["step"] in saved]
            if not left:
                raise checkpoint.CheckpointError(
                    f"{last} is inside an epoch, and no other is there; see --checkpoint"
                )
            chosen = selected(left, min_delta)["step"]
        step = int(chosen)
    if step not in saved:
        found = ", ".join(map(str, saved))
        raise checkpoint.CheckpointError(f"{run.checkpoints}/{step}: no such step; found {found}")
    return checkpoint.restore(saved[step], trainer.abstract_state())


def from_run(
    workdir: str | Path,
    config: Config | None = None,
    *,
    step: int | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Pretrained:
    """The averaged weights of a run, finished or not.

    Args:
      workdir: of the run.
      config: of the run, the one that it has by default; only "eval" and fields that decide no
        result may differ.
      step: of the checkpoint; that of the selected epoch by default.
      report: see :func:`restore_selected`.

    Returns:
      The network; its card holds the workdir and the step.

    Raises:
      ConfigError: when the folder has no config, or another than is given.
      CheckpointError: when there is no such checkpoint or it cannot be read.
    """
    run = Workdir(workdir)
    if config is None:
        config = portable(run.read_config())
    trainer = Trainer(config)
    run.require_same(config, besides=("eval",))
    state = restore_selected(trainer, run, step, report=report)
    card = {"workdir": str(workdir), "step": int(state.step), "config": to_dict(config)}
    variables = jax.device_put(jax.device_get(state.ema_variables))  # of several devices, on one
    return Pretrained(config, trainer.model, variables, card)
