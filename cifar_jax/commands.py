"""What each command does. Imports jax only to run one."""

import argparse
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cifar_jax.config import Config, load_config, validate
from cifar_jax.errors import ConfigError
from cifar_jax.overrides import override
from cifar_jax.runtime.workdir import Workdir

Options = argparse.Namespace


def train(options: Options, overrides: Sequence[str], command: str) -> None:
    """Train a network and print its results."""
    config = _configure(options, overrides)
    from cifar_jax.runtime.score import describe_results
    from cifar_jax.runtime.signals import listening
    from cifar_jax.runtime.train import train

    _prepare(options)
    workdir, allow = _workdir(options, config), options.allow_config_change
    with listening() as stop:
        results = train(config, workdir, command=command, allow_config_change=allow, stop=stop)
    _print_what_is_saved(describe_results(results, workdir))


def sweep(options: Options, overrides: Sequence[str], command: str) -> None:
    """Train with several seeds and print the table."""
    config = _configure(options, overrides)
    if any(word.startswith("--train.seed") for word in overrides):
        raise ConfigError("--train.seed: a sweep takes --seeds instead")
    from cifar_jax.runtime.signals import listening
    from cifar_jax.runtime.sweep import describe, sweep

    _prepare(options)
    folder = options.workdir or Path("runs") / f"{options.config.stem}-sweep"
    with listening() as stop:
        found = sweep(config, options.seeds, folder, command=command, stop=stop)
    _print_what_is_saved(f"{describe(found)}\n{folder / 'sweep.json'}")


def evaluate(options: Options, overrides: Sequence[str], command: str) -> None:
    """Print the figures of a run or of exported weights."""
    if options.weights:
        _evaluate_weights(options, overrides)
        return
    if options.config:
        config = load_config(options.config, overrides)
        workdir = _workdir(options, config)
    elif options.workdir:
        workdir = options.workdir
        config = validate(override(Workdir(workdir).read_config(), overrides))
    else:
        raise ConfigError(
            "--workdir, --weights or --config is required, as in --workdir runs/200k-seed0"
        )
    from cifar_jax.runtime.environment import memory_in_words
    from cifar_jax.runtime.score import describe_accuracies, evaluate_run

    interruptible()
    _prepare(options)
    with memory_in_words("eval.batch_size", config.eval.batch_size):
        found = evaluate_run(
            workdir, config, split=options.split, step=options.checkpoint, report=note
        )
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print(describe_accuracies(found, options.split))
        print(f"{'step':22} {found['step']}")


def _evaluate_weights(options: Options, overrides: Sequence[str]) -> None:
    for name in ("config", "workdir", "checkpoint"):
        if getattr(options, name) is not None:
            raise ConfigError(f"--weights: cannot be together with --{name}")
    if options.split != "test":
        raise ConfigError("--split must be test for --weights, which have no validation split")
    from cifar_jax.runtime.compatibility import differing
    from cifar_jax.runtime.environment import memory_in_words
    from cifar_jax.runtime.pretrained import evaluate_weights, load
    from cifar_jax.runtime.score import describe_accuracies

    interruptible()
    _prepare(options)
    net = load(options.weights)
    config = validate(override(net.config, overrides))
    if decisive := [c for c in differing(net.config, config) if not c.field.startswith("eval.")]:
        raise ConfigError(f"{options.weights}: belongs to its config, so not {decisive[0]}")
    with memory_in_words("eval.batch_size", config.eval.batch_size):
        found = evaluate_weights(net, config)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print(describe_accuracies(found, "test"))
        print(f"{'the card says':22} {found['card_accuracy']:.2%}")


def export(options: Options, overrides: Sequence[str], command: str) -> None:
    """Write the weights and the card of a finished run."""
    if overrides:
        raise ConfigError(f"{overrides[0]}: no such option; the config is that of the run")
    if options.workdir is None or options.output is None:
        raise ConfigError("--workdir and --output are required, as in --output pretrained/200k")
    from cifar_jax.runtime.environment import require_device
    from cifar_jax.runtime.pretrained import export

    interruptible()
    require_device(gpu=False)
    card = export(options.workdir, options.output, limits=options.limits, report=note)
    print(f"{options.output}: {card['parameters']:,} parameters, {card['accuracy']:.2%}")


def summary(options: Options, overrides: Sequence[str], command: str) -> None:
    """Print the layers, parameters and cost of a network."""
    config = _configure(options, overrides)
    from cifar_jax import models
    from cifar_jax.runtime.diagram import draw_architecture
    from cifar_jax.runtime.summary import summarize

    network = models.from_config(config.model)
    if not options.picture:
        print(summarize(config))
    elif not isinstance(network, models.SeparableResNet):
        raise ConfigError(
            f"--picture: model.architecture must be separable, not {config.model.architecture}"
        )
    else:
        print(summarize(config))
        draw_architecture(network, options.picture)
        print(f"picture            {options.picture}")


def data(options: Options, overrides: Sequence[str], command: str) -> None:
    """Fetch the data set and print its hashes."""
    if options.config:
        config = load_config(options.config, overrides)
    else:
        config = validate(override(Config(), overrides))
    from cifar_jax.data import load_cifar10
    from cifar_jax.data.dataset import sha256

    interruptible()
    dataset = load_cifar10(config.data.data_dir, config.data.source, report=print)
    for name, array in dataset._asdict().items():
        print(f"{name:13} {array.dtype} {list(array.shape)}  sha256 {sha256(array)}")


def _configure(options: Options, overrides: Sequence[str]) -> Config:
    if options.config is None:
        raise ConfigError("--config is required, as in --config configs/200k.py")
    return load_config(options.config, overrides)


def _workdir(options: Options, config: Config) -> Path:
    return options.workdir or Path("runs") / f"{options.config.stem}-seed{config.train.seed}"


def _prepare(options: Options) -> None:
    """Look for a GPU if one is asked for, and keep what is compiled."""
    from cifar_jax.runtime.compilation_cache import enable_compilation_cache
    from cifar_jax.runtime.environment import require_device

    require_device(gpu=options.require_gpu)
    enable_compilation_cache(note)


def _print_what_is_saved(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError:  # it is all in a file
        drop_output()


def drop_output() -> None:
    """Let what is still to be written to standard output go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def interruptible() -> None:
    """Let Ctrl-C unwind from here on; main.py ends at once while packages are imported."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def note(message: str) -> None:
    """Say something on standard error."""
    tell(f"main.py: {message}")


def tell(text: str) -> None:
    """Print to standard error, if it is still there."""
    with contextlib.suppress(OSError):  # the exit status says it as well
        print(text, file=sys.stderr, flush=True)


COMMANDS: dict[str, Callable[[Options, Sequence[str], str], None]] = {
    "train": train,
    "sweep": sweep,
    "eval": evaluate,
    "export": export,
    "summary": summary,
    "data": data,
}
