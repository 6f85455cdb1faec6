"""python main.py summary: the layers, parameters and cost of a network."""

import argparse
from collections.abc import Sequence

from cifar_jax.commands.command import Command, Options, add_config, configure, to_path
from cifar_jax.errors import ConfigError


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--picture", type=to_path, help="draw the architecture into this PNG")


def run(options: Options, overrides: Sequence[str], command: str) -> None:
    """Print the layers, parameters and cost of a network."""
    config = configure(options, overrides)
    if options.picture and options.picture.suffix != ".png":
        raise ConfigError(f"--picture must end in .png, not {options.picture}")
    from cifar_jax import models
    from cifar_jax.runtime.diagram import architecture_figure
    from cifar_jax.runtime.environment import require_device
    from cifar_jax.runtime.figures import save
    from cifar_jax.runtime.summary import summarize

    require_device(gpu=False)
    network = models.from_config(config.model)
    if not options.picture:
        print(summarize(config))
    elif not isinstance(network, models.SeparableResNet):
        raise ConfigError(
            f"--picture: model.architecture must be separable, not {config.model.architecture}"
        )
    else:
        print(summarize(config))
        save(architecture_figure(network), options.picture)
        print(f"picture            {options.picture}")


SUMMARY = Command("show layers, parameters, receptive field and cost", run, _add_options)
