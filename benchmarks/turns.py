"""Contenders that take turns on one machine, each a process of its own.

One works while the others wait for a line on their standard input, so that a machine whose speed
drifts drifts for all; ratios are taken within a round. Imports neither jax nor torch.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from measure import header, interval, peak_rss, publish, rates, refuse, say, show, table

Report = dict[str, Any]


def cores() -> int:
    """How many cores this process may use: so many threads each contender gets."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def serve(turn: Callable[[], int], about: Mapping[str, Any]) -> None:
    """Be a contender: say what it is, then answer each line of standard input with one turn.

    Args:
      turn: does the work, and returns when it is done, with the number of images; it is called
        once before, to compile and to warm up.
      about: JSON-ready facts for the report.
    """
    turn()
    print(json.dumps(about), flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        images = turn()
        seconds = time.perf_counter() - started
        print(json.dumps([images, seconds, peak_rss()]), flush=True)


def serve_ours(make: Callable[[argparse.Namespace], Any], options: argparse.Namespace) -> None:
    """Be our contender: ``make(options)`` gives what :func:`serve` takes; bad options end it."""
    from cifar_jax.config import ConfigError

    try:
        contender = make(options)
    except ConfigError as error:
        refuse(str(error))
    serve(*contender)


class Contender:
    """A process that calls :func:`serve`."""

    def __init__(self, name: str, command: Sequence[str]):
        """Start it."""
        say(f"{name}: starting")
        self.name, self.turns, self.peak_bytes, self.about = name, [], 0, {}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def wait(self) -> None:
        """Wait until it is warm and has said what it is."""
        self.about = self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            if status != 2:  # with 2 it has said in one line what is missing
                say(f"{self.name} ended early, see above")
            sys.exit(2 if status == 2 else 1)
        return json.loads(line)

    def turn(self) -> None:
        """Let it work once."""
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # it is gone, which its answer tells
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        images, seconds, self.peak_bytes = self._answer()
        self.turns.append((images, seconds))

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def report(self, first: "Contender") -> Report:
        """Its rates, and in each round how many times faster ``first`` was."""
        mine, theirs = ([n / s for n, s in c.turns] for c in (self, first))
        ratios = [b / a for a, b in zip(mine, theirs, strict=True)]
        return {
            **self.about,
            **rates("", self.turns[0][0], [seconds for _, seconds in self.turns]),
            "ratio": statistics.median(ratios),
            "ratio_range": [min(ratios), max(ratios)],
            "peak_rss_bytes": self.peak_bytes,
        }


def race(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, Report]:
    """Let contenders take turns.

    Args:
      commands: by name; the first is ours, and the ratios are its speed over the others'.
      rounds: of one turn each.

    Returns:
      A report of each contender: see :meth:`Contender.report`.
    """
    with contextlib.ExitStack() as stack:
        contenders: list[Contender] = []
        # the others first: one that cannot start says so before ours has compiled
        for name, command in reversed(list(commands.items())):
            contenders.insert(0, Contender(name, command))
            stack.callback(contenders[0].close)
            contenders[0].wait()
        for number in range(1, rounds + 1):
            for contender in contenders:
                contender.turn()
            latest = (f"{c.name} {c.turns[-1][0] / c.turns[-1][1]:,.0f}" for c in contenders)
            say(f"round {number} of {rounds} [images/s]: {', '.join(latest)}")
        return {contender.name: contender.report(contenders[0]) for contender in contenders}


def contest(
    benchmark: str,
    commands: Mapping[str, Sequence[str]],
    options: argparse.Namespace,
    *,
    title: str,
    memory: bool = True,
) -> None:
    """Let contenders take turns, and publish what came of it.

    Args:
      benchmark: its name.
      commands: as for :func:`race`; what ours says about itself is the device and the versions.
      options: rounds and those of :func:`measure.add_output_options`; the others go
        into the report.
      title: of the chart.
      memory: whether a process's peak of memory is all of the contender's.
    """
    contenders = race(commands, options.rounds)
    first = next(iter(contenders.values()))
    report: Report = header(benchmark) | {name: first.pop(name) for name in ("device", "versions")}
    left_out = ("worker", "json", "out", "python")
    report |= {name: value for name, value in vars(options).items() if name not in left_out}
    if not memory:
        for contender in contenders.values():
            del contender["peak_rss_bytes"]

    def draw(path: Path) -> None:
        import charts  # here, because a contender's interpreter need not have matplotlib

        values = {name: interval(contender) for name, contender in contenders.items()}
        device = f"{report['device']['kind']} ({cores()} cores), {report['date']}"
        charts.bars(path, values, title=f"{title}\n{device}", label="images/s")

    text = summarise(contenders)
    publish(report | {"contenders": contenders}, options, text=text, draw=draw)


def summarise(reports: Mapping[str, Report]) -> str:
    """A table of one row for each contender."""
    memory = all("peak_rss_bytes" in report for report in reports.values())
    rows = [["", "images/s", "ours is faster by", *["peak [MiB]"] * memory]]
    for i, (name, report) in enumerate(reports.items()):
        low, high = report["ratio_range"]
        rows.append([name, show(*interval(report))])
        rows[-1].append(show(report["ratio"], (low, high), 2) if i else "")
        if memory:
            rows[-1].append(f"{report['peak_rss_bytes'] / 2**20:,.0f}")
    return table(rows)
