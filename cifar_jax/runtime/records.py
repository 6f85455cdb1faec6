"""What the files of a run say of it, finished or not; its weights are not read."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cifar_jax.config import Config
from cifar_jax.errors import ConfigError
from cifar_jax.runtime.describe import VALIDATION
from cifar_jax.runtime.history import Row, selected
from cifar_jax.runtime.workdir import Workdir

NEEDED = {  # of results.json, besides what every reader of it needs
    *("confusion", "ema_test_loss", "test_images", "seconds", "multiply_adds", "seed", "date"),
    *("versions", "device", "command", "config_sha256", "weights_sha256"),
}
OLDER: dict[str, Any] = {  # what the first versions did not write
    "ema_test_calibration_error": None,
    VALIDATION: None,
    "convolutions": "not recorded",
    "config_changes": [],
    "environment_changes": [],
}


class Record(NamedTuple):
    """A run.

    Attributes:
      name: of the folder, and of the sweep that it is in.
      run: its folder.
      config: it is trained with.
      history: a row an epoch.
      results: what results.json holds; None for a run that is not finished.
    """

    name: str
    run: Workdir
    config: Config
    history: list[Row]
    results: dict[str, Any] | None

    @property
    def selected_epoch(self) -> int | None:
        """The epoch that is taken, so far; None before there is one."""
        if self.results:
            return self.results["selected_epoch"]
        if not self.history:
            return None
        return selected(self.history, self.config.train.min_delta)["epoch"]


def read(folder: Path) -> Record:
    """Read a run.

    Raises:
      ConfigError: when it is none, or a file is broken.
    """
    if (runs := expand([folder])) != [folder]:
        raise ConfigError(f"{folder} holds the runs of a sweep: use one of them, as {runs[0]}")
    run = Workdir(folder)
    config, results = run.read_config(), None
    if run.results.exists():
        results = OLDER | run.read_results(besides=NEEDED)
    path = folder.resolve()
    name = path.name if seed_of(path) is None else f"{path.parent.name}/{path.name}"
    return Record(name, run, config, run.read_metrics(), results)


def seed_of(folder: Path) -> int | None:
    """The seed of a sweep's run by its folder's name; None for another folder."""
    found = re.fullmatch(r"seed(0|[1-9]\d*)", folder.name)
    return int(found[1]) if found else None


def expand(folders: Sequence[Path]) -> list[Path]:
    """Runs, with the runs of a sweep or a grid in place of its folder, each once."""
    found = (run for folder in folders for run in _runs_of(folder))
    runs = {os.path.realpath(run): run for run in found}  # Path.resolve raises for a loop
    return list(runs.values())


def _runs_of(folder: Path) -> Iterator[Path]:
    is_run = Workdir(folder).config.exists() or not folder.is_dir()
    inside = [] if is_run else sorted(path for path in folder.iterdir() if path.is_dir())
    seeds = {seed: path for path in inside if (seed := seed_of(path)) is not None}
    points = [path for path in inside if "=" in path.name]  # of a grid, finished or not
    is_grid = (folder / "grid.json").exists()
    others = (run for path in inside if path not in points for run in _runs_of(path))
    if seeds:
        yield from _begun([path for _, path in sorted(seeds.items())])
    elif points and (is_grid or not any(Workdir(run).config.exists() for run in others)):
        yield from _begun([run for point in points for run in _runs_of(point)])
    elif is_grid:
        raise ConfigError(f"{folder} has a grid.json, but no folder of a run")
    else:
        yield folder


def _begun(runs: list[Path]) -> list[Path]:
    """Those that have begun; all if none has."""
    return [run for run in runs if Workdir(run).config.exists()] or runs
