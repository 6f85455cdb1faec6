"""One point of scaling.py, a process of its own: Trainer, Members, or virtual devices."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import UNTAUGHT, Parser, positive
from turns import Report, serve_ours

from cifar_jax.config import Config
from cifar_jax.config_file import load_config

ROOT = Path(__file__).parents[1]
TINY = ("--model.stem", "4", "--model.stages", "4", "--model.blocks", "1")
TINY += ("--data.train-examples", "256", "--optim.optimizer", "sgd")
TINY += ("--augment.random-crop", "0", "--augment.flip", "0")
WAYS = {"map": "lax.map", "vmap": "vmap"}  # to train members side by side


def read_config(options: argparse.Namespace, *words: str) -> Config:
    """The recipe in short chunks, with its fields and further words of a command line."""
    mine = ["--train.batch-size", str(options.batch), "--train.chunk-steps", str(options.steps)]
    mine += ["--model.dtype", options.dtype, *UNTAUGHT, *(TINY if options.quick else ())]
    mine += [*options.fields, *words]
    return load_config(ROOT / f"configs/{options.recipe}.py", mine)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what all points have in common."""
    parser.add_argument("--recipe", default="200k_quick", help="the name of a file in configs/")
    parser.add_argument("--batch", type=positive, default=128, help="images per step")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--steps", type=positive, default=2, help="most of one chunk")
    parser.add_argument("--quick", action="store_true", help="a tiny network, to try the command")


def make(options: argparse.Namespace) -> tuple[Callable[[], int], Report]:
    """Compile the chunk of a point; :func:`turns.serve` says what is returned."""
    # before jax starts; the contenders share a GPU
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    words = ()
    if options.kind == "devices":
        count = f"--xla_force_host_platform_device_count={options.count}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {count}".strip()
        os.environ["JAX_PLATFORMS"] = "cpu"
        words = ("--model.convolutions", "plain")  # native ones run on one device
    import jax
    import numpy as np
    from traffic import moved_bytes
    from workload import environment, peak_memory

    from cifar_jax.runtime.members import Members
    from cifar_jax.runtime.trainer import Trainer

    jax.config.update("jax_enable_compilation_cache", options.quick)
    config = read_config(options, *words)
    if options.kind in WAYS:
        configs = [config.replace(train={"seed": seed}) for seed in range(options.count)]
        trainer = Members(configs, vectorized=options.kind == "vmap")
        first = trainer.initial_states()
    else:
        trainer = Trainer(config)
        first = trainer.initial_state()
    before = trainer.compile_seconds
    program: Any = trainer.train_chunk
    about: Report = {
        "convolutions": "native" if trainer.model.lanes else "plain",
        "steps_of_call": trainer.chunk_steps,
        "compile_seconds": trainer.compile_seconds - before,
    }
    if options.kind == "devices":
        text = program.as_text()
        about["flops"] = program.cost_analysis()["flops"]
        for name, operation in (("reduced", "all-reduce"), ("gathered", "all-gather")):
            about[f"all_{name}_bytes"] = moved_bytes(text, operation) // trainer.chunk_steps
    about |= environment()
    count, random = config.train_images, np.random.default_rng(0)
    images = random.integers(0, 256, (count, 32, 32, 3), np.uint8)
    labels = random.integers(0, 10, count, np.uint8)
    resident = trainer.resident((images, labels))
    packed = trainer._to_device(first)

    def turn() -> int:
        nonlocal packed
        for _ in range(options.calls):
            packed, metrics = program(packed, trainer.chunk_key, *resident)
            jax.device_get(metrics)
        about.update(peak_memory())  # told after the first turn
        return options.calls * trainer.chunk_steps * config.train.batch_size * trainer.members

    return turn, about


if __name__ == "__main__":
    parser = Parser()
    parser.add_argument("kind", choices=("trainer", *WAYS, "devices"))
    parser.add_argument("count", type=positive, help="members, or devices")
    parser.add_argument("calls", type=positive, help="of the chunk in a turn")
    add_options(parser)
    options, options.fields = parser.parse_known_args()
    serve_ours(make, options)
