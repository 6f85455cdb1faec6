"""Size and latency of a trained network in each format that export writes.

Usage: python benchmarks/formats.py [--weights pretrained/200k_quick] [--batches 1,128]
    [--repeats 200] [--torch] [--json] [--out FOLDER]

From uint8 images on the host to logits or probabilities on the host, on a CPU, all formats in turns
in one process; benchmarks/README.md says what is measured. Needs the extra "onnx", and for --torch
also torch (pip install torch), which the project does not depend on.
"""

import argparse
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from measure import (
    Parser,
    add_output_options,
    header,
    positive,
    positives,
    publish,
    refuse,
    say,
    show,
    table,
)
from turns import cores

Report = dict[str, Any]
BURST = 10  # calls of a turn
PAUSE = 0.1  # seconds between turns, in which threads that wait for their next call fall asleep
Network = Callable[[Any], Any]  # images uint8 [N, 32, 32, 3] to anything on the host


def measure(options: argparse.Namespace) -> Report:
    """Write the formats into a folder that goes again, and time them."""
    import jax

    from cifar_jax.runtime import environment

    jax.config.update("jax_platforms", "cpu")  # where ONNX Runtime and PyTorch compute here
    with tempfile.TemporaryDirectory() as folder:
        sizes, networks = make(options.weights, Path(folder), options.batches, options.torch)
        formats: dict[str, Report] = {name: {"bytes": size} for name, size in sizes.items()}
        for batch in options.batches:
            say(f"batch {batch}")
            for name, seconds in take_turns(networks[batch], batch, options.repeats).items():
                formats[name][f"batch_{batch}"] = {
                    "seconds": statistics.median(seconds),
                    "seconds_range": [min(seconds), max(seconds)],
                }
    packages = ["onnxruntime", "torch"] if options.torch else ["onnxruntime"]
    return {
        "weights": options.weights.name,
        "batches": options.batches,
        "repeats": options.repeats,
        "formats": formats,
        "device": environment.device(),
        "versions": environment.versions() | {name: version(name) for name in packages},
        "torch_threads": cores() if options.torch else None,
    }


def make(
    weights: Path, folder: Path, batches: Sequence[int], torch: bool
) -> tuple[dict[str, int], dict[int, dict[str, Network]]]:
    """Write a network in each format, and open each; in torch's only if asked.

    Returns:
      Bytes of each format, and for each batch size the formats as functions of images.
    """
    import cifar_jax
    from cifar_jax.runtime.formats import ENDINGS, onnx_graph, stablehlo, write

    net = cifar_jax.load(weights)
    size = sum(path.stat().st_size for path in weights.iterdir())
    sizes = {"safetensors": size, "safetensors, plain": size}  # the same, without the C++
    readers: dict[str, Callable[[Path], Network]]
    readers = {"stablehlo": stablehlo.load, "onnx": onnx_graph.load}
    if torch:
        readers["torch"] = functools.partial(load_torch, net.config.augment)
    opened: dict[str, Network] = {}
    for kind, load in readers.items():
        say(f"{kind}: writing")
        path = folder / f"network{ENDINGS[kind][-1]}"
        sizes[kind] = write(net, path, kind).size
        opened[kind] = load(path)
    networks: dict[int, dict[str, Network]] = {}
    for batch in batches:  # all of a call at once
        config = net.config.replace(eval={"batch_size": batch})
        plain = config.replace(model={"convolutions": "plain"})
        networks[batch] = {
            "safetensors": net._replace(config=config).predict,
            "safetensors, plain": net._replace(config=plain).predict,
            **opened,
        }
    return sizes, networks


def set_up_torch() -> None:
    """Give torch as many threads as this process may use cores; refuse if it is not there."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        refuse(f"--torch needs torch beside the project (pip install torch): {error}")
    torch.set_num_threads(cores())


def load_torch(normalisation: Any, path: Path) -> Network:
    """The original network in eager PyTorch, channels last, with the weights of a file.

    Args:
      normalisation: has the mean and the std of the images.
      path: a state dict, of ``torch.save``.
    """
    import torch  # pyright: ignore[reportMissingImports]
    from torch_network import Network as Original

    network = Original().eval().to(memory_format=torch.channels_last)
    try:
        network.load_state_dict(torch.load(path, weights_only=True))
    except RuntimeError:  # other names or shapes
        refuse("--torch needs weights of the network of 150,690 parameters")
    mean = torch.tensor(normalisation.mean)[:, None, None]
    std = torch.tensor(normalisation.std)[:, None, None]

    def logits(images: Any) -> Any:
        with torch.inference_mode():  # NHWC as NCHW is channels last already
            x = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)
            return network((x - mean) / std).numpy()

    return logits


def take_turns(networks: dict[str, Network], batch: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of each call; each format is called once before, to compile."""
    import numpy as np

    images = np.random.default_rng(0).integers(0, 256, (batch, 32, 32, 3), np.uint8)
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for network in networks.values():
        network(images)
    for done in range(0, repeats, BURST):
        for name, network in networks.items():
            time.sleep(PAUSE)
            for _ in range(min(BURST, repeats - done)):
                started = time.perf_counter()
                network(images)
                seconds[name].append(time.perf_counter() - started)
    return seconds


def milliseconds(report: Report, name: str, batch: int) -> tuple[float, tuple[float, float]]:
    """The median of a format's calls, and the shortest and the longest."""
    found = report["formats"][name][f"batch_{batch}"]
    low, high = (1e3 * value for value in found["seconds_range"])
    return 1e3 * found["seconds"], (low, high)


def summarise(report: Report) -> str:
    """A table of one row for each format."""
    rows = [["", "bytes", *(f"batch {batch} [ms]" for batch in report["batches"])]]
    for name, found in report["formats"].items():
        times = (show(*milliseconds(report, name, batch), 2) for batch in report["batches"])
        rows.append([name, f"{found['bytes']:,}", *times])
    return table(rows)


def draw(report: Report, path: Path) -> None:
    """Bars for the largest batch."""
    import charts

    batch = max(report["batches"])
    values = {name: milliseconds(report, name, batch) for name in report["formats"]}
    device = f"{report['device']['kind']} ({report['device']['cpu_cores']} cores)"
    title = f"Batch {batch}\n{device}, {report['date']}"
    charts.bars(path, values, title=title, label="ms a batch", digits=1)


def main() -> None:
    """Read the options, measure and tell."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, default=Path("pretrained/200k_quick"))
    parser.add_argument("--batches", type=positives, default=[1, 128], help="images of a call")
    parser.add_argument("--repeats", type=positive, default=200, help="timed calls of each")
    parser.add_argument("--torch", action="store_true", help="time PyTorch, too")
    add_output_options(parser)
    options = parser.parse_args()
    if options.torch:
        set_up_torch()
    from cifar_jax.errors import CifarJaxError

    try:
        report = header("formats") | measure(options)
    except CifarJaxError as error:
        refuse(str(error))
    publish(report, options, text=summarise(report), draw=functools.partial(draw, report))


if __name__ == "__main__":
    main()
