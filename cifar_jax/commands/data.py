"""python main.py data: the data set and its hashes."""

from collections.abc import Sequence

from cifar_jax.commands.command import Command, Options, add_config
from cifar_jax.commands.console import interruptible
from cifar_jax.config import Config, validate
from cifar_jax.config_file import load_config
from cifar_jax.overrides import override


def run(options: Options, overrides: Sequence[str], command: str) -> None:
    """Fetch the data set and print its hashes."""
    if options.config:
        config = load_config(options.config, overrides)
    else:
        config = validate(override(Config(), overrides))
    from cifar_jax.data.dataset import sha256
    from cifar_jax.runtime.inputs import load_dataset

    interruptible()
    for name, array in load_dataset(config, report=print, anew=True)._asdict().items():
        print(f"{name:13} {array.dtype} {list(array.shape)}  sha256 {sha256(array)}")


DATA = Command("fetch the data set and verify it", run, add_config)
