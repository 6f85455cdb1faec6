"""Images a second of several runs side by side, and of one run over several devices.

Usage: python benchmarks/scaling.py [--members 1,2,4,8] [--devices 1,2,4,8] [--only members]
    [--way map] [--recipe 200k_quick] [--json] [--out FOLDER] [FIELDS]

FIELDS are of the recipe's config, as --augment.cutmix 0; it has no teacher unless they name one.
Random images; the devices are virtual ones of the CPU. benchmarks/README.md says what is measured.
"""

import argparse
import contextlib
import os
import shlex
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from measure import (
    Parser,
    add_output_options,
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
from scaling_point import WAYS, add_options, read_config
from turns import Contender, Report

from cifar_jax.config import ConfigError

POINT = Path(__file__).with_name("scaling_point.py")
FULL = 0.9  # of the best rate: a device that reaches it is full


def start(options: argparse.Namespace, kind: str, count: int, calls: int) -> Contender:
    """Start a point, and wait until it is warm."""
    words = [kind, str(count), str(calls), *["--quick"] * options.quick]
    names = ("recipe", "batch", "dtype", "steps")
    words += [f"--{name}={getattr(options, name)}" for name in names] + options.fields
    point = Contender(f"{kind} {count}", [sys.executable, str(POINT), *words])
    try:
        point.wait()
    except BaseException:
        point.close()
        raise
    return point


def take_turns(points: Sequence[Contender], rounds: int) -> None:
    """Let each work once in each round."""
    for number in range(1, rounds + 1):
        for point in points:
            point.turn()
        latest = (f"{p.name}: {p.turns[-1][0] / p.turns[-1][1]:,.0f}" for p in points)
        say(f"round {number} of {rounds} [images/s]: {', '.join(latest)}")


def of_point(point: Contender) -> Report:
    """Its rate, and what it says of itself."""
    seconds = [seconds for _, seconds in point.turns]
    return point.about | rates("", point.turns[0][0], seconds)


def over(name: str, point: Contender, other: Contender) -> Report:
    """How many times as fast a point was as another one, round by round."""
    mine, theirs = ([images / s for images, s in p.turns] for p in (point, other))
    ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
    return {name: statistics.median(ratios), f"{name}_range": [min(ratios), max(ratios)]}


def full_at(rows: Sequence[Report]) -> int:
    """The fewest members that reach nearly the best rate of all."""
    best = max(row["images_per_second"] for row in rows)
    return min(row["members"] for row in rows if row["images_per_second"] >= FULL * best)


def measure_members(options: argparse.Namespace) -> Report:
    """Several runs in one program against a single Trainer, as many images in each turn."""
    most, found = max(options.members), Report()
    with contextlib.ExitStack() as stack:

        def point(kind: str, count: int) -> Contender:
            one = start(options, kind, count, max(most // count, 1))
            stack.callback(one.close)
            return one

        single = point("trainer", 1)
        both = single.about["device"]["platform"] == "cpu"
        names = [options.way] if options.way else WAYS if both else ["vmap"]
        ways = {name: {count: point(name, count) for count in options.members} for name in names}
        take_turns(
            [single, *(p for points in ways.values() for p in points.values())], options.rounds
        )
        for way, points in ways.items():
            rows = []
            for count, one in points.items():
                row = {"members": count} | of_point(one) | over("ratio", one, points[1])
                rows.append(row | over("over_trainer", one, single))
            found[way] = {"full_at": full_at(rows), "rows": rows}
        return {"trainer": of_point(single), "members": found}


def measure_devices(options: argparse.Namespace) -> Report:
    """One run, each batch spread over virtual devices of the same cores."""
    with contextlib.ExitStack() as stack:
        points = {}
        for count in options.devices:
            points[count] = start(options, "devices", count, 1)
            stack.callback(points[count].close)
        take_turns(list(points.values()), options.rounds)
        first = points[1]
        rows = [
            {"devices": count} | of_point(one) | over("ratio", one, first)
            for count, one in points.items()
        ]
    for row in rows:
        row["work_of_a_device"] = row["flops"] / first.about["flops"]
    return {"devices": rows}


def measure(options: argparse.Namespace) -> Report:
    """Measure what the options ask for."""
    names = ("recipe", "batch", "dtype", "fields", "rounds", "quick")
    report: Report = {name: getattr(options, name) for name in names}
    if hasattr(os, "getloadavg"):
        report["load_before"] = os.getloadavg()[0]  # of other work
    if options.only != "devices":
        report |= measure_members(options)
    if options.only != "members":
        report |= measure_devices(options)
    rows = [report["trainer"]] if "trainer" in report else []
    rows += [row for way in report.get("members", {}).values() for row in way["rows"]]
    rows += report.get("devices", [])
    for name in ("device", "versions", "steps_of_call"):  # the same in all, but for the count
        first, *_ = [row.pop(name) for row in rows]
        report[name] = first
    return report


def labelled(report: Report) -> dict[str, Report]:
    """The measured points by name, in the order of the report."""
    found = {"one Trainer": report["trainer"]} if "trainer" in report else {}
    for way, members in report.get("members", {}).items():
        for row in members["rows"]:
            found[f"{WAYS[way]}, {plural(row['members'], 'member')}"] = row
    for row in report.get("devices", []):
        found[f"plain, {plural(row['devices'], 'device')}"] = row
    return found


def plural(count: int, name: str) -> str:
    """A number of things: ``1 member``, ``2 members``."""
    return f"{count} {name}{'s' if count > 1 else ''}"


def summarise(report: Report) -> str:
    """A table of one row for each measured point."""
    rows = [["", "images/s", "to 1", "to the Trainer", "compile [s]", "peak [MiB]"]]
    rows[0] += ["all-reduced [kB a step]", "gathered [kB a step]", "work of a device"]
    for name, row in labelled(report).items():
        peak = row["peak_device_bytes"] or row["peak_rss_bytes"]
        rows.append([name, show(*interval(row))])
        for ratio in ("ratio", "over_trainer"):
            rows[-1].append(show(row[ratio], row[f"{ratio}_range"], 2) if ratio in row else "")
        rows[-1] += [f"{row['compile_seconds']:.1f}", f"{peak / 2**20:,.0f}"]
        if "devices" in row:
            moved = (f"{row[f'all_{name}_bytes'] / 1e3:,.1f}" for name in ("reduced", "gathered"))
            rows[-1] += [*moved, f"{row['work_of_a_device']:.2f}"]
        else:
            rows[-1] += [""] * 3
    lines = [subtitle(report), table(rows)]
    for way, members in report.get("members", {}).items():
        lines.append(
            f"{WAYS[way]}: within 10 % of the best from {plural(members['full_at'], 'member')} on"
        )
    return "\n".join(lines)


def subtitle(report: Report) -> str:
    """One line: device, recipe and changed fields, type of numbers, version, day."""
    device, recipe = report["device"], shlex.join([report["recipe"], *report["fields"]])
    return (
        f"{device['kind']} ({device['cpu_cores']} cores), {recipe}, {report['dtype']}, "
        f"jax {report['versions']['jax']}, {report['date']}"
    )


def draw(report: Report, path: Path) -> None:
    """A bar for each point."""
    import charts

    title = f"Members side by side, and virtual devices\n{subtitle(report)}"
    values = {name: interval(row) for name, row in labelled(report).items()}
    charts.bars(path, values, title=title, label="images/s of all together")


def main() -> None:
    """Read the options, measure and tell."""
    fields = "Fields of the recipe's config can follow, as in --augment.cutmix 0."
    parser = Parser(description=(__doc__ or "").splitlines()[0], epilog=fields)
    counts = [1, 2, 4, 8]
    parser.add_argument("--members", type=positives, default=counts, help="runs side by side")
    parser.add_argument("--devices", type=positives, default=counts, help="virtual ones of the CPU")
    parser.add_argument("--only", choices=("members", "devices"), help="leave the other out")
    parser.add_argument("--way", choices=WAYS, help="of members (default: both on a CPU)")
    parser.add_argument("--rounds", type=positive, default=3, help="timed turns of each point")
    add_options(parser)
    add_output_options(parser)
    options, options.fields = parser.parse_known_args()
    for name in ("members", "devices"):  # ratios are to one
        setattr(options, name, sorted({1, *getattr(options, name)}))
    try:
        config = read_config(options)
        options.batch, options.dtype = config.train.batch_size, config.model.dtype
    except ConfigError as error:
        refuse(str(error))
    for count in options.devices if options.only != "members" else ():
        if options.batch % count:
            refuse(f"--devices: a batch of {options.batch} cannot be spread over {count}")
    report = header("scaling") | measure(options)
    publish(report, options, text=summarise(report), draw=lambda path: draw(report, path))


if __name__ == "__main__":
    main()
