"""python main.py eval: the figures of a run or of exported weights."""

import argparse
import functools
import json
from collections.abc import Sequence
from pathlib import Path

from cifar_jax.commands.command import (
    OF_A_NETWORK,
    Command,
    Options,
    add_network,
    add_require_gpu,
    config_of_run,
    open_network,
    prepare,
    to_path,
    workdir_of,
)
from cifar_jax.commands.console import interruptible, note
from cifar_jax.config import Config
from cifar_jax.config_file import load_config
from cifar_jax.errors import ConfigError
from cifar_jax.files import make_folder
from cifar_jax.runtime.workdir import Workdir


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=to_path,
        help="a Python file, whose run in its default folder is meant; any field can follow",
    )
    add_network(parser)
    add_require_gpu(parser)
    parser.add_argument(
        "--split", choices=("test", "validation"), default="test", help="images to score (test)"
    )
    parser.add_argument(
        "--all-views",
        action="store_true",
        help="with flip and full test-time augmentation, not only eval.tta",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--pictures",
        type=to_path,
        metavar="FOLDER",
        help="write confusion.png and reliability.png into it",
    )


def run(options: Options, overrides: Sequence[str], command: str) -> None:
    """Print the figures of a run or of exported weights, and draw them."""
    trained = _run_of(options, overrides)
    from tqdm import tqdm

    from cifar_jax.runtime.describe import describe_evaluation
    from cifar_jax.runtime.pictures import draw_evaluation
    from cifar_jax.runtime.score import evaluate_run, evaluate_weights

    interruptible()
    prepare(gpu=options.require_gpu)
    if trained:
        find = functools.partial(evaluate_run, *trained, step=options.checkpoint)
    else:
        find = functools.partial(evaluate_weights, open_network(options, overrides))
    if options.pictures:
        make_folder(options.pictures)  # before the work, which would be lost
    if trained and options.split == "test":
        workdir = Workdir(trained[0])
        if workdir.config.exists() and not workdir.results.exists():
            note(f"{workdir.path}: is not finished: its test set is to be scored once, at the end")
    found = find(
        split=options.split,
        all_views=options.all_views,
        report=note,
        watch=functools.partial(tqdm, unit="batch", leave=False, disable=None),
    )
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print(describe_evaluation(found, options.split))
        if "step" in found:
            print(f"{'step':22} {found['step']}")
        if found.get("card_accuracy") is not None:
            print(f"{'the card says':22} {found['card_accuracy']:.2%}")
    if options.pictures:
        draw_evaluation(found, options.pictures, options.split)


def _run_of(options: Options, overrides: Sequence[str]) -> tuple[Path, Config] | None:
    """The folder of a run and its config; None for exported weights."""
    if options.weights:
        for name in ("config", "workdir", "checkpoint"):
            if getattr(options, name) is not None:
                raise ConfigError(f"--weights: cannot be together with --{name}")
        return None
    if options.config:
        config = load_config(options.config, overrides)
        return workdir_of(options, config), config
    if options.workdir:
        return options.workdir, config_of_run(options.workdir, overrides)
    raise ConfigError(
        "--workdir, --weights or --config is required, as in --workdir runs/200k-seed0"
    )


EVAL = Command(
    "evaluate the network of a run, or exported weights",
    run,
    _add_options,
    OF_A_NETWORK.format("--eval.tta, "),
)
