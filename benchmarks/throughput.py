"""Images a second of training, of evaluation and of augmentation; memory and time to compile.

Usage: python benchmarks/throughput.py [--batch 128] [--dtype bfloat16] [--scaling] [--json]
    [--out FOLDER]

The recipe of configs/200k.py on random images; benchmarks/README.md says what is measured.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from measure import (
    Parser,
    add_output_options,
    clock,
    header,
    interval,
    positive,
    positives,
    publish,
    rates,
    refuse,
    say,
    show,
    table,
)

from cifar_jax.config import ConfigError

PARTS = ("train", "eval", "augment")
Report = dict[str, Any]


def measure(options: argparse.Namespace) -> Report:
    """Measure one batch size at one image side."""
    from workload import Workload, environment, peak_memory

    work = Workload(
        batch=options.batch,
        side=options.side,
        dtype=options.dtype,
        steps=options.steps,
        overrides=["--model.convolutions", options.convolutions],
        quick=options.quick,
    )
    eval_batch = options.eval_batch or work.config.eval.batch_size
    report: Report = {
        "batch": work.batch,
        "side": work.side,
        "dtype": options.dtype,
        "convolutions": work.convolutions,
        "steps_of_call": work.steps,
        "eval_batch": eval_batch,
        "repeats": options.repeats,
        "quick": options.quick,
    }
    programs = {}
    for name in PARTS:
        say(f"batch {work.batch}, side {work.side}, {options.dtype}: {name}")
        count = work.images_of_call
        if name == "eval":
            program, call, count = work.evaluate(eval_batch)
        else:
            program, call = work.train() if name == "train" else work.augment()
        call()
        report |= rates(name, count, clock(call, repeats=options.repeats))
        programs[name] = program.costs()
        if name == "train":
            report |= peak_memory()  # of training alone: the others come on top
    share = report["train_images_per_second"] / report["augment_images_per_second"]
    return report | {"augment_share": share, "programs": programs} | environment()


def scale(options: argparse.Namespace) -> Report:
    """Measure at many batch sizes and at many sides, each point in a process of its own.

    Returns:
      The report at the batch size and side of the options, with all points as "scaling".
    """
    points = [(options.batch, options.side)]
    points += [(batch, options.side) for batch in options.batches]
    points += [(options.batch, side) for side in options.sides]
    reports: list[Report] = []
    for batch, side in dict.fromkeys(points):
        words = [f"--batch={batch}", f"--side={side}", f"--dtype={options.dtype}", "--json"]
        words += [f"--repeats={options.repeats}", f"--convolutions={options.convolutions}"]
        words += [*["--quick"] * options.quick]
        words += [f"--steps={options.steps}"] * bool(options.steps)
        words += [f"--eval-batch={options.eval_batch}"] * bool(options.eval_batch)
        done = subprocess.run(
            [sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode == 0:
            reports.append(json.loads(done.stdout))
        elif not reports:
            sys.exit(done.returncode)
        else:
            say(f"throughput.py: batch {batch}, side {side} is left out: see above")
    return reports[0] | {"scaling": reports}


def summarise(report: Report) -> str:
    """A table of one row for each measured point."""
    rows = [["batch", "side", *(f"{name} [images/s]" for name in PARTS)]]
    rows[0] += ["augmentation", "compile [s]", "peak [MiB]", "temporary [MiB]"]
    for point in report.get("scaling", [report]):
        train = point["programs"]["train"]
        peak = point["peak_device_bytes"] or point["peak_rss_bytes"]
        rows.append(
            [
                str(point["batch"]),
                str(point["side"]),
                *(show(*interval(point, name)) for name in PARTS),
                f"{point['augment_share']:.1%}",
                f"{train['compile_seconds']:.1f}",
                f"{peak / 2**20:,.0f}",
                f"{train['temp_bytes'] / 2**20:,.0f}",
            ]
        )
    return f"{subtitle(report)}\n{table(rows)}"


def subtitle(report: Report) -> str:
    """One line: device, type of numbers, version, day."""
    device = report["device"]
    return (
        f"{device['kind']} ({device['cpu_cores']} cores), {report['dtype']}, "
        f"{report['convolutions']} convolutions, "
        f"jax {report['versions']['jax']}, {report['date']}"
    )


def draw(report: Report, path: Path) -> None:
    """Bars for one point; lines over batch size and side for many."""
    import charts  # not earlier: the memory of training is measured

    if "scaling" not in report:
        heading = f"Batch {report['batch']}, {report['side']}x{report['side']} pixels"
        values = {name: interval(report, name) for name in PARTS}
        charts.bars(path, values, title=f"{heading}\n{subtitle(report)}", label="images/s")
        return
    panels = []
    for axis, other, label in (
        ("batch", "side", f"batch size [images], side {report['side']}"),
        ("side", "batch", f"side of the images [pixels], batch {report['batch']}"),
    ):
        points = sorted(
            (point for point in report["scaling"] if point[other] == report[other]),
            key=lambda point: point[axis],
        )
        curves = {name: [(p[axis], *interval(p, name)) for p in points] for name in PARTS}
        panels.append((label, curves))
    charts.lines(path, panels, title=subtitle(report), label="images/s")


def main() -> None:
    """Read the options, measure and tell."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=positive, default=128, help="images per step")
    parser.add_argument("--side", type=positive, default=32, help="of the images [pixels]")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--convolutions", choices=("auto", "plain", "native"), default="auto")
    parser.add_argument("--steps", type=positive, help="of one timed call; default: 5,000 images")
    parser.add_argument("--eval-batch", type=positive, help="images per step of evaluation")
    parser.add_argument("--repeats", type=positive, default=7, help="timed calls")
    parser.add_argument("--scaling", action="store_true", help="over batch sizes and sides too")
    powers = [2**n for n in range(5, 12)]
    parser.add_argument("--batches", type=positives, default=powers, help="of --scaling")
    parser.add_argument("--sides", type=positives, default=[16, 32, 48, 64], help="of --scaling")
    parser.add_argument("--quick", action="store_true", help="a tiny network, to try the command")
    add_output_options(parser)
    options = parser.parse_args()
    try:
        report = scale(options) if options.scaling else measure(options)
    except ConfigError as error:
        refuse(str(error))
    head = header("throughput")
    report = head | report | head  # a point that --scaling has run has one of its own
    publish(report, options, text=summarise(report), draw=lambda path: draw(report, path))


if __name__ == "__main__":
    main()
