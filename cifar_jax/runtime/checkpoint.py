"""Checkpoints: one folder for each, whole or absent, its arrays written by orbax.

    checkpoints/<step>/state/          the TrainState, as orbax stores it
    checkpoints/<step>/progress.json   what the host knows: the epochs' history, and more
    checkpoints/<step>/SHA256SUMS      of every file; see manifest.py
    checkpoints/latest                 the newest step: a deleted checkpoint is missed

A checkpoint is written beside its place, summed, flushed to the disk, renamed, and then pointed at.
What a process that died has left, and what was damaged since, is dealt with in recovery.py.
"""

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from cifar_jax.errors import CifarJaxError, one_line
from cifar_jax.files import (
    WriteError,
    flush_to_disk,
    free_bytes,
    set_aside,
    write_json,
    write_text,
    writing,
)
from cifar_jax.runtime import manifest
from cifar_jax.runtime.signals import signals_wait
from cifar_jax.state import TrainState

PARTS = {"state", "progress.json", manifest.NAME}
POINTER = "latest"
SPECIAL = re.compile(r"[\[\]*?\\]")  # in a path: orbax globs, and a backslash ends a name
OTHER_BYTES = 2**18  # of a checkpoint besides its arrays, at most


class CheckpointError(CifarJaxError):
    """A checkpoint that cannot be read: names the folder and the reason."""


def save(folder: Path, state: TrainState, progress: dict[str, Any]) -> Path:
    """Write a checkpoint and wait until it is on the disk.

    Args:
      folder: of all checkpoints of a run; made if need be.
      state: to save; its step names the checkpoint.
      progress: JSON-ready; to come back with the state.

    Returns:
      The checkpoint, ``folder/<step>``; one of the same step is replaced.

    Raises:
      WriteError: when the disk is full or cannot be written to; older checkpoints stay.
    """
    step = int(state.step)
    partial, final, old = (
        folder / name for name in (f".{step}.partial", f"{step}", f".{step}.old")
    )
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) * 3 // 2 + OTHER_BYTES
    with signals_wait(), writing(final, needed):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            _reserve(partial / "space", needed)
            _write_state(partial / "state", state, needed)
            write_json(partial / "progress.json", progress)
            manifest.write(partial)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)  # it may be what filled the disk
            raise
        if step in steps(folder):
            final.rename(old)
        elif final.exists():
            set_aside(final, "other")  # not one of ours
        partial.rename(final)
        flush_to_disk(folder)
        point(folder, step)
        shutil.rmtree(old, ignore_errors=True)
    return final


def _reserve(path: Path, needed: int) -> None:
    """Find out whether the disk takes as many bytes: orbax fails with pages of text, and late."""
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, needed)
        else:  # macOS
            file.write(bytes(needed))
    path.unlink()


def _write_state(path: Path, state: TrainState, needed: int) -> None:
    try:
        with (
            _plain(path.parent) as folder,
            ocp.StandardCheckpointer(**_by_itself()) as checkpointer,
        ):
            checkpointer.save(folder / path.name, state)
            checkpointer.wait_until_finished()
        if not (path / "manifest.ocdbt").is_file():
            raise ValueError("orbax has not put the arrays there")
    except (ValueError, RuntimeError) as error:  # tensorstore's, for what the system refuses
        raise WriteError(
            f"{path}: cannot be written: {one_line(error):.300}: {needed:,} bytes needed, "
            f"{free_bytes(path):,} free"
        ) from error


@contextlib.contextmanager
def _plain(folder: Path) -> Iterator[Path]:
    """The folder, by a link where its own path has :data:`SPECIAL` characters."""
    folder = folder.absolute()
    if not SPECIAL.search(str(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="cifar_jax-") as place:
        if SPECIAL.search(place):
            raise WriteError(
                f"{folder}: needs a folder for temporary files without [ ] * ? or \\ in its path, "
                f"not {place}: set TMPDIR"
            )
        link = Path(place) / "checkpoint"
        link.symlink_to(folder)
        yield link


def _by_itself() -> dict[str, Any]:
    """Options of orbax for one of several processes, so that it waits for no other."""
    if jax.process_count() == 1:
        return {}
    me = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process{me}"
    )
    return {"multiprocessing_options": options}


def restore(path: Path, like: TrainState) -> TrainState:
    """Read the state of a checkpoint, after its files have been compared with their sums.

    Args:
      path: of :func:`save` or :func:`latest_valid`.
      like: the shapes of the state (``jax.eval_shape``).

    Returns:
      The state, on the default device.

    Raises:
      CheckpointError: when it is damaged or belongs to another network.
    """
    _check(path)
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])  # wherever it was written
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), like)
    try:
        with (
            signals_wait(),
            _plain(path) as folder,
            ocp.StandardCheckpointer(**_by_itself()) as checkpointer,
        ):
            return checkpointer.restore(folder / "state", target)
    except (ValueError, KeyError, OSError) as error:
        why = f"of another network, or written by another version? {one_line(error):.300}"
        raise CheckpointError(f"{path}: cannot be restored: {why}") from error


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


def latest_valid(folder: Path, report: Callable[[str], None] = lambda line: None) -> Path | None:
    """The newest whole checkpoint of a run, or None; changes nothing.

    Args:
      folder: of all checkpoints of a run; it need not exist.
      report: told each damaged checkpoint that is passed over.
    """
    for path in reversed(steps(folder).values()):
        if (reason := damage(path)) is None:
            return path
        report(reason)
    return None


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, in one line; None if it is whole."""
    try:
        _check(path)
        read_progress(path)
    except CheckpointError as error:
        return str(error)
    return None


def _check(path: Path) -> None:
    try:
        manifest.check(path)
    except manifest.ManifestError as error:
        raise CheckpointError(f"damaged: {error}") from error


def point(folder: Path, step: int) -> None:
    """Name the newest checkpoint in ``latest``."""
    write_text(folder / POINTER, f"{step}\n")


def steps(folder: Path) -> dict[int, Path]:
    """The checkpoints of a run by their step, oldest first, whole or not."""
    paths = folder.iterdir() if folder.is_dir() else ()
    found = {
        int(path.name): path
        for path in paths
        if re.fullmatch(r"0|[1-9][0-9]*", path.name)
        and any((path / name).exists() for name in PARTS)
    }
    return dict(sorted(found.items()))


def prune(folder: Path, keep: Collection[int]) -> None:
    """Delete checkpoints.

    Args:
      folder: of all checkpoints of a run.
      keep: steps of those that stay.
    """
    for step, path in steps(folder).items():
        if step not in keep:
            with signals_wait(), contextlib.suppress(OSError):  # the next session cleans up
                shutil.rmtree(path.rename(folder / f".{step}.partial"))
