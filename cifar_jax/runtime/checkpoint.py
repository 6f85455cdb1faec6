"""Checkpoints: one folder for each saved epoch, whole or absent, written by orbax.

    checkpoints/<step>/state/          the TrainState, as orbax stores it
    checkpoints/<step>/progress.json   what the host knows: the epochs' history, and more

A checkpoint is written beside its place and renamed when both are on the disk.
"""

import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from cifar_jax.files import flush_to_disk, write_json
from cifar_jax.runtime.signals import ctrl_c_waits
from cifar_jax.state import TrainState


class CheckpointError(Exception):
    """A checkpoint that cannot be read: names the folder and the reason."""


def save(folder: Path, state: TrainState, progress: dict[str, Any]) -> Path:
    """Write a checkpoint and wait until it is on the disk.

    Args:
      folder: of all checkpoints of a run; made if need be.
      state: to save; its step names the checkpoint.
      progress: JSON-ready; to come back with the state.

    Returns:
      The checkpoint, ``folder/<step>``; one of the same step is replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    step = int(state.step)
    partial, final = folder / f".{step}.partial", folder / str(step)
    shutil.rmtree(partial, ignore_errors=True)
    with ctrl_c_waits():
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(partial.absolute() / "state", state)
            checkpointer.wait_until_finished()
        write_json(partial / "progress.json", progress)
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        flush_to_disk(folder)
    return final


def restore(path: Path, like: TrainState) -> TrainState:
    """Read the state of a checkpoint.

    Args:
      path: of :func:`save` or :func:`latest_valid`.
      like: the shapes of the state (``jax.eval_shape``).

    Returns:
      The state, on the default device.

    Raises:
      CheckpointError: when it is damaged or belongs to another network.
    """
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])  # wherever it was written
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), like)
    try:
        with ctrl_c_waits(), ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(path.absolute() / "state", target)
    except (ValueError, KeyError, OSError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: cannot be restored: {reason:.300}") from error


def read_progress(path: Path) -> dict[str, Any]:
    """Read what was saved beside the state.

    Args:
      path: of the checkpoint.

    Returns:
      A dictionary with a "history", a list.

    Raises:
      CheckpointError: when it is damaged.
    """
    try:
        progress = json.loads((path / "progress.json").read_text(encoding="utf-8"))
        if not isinstance(progress["history"], list):
            raise TypeError("the history is not a list")
        return progress
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path}/progress.json: cannot be read: {error}") from error


def latest_valid(folder: Path) -> Path | None:
    """The newest complete checkpoint of a run, or None; leftovers of a dead save do not count."""
    found = [path for path in steps(folder).values() if (path / "progress.json").is_file()]
    return found[-1] if found else None


def steps(folder: Path) -> dict[int, Path]:
    """The checkpoints of a run by their step, oldest first."""
    paths = folder.iterdir() if folder.is_dir() else ()
    found = {int(path.name): path for path in paths if path.name.isdecimal() and path.is_dir()}
    return dict(sorted(found.items()))


def prune(folder: Path, keep: Collection[int]) -> None:
    """Delete checkpoints.

    Args:
      folder: of all checkpoints of a run.
      keep: steps of those that stay.
    """
    for step, path in steps(folder).items():
        if step not in keep:
            shutil.rmtree(path)
