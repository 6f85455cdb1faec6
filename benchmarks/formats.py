"""Size and latency of a trained network in each format that export writes.

Usage: python benchmarks/formats.py [--weights pretrained/200k_quick] [--batches 1,128]
    [--repeats 200] [--json] [--out FOLDER]

From uint8 images on the host to logits or probabilities on the host, all formats in turns in one
process; benchmarks/README.md says what is measured. Needs the extra "onnx".
"""

import argparse
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
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

Report = dict[str, Any]
Network = Callable[[Any], Any]  # images uint8 [N, 32, 32, 3] to anything on the host


def measure(options: argparse.Namespace) -> Report:
    """Write the formats into a folder that goes again, and time them."""
    from cifar_jax.runtime import environment

    with tempfile.TemporaryDirectory() as folder:
        sizes, networks = make(options.weights, Path(folder), options.batches)
        formats: dict[str, Report] = {name: {"bytes": size} for name, size in sizes.items()}
        for batch in options.batches:
            say(f"batch {batch}")
            for name, seconds in take_turns(networks[batch], batch, options.repeats).items():
                formats[name][f"batch_{batch}"] = {
                    "seconds": statistics.median(seconds),
                    "seconds_range": [min(seconds), max(seconds)],
                }
    return {
        "weights": options.weights.name,
        "batches": options.batches,
        "repeats": options.repeats,
        "formats": formats,
        "device": environment.device(),
        "versions": environment.versions() | {"onnxruntime": version("onnxruntime")},
    }


def version(package: str) -> str:
    """Of an installed package."""
    import importlib.metadata

    return importlib.metadata.version(package)


def make(
    weights: Path, folder: Path, batches: Sequence[int]
) -> tuple[dict[str, int], dict[int, dict[str, Network]]]:
    """Write a network in each format, and open each.

    Returns:
      Bytes of each format, and for each batch size the formats as functions of images.
    """
    import cifar_jax
    from cifar_jax.runtime.formats import onnx_graph, stablehlo, write

    net = cifar_jax.load(weights)
    sizes = {"safetensors": sum(path.stat().st_size for path in weights.iterdir())}
    readers = {"stablehlo": stablehlo.load, "onnx": onnx_graph.load}
    opened: dict[str, Network] = {}
    for kind, load in readers.items():
        say(f"{kind}: writing")
        sizes[kind] = write(net, folder / f"network.{kind}", kind).size
        opened[kind] = load(folder / f"network.{kind}")
    networks: dict[int, dict[str, Network]] = {}
    for batch in batches:  # all of a call at once
        config = net.config.replace(eval={"batch_size": batch})
        networks[batch] = {"safetensors": net._replace(config=config).predict, **opened}
    return sizes, networks


def take_turns(networks: dict[str, Network], batch: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of each call; each format is called once before, to compile."""
    import numpy as np

    images = np.random.default_rng(0).integers(0, 256, (batch, 32, 32, 3), np.uint8)
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for network in networks.values():
        network(images)
    for _ in range(repeats):
        for name, network in networks.items():
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
    add_output_options(parser)
    options = parser.parse_args()
    from cifar_jax.errors import CifarJaxError

    try:
        report = header("formats") | measure(options)
    except CifarJaxError as error:
        refuse(str(error))
    publish(report, options, text=summarise(report), draw=functools.partial(draw, report))


if __name__ == "__main__":
    main()
