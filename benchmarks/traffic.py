"""What a program moves, between devices and through memory, counted in its compiled text."""

import functools
import math
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.*?) ([a-z][a-z-]*)\((.*)$")
OPERAND = re.compile(r"%([\w.-]+)")
KERNELS = ("fusion", "custom-call", "copy", "dot", "reduce", "transpose", "convert", "sort")
ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)[a-z\d]*)\[([\d,]*)\]")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
BODY = re.compile(r"\bbody=%?([\w.-]+)")
CALLED = re.compile(r"\b(?:to_apply|calls)=%?([\w.-]+)")
BRANCHES = re.compile(
    r"\b(?:branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.-]+))"
)


class Instruction(NamedTuple):
    """One line of a program: its name, the type of its result, the operation, and what follows."""

    name: str
    result: str
    operation: str
    rest: str


def bytes_of(result: str) -> int:
    """The bytes of an array or of a tuple of them.

    >>> bytes_of("(f32[20,3]{1,0}, bf16[], pred[5]{0})")
    247
    """
    sizes = 0
    for _, bits, shape in ARRAY.findall(result):
        sizes += math.prod(map(int, filter(None, shape.split(",")))) * (int(bits or 8) // 8)
    return sizes


def moved_bytes(text: str, operation: str) -> int:
    """The bytes that all of one operation give in a call of the program, on one device.

    A loop's body counts as often as it runs, where the compiler knows that, else once; of a
    conditional the branch with the most bytes counts.

    Args:
      text: ``as_text()`` of a compiled program.
      operation: such as "all-reduce" or "all-gather".
    """
    return _sum_over(
        text, lambda one, _: bytes_of(one.result) if one.operation == operation else None
    )


def memory_bytes(text: str) -> int:
    """The bytes that the kernels of a call read and write, each operand and result as a whole.

    An operand of which a kernel reads a slice counts whole, and one that it reads twice counts
    once, as if a cache held it. Loops and conditionals count as for :func:`moved_bytes`.

    Args:
      text: ``as_text()`` of a program compiled for a GPU, where a fusion is one kernel; operands
        are told by their ``%``.
    """

    def of_kernel(one: Instruction, results: Mapping[str, str]) -> int | None:
        if one.operation not in KERNELS:
            return None
        operands = set(OPERAND.findall(one.rest.partition(")")[0]))
        return bytes_of(one.result) + sum(bytes_of(results.get(name, "")) for name in operands)

    return _sum_over(text, of_kernel)


def _sum_over(text: str, count: Callable[[Instruction, Mapping[str, str]], int | None]) -> int:
    """The sum of what instructions count in a call; None: the sum of what it calls.

    ``count`` is told an instruction and the types of the results beside it, by name.
    """
    entry, computations = "", dict[str, list[Instruction]]()
    current: list[Instruction] = []
    for line in text.splitlines():
        if head := COMPUTATION.match(line):
            current = computations.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
        elif found := INSTRUCTION.match(line):
            current.append(Instruction(*found.groups()))

    @functools.cache
    def total(name: str) -> int:
        lines = computations.get(name, [])
        results = {one.name: one.result for one in lines}
        return sum(of_one(one, results) for one in lines)

    def of_one(one: Instruction, results: Mapping[str, str]) -> int:
        if (counted := count(one, results)) is not None:
            return counted
        if one.operation == "while":
            body, trips = BODY.search(one.rest), TRIPS.search(one.rest)
            return (int(trips[1]) if trips else 1) * total(body[1] if body else "")
        if one.operation == "conditional":
            words = (word for pair in BRANCHES.findall(one.rest) for word in pair if word)
            names = [name.strip(" %") for word in words for name in word.split(",")]
            return max(map(total, names), default=0)
        return sum(map(total, CALLED.findall(one.rest)))

    return total(entry)
