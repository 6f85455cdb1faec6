"""python main.py compare: several runs side by side."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cifar_jax.commands.command import Command, Options, refuse_overrides, to_folder
from cifar_jax.commands.console import print_what_is_saved
from cifar_jax.commands.report import add_page, require_page
from cifar_jax.errors import ConfigError


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=to_folder, nargs="*", help="folders of runs, sweeps or grids")
    add_page(parser, "compare.html")


def run(options: Options, overrides: Sequence[str], command: str) -> None:
    """Print a table of runs and write a page with their curves."""
    runs = vars(options).pop("runs")  # are no option that could be meant
    refuse_overrides([word for word in overrides if word.startswith("-")], options)
    runs += map(to_folder, overrides)  # argparse takes those before an option alone
    if not runs:
        raise ConfigError("folders of runs are required, as in compare runs/a runs/b")
    output = require_page(options.output or Path("compare.html"))
    from cifar_jax.runtime import page
    from cifar_jax.runtime.comparison import compare, comparison_page, describe
    from cifar_jax.runtime.records import expand, read

    found = compare([read(folder) for folder in expand(runs)])
    page.write(output, comparison_page(found))
    print_what_is_saved(f"{describe(found)}\n\n{output}")


COMPARE = Command(
    "runs or sweeps side by side: final figures, what differs, curves",
    run,
    _add_options,
    fields="",
)
