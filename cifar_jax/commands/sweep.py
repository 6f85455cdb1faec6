"""python main.py sweep: one recipe, several seeds."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cifar_jax.commands.command import (
    Command,
    Options,
    add_config,
    add_log,
    add_require_gpu,
    add_workdir,
    configure,
    prepare,
)
from cifar_jax.commands.console import print_what_is_saved
from cifar_jax.errors import ConfigError


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_workdir(parser, default="sweep")
    add_require_gpu(parser)
    add_log(parser)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])


def run(options: Options, overrides: Sequence[str], command: str) -> None:
    """Train with several seeds and print the table."""
    config = configure(options, overrides)
    if any(word.startswith("--train.seed") for word in overrides):
        raise ConfigError("--train.seed: a sweep takes --seeds instead")
    from cifar_jax.runtime.signals import listening
    from cifar_jax.runtime.sweep import describe, sweep

    prepare(options)
    folder = options.workdir or Path("runs") / f"{options.config.stem}-sweep"
    with listening() as stop:
        found = sweep(config, options.seeds, folder, command=command, stop=stop, log=options.log)
    print_what_is_saved(f"{describe(found)}\n{folder / 'sweep.json'}")


SWEEP = Command("train with several seeds: mean and spread", run, _add_options)
