"""Train steps a second: ours with the whole recipe against PyTorch's without any augmentation.

Usage: python benchmarks/against_torch.py [--rounds 9] [--compile] [--json] [--out FOLDER]

The same network, loss and optimiser in PyTorch, on one normalised batch a turn; ours gathers,
augments, mixes and averages too. Each holds an epoch of images in memory. Contenders take turns on
the same cores; the ratio is ours over PyTorch's within a round. Our program is loaded from the
compilation cache where it holds one, as a run's is. Needs torch (pip install torch), which the
project does not depend on.
"""

# pyright: reportMissingImports=false
import argparse
import sys
from collections.abc import Callable
from typing import Any

from measure import Parser, add_output_options, positive, refuse, say
from turns import contest, cores, serve, serve_ours

OURS = "cifar_jax"
EAGER = ("torch", "torch channels_last", "torch channels_last bfloat16")
COMPILED = "torch channels_last compiled"
EPOCH = 45_000  # images


def ours(options: argparse.Namespace) -> tuple[Callable[[], int], dict[str, Any]]:
    """A turn of the 200k recipe, and what it runs on."""
    import jax

    jax.config.update("jax_platforms", "cpu")  # where PyTorch computes here
    from workload import Workload, environment

    from cifar_jax.runtime.compilation_cache import enable_compilation_cache

    enable_compilation_cache(say)
    overrides = ["--model.convolutions", options.convolutions]
    work = Workload(
        batch=options.batch,
        steps=options.steps,
        overrides=overrides,
        quick=options.quick,
        cached=True,
    )
    program, call = work.train()

    def turn() -> int:
        call()
        return work.images_of_call

    about = {"convolutions": work.convolutions, "program_cached": program.cached}
    return turn, environment() | about


def torchs(name: str, options: argparse.Namespace) -> tuple[Callable[[], int], dict[str, Any]]:
    """A turn of as many steps in PyTorch, and what it runs on."""
    try:
        import torch
    except ImportError as error:
        refuse(f"needs torch beside the project (pip install torch): {error}")
    from torch_network import Network

    torch.manual_seed(0)
    torch.set_num_threads(cores())
    layout = torch.channels_last if "channels_last" in name else torch.contiguous_format
    model = Network().to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    forward = torch.compile(model) if name == COMPILED else model
    epoch = torch.randint(0, 256, (EPOCH, 3, 32, 32), dtype=torch.uint8)
    labels = torch.randint(0, 10, (options.batch,))
    targets = torch.nn.functional.one_hot(labels, 10).float()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)

    def turn() -> int:
        rows = torch.randint(0, EPOCH, (options.batch,))
        images = (epoch[rows].float() / 64 - 2).to(memory_format=layout)
        for _ in range(options.steps):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled="bfloat16" in name):
                logits = forward(images)
                loss = torch.nn.functional.cross_entropy(logits, targets, label_smoothing=0.1)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        return options.steps * options.batch

    return turn, {"torch": torch.__version__, "threads": torch.get_num_threads()}


def main() -> None:
    """Read the options, let the contenders take turns, and tell."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=positive, default=128, help="images per step")
    parser.add_argument("--rounds", type=positive, default=9)
    parser.add_argument("--steps", type=positive, default=15, help="of a turn")
    parser.add_argument("--convolutions", choices=("auto", "plain", "native"), default="auto")
    parser.add_argument("--compile", action="store_true", help="torch.compile too")
    parser.add_argument("--quick", action="store_true", help="a tiny network of ours, for a try")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    add_output_options(parser)
    options = parser.parse_args()
    if options.worker:
        if options.worker == OURS:
            serve_ours(ours, options)
        else:
            serve(*torchs(options.worker, options))
        return
    names = (OURS, *EAGER, *[COMPILED] * options.compile)
    words = [f"--batch={options.batch}", f"--steps={options.steps}", *["--quick"] * options.quick]
    words += [f"--convolutions={options.convolutions}"]
    commands = {name: [sys.executable, __file__, "--worker", name, *words] for name in names}
    title = f"Training, batch {options.batch}: ours with augmentation, PyTorch without"
    contest("against_torch", commands, options, title=title)


if __name__ == "__main__":
    main()
