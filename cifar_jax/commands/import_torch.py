"""python main.py import-torch: weights of the original PyTorch network."""

import argparse
from collections.abc import Sequence

from cifar_jax.commands.command import Command, Options, to_path
from cifar_jax.commands.console import interruptible
from cifar_jax.config import validate
from cifar_jax.errors import ConfigError
from cifar_jax.overrides import override


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.usage = f"{parser.prog} FILE --output OUTPUT [options]"
    parser.add_argument_group(
        "FILE",
        "state dict of the original network, or a checkpoint that has one: .safetensors, or of "
        "torch.save, which needs torch; nothing in it is run.",
    )
    parser.add_argument("--output", type=to_path, help="folder to write, as my/network")


def run(options: Options, overrides: Sequence[str], command: str) -> None:
    """Make a folder of weights and card that eval and cifar_jax.load open."""
    words = list(overrides)
    named = words[:1] == ["--"]  # what follows is a file, whatever it begins with
    if named:
        del words[0]
    if not words or options.output is None or (words[0].startswith("-") and not named):
        raise ConfigError("a file and --output are required, as in best.pth --output my/network")
    path = to_path(words.pop(0))
    from cifar_jax.runtime.environment import require_device
    from cifar_jax.runtime.imported import import_torch

    interruptible()
    require_device(gpu=False)
    card = import_torch(
        path, options.output, configure=lambda config: validate(override(config, words))
    )
    augment = card["config"]["augment"]
    print(f"{options.output}: {card['parameters']:,} parameters; accuracy not known")
    print(f"images are normalised by mean {augment['mean']} and std {augment['std']}")


IMPORT_TORCH = Command("take weights of the original PyTorch network", run, _add_options)
