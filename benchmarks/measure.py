"""What all benchmarks share: options, the clock, memory, reports. Imports neither jax nor torch."""

import argparse
import datetime
import json
import resource
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

UNTAUGHT = ("--distill.teacher", "")  # recipes are timed without their teachers


def refuse(message: str) -> NoReturn:
    """End the program with one line and the exit status 2."""
    say(f"{Path(sys.argv[0]).name}: {message}")
    sys.exit(2)


class Parser(argparse.ArgumentParser):
    """A parser of options that refuses in one line."""

    def error(self, message: str) -> NoReturn:
        """Called by ``argparse``."""
        refuse(message)


def positive(word: str) -> int:
    """Read a whole number of at least 1, an ``argparse`` type."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {word!r}")
    return int(word)


def positives(word: str) -> list[int]:
    """Read whole numbers with commas between them, an ``argparse`` type."""
    return [positive(part) for part in word.split(",")]


def output_folder(word: str) -> Path:
    """Make a folder to write to, before hours of measuring, an ``argparse`` type."""
    folder = Path(word)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{error.strerror}: {word!r}") from error


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--json`` and ``--out``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object, not a table")
    text = "write the JSON and charts here"
    parser.add_argument("--out", type=output_folder, metavar="FOLDER", help=text)


def say(line: str) -> None:
    """Tell the user how far it is; standard output is for the result."""
    print(line, file=sys.stderr, flush=True)


def clock(call: Callable[[], Any], *, repeats: int) -> list[float]:
    """Time a call again and again.

    Args:
      call: returns when its work is done; it is compiled and warm.
      repeats: how often.

    Returns:
      Seconds of each call.
    """
    seconds: list[float] = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return seconds


def rates(name: str, images: int, seconds: Sequence[float]) -> dict[str, Any]:
    """Images a second of each call: the median as ``NAME_images_per_second``, and the range."""
    key, values = f"{name}_images_per_second".lstrip("_"), [images / s for s in seconds]
    return {key: statistics.median(values), f"{key}_range": [min(values), max(values)]}


def interval(report: Mapping[str, Any], name: str = "") -> tuple[float, tuple[float, float]]:
    """What :func:`rates` gave: the median, and the lowest and the highest."""
    key = f"{name}_images_per_second".lstrip("_")
    low, high = report[f"{key}_range"]
    return report[key], (low, high)


def show(middle: float, ends: tuple[float, float], digits: int = 0) -> str:
    """A median with its range, as text: ``520 (512-523)``."""
    low, high = ends
    return f"{middle:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


def peak_rss() -> int:
    """The most memory that this process has had resident, in bytes.

    Linux's VmHWM begins with the program; ru_maxrss, its stand-in elsewhere, can be the parent's.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def header(benchmark: str) -> dict[str, str]:
    """What, with which command and on which day; of an absolute path only the last part."""
    pairs = [word.rpartition("=") for word in sys.argv[1:]]
    words = [a + b + (Path(c).name if Path(c).is_absolute() else c) for a, b, c in pairs]
    command = shlex.join(["python", f"benchmarks/{benchmark}.py", *words])
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"benchmark": benchmark, "command": command, "date": today}


def table(rows: Sequence[Sequence[str]]) -> str:
    """Lay rows out in columns: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            word.rjust(width) if i else word.ljust(width)
            for i, (word, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def publish(
    report: Mapping[str, Any],
    options: argparse.Namespace,
    *,
    text: str,
    draw: Callable[[Path], None],
) -> None:
    """Print a report as the options ask, and write NAME.json and NAME.png into their folder.

    Args:
      report: JSON-ready; its "benchmark" is the files' name.
      options: of :func:`add_output_options`.
      text: what to print without ``--json``.
      draw: makes the picture at a path.
    """
    if options.out:
        from cifar_jax.files import replacing, write_json

        write_json(options.out / f"{report['benchmark']}.json", report)
        with replacing(options.out / f"{report['benchmark']}.png") as path:
            draw(path)
    print(json.dumps(report, allow_nan=False) if options.json else text)
