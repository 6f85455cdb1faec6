"""python main.py eval: the figures of a run or of exported weights."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from cifar_jax.commands.command import (
    Command,
    Options,
    add_config,
    add_require_gpu,
    add_workdir,
    prepare,
    workdir_of,
)
from cifar_jax.commands.console import interruptible, note
from cifar_jax.config import load_config, validate
from cifar_jax.errors import ConfigError
from cifar_jax.overrides import override
from cifar_jax.runtime.workdir import Workdir


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_workdir(parser)
    add_require_gpu(parser)
    parser.add_argument("--weights", type=Path, help="exported ones, as pretrained/200k")
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--checkpoint", type=int, metavar="STEP", help="not the selected one")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: Options, overrides: Sequence[str], command: str) -> None:
    """Print the figures of a run or of exported weights."""
    if options.weights:
        _evaluate_weights(options, overrides)
        return
    if options.config:
        config = load_config(options.config, overrides)
        workdir = workdir_of(options, config)
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
    prepare(options)
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
    prepare(options)
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


EVAL = Command("evaluate the network of a run, or exported weights", run, _add_options)
