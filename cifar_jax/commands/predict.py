"""python main.py predict: the classes of image files."""

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_jax.commands.command import (
    OF_A_NETWORK,
    Command,
    Options,
    add_network,
    add_require_gpu,
    open_network,
    prepare,
    refuse_overrides,
    to_path,
)
from cifar_jax.commands.console import interruptible, note
from cifar_jax.data import CLASS_NAMES
from cifar_jax.data.image import find_images
from cifar_jax.errors import CifarJaxError, ConfigError

if TYPE_CHECKING:
    from cifar_jax.runtime.predict import Prediction

Row = tuple[Path, list[tuple[str, float]]]  # a file; its likeliest classes, their probabilities


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.usage = f"{parser.prog} FILE|FOLDER ... --weights WEIGHTS [options]"
    parser.add_argument_group(
        "FILE|FOLDER",
        "images of any size in any format that Pillow reads; of a folder, and of those in it, all "
        "files that are named as images, but for hidden ones. The middle square is scaled to 32x32 "
        "pixels, and what is transparent becomes white.",
    )
    add_network(parser)
    add_require_gpu(parser)
    parser.add_argument("--top", type=int, default=3, metavar="K", help="classes to show (3)")
    parser.add_argument(
        "--tta",
        choices=("none", "flip", "full"),
        default="none",
        help="test-time augmentation: 1, 2 or 8 views (none)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="print file,rank,class,probability")
    form.add_argument("--json", action="store_true", help="print JSON")


def run(options: Options, overrides: Sequence[str], command: str) -> None:
    """Print the most probable classes of images."""
    words, overrides = _paths_and_overrides(overrides, options)
    if not words:
        raise ConfigError("FILE or FOLDER is required, as in predict photo.jpg --weights ...")
    if any(word.partition("=")[0] == "--eval.tta" for word in overrides):
        raise ConfigError("--eval.tta: the option of predict is --tta")
    if not 1 <= options.top <= len(CLASS_NAMES):
        raise ConfigError(f"--top must be between 1 and {len(CLASS_NAMES)}, not {options.top}")
    from tqdm import tqdm

    failed: list[str] = []

    def fail(line: str) -> None:
        if failed:  # the last one ends the command
            with tqdm.external_write_mode(sys.stderr):
                note(failed[-1])
        failed.append(line)

    try:
        paths = find_images([to_path(word) for word in words], fail, note=note)
        folders = len(failed)
        from cifar_jax.runtime.predict import predict

        interruptible()
        prepare(gpu=options.require_gpu)
        net = open_network(options, overrides)
        show = _print_csv if options.csv else _print_json if options.json else _print_table
        seen = sys.stdout.isatty() and not options.json  # rows show how far it is
        with tqdm(
            predict(net, paths, mode=options.tta),
            total=len(paths),
            unit="image",
            leave=False,
            disable=seen or None,
        ) as predictions:
            show(_likeliest(predictions, options.top, fail))
    except BaseException:  # ends the command, with another line
        for line in failed[-1:]:
            note(line)
        raise
    if failed:
        status = ConfigError if len(failed) - folders == len(paths) else CifarJaxError
        raise status(failed[-1])


def _paths_and_overrides(words: Sequence[str], options: Options) -> tuple[list[str], list[str]]:
    """Tell paths from overrides, of which each has one value; after ``--`` all are paths."""
    paths, overrides, rest = [], [], iter(words)
    for word in rest:
        if word == "--":
            paths += rest
        elif not word.startswith("-"):
            paths.append(word)
        elif "." not in word.partition("=")[0]:  # no field of the config: a path may follow
            refuse_overrides([word], options)
        elif "=" in word:
            overrides.append(word)
        else:
            overrides += [word, *[value for value in [next(rest, None)] if value is not None]]
    return paths, overrides


def _likeliest(
    predictions: Iterable["Prediction"], top: int, fail: Callable[[str], None]
) -> Iterator[Row]:
    for path, probabilities, error in predictions:
        if probabilities is None:
            fail(error)
        else:
            best = (-probabilities).argsort(kind="stable")[:top]
            yield path, [(CLASS_NAMES[k], float(probabilities[k])) for k in best]


def _print_table(rows: Iterable[Row]) -> None:
    for path, classes in rows:
        shares = "  ".join(f"{name:10} {share:7.2%}" for name, share in classes)
        shown = str(path) if str(path).isprintable() else repr(str(path))
        print(f"{shares}  {shown}", flush=True)


def _print_csv(rows: Iterable[Row]) -> None:
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(("file", "rank", "class", "probability"))
    for path, classes in rows:
        table.writerows((path, rank, *row) for rank, row in enumerate(classes, 1))
    sys.stdout.flush()


def _print_json(rows: Iterable[Row]) -> None:
    found = [
        {
            "file": str(path),
            "classes": [{"class": name, "probability": share} for name, share in classes],
        }
        for path, classes in rows
    ]
    print(json.dumps(found, indent=2), flush=True)


PREDICT = Command(
    "classify image files, and folders of them", run, _add_options, OF_A_NETWORK.format("")
)
