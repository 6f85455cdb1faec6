"""Where the time of a recipe's loop goes: the kernels of a step, from a trace of a chunk.

Usage: python benchmarks/kernels.py [--recipe 200k] [--members 1] [--calls 5] [--json] [FIELDS]

The loop, with or without a teacher, is that of a run with plain convolutions, on random images. It
is timed first, then traced. On a CPU a kernel is a part of the program, and threads overlap. FIELDS
are those of the config, as in --model.dtype bfloat16. A teacher has to be named there.
"""

import json
import re
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.profiler import ProfileData
from measure import Parser, clock, header, positive, say, table
from workload import environment, recipe_loop

from cifar_jax.runtime.members import Members

SHOWN = 25  # kernels of the table, and kinds
CONTAINERS = re.compile(r"(while|call|conditional)\b")  # of other parts of a program


def main() -> None:
    """Time, trace and tell."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default="200k", help="a file in configs/, without .py")
    parser.add_argument("--members", type=positive, default=1, help="seeds side by side")
    parser.add_argument("--calls", type=positive, default=5, help="of a chunk, which are timed")
    parser.add_argument("--json", action="store_true", help="print one JSON object, not a table")
    options, fields = parser.parse_known_args()
    trainer = recipe_loop(options.recipe, options.members, fields)
    config = trainer.config
    count, random = config.train_images, np.random.default_rng(0)
    images = random.integers(0, 256, (count, 32, 32, 3), np.uint8)
    resident = trainer.resident((images, random.integers(0, 10, count, np.uint8)))
    several = isinstance(trainer, Members)
    first = trainer.initial_states() if several else trainer.initial_state()
    packed = trainer._to_device(first)
    say(f"{options.recipe}: compiling")
    chunk, steps = trainer.train_chunk, trainer.chunk_steps

    def call() -> None:
        nonlocal packed
        packed, metrics = chunk(packed, trainer.chunk_key, *resident)
        jax.device_get(metrics)

    call()
    seconds = statistics.median(clock(call, repeats=options.calls)) / steps
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            call()
        (trace,) = Path(folder).rglob("*.xplane.pb")
        kernels = kernels_of(ProfileData.from_file(str(trace)), steps)
    report: dict[str, Any] = header("kernels") | {
        "config": options.recipe,
        "dtype": config.model.dtype,
        "teacher": config.distill.teacher,
        "side_by_side": trainer.members,
        "steps_of_call": steps,
        "calls": options.calls,
        "milliseconds_a_step": 1e3 * seconds,
        "images_per_second": trainer.members * config.train.batch_size / seconds,
        "kernel_milliseconds_a_step": sum(one["microseconds_a_step"] for one in kernels) / 1e3,
        "kernels": kernels,
        **environment(),
    }
    print(json.dumps(report, allow_nan=False) if options.json else describe(report))


def kernels_of(trace: Any, steps: int) -> list[dict[str, Any]]:
    """The kernels of a trace, by their time in a step, the longest first.

    Args:
      trace: a :class:`jax.profiler.ProfileData` of one call of a chunk.
      steps: of that call.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for event in _events(trace):
        found[event.name].append(event.duration_ns)
    kernels = [
        {
            "name": name,
            "times_a_step": round(len(durations) / steps, 3),
            "microseconds_a_step": round(sum(durations) / steps / 1e3, 3),
        }
        for name, durations in found.items()
    ]
    return sorted(kernels, key=lambda one: -one["microseconds_a_step"])


def _events(trace: Any) -> Iterable[Any]:
    """What the first GPU did; without one, those parts of programs that the host ran."""
    planes = {plane.name: plane for plane in trace.planes}
    gpus = sorted(name for name in planes if name.startswith("/device:GPU"))
    for line in planes[gpus[0] if gpus else "/host:CPU"].lines:
        for event in line.events:
            if gpus:
                found = line.name.startswith("Stream")  # other lines sum these up
            else:
                part = any(name == "hlo_op" for name, _ in event.stats)
                found = part and not CONTAINERS.match(event.name)
            if found:
                yield event


def describe(report: dict[str, Any]) -> str:
    """A table of the kernels, and of the kinds of kernels, that take the most time."""
    kinds: dict[str, float] = defaultdict(float)
    for one in report["kernels"]:
        kinds[re.sub(r"([_.]\d+)+$", "", one["name"])] += one["microseconds_a_step"]
    rows = [("", "times a step", "us a step")]
    for one in report["kernels"][:SHOWN]:
        times, time = one["times_a_step"], one["microseconds_a_step"]
        rows.append((one["name"][:60], f"{times:g}", f"{time:,.1f}"))
    rows.append(("by kind:", "", ""))
    for kind, time in sorted(kinds.items(), key=lambda pair: -pair[1])[:SHOWN]:
        rows.append((kind[:60], "", f"{time:,.1f}"))
    return (
        f"{table(rows)}\n{report['config']}, {report['dtype']}, {report['side_by_side']} side by "
        f"side: {report['milliseconds_a_step']:.3f} ms a step, "
        f"{report['kernel_milliseconds_a_step']:.3f} ms of kernels, "
        f"{report['images_per_second']:,.0f} images/s"
    )


if __name__ == "__main__":
    main()
