"""Compare recipes on the validation split; the test set is not looked at.

    python benchmarks/search.py --config configs/200k_quick.py --trials trials.txt \
        --log results/trials.jsonl --epochs 4 8 --keep 0.5

A line of the trials' file is a name and overrides: ``higher-lr --optim.learning-rate 0.8``. Each
trial is trained for the first number of epochs, the best are trained anew for the next one, and so
on (successive halving, https://arxiv.org/abs/1502.07943). A row of the log has the accuracy of the
last epoch on the held-out training images, averaged weights and plain ones. Trials that are in
the log already, with the same config, are not run again.
"""

import argparse
import datetime
import json
import math
import shlex
import sys
from pathlib import Path
from typing import Any

import jax

from cifar_jax.config import Config, ConfigError, load_config
from cifar_jax.runtime import environment
from cifar_jax.runtime.compilation_cache import enable_compilation_cache
from cifar_jax.runtime.evaluate import evaluate
from cifar_jax.runtime.inputs import load_inputs
from cifar_jax.runtime.progress import Progress
from cifar_jax.runtime.trainer import Trainer

Row = dict[str, Any]
CHOSEN_BY = "ema_validation_accuracy"


def read_trials(path: Path) -> dict[str, list[str]]:
    """The trials of a file, by name: each line's first word, and the overrides after it."""
    lines = [shlex.split(line, comments=True) for line in path.read_text().splitlines()]
    trials = {words[0]: words[1:] for words in lines if words}
    if not trials or len(trials) < sum(map(bool, lines)):
        raise ConfigError(f"{path}: must have a trial a line, each with a name of its own")
    return trials


def run(config: Config, progress_name: str) -> Row:
    """Train a recipe from scratch; figures of its last epoch."""
    inputs = load_inputs(config, report=lambda line: None)
    trainer = Trainer(config)
    state = trainer.initial_state()
    resident = jax.device_put(inputs.train)
    images = config.steps_per_epoch * config.train.batch_size
    progress, seconds, row = Progress(config.train.epochs, images), 0.0, {}
    progress.line(progress_name)
    with progress:
        for epoch in range(1, config.train.epochs + 1):
            state, sums = trainer.train_epoch(state, epoch, resident, progress)
            seconds += sums["seconds"]
            row = trainer.row(state, epoch, sums)
    averaged = evaluate(config, state.ema_variables, inputs.validation)
    plain = evaluate(config, state.variables, inputs.validation)
    return {
        CHOSEN_BY: averaged.accuracy,
        "ema_validation_loss": averaged.loss,
        "validation_accuracy": plain.accuracy,
        "train_loss": row["train_loss"],
        "seconds": round(seconds, 1),
    }


def search(
    config_path: Path, trials: dict[str, list[str]], log: Path, epochs: list[int], keep: float
) -> list[Row]:
    """Run all rounds; the rows of the last one, best first."""
    seen = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = {row["config_sha256"]: row for row in seen}
    rows: list[Row] = []
    for budget in epochs:
        rows = []
        for number, (name, words) in enumerate(trials.items()):
            config = load_config(config_path, [*words, "--train.epochs", str(budget)])
            if not config.data.validation_examples:
                raise ConfigError(f"{name}: data.validation_examples must be at least 1, not 0")
            row = done.get(config.sha256)
            if row is None:
                title = f"{number + 1}/{len(trials)} {name}, {budget} epochs"
                row = {
                    "trial": name,
                    "config": str(config_path),
                    "overrides": shlex.join(words),
                    "epochs": budget,
                    "seed": config.train.seed,
                    **run(config, title),
                    "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                    "device": environment.device(),
                    "versions": environment.versions(),
                    "config_sha256": config.sha256,
                }
                log.parent.mkdir(parents=True, exist_ok=True)
                with log.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            rows.append(row | {"trial": name})
            print(f"{name}, {budget} epochs: {row[CHOSEN_BY]:.2%}, {row['seconds']:.0f} s")
        rows.sort(key=lambda row: -row[CHOSEN_BY])
        kept = [row["trial"] for row in rows[: math.ceil(keep * len(rows))]]
        trials = {name: trials[name] for name in kept}
    return rows


def main(argv: list[str] | None = None) -> int:
    """Search from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--trials", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--epochs", type=int, nargs="+", required=True, help="of each round")
    parser.add_argument("--keep", type=float, default=0.5, help="fraction for the next round")
    options = parser.parse_args(argv)
    enable_compilation_cache(print)
    try:
        trials = read_trials(options.trials)
        rows = search(options.config, trials, options.log, options.epochs, options.keep)
    except (ConfigError, OSError) as error:
        print(f"search.py: {error}", file=sys.stderr)
        return 2
    print(f"\n{'trial':30} validation  plain   loss    seconds")
    for row in rows:
        print(
            f"{row['trial']:30} {row[CHOSEN_BY]:.2%}      {row['validation_accuracy']:.2%}"
            f"  {row['ema_validation_loss']:.4f}  {row['seconds']:.0f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
