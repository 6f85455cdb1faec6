"""python main.py sweep: one recipe, several seeds; or the points of a grid."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cifar_jax.commands.command import (
    Command,
    Options,
    add_training,
    configure,
    prepare,
)
from cifar_jax.commands.console import print_what_is_saved
from cifar_jax.errors import ConfigError


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_training(parser, workdir="runs/<config>-sweep, with --grid -grid")
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        metavar="N",
        default=[0, 1, 2, 3, 4],
        help="of the runs (default: 0 1 2 3 4)",
    )
    parser.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="FIELD=VALUE,VALUE",
        help="compare values of a field by validation accuracy; once for each field",
    )
    parser.add_argument(
        "--side-by-side",
        type=int,
        metavar="N",
        help="most runs in one compiled loop (default: 1 on a CPU, 16 on a GPU)",
    )


def _read_grid(words: Sequence[str]) -> dict[str, list[str]]:
    """The values of each field that --grid names."""
    grid: dict[str, list[str]] = {}
    for word in words:
        field, _, values = word.partition("=")
        field = field.removeprefix("--").replace("_", "-")
        if not field or not all(values.split(",")) or field in grid:
            raise ConfigError(f"--grid must be FIELD=VALUE,VALUE, once a field, not {word!r}")
        grid[field] = values.split(",")
    return grid


def run(options: Options, overrides: Sequence[str], command: str) -> None:
    """Train with several seeds and print the table."""
    config, grid = configure(options, overrides), _read_grid(options.grid)
    if options.side_by_side is not None and options.side_by_side < 1:
        raise ConfigError(f"--side-by-side must be at least 1, not {options.side_by_side}")
    if any(word.startswith("--train.seed") for word in (*overrides, *(f"--{f}" for f in grid))):
        raise ConfigError("--train.seed: a sweep takes --seeds instead")
    from cifar_jax.runtime.describe import describe_grid, describe_sweep
    from cifar_jax.runtime.signals import listening
    from cifar_jax.runtime.sweep import sweep, sweep_grid

    prepare(gpu=options.require_gpu)
    kind = "grid" if grid else "sweep"
    folder = options.workdir or Path("runs") / f"{options.config.stem}-{kind}"
    with listening() as stop:
        how = {"command": command, "side_by_side": options.side_by_side, "stop": stop}
        how |= {"log": options.log, "allow_config_change": options.allow_config_change}
        if grid:
            text = describe_grid(sweep_grid(config, grid, options.seeds, folder, **how))
        else:
            text = describe_sweep(sweep(config, options.seeds, folder, **how))
    print_what_is_saved(f"{text}\n{folder / kind}.json")


SWEEP = Command("train with several seeds, or a grid: mean and spread", run, _add_options)
