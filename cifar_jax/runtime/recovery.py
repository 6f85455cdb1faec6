"""The checkpoint that a run goes on from, whatever has happened to the folder since."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from cifar_jax.errors import ConfigError
from cifar_jax.files import remove_leftovers, set_aside
from cifar_jax.runtime.checkpoint import (
    POINTER,
    CheckpointError,
    damage,
    point,
    read_progress,
    steps,
)

Say = Callable[[str], None]


class Recovered(NamedTuple):
    """What a run goes on from.

    Attributes:
      path: of the checkpoint.
      progress: as it was saved.
      whole: steps of all checkpoints that are whole.
    """

    path: Path
    progress: dict[str, Any]
    whole: set[int]


def recover(
    folder: Path, needs: Callable[[dict[str, Any]], int | None], say: Say
) -> Recovered | None:
    """Find the checkpoint to go on from, and put the folder in order; no other may use it.

    The newest whole one is taken, if the checkpoint that it needs is whole as well; else an older
    one of which that is true; else the newest. Damaged ones are renamed to ``<step>.damaged``, and
    ones that are newer than what is taken to ``<step>.superseded``; leftovers of a process that
    died are removed, and anything else is left alone.

    Args:
      folder: of all checkpoints of a run; it need not exist.
      needs: from the progress of a checkpoint to the step of another that the run will restore;
        raises ConfigError for one of another version.
      say: told each thing that is ignored or set aside.

    Returns:
      The checkpoint, or None for a run that has never saved one.

    Raises:
      CheckpointError: when there are only damaged ones; lists them and changes nothing.
      ConfigError: of ``needs``, with the checkpoint's path.
    """
    if not folder.is_dir():
        return None
    _finish_or_undo(folder)
    damaged: dict[Path, str] = {}
    whole: dict[int, dict[str, Any]] = {}
    for step, path in steps(folder).items():
        if (reason := damage(path)) is None:
            whole[step] = read_progress(path)
        else:
            damaged[path] = reason
    pointed, trouble = _read_pointer(folder)
    if trouble:
        say(trouble)
    if pointed is not None and pointed not in whole and folder / str(pointed) not in damaged:
        damaged[folder / str(pointed)] = (
            f"{folder / str(pointed)}: empty or gone, but named by {POINTER}"
        )
    for path in _strangers(folder):
        say(f"{path}: ignored: not a checkpoint")
    if not whole:
        aside = [f"{path}: set aside earlier" for path in sorted(folder.glob("*.damaged*"))]
        if damaged or aside or trouble:
            found = "; ".join([*damaged.values(), *aside]) or trouble
            raise CheckpointError(
                f"{folder}: no checkpoint is whole, and a run never starts again by itself "
                f"(use another --workdir): {found}"
            )
        return None
    complete = []
    for step, saved in whole.items():
        try:
            if needs(saved) in {None, *whole}:
                complete.append(step)
        except ConfigError as error:
            path = folder / str(step)
            raise ConfigError(f"{path}: written by another version: {error}") from error
    chosen = max(complete or whole)
    for path, reason in damaged.items():
        if path.exists():
            reason += f"; set aside as {set_aside(path, 'damaged').name}"
        say(f"{reason}; going on from {chosen}")
    for step in sorted(whole):
        if step > chosen:
            aside = set_aside(folder / str(step), "superseded").name
            say(
                f"{folder / str(step)}: a checkpoint that it needs is lost; set aside as {aside}; "
                f"going on from {chosen}"
            )
    if pointed != chosen:
        point(folder, chosen)
    return Recovered(
        folder / str(chosen), whole[chosen], {step for step in whole if step <= chosen}
    )


def _finish_or_undo(folder: Path) -> None:
    """Remove what a process that died in :func:`save` or :func:`prune` has left."""
    for path in list(folder.iterdir()):
        match = re.fullmatch(r"\.([0-9]+)\.(partial|old)", path.name)
        if not match or not path.is_dir():
            continue
        final = folder / match[1]
        if match[2] == "old" and not final.exists():
            path.rename(final)  # its successor was never put in place
        else:
            shutil.rmtree(path)
    remove_leftovers(folder / POINTER)


def _read_pointer(folder: Path) -> tuple[int | None, str | None]:
    """The step that ``latest`` names, and what is wrong with it."""
    path = folder / POINTER
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None, None
    except (OSError, ValueError) as error:
        return None, f"{path}: ignored: {error}"
    if not re.fullmatch(r"[0-9]{1,18}\n", text):
        return None, f"{path}: ignored: it must be a step"
    return int(text), None


def _strangers(folder: Path) -> list[Path]:
    known = {str(step) for step in steps(folder)} | {POINTER}
    paths = sorted(path for path in folder.iterdir() if path.name not in known)
    aside = re.compile(r"[0-9]+\.(damaged|superseded|other)(\.[0-9]+)?")
    return [path for path in paths if not aside.fullmatch(path.name)]
