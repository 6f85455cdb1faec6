"""python main.py [train]: one run."""

import argparse
from collections.abc import Sequence

from cifar_jax.commands.command import (
    Command,
    Options,
    add_cluster,
    add_config,
    add_config_change,
    add_log,
    add_require_gpu,
    add_workdir,
    configure,
    prepare,
    workdir_of,
)
from cifar_jax.commands.console import print_what_is_saved


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_workdir(parser)
    add_require_gpu(parser)
    add_log(parser)
    add_cluster(parser)
    parser.add_argument(
        "--profile",
        type=int,
        metavar="STEPS",
        default=0,
        help="trace so many steps into <workdir>/profile, see docs/reproducing.md",
    )
    add_config_change(parser)


def run(options: Options, overrides: Sequence[str], command: str) -> None:
    """Train a network and print its results."""
    config = configure(options, overrides)
    from cifar_jax.runtime.describe import describe_results
    from cifar_jax.runtime.signals import listening
    from cifar_jax.runtime.train import train

    prepare(options)
    workdir = workdir_of(options, config)
    with listening() as stop:
        results = train(
            config,
            workdir,
            command=command,
            allow_config_change=options.allow_config_change,
            stop=stop,
            log=options.log,
            profile=options.profile,
        )
    if results:
        print_what_is_saved(describe_results(results, workdir))


TRAIN = Command(
    "train a network, or go on with an interrupted run (the default)", run, _add_options
)
