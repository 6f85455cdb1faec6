"""All figures that need a GPU, in one call of under eight minutes.

Usage: python benchmarks/gpu.py --out FOLDER [--budget 450] [--only NAME,NAME] [--flags NAME=FLAGS]

Each candidate of gpu_candidates.py is a process of its own with a limit of time, so that one that
fails, or a flag that the compiler does not know, costs the others nothing. FOLDER/gpu.json is
written anew after each; failures.log has what the failed ones said.
"""

import argparse
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gpu_candidates import CANDIDATES, QUICK, Candidate, measure, quick
from measure import Parser, header, interval, positive, refuse, say, show, table

from cifar_jax.files import replacing, write_json

Record = dict[str, Any]
WORTH_STARTING = 30  # seconds: no candidate is started with less left


def work(candidate: Candidate, path: Path) -> None:
    """Measure a candidate in this process; its record is on the disk after each measure."""
    import jax
    from workload import environment

    if not candidate.quick and jax.default_backend() != "gpu":
        refuse(f"needs a GPU, and jax found {jax.default_backend()}; --quick does without")
    record: Record = {"environment": environment(), "measures": {}}
    for name, figures in measure(candidate):
        record["measures"][name] = figures
        write_json(path, record)


def attempt(candidate: Candidate, limit: float, log: Path) -> Record:
    """Measure a candidate in another process.

    Args:
      candidate: what to measure.
      limit: seconds after which it is stopped.
      log: what a failed candidate said is added to this file.

    Returns:
      Its record: the candidate, status ("ok" or "failed"), measures as far as there are, seconds,
      and of a failed one the error in one line.
    """
    asked = dataclasses.asdict(candidate)
    flags = f"{os.environ.get('XLA_FLAGS', '')} {candidate.flags}".strip()
    changed = {"XLA_FLAGS": flags, "JAX_TRACEBACK_FILTERING": "off"}
    started, error = time.monotonic(), ""
    with tempfile.TemporaryDirectory() as folder:
        path, said = Path(folder, "record.json"), Path(folder, "log")
        words = ["--worker", json.dumps(asked), "--out", str(path)]
        with said.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, __file__, *words],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | changed,
                process_group=0,
            )
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            status, error = 1, f"stopped after {limit:.0f} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        text = said.read_text(errors="replace")
        record = json.loads(path.read_text()) if path.exists() else {}
    if status == 2:
        say(last_line(text))
        sys.exit(2)
    if status:
        with log.open("a") as file:
            file.write(f"== {candidate.name}\n{text}\n")
        record |= {"error": error or f"exit status {status}: {last_line(text)}"}
    told = {"status": "failed" if status else "ok", "seconds": time.monotonic() - started}
    return {"candidate": asked} | told | record


def last_line(text: str) -> str:
    """The line that says why a program failed: the last error in it, else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["said nothing"]
    errors = [line for line in lines if re.match(r"F\d{4} |[\w.]*(Error|Exception)\b", line)]
    return (errors or lines)[-1][:300]


def summarise(report: Record) -> str:
    """A table of one row for each measure, and a line for each candidate without any."""
    rows = [
        ["", "images/s", "of float32", "200 epochs [s]", "step [ms]", "bandwidth", "compile [s]"]
    ]
    notes = []
    first = next((r for r in report["candidates"] if r["candidate"]["name"] == "float32"), {})
    base = first.get("measures", {}).get("train", {}).get("images_per_second")
    for record in report["candidates"]:
        name = record["candidate"]["name"]
        for part, figures in record.get("measures", {}).items():
            if "bytes_per_second" in figures:
                speed = figures["bytes_per_second"] / 1e12
                notes.append(f"{name}: {speed:.3f} TB/s read and written")
                continue
            rate, ends = interval(figures)
            row = [name if part in ("train", name) else f"{name}: {part}", show(rate, ends)]
            row.append(f"{rate / base:.2f}" if base else "")
            whole = figures.get("seconds_of_200_epochs", figures.get("seconds"))
            row.append(f"{whole:.1f}" if whole else "")
            step = figures.get("seconds_of_step")
            row.append(f"{1e3 * step:.2f}" if step else "")
            share = figures.get("share_of_bandwidth")
            row.append(f"{share:.0%}" if share else "")
            compiling = figures.get("compile_seconds")
            rows.append([*row, f"{compiling:.1f}" if compiling else ""])
        if record["status"] != "ok":
            notes.append(f"{name}: {record['status']}: {record['error']}")
    return "\n".join([table(rows), *notes])


def draw(report: Record, path: Path) -> None:
    """Make a picture with a bar for each candidate that trained, if any did."""
    import charts

    trained = {
        record["candidate"]["name"]: interval(record["measures"]["train"])
        for record in report["candidates"]
        if "train" in record.get("measures", {})
    }
    if trained:
        title = f"Training, {report['environment']['device']['kind']}, {report['date']}"
        with replacing(path) as temporary:
            charts.bars(temporary, trained, title=title, label="images/s")


def chosen(options: argparse.Namespace) -> list[Candidate]:
    """The candidates that the options ask for."""
    found = {candidate.name: candidate for candidate in CANDIDATES}
    for words in options.flags:
        name, _, flags = words.partition("=")
        if not name or not flags:
            refuse(f"--flags must be NAME=FLAGS, not {words!r}")
        found[name] = Candidate(name, flags=flags)
    only = options.only.split(",") if options.only else list(QUICK if options.quick else found)
    for name in only:
        if name not in found:
            refuse(f"{name}: no such candidate; there are {', '.join(found)}")
    return [quick(found[name]) if options.quick else found[name] for name in only]


def main() -> None:
    """Read the options, try the candidates one after the other, and tell."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--budget", type=positive, default=450, help="seconds for all together")
    parser.add_argument("--only", help="names of candidates, with commas between them")
    parser.add_argument("--flags", action="append", default=[], help="one more: NAME=XLA_FLAGS")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, on any device: a try")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(Candidate(**json.loads(options.worker)), options.out)
        return
    started, known = time.monotonic(), 0.0
    report: Record = header("gpu") | {"quick": options.quick, "environment": {}, "candidates": []}
    candidates = chosen(options)
    options.out.mkdir(parents=True, exist_ok=True)
    for candidate in candidates:
        left = options.budget - (time.monotonic() - started)
        needed = max(WORTH_STARTING, known if candidate.what == "run" else 0)
        if left < needed:
            asked = dataclasses.asdict(candidate)
            record = {"candidate": asked, "status": "skipped", "error": f"{left:.0f} s were left"}
        else:
            limit = min(candidate.limit, left)
            record = attempt(candidate, limit, options.out / "failures.log")
        report["environment"] = record.pop("environment", report["environment"])
        report["candidates"].append(record)
        write_json(options.out / "gpu.json", report)
        train = record.get("measures", {}).get("train", {})
        if candidate.name == "float32" and train and not options.quick:  # what a run will take
            known = train["seconds_of_200_epochs"] + record["seconds"]
        say(f"{candidate.name}: {record['status']} {record.get('error', '')}".strip())
    print(summarise(report))
    draw(report, options.out / "gpu.png")
    if not any(record["status"] == "ok" for record in report["candidates"]):
        sys.exit(1)


if __name__ == "__main__":
    main()
