"""python main.py export: the weights of a run, to take along."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cifar_jax.commands.command import Command, Options, add_workdir, refuse_overrides
from cifar_jax.commands.console import interruptible, note
from cifar_jax.errors import ConfigError


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_workdir(parser)
    parser.add_argument("--output", type=Path, help="folder to write, as pretrained/200k")
    parser.add_argument("--limits", default="", help="what its users should know besides")


def run(options: Options, overrides: Sequence[str], command: str) -> None:
    """Write the weights and the card of a finished run."""
    refuse_overrides(overrides)
    if options.workdir is None or options.output is None:
        raise ConfigError("--workdir and --output are required, as in --output pretrained/200k")
    from cifar_jax.runtime.environment import require_device
    from cifar_jax.runtime.pretrained import export

    interruptible()
    require_device(gpu=False)
    card = export(options.workdir, options.output, limits=options.limits, report=note)
    print(f"{options.output}: {card['parameters']:,} parameters, {card['accuracy']:.2%}")


EXPORT = Command(
    "write the weights of a finished run, and a card of what they are",
    run,
    _add_options,
    fields=False,
)
