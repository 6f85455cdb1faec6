"""The commands: train (the default), eval, summary and data. Imports jax only to run one."""

import argparse
import contextlib
import io
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cifar_jax.config import Config, load_config, validate
from cifar_jax.overrides import override, print_fields
from cifar_jax.ranges import ConfigError
from cifar_jax.runtime.workdir import Workdir

COMMANDS = {
    "train": "train a network, or go on with an interrupted run (the default)",
    "eval": "evaluate the network of a run",
    "summary": "show layers, parameters, receptive field and cost",
    "data": "fetch the data set and verify it",
}


def main(argv: Sequence[str]) -> int:
    """Run one command.

    Args:
      argv: words after the program's name.

    Returns:
      The exit status: 0; 1 for a run that failed; 2 for what the user has to put right; 130 after
      Ctrl-C and 143 after SIGTERM. Each failure is one line on standard error.
    """
    for stream in (sys.stdout, sys.stderr):  # what a terminal cannot show must not end a run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    words = list(argv)
    name = words.pop(0) if words and not words[0].startswith("-") else "train"
    if name not in COMMANDS:
        return _refuse(f"{name}: no such command; there are {', '.join(COMMANDS)}")
    parser, command = _parser(name), shlex.join(["python", "main.py", *argv])
    try:
        options, overrides = parser.parse_known_args(words)
        if options.help:
            _help(parser, options)
            return 0
        return _COMMANDS[name](options, overrides, command)
    except (ConfigError, argparse.ArgumentError) as error:
        return _refuse(str(error))
    except BrokenPipeError:  # the reader of what was printed has gone; training never ends so
        _drop_output()
        return 0
    except KeyboardInterrupt as error:
        more = f"; to go on: {command}" if name == "train" else ""
        _tell(f"\n{str(error) or 'interrupted'}{more}")
        return 128 + getattr(error, "signum", signal.SIGINT)
    except OSError as error:
        return _refuse(str(error), status=1)


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python main.py {name}",
        description=COMMANDS[name],
        epilog="Any field of the config can follow, as in --train.epochs 2.",
        add_help=False,
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="list every option and field")
    parser.add_argument("--config", type=Path, help="a Python file, as configs/200k.py")
    if name in ("train", "eval"):
        parser.add_argument(
            "--workdir", type=Path, help="folder of the run (default: runs/<config>-seed<seed>)"
        )
        parser.add_argument(
            "--require-gpu", action="store_true", help="refuse to run without a GPU"
        )
    if name == "train":
        parser.add_argument(
            "--allow-config-change",
            action="store_true",
            help="go on with other values of fields that decide the result",
        )
    if name == "eval":
        parser.add_argument("--split", choices=("test", "validation"), default="test")
        parser.add_argument("--checkpoint", type=int, metavar="STEP", help="not the selected one")
        parser.add_argument("--json", action="store_true", help="print JSON")
    if name == "summary":
        parser.add_argument("--picture", type=Path, help="draw the architecture into this PNG")
    return parser


def _help(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    others = "".join(f"\n  {name:9}{text}" for name, text in COMMANDS.items())
    print(f"{parser.format_help()}\ncommands:{others}\n\nfields of the config:\n")
    config = load_config(options.config) if options.config else Config()
    print_fields(config, parser.prog)


def _configure(options: argparse.Namespace, overrides: Sequence[str]) -> Config:
    if options.config is None:
        raise ConfigError("--config is required, as in --config configs/200k.py")
    return load_config(options.config, overrides)


def _workdir(options: argparse.Namespace, config: Config) -> Path:
    return options.workdir or Path("runs") / f"{options.config.stem}-seed{config.train.seed}"


def _train(options: argparse.Namespace, overrides: Sequence[str], command: str) -> int:
    config = _configure(options, overrides)
    from cifar_jax.data import DataError
    from cifar_jax.runtime.checkpoint import CheckpointError
    from cifar_jax.runtime.compilation_cache import enable_compilation_cache
    from cifar_jax.runtime.environment import OutOfMemory, require_device
    from cifar_jax.runtime.score import describe_results
    from cifar_jax.runtime.signals import listening
    from cifar_jax.runtime.train import train
    from cifar_jax.runtime.trainer import TrainingError

    require_device(gpu=options.require_gpu)
    enable_compilation_cache(_note)
    workdir, allow = _workdir(options, config), options.allow_config_change
    try:
        with listening() as stop:
            results = train(config, workdir, command=command, allow_config_change=allow, stop=stop)
    except DataError as error:
        return _refuse(str(error))
    except (CheckpointError, TrainingError, OutOfMemory) as error:
        return _refuse(str(error), status=1)
    try:
        print(describe_results(results, workdir), flush=True)
    except OSError:  # it is all in results.json
        _drop_output()
    return 0


def _eval(options: argparse.Namespace, overrides: Sequence[str], command: str) -> int:
    if options.config:
        config = load_config(options.config, overrides)
        workdir = _workdir(options, config)
    elif options.workdir:
        workdir = options.workdir
        config = validate(override(Workdir(workdir).read_config(), overrides))
    else:
        raise ConfigError("--workdir or --config is required, as in --workdir runs/200k-seed0")
    from cifar_jax.data import DataError
    from cifar_jax.runtime.checkpoint import CheckpointError
    from cifar_jax.runtime.compilation_cache import enable_compilation_cache
    from cifar_jax.runtime.environment import OutOfMemory, memory_in_words, require_device
    from cifar_jax.runtime.score import describe_accuracies, evaluate_run

    _interruptible()
    require_device(gpu=options.require_gpu)
    enable_compilation_cache(_note)
    try:
        with memory_in_words("eval.batch_size", config.eval.batch_size):
            found = evaluate_run(
                workdir, config, split=options.split, step=options.checkpoint, report=_note
            )
    except DataError as error:
        return _refuse(str(error))
    except (CheckpointError, OutOfMemory) as error:
        return _refuse(str(error), status=1)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print(describe_accuracies(found, options.split))
        print(f"{'step':22} {found['step']}")
    return 0


def _summary(options: argparse.Namespace, overrides: Sequence[str], command: str) -> int:
    config = _configure(options, overrides)
    from cifar_jax import models
    from cifar_jax.runtime.diagram import draw_architecture
    from cifar_jax.runtime.summary import summarize

    print(summarize(config))
    if options.picture:
        draw_architecture(models.from_config(config.model), options.picture)
        print(f"picture            {options.picture}")
    return 0


def _data(options: argparse.Namespace, overrides: Sequence[str], command: str) -> int:
    if options.config:
        config = load_config(options.config, overrides)
    else:
        config = validate(override(Config(), overrides))
    from cifar_jax import data
    from cifar_jax.data.dataset import sha256

    _interruptible()
    try:
        dataset = data.load_cifar10(config.data.data_dir, config.data.source, report=print)
    except data.DataError as error:
        return _refuse(str(error))
    for name, array in dataset._asdict().items():
        print(f"{name:13} {array.dtype} {list(array.shape)}  sha256 {sha256(array)}")
    return 0


def _drop_output() -> None:
    """Let what is still to be written to standard output go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interruptible() -> None:
    """Let Ctrl-C unwind from here on; main.py ends at once while packages are imported."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _refuse(message: str, status: int = 2) -> int:
    _note(message)
    return status


def _note(message: str) -> None:
    _tell(f"main.py: {message}")


def _tell(text: str) -> None:
    with contextlib.suppress(OSError):  # the exit status says it as well
        print(text, file=sys.stderr, flush=True)


_COMMANDS: dict[str, Callable[[argparse.Namespace, Sequence[str], str], int]] = {
    "train": _train,
    "eval": _eval,
    "summary": _summary,
    "data": _data,
}
