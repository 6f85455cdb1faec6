"""How many instructions the kernels of a program issue, counted in what XLA dumps of it."""

import math
import re
from pathlib import Path

WARP = 32  # threads that issue together
OPTIONS = {"xla_dump_emitter_re": "ptx"}  # with xla_dump_to: the PTX and the launches
KERNEL = re.compile(r"\.entry (\w+)\(.*?\)[^{}]*\{(.*?)\n\}", re.DOTALL)
LAUNCH = re.compile(r"\] (\S+) grid: \[([\d, ]+)\] threads: \[([\d, ]+)\]")


def warp_instructions(folder: Path) -> int | None:
    """The instructions of all warps of all kernels that a program launches; None: none are there.

    Those of PTX, of which the device's own are about as many. Each line of a kernel counts once, as
    if it had neither loops nor branches: what XLA fuses has few, a matrix product has. A loop's
    body counts once, and a conditional's branches all. Kernels of libraries do not count.

    Args:
      folder: what a program was dumped into, compiled with ``OPTIONS``.
    """
    lines = {}
    for path in folder.glob("*.ptx"):
        for name, body in KERNEL.findall(path.read_text(encoding="utf-8")):
            lines[name] = sum(_is_instruction(line.strip()) for line in body.splitlines())
    total = 0
    for path in folder.glob("*thunk_sequence.txt"):
        for name, grid, threads in LAUNCH.findall(path.read_text(encoding="utf-8")):
            of_kernel = math.prod(int(n) for n in f"{grid}, {threads}".split(","))
            total += lines.get(name, 0) * of_kernel // WARP
    return total or None


def _is_instruction(line: str) -> bool:
    return line.endswith(";") and not line.startswith((".", "//"))
