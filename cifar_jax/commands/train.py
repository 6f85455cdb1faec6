"""python main.py [train]: one run."""

import argparse
from collections.abc import Sequence

from cifar_jax.commands.command import (
    Command,
    Options,
    add_training,
    configure,
    prepare,
    workdir_of,
)
from cifar_jax.commands.console import drop_output, print_what_is_saved


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_training(parser, workdir="runs/<config>-seed<seed>")
    _add_cluster(parser)
    parser.add_argument(
        "--profile",
        type=int,
        metavar="STEPS",
        default=0,
        help="trace so many steps into <workdir>/profile, see docs/reproducing.md",
    )


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="one of several processes that SLURM or Open MPI has started; see docs/scaling.md",
    )
    parser.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="address where process 0 listens, instead of --distributed",
    )
    parser.add_argument("--processes", type=int, metavar="N", help="how many there are")
    parser.add_argument("--process", type=int, metavar="I", help="which one this is, from 0")


def _join(options: Options) -> None:
    """Meet the other processes of the run, if there are."""
    which = (options.coordinator, options.processes, options.process)
    if set(which) == {None} and not options.distributed:
        return
    from cifar_jax.runtime import cluster

    cluster.join(*which)
    if not cluster.is_first():
        drop_output()


def run(options: Options, overrides: Sequence[str], command: str) -> None:
    """Train a network and print its results."""
    config = configure(options, overrides)
    from cifar_jax.runtime.describe import describe_results
    from cifar_jax.runtime.signals import listening
    from cifar_jax.runtime.train import train

    _join(options)
    prepare(gpu=options.require_gpu)
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
