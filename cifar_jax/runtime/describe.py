"""The figures of runs, sweeps and evaluations as lines and tables for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cifar_jax.data import CLASS_NAMES

VALIDATION = "ema_validation_accuracy"  # by which the points of a grid are compared


def describe_results(results: Mapping[str, Any], workdir: Path) -> str:
    """Lines for people about a finished run."""
    views = {results["tta"]: results["tta_accuracy"]}
    shares = _accuracies(results, "test", views)
    lines = {name: _percent(value) for name, value in shares.items()}
    lines["by class"] = "of the averaged weights"
    classes = results["per_class_accuracy"]
    lines |= {f"  {name}": _percent(value) for name, value in classes.items()} | {
        "epoch": f"{results['selected_epoch']} of {results['epochs']}",
        "parameters": f"{results['parameters']:,}",
        "images/s": f"{results['images_per_second']:.0f}",
        "results": workdir / "results.json",
    }
    return "\n".join(f"{name:22} {value}" for name, value in lines.items())


def describe_evaluation(found: Mapping[str, Any], split: str) -> str:
    """The tables of "eval" about the figures of :func:`score`, or of :func:`score_variables`."""
    views = {mode: figures["accuracy"] for mode, figures in found["views"].items()}
    lines = _accuracies(found, split, views)
    prefix = "" if "accuracy" in found else f"ema_{split}_"
    lines |= {
        "top-2 accuracy": found["top2_accuracy"],
        "calibration error": found[f"{prefix}calibration_error"],
    }
    words = [f"{k:22} {_percent(v)}" for k, v in lines.items()]
    words.append(f"{'loss':22} {found[f'{prefix}loss']:.4f}")
    words.append(f"{'true class':22} accuracy, and images by predicted class")
    words.append(" " * 30 + "".join(f"{name[:4]:>5}" for name in CLASS_NAMES))
    for (name, accuracy), row in zip(
        found["per_class_accuracy"].items(), found["confusion"], strict=True
    ):
        counts = "".join(f"{count:5}" for count in row)
        words.append(f"  {name:20} {_percent(accuracy):>7}{counts}")
    return "\n".join(words)


def _accuracies(
    found: Mapping[str, Any], split: str, views: Mapping[str, float | None]
) -> dict[str, float | None]:
    """Of the averaged weights; of those without averaging, where known; with views."""
    of_run = "accuracy" not in found
    lines = {f"{split} accuracy": found[f"ema_{split}_accuracy" if of_run else "accuracy"]}
    if of_run:
        lines["  not averaged"] = found[f"{split}_accuracy"]
    return lines | {f"  with tta {mode}": v for mode, v in views.items() if mode != "none"}


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.2%}"


def describe_sweep(found: dict[str, Any]) -> str:
    """The table of a sweep: a row per seed, then mean, std and 95 % confidence interval.

    Below it, what was changed in the config of a run that had begun.
    """
    columns = {
        "averaged": "ema_test_accuracy",
        "not averaged": "test_accuracy",
        f"with tta {found['tta']}": "tta_accuracy",
    }
    columns.pop("with tta none", None)  # a copy of the first
    lines = ["test accuracy  " + "".join(f"{title:>14}" for title in columns) + "     seconds"]
    for run in found["runs"]:
        cells = "".join(f"{run[name]:14.2%}" for name in columns.values())
        lines.append(f"{'seed ' + str(run['seed']):15}{cells}{run['seconds']:12.0f}")
    for title in ("mean", "std", "low", "high"):
        values = [found[name][title] for name in columns.values()]
        if None not in values:
            label = {"low": "95 % from", "high": "95 % to"}.get(title, title)
            seconds = f"{found['seconds'][title]:12.0f}" if title in ("mean", "std") else ""
            lines.append(f"{label:15}" + "".join(f"{v:14.2%}" for v in values) + seconds)
    for run in found["runs"]:
        lines += [f"seed {run['seed']}: {line}" for line in describe_changes(run["config_changes"])]
    return "\n".join(lines)


def describe_changes(changes: Sequence[dict[str, Any]] | None) -> list[str]:
    """A line for each of ``config_changes``, in results that have them."""
    return [
        f"config changed at step {change['step']}: "
        f"{change['field']}: {change['old']} -> {change['new']}"
        for change in changes or ()
    ]


def describe_grid(found: dict[str, Any]) -> str:
    """The table of a grid: a row a point, its validation accuracy, and the best of all marked.

    Below it, what was changed in the configs of runs that had begun.
    """
    rows = found["points"]
    width = max(len(row["folder"]) for row in rows)
    means = [row[VALIDATION]["mean"] for row in rows if not row["failed"]]
    lines = [f"{'validation accuracy':{width}}        mean         std    n"]
    for row in rows:
        if row["failed"]:
            lines.append(f"{row['folder']:{width}}  failed: {row['failed']}")
            continue
        of_it = row[VALIDATION]
        std = "" if of_it["std"] is None else f"{of_it['std']:.2%}"
        best = "  best" if of_it["mean"] == max(means) else ""
        lines.append(
            f"{row['folder']:{width}}{of_it['mean']:12.2%}{std:>12}{of_it['n']:5}{best}".rstrip()
        )
    for row in rows:
        lines += [f"{row['folder']}: {line}" for line in describe_changes(row["config_changes"])]
    return "\n".join(lines)
