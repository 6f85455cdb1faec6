"""Compare recipes on the validation split; the test set is not looked at.

    python benchmarks/search.py --config configs/200k_quick.py --trials trials.txt \
        --log results/trials.jsonl --epochs 4 8 --keep 0.5

A line of the trials' file is a name and overrides: ``higher-lr --optim.learning-rate 0.8``. Each
trial is trained for the first number of epochs, the best are trained anew for the next one, and so
on (successive halving, https://arxiv.org/abs/1502.07943). A config that holds nothing out gets
5,000 validation images here. A row of the log has the accuracy of the last epoch on the held-out
training images, averaged weights and plain ones; of a trial that diverges it is 0. Trials that are
in the log already, with the same config and teacher, are not run again, and others go on where they
were stopped, or some five minutes and an epoch before they were killed: LOG.unfinished has their
checkpoints. With --side-by-side N, trials that differ in numbers alone share a compiled loop, and
"seconds" is the loop's: for a GPU.
"""

import argparse
import contextlib
import datetime
import errno
import fcntl
import hashlib
import json
import math
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

from trials import CHOSEN_BY, Row, run

from cifar_jax.commands.command import to_path
from cifar_jax.commands.console import print_what_is_saved
from cifar_jax.config import Config
from cifar_jax.config_file import load_config
from cifar_jax.errors import CifarJaxError, ConfigError
from cifar_jax.files import describe_failure, make_folder
from cifar_jax.runtime import environment
from cifar_jax.runtime.compatibility import require_comparable
from cifar_jax.runtime.compilation_cache import enable_compilation_cache
from cifar_jax.runtime.members import groups_of
from cifar_jax.runtime.progress import Progress
from cifar_jax.runtime.signals import Interrupted, Stop, listening
from cifar_jax.runtime.teacher import load_teacher
from cifar_jax.runtime.workdir import NO_LOCKS

HOLD_OUT = ["--data.validation-examples", "5000"]  # where a config holds nothing out


def say(line: str) -> None:
    """Print a line, to nobody where nobody reads any more: hours of trials must not end by it."""
    Progress(1, 1).line(line)


def read_trials(path: Path) -> dict[str, list[str]]:
    """The trials of a file, by name: each line's first word, and the overrides after it."""
    try:
        lines = [shlex.split(line, comments=True) for line in path.read_text().splitlines()]
    except OSError as error:
        raise ConfigError(describe_failure(path, error, what="cannot be read")) from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    trials = {words[0]: words[1:] for words in lines if words}
    if not trials or len(trials) < sum(map(bool, lines)):
        raise ConfigError(f"{path}: must have a trial a line, each with a name of its own")
    return trials


def load_trials(config: Path, trials: dict[str, list[str]], epochs: int) -> dict[str, Config]:
    """The config of each trial; they must differ, and hold the same images out."""
    hold_out = [] if load_config(config).data.validation_examples else HOLD_OUT
    found, seen = {}, {}
    for name, words in trials.items():
        if any(word.startswith("--train.epochs") for word in words):
            raise ConfigError(f"{name}: --train.epochs: a search takes --epochs instead")
        try:
            found[name] = load_config(config, [*hold_out, *words, "--train.epochs", str(epochs)])
            load_teacher(found[name])  # refuses before anything is trained
        except CifarJaxError as error:
            raise ConfigError(f"{name}: {error}") from error
        require_comparable(next(iter(found.values())), found[name], name)
        if (other := seen.setdefault(found[name].sha256, name)) != name:
            raise ConfigError(f"{name}: must differ from {other}")
    return found


def read_log(path: Path, teachers: dict[str, Any]) -> dict[str, Row]:
    """The rows that are there already, by the hash of their config; those of other teachers not."""
    rows = {}
    for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else (), 1):
        try:
            row = json.loads(line)
            math.isfinite(row[CHOSEN_BY])  # a number
            if row.get("teacher") == teachers.get(row["config_sha256"]):
                rows[row["config_sha256"]] = row
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}, line {number}: not a row of a search: {error}") from error
    return rows


@contextlib.contextmanager
def claimed(log: Path) -> Iterator[FileIO]:
    """The log, open for new rows, which one search has at a time."""
    make_folder(log.parent)
    try:
        opened = log.open("ab", buffering=0)
    except OSError as error:
        raise ConfigError(describe_failure(log, error)) from error
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"{log}: in use by another search") from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            say(f"{log}: {error.strerror}: see that only one search uses it")
        yield file


def add_rows(file: FileIO, rows: Sequence[Row]) -> None:
    """Append rows to the log, all or none; raises OSError where the disk has no room for them."""
    before = file.seek(0, os.SEEK_END)
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if file.write(lines) != len(lines):
        file.truncate(before)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name)
    os.fsync(file.fileno())


def search(
    config_path: Path,
    trials: dict[str, list[str]],
    log: Path,
    epochs: list[int],
    keep: float,
    side_by_side: int = 1,
    stop: Stop | None = None,
) -> list[Row]:
    """Run all rounds; the rows of the last one, best first.

    Where ``stop`` is asked, what was trained is saved and Interrupted is raised.
    """
    names, rows = list(trials), []
    rounds = {budget: load_trials(config_path, trials, budget) for budget in epochs}
    teachers = {
        config.sha256: teacher.known
        for configs in rounds.values()
        for config in configs.values()
        if (teacher := load_teacher(config))
    }
    unfinished = log.parent / f"{log.name}.unfinished"

    def folder(config: Config) -> Path:
        known = repr((config.sha256, teachers.get(config.sha256)))
        return unfinished / hashlib.sha256(known.encode()).hexdigest()[:16]

    with claimed(log) as file:
        done = read_log(log, teachers)
        for budget, configs in rounds.items():
            rows = []
            missing = {name: configs[name] for name in names if configs[name].sha256 not in done}
            for group in groups_of(missing, side_by_side):
                members = [configs[name] for name in group]
                title = f"{', '.join(group)}: {budget} epochs"
                batch_size = members[0].train.batch_size
                with environment.loop_memory_in_words(len(group), batch_size):
                    ran = run(members, title, [folder(one) for one in members], stop or Stop())
                for name, config, figures in zip(group, members, ran, strict=True):
                    done[config.sha256] = {
                        "trial": name,
                        "config": str(config_path),
                        "overrides": shlex.join(trials[name]),
                        "epochs": budget,
                        "seed": config.train.seed,
                        "teacher": teachers.get(config.sha256),
                        **figures,
                        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                        **environment.recorded(),
                        "config_sha256": config.sha256,
                    }
                add_rows(file, [done[config.sha256] for config in members])
            for name in names:
                shutil.rmtree(folder(configs[name]), ignore_errors=True)  # its row is in the log
                row = done[configs[name].sha256] | {"trial": name}
                rows.append(row)
                say(f"{name}, {budget} epochs: {row[CHOSEN_BY]:.2%}")
            rows.sort(key=lambda row: -row[CHOSEN_BY])
            names = [row["trial"] for row in rows[: math.ceil(round(keep * len(rows), 9))]]
        with contextlib.suppress(OSError):  # it may have trials that this search has not
            unfinished.rmdir()
    return rows


def main(argv: list[str] | None = None) -> int:
    """Search from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    for name in ("--config", "--trials", "--log"):
        parser.add_argument(name, type=to_path, required=True)
    parser.add_argument("--epochs", type=int, nargs="+", required=True, help="of each round")
    parser.add_argument("--keep", type=float, default=0.5, help="fraction for the next round")
    parser.add_argument("--side-by-side", type=int, default=1, help="most trials in one loop")
    options = parser.parse_args(argv)
    enable_compilation_cache(print)
    try:
        if not 0 < options.keep <= 1:
            raise ConfigError(f"--keep must be above 0 and at most 1, not {options.keep}")
        if options.side_by_side < 1:
            raise ConfigError(f"--side-by-side must be at least 1, not {options.side_by_side}")
        trials, how = read_trials(options.trials), (options.keep, options.side_by_side)
        with listening() as stop:
            rows = search(options.config, trials, options.log, options.epochs, *how, stop)
    except Interrupted as error:
        print(f"\n{error}; the same command goes on", file=sys.stderr)
        return 128 + error.signum
    except CifarJaxError as error:
        print(f"search.py: {error}", file=sys.stderr)
        return error.status
    except OSError as error:
        print(f"search.py: {error}", file=sys.stderr)
        return 1
    lines = [f"\n{'trial':30} validation  not averaged  seconds"]
    for row in rows:
        accuracies = f"{row[CHOSEN_BY]:10.2%} {row['validation_accuracy']:13.2%}"
        lines.append(f"{row['trial']:30} {accuracies} {row['seconds']:8.0f}")
    print_what_is_saved("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
