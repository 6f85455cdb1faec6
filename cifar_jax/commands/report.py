"""python main.py report: the page of a run."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cifar_jax.commands.command import (
    Command,
    Options,
    prepare,
    refuse_overrides,
    to_folder,
    to_path,
)
from cifar_jax.commands.console import interruptible, note
from cifar_jax.errors import ConfigError


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workdir", type=to_folder, help="folder of a run, finished or not")
    add_page(parser, "report.html in the workdir")


def add_page(parser: argparse.ArgumentParser, default: str) -> None:
    """Add --output: where a page goes."""
    parser.add_argument("--output", type=to_path, help=f"HTML file to write (default: {default})")


def require_page(output: Path) -> Path:
    """Check that a page can be written; raises ConfigError."""
    if output.suffix != ".html":
        raise ConfigError(f"--output must end in .html, not {output}")
    if not output.parent.is_dir():
        raise ConfigError(f"--output {output}: {output.parent} must be a folder")
    return output


def run(options: Options, overrides: Sequence[str], command: str) -> None:
    """Write the page of a run."""
    refuse_overrides(overrides, options)
    if options.workdir is None:
        raise ConfigError("--workdir is required, as in --workdir runs/200k-seed0")
    from cifar_jax.runtime.run_page import write_run_page

    interruptible()
    output = options.workdir / "report.html"
    if options.output:
        output = require_page(options.output)
    prepare()
    write_run_page(options.workdir, output, report=note)
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB")


REPORT = Command(
    "write a page about a run: curves, classes, mistakes, config", run, _add_options, fields=""
)
