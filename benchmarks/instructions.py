"""How many instructions the kernels of a program issue, counted in what XLA dumps of it."""

import math
import re
from pathlib import Path

WARP = 32  # threads that issue together
OPTIONS = {"xla_dump_emitter_re": "ptx"}  # with xla_dump_to: the PTX and the launches
KERNEL = re.compile(r"\.entry (\w+)\(.*?\)[^{}]*\{(.*?)\n\}", re.DOTALL)
LAUNCH = re.compile(r"\] (\S+) grid: \[([\d, ]+)\] threads: \[([\d, ]+)\]")


def warp_instructions(folder: Path) -> int:
    """The instructions of all warps of all kernels that a program launches.

    Those of PTX, of which the device's own are about as many. Each line of a kernel counts once, as
    if it had neither loops nor branches: what XLA fuses has few, a matrix product has. The body of
    the program's loop counts once, so that a chunk's instructions are those of a step and of the
    little before and after it; of a conditional all branches count. Kernels of libraries do not.

    Args:
      folder: what a program was dumped into, compiled with ``OPTIONS``.

    Raises:
      ValueError: for a kernel without PTX, or when there is none at all.
    """
    lines = {}
    for path in folder.glob("*.ptx"):
        for name, body in KERNEL.findall(path.read_text(encoding="utf-8")):
            lines[name] = sum(_is_instruction(line.strip()) for line in body.splitlines())
    total = 0
    for path in folder.glob("*thunk_sequence.txt"):
        for name, *sizes in LAUNCH.findall(path.read_text(encoding="utf-8")):
            if name not in lines:
                raise ValueError(f"no PTX of the kernel {name}")
            blocks, threads = (math.prod(map(int, size.split(","))) for size in sizes)
            total += lines[name] * blocks * math.ceil(threads / WARP)
    if not total:
        raise ValueError("no launch of a kernel")
    return total


def _is_instruction(line: str) -> bool:
    return line.endswith(";") and not line.startswith((".", "//"))
