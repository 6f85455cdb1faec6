"""One recipe with several seeds, or at the points of a grid: mean, spread and an interval."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from cifar_jax.config import Config, validate
from cifar_jax.errors import ConfigError
from cifar_jax.files import remove_leftovers, write_json
from cifar_jax.overrides import override
from cifar_jax.runtime.compatibility import require_comparable
from cifar_jax.runtime.describe import VALIDATION
from cifar_jax.runtime.members import groups_of
from cifar_jax.runtime.progress import Progress
from cifar_jax.runtime.records import seed_of
from cifar_jax.runtime.signals import Stop
from cifar_jax.runtime.statistics import summarize
from cifar_jax.runtime.teacher import load_teacher
from cifar_jax.runtime.together import Run, train_together
from cifar_jax.runtime.train import finished, train
from cifar_jax.runtime.trainer import TrainingError
from cifar_jax.runtime.workdir import Workdir

FIGURES = ("ema_test_accuracy", "test_accuracy", "tta_accuracy", "ema_test_loss", "seconds")
OF_EACH = ("seed", *FIGURES, VALIDATION, "epochs", "selected_epoch", "date", "versions", "device")
OF_EACH += ("convolutions", "config_sha256", "config_changes", "weights_sha256", "side_by_side")
OF_EACH += ("teacher", "settings")
MOST = 16  # runs in one loop on a GPU, by default


def sweep(
    config: Config,
    seeds: Sequence[int],
    folder: str | Path,
    *,
    command: str = "",
    allow_config_change: bool = False,
    side_by_side: int | None = None,
    stop: Stop | None = None,
    log: Sequence[str] = (),
) -> dict[str, Any]:
    """Train with each seed; runs that are finished are not trained again.

    Args:
      config: of all runs, but for ``train.seed``.
      seeds: each once.
      folder: each run's workdir is a folder ``seed<n>`` in it; sweep.json is written last, beside
        a picture.
      command: what the user typed, for the record.
      allow_config_change: of runs that have begun, see :func:`cifar_jax.runtime.train.train`.
      side_by_side: most runs in one compiled loop; 1: one after another. By default 1 on a CPU,
        which is busy with one, and :data:`MOST` elsewhere.
      stop: see :func:`cifar_jax.runtime.train.train`.
      log: see there; each seed is a run of its own.

    Returns:
      What sweep.json holds: seeds, a summary of each of :data:`FIGURES` (see :func:`summarize`),
      and the figures of each seed.

    Raises:
      ConfigError: for no seeds, one out of range, or the same twice, and where the folder has
        finished runs of others or would lose a file of theirs; and what ``train`` raises.
    """
    folder = Path(folder)
    runs = _runs(config, seeds, folder)
    _require_own(folder, "sweep")
    _require_all(runs, folder)
    how = {"command": command, "stop": stop, "log": log, "allow_config_change": allow_config_change}
    if failed := _train_all(runs, side_by_side, **how):
        raise TrainingError("; ".join(f"{run}: {why}" for run, why in failed.items()))
    _require_all(runs, folder)  # once more: another sweep may have added some
    found = _gather(runs, command)
    _write(folder / "sweep.json", found)
    columns = {"averaged weights": "ema_test_accuracy", "last weights": "test_accuracy"}
    columns[f"averaged, {found['tta']} TTA"] = "tta_accuracy"
    values = {title: [run[name] for run in found["runs"]] for title, name in columns.items()}
    _draw(values, folder / "sweep.png", title=f"Test accuracy of {len(seeds)} seeds")
    return found


def sweep_grid(
    config: Config,
    grid: Mapping[str, Sequence[str]],
    seeds: Sequence[int],
    folder: str | Path,
    *,
    command: str = "",
    allow_config_change: bool = False,
    side_by_side: int | None = None,
    stop: Stop | None = None,
    log: Sequence[str] = (),
) -> dict[str, Any]:
    """Train with each seed at each point of a grid of fields; compare by validation accuracy.

    A point whose losses or gradients do not stay finite is no error: its row says so.

    Args:
      config: of all runs, but for the fields of the grid and ``train.seed``.
      grid: words of the command line by field, as ``{"optim.learning-rate": ["0.1", "0.2"]}``.
      seeds: each once.
      folder: of a point is a folder in it, as ``optim.learning-rate=0.1``, with a folder for each
        seed; grid.json is written last, beside a picture.
      command: what the user typed, for the record.
      allow_config_change: of runs that have begun, see :func:`cifar_jax.runtime.train.train`.
      side_by_side: as for :func:`sweep`; only runs that differ in numbers can be in one loop.
      stop: see :func:`cifar_jax.runtime.train.train`.
      log: see there.

    Returns:
      What grid.json holds: fields, seeds, and of each point its values, its folder, a summary of
      the validation accuracy of the averaged weights, what was changed in the configs of runs that
      had begun, and why it failed, if it has.

    Raises:
      ConfigError: for a grid without values or of a field that is a tuple, for points that hold
        out no images or others than the first; and what :func:`sweep` raises.
    """
    folder, points = Path(folder), []
    for field in grid:
        section, _, name = field.replace("-", "_").partition(".")
        if isinstance(getattr(getattr(config, section, None), name, None), tuple):
            raise ConfigError(f"a grid takes fields of one value, so not {field}")
    for words in itertools.product(*grid.values()):
        values = dict(zip(grid, words, strict=True))
        own = override(config, [w for field, word in values.items() for w in (f"--{field}", word)])
        name = ",".join(f"{field}={word}" for field, word in values.items()).replace("/", "_")
        points.append((values, folder / name, _runs(own, seeds, folder / name, point=name)))
        require_comparable(points[0][2][0].config, own, name)
        for _, where, others in points[:-1]:
            if where.name == name or others[0].config == points[-1][2][0].config:
                raise ConfigError(f"a grid must have each point once, not {where.name} and {name}")
    if not points:
        raise ConfigError(f"a grid needs at least one value of each field, not {dict(grid)}")
    runs = [run for *_, own in points for run in own]
    _require_own(folder, "grid", "*=*/seed*")
    for _, where, _ in points:
        _require_own(where, "sweep")
    _require_all(runs, folder)
    how = {"command": command, "stop": stop, "log": log, "allow_config_change": allow_config_change}
    failed, rows = _train_all(runs, side_by_side, **how), []
    _require_all(runs, folder)  # as above
    for values, where, own in points:
        why = next((failed[run.folder] for run in own if run.folder in failed), None)
        row = {"values": values, "folder": where.name, "failed": why, VALIDATION: None}
        row["config_changes"] = []  # of its runs, in the order of the seeds
        if why is None:
            found = _gather(own, command, VALIDATION)
            _write(where / "sweep.json", found)
            row["accuracies"] = [run[VALIDATION] for run in found["runs"]]
            row[VALIDATION] = summarize(row["accuracies"])
            for run in found["runs"]:
                row["config_changes"] += run["config_changes"] or ()
        rows.append(row)
    found = {"command": command, "grid": dict(grid), "seeds": list(seeds), "points": rows}
    _write(folder / "grid.json", found)
    shown = {row["folder"]: row["accuracies"] for row in rows if not row["failed"]}
    if shown:
        _draw(shown, folder / "grid.png", title="Validation accuracy, averaged weights")
    return found


def _runs(config: Config, seeds: Sequence[int], folder: Path, point: str = "") -> list[Run]:
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds must be at least one and differ, not {list(seeds)}")
    return [
        Run(
            validate(config.replace(train={"seed": seed})),
            folder / f"seed{seed}",
            f"{point}, seed{seed}" if point else "",
        )
        for seed in seeds
    ]


def _require_all(runs: Sequence[Run], folder: Path) -> None:
    """Refuse to leave finished runs of a folder out of what is written about it."""
    within = "*=*/*" if any(run.folder.parent != folder for run in runs) else "*"
    finished = {run for run in folder.glob(within) if (run / "results.json").exists()}
    asked = {run.folder for run in runs}
    others = sorted(run for run in finished - asked if seed_of(run) is not None)
    if others:
        names = [str(other.relative_to(folder)) for other in others[:5]]
        if more := len(others) - len(names):
            names.append(f"{more} more")
        raise ConfigError(
            f"{folder} has {', '.join(names)} as well: sweep them too, or use another --workdir"
        )


def _require_own(folder: Path, name: str, runs: str = "seed*") -> None:
    """Refuse to replace a table or a picture beside which there are no runs; raises ConfigError."""
    for path in (folder / f"{name}.json", folder / f"{name}.png"):
        if path.exists() and not any(folder.glob(f"{runs}/config.json")):
            text = f"{path} has no runs beside it, so it is no {name}'s"
            raise ConfigError(f"{text}: use another --workdir, or remove it")


def _train_all(runs: Sequence[Run], side_by_side: int | None, **how: Any) -> dict[Path, str]:
    """Train what is not finished; why runs could not go on, by folder."""
    if side_by_side is None:
        side_by_side = 1 if jax.default_backend() == "cpu" else MOST
    if side_by_side < 1:
        raise ConfigError(f"side_by_side must be at least 1, not {side_by_side}")
    results = [finished(Workdir(run.folder), run.config) for run in runs]
    for run in runs:
        Workdir(run.folder).require_own()  # before the first is trained
    unfinished = [run.config for run, known in zip(runs, results, strict=True) if not known]
    taught: dict[str, str] = {}  # SHA-256 of the weights of each teacher, by its path
    for path, config in {config.distill.teacher: config for config in unfinished}.items():
        if teacher := load_teacher(config):  # refuses before anything is trained
            taught[path] = teacher.known["file_sha256"]
    for run, known in zip(runs, results, strict=True):
        path, teacher = run.config.distill.teacher, (known or {}).get("teacher")
        if teacher and taught.setdefault(path, teacher["file_sha256"]) != teacher["file_sha256"]:
            raise ConfigError(
                f"{run.folder} was taught by other weights of {path} than the rest, of SHA-256 "
                f"{teacher['file_sha256'][:16]}: use another --workdir"
            )
    failed: dict[Path, str] = {}
    groups = groups_of({run: run.config for run in runs}, side_by_side)
    for number, group in enumerate(groups, 1):
        names = "; ".join(run.shown() for run in group)
        Progress(1, 1).line(f"{names} ({number} of {len(groups)})")
        if side_by_side > 1:
            failed |= train_together(group, **how)
            continue
        try:
            train(group[0].config, group[0].folder, **how)
        except TrainingError as error:
            failed[group[0].folder] = str(error)
    return failed


def _gather(runs: Sequence[Run], command: str, *needed: str) -> dict[str, Any]:
    """What a sweep of finished runs gives."""
    needed += (*FIGURES, "multiply_adds")
    results = [Workdir(run.folder).read_results(besides=needed) for run in runs]
    return {
        "command": command,
        "seeds": [run.config.train.seed for run in runs],
        **{name: summarize([run[name] for run in results]) for name in FIGURES},
        **{name: results[0][name] for name in ("parameters", "multiply_adds", "tta")},
        "runs": [{name: run.get(name) for name in OF_EACH} for run in results],
    }


def _write(path: Path, table: Mapping[str, Any]) -> None:
    """Write a table; remove what died processes have left of it and of its picture."""
    remove_leftovers(path, path.with_suffix(".png"))
    write_json(path, table)


def _draw(values: Mapping[str, Sequence[float]], path: Path, *, title: str) -> None:
    from cifar_jax.runtime.figures import save  # matplotlib takes a second to import
    from cifar_jax.runtime.spread import spread_figure

    save(spread_figure(values, [*map(summarize, values.values())], title=title), path)
