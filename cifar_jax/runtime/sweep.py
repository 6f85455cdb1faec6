"""One recipe with several seeds: mean, spread and an interval of what it gives."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cifar_jax.config import Config, validate
from cifar_jax.errors import ConfigError
from cifar_jax.files import write_json
from cifar_jax.runtime.progress import Progress
from cifar_jax.runtime.signals import Stop
from cifar_jax.runtime.train import train

FIGURES = ("ema_test_accuracy", "test_accuracy", "tta_accuracy", "ema_test_loss", "seconds")
OF_EACH = ("seed", *FIGURES, "epochs", "selected_epoch", "date", "versions", "device")
OF_EACH += ("convolutions", "config_sha256", "weights_sha256")


def sweep(
    config: Config,
    seeds: Sequence[int],
    folder: str | Path,
    *,
    command: str = "",
    stop: Stop | None = None,
    log: Sequence[str] = (),
) -> dict[str, Any]:
    """Train with each seed, one after another; runs that are finished are not trained again.

    Args:
      config: of all runs, but for ``train.seed``.
      seeds: each once.
      folder: each run's workdir is a folder ``seed<n>`` in it; sweep.json is written last.
      command: what the user typed, for the record.
      stop: see :func:`cifar_jax.runtime.train.train`.
      log: see there; each seed is a run of its own.

    Returns:
      What sweep.json holds: seeds, a summary of each of :data:`FIGURES` (see :func:`summarize`),
      and the figures of each seed.

    Raises:
      ConfigError: for no seeds, one out of range, or the same twice; and what ``train`` raises.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds must be at least one and differ, not {list(seeds)}")
    configs = [
        validate(dataclasses.replace(config, train=dataclasses.replace(config.train, seed=seed)))
        for seed in seeds
    ]
    folder, runs = Path(folder), []
    for number, (seed, own) in enumerate(zip(seeds, configs, strict=True), 1):
        Progress(1, 1).line(f"seed {seed} ({number} of {len(seeds)})")
        runs.append(train(own, folder / f"seed{seed}", command=command, stop=stop, log=log))
    found = {
        "command": command,
        "seeds": list(seeds),
        **{name: summarize([run[name] for run in runs]) for name in FIGURES},
        **{name: runs[0][name] for name in ("parameters", "multiply_adds", "tta")},
        "runs": [{name: run[name] for name in OF_EACH} for run in runs],
    }
    write_json(folder / "sweep.json", found)
    return found


def summarize(values: Sequence[float]) -> dict[str, Any]:
    """The mean of a figure over seeds, and how well it is known.

    Args:
      values: one a seed, at least one.

    Returns:
      n, mean, std (of the sample, n - 1) and the 95 % interval of the mean by Student's t; std and
      interval are None for one value.

    >>> summarize([0.9, 0.92])["mean"]
    0.91
    """
    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return {"n": 1, "mean": mean, "std": None, "low": None, "high": None}
    from scipy.stats import t  # half a second to import

    std = float(np.std(values, ddof=1))
    half = float(t.ppf(0.975, n - 1)) * std / n**0.5
    return {"n": n, "mean": mean, "std": std, "low": mean - half, "high": mean + half}


def describe(found: dict[str, Any]) -> str:
    """The table of a sweep: a row a seed, then mean, standard deviation and 95 % interval."""
    columns = {
        "averaged": "ema_test_accuracy",
        "plain": "test_accuracy",
        f"tta {found['tta']}": "tta_accuracy",
    }
    lines = ["test accuracy  " + "".join(f"{title:>12}" for title in columns) + "     seconds"]
    for run in found["runs"]:
        cells = "".join(f"{run[name]:12.2%}" for name in columns.values())
        lines.append(f"{'seed ' + str(run['seed']):15}{cells}{run['seconds']:12.0f}")
    for title in ("mean", "std", "low", "high"):
        values = [found[name][title] for name in columns.values()]
        if None not in values:
            label = {"low": "95 % from", "high": "95 % to"}.get(title, title)
            seconds = f"{found['seconds'][title]:12.0f}"
            lines.append(f"{label:15}" + "".join(f"{v:12.2%}" for v in values) + seconds)
    return "\n".join(lines)
