"""What a command is, and the options that several have."""

import argparse
import difflib
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cifar_jax.commands.console import note
from cifar_jax.config import Config, portable, validate
from cifar_jax.config_file import load_config
from cifar_jax.errors import ConfigError
from cifar_jax.files import describe_failure
from cifar_jax.overrides import options_of, override
from cifar_jax.runtime.loggers import LOGGERS
from cifar_jax.runtime.workdir import Workdir, holds

if TYPE_CHECKING:
    from cifar_jax.runtime.pretrained import Pretrained

Options = argparse.Namespace


FIELDS = "Any field of the config can follow, as in --train.epochs 2."
OF_A_NETWORK = (
    "Of the config, {}--eval.batch-size, --data.data-dir, --data.source and --model.convolutions "
    "can follow."
)


class Command(NamedTuple):
    """A command of main.py.

    Attributes:
      about: one line for its help.
      run: ``(options, overrides, command line)``; it imports jax itself, so that help is quick.
      add_options: adds its options to a parser.
      fields: which fields of the config can follow, in a sentence; empty for none.
    """

    about: str
    run: Callable[[Options, Sequence[str], str], None]
    add_options: Callable[[argparse.ArgumentParser], None]
    fields: str = FIELDS


def to_path(word: str) -> Path:
    """The path of a word of the command line: not an empty one, which would be this folder."""
    if not word:
        raise argparse.ArgumentTypeError("a path must not be empty (is a variable unset?)")
    return Path(word)


def to_folder(word: str) -> Path:
    """The path of a folder, there or not, that the system lets us reach."""
    path = to_path(word)
    try:
        (path / "config.json").stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # what is not there may be made, or is refused with better words
    except OSError as error:
        text = describe_failure(path, error, what="cannot be reached")
        raise argparse.ArgumentTypeError(text) from error
    return path


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add --config."""
    parser.add_argument("--config", type=to_path, help="a Python file, such as configs/200k.py")


def add_require_gpu(parser: argparse.ArgumentParser) -> None:
    """Add --require-gpu."""
    parser.add_argument("--require-gpu", action="store_true", help="refuse to run without a GPU")


def add_training(parser: argparse.ArgumentParser, workdir: str) -> None:
    """Add --config, --workdir, --require-gpu, --allow-config-change and --log.

    Args:
      parser: of a command that trains.
      workdir: the folder by default, for its help.
    """
    add_config(parser)
    parser.add_argument("--workdir", type=to_folder, help=f"folder of the run (default: {workdir})")
    add_require_gpu(parser)
    parser.add_argument(
        "--allow-config-change",
        action="store_true",
        help="go on with other values of fields that decide the result",
    )
    parser.add_argument(
        "--log",
        nargs="+",
        choices=tuple(LOGGERS),
        default=[],
        help="where the figures go besides metrics.jsonl; each has an extra of its name",
    )


def add_network(parser: argparse.ArgumentParser) -> None:
    """Add --workdir, --checkpoint and --weights: where a trained network is."""
    parser.add_argument("--workdir", type=to_folder, help="folder of a run")
    parser.add_argument(
        "--checkpoint",
        type=int,
        metavar="STEP",
        help="a checkpoint of the run instead of the selected one",
    )
    parser.add_argument(
        "--weights", type=to_folder, help="folder of exported weights, such as pretrained/200k"
    )


def open_network(options: Options, overrides: Sequence[str] = ()) -> "Pretrained":
    """The averaged weights that the options of :func:`add_network` name.

    Args:
      options: parsed.
      overrides: of its config: fields that decide no result.

    Raises:
      CifarJaxError: when there is none, or it cannot be read.
    """
    from cifar_jax.runtime.compatibility import differing
    from cifar_jax.runtime.pretrained import load
    from cifar_jax.runtime.run_weights import from_run

    if options.workdir is None and options.weights is None:
        raise ConfigError("--weights or --workdir is required, as in --weights pretrained/200k")
    if options.workdir and options.weights:
        raise ConfigError("--weights: cannot be together with --workdir")
    if options.workdir:
        config = config_of_run(options.workdir, overrides)
        return from_run(options.workdir, config, step=options.checkpoint, report=note)
    if options.checkpoint is not None:
        raise ConfigError("--checkpoint: needs --workdir")
    if holds(options.weights) == "run":
        raise ConfigError(f"--weights: {options.weights} is a run: give it as --workdir")
    net = load(options.weights)
    config = validate(override(net.config, overrides))
    if decisive := differing(net.config, config, besides=("eval",)):
        raise ConfigError(f"{options.weights}: belongs to its config, so not {decisive[0]}")
    return net._replace(config=config)


def config_of_run(workdir: Path, overrides: Sequence[str]) -> Config:
    """The config of a run, for this machine, with overrides; raises ConfigError."""
    if holds(workdir) == "weights":
        raise ConfigError(f"--workdir: {workdir} has exported weights: give it as --weights")
    return validate(override(portable(Workdir(workdir).read_config()), overrides))


def configure(options: Options, overrides: Sequence[str]) -> Config:
    """The config that --config and overrides name; raises ConfigError."""
    if options.config is None:
        raise ConfigError("--config is required, as in --config configs/200k.py")
    return load_config(options.config, overrides)


def workdir_of(options: Options, config: Config) -> Path:
    """The folder of the run that is asked for."""
    return options.workdir or Path("runs") / f"{options.config.stem}-seed{config.train.seed}"


def prepare(*, gpu: bool = False) -> None:
    """Look for a device, which must be a GPU if ``gpu``, and keep what is compiled."""
    from cifar_jax.runtime.compilation_cache import enable_compilation_cache
    from cifar_jax.runtime.environment import require_device

    require_device(gpu=gpu)
    enable_compilation_cache(note)


def refuse_overrides(overrides: Sequence[str], options: Options) -> None:
    """Raise ConfigError for the first of words that a command, whose options these are, has not."""
    if not overrides:
        return
    name = overrides[0].partition("=")[0]
    if not name.startswith("-"):
        raise ConfigError(
            f"{overrides[0]}: is no option; a run is given as --workdir {overrides[0]}"
        )
    near = _nearest(name, options, cutoff=0.5)
    hint = f"did you mean {near}?" if near else "--help lists them"
    if "." in name:
        hint = "the config is that of the run"
    raise ConfigError(f"{name}: no such option; {hint}")


def refuse_misspelt(overrides: Sequence[str], options: Options) -> None:
    """Raise ConfigError for a word that is an option of the command but for a letter or two.

    Before the command misses that option. A word that is nearer to a field's name, or stands after
    ``--``, is left alone.
    """
    names = ("--" + option.partition(".")[2] for option in options_of(Config()))
    fields = [name for name in names if not _nearest(name, options, cutoff=0.9)]  # --seeds: no seed
    for word in itertools.takewhile(lambda word: word != "--", overrides):
        name = word.partition("=")[0]
        near = _nearest(name, options, cutoff=0.75, besides=fields)
        if name.startswith("--") and near and near not in fields:
            raise ConfigError(f"{name}: no such option; did you mean {near}?")


def _nearest(name: str, options: Options, *, cutoff: float, besides: Sequence[str] = ()) -> str:
    known = {f"--{option}".replace("_", "-") for option in vars(options)}
    known -= {name, "--version"}  # the latter is near to too much
    near = difflib.get_close_matches(name, [*besides, *sorted(known)], n=1, cutoff=cutoff)
    return near[0] if near else ""
