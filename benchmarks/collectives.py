"""What devices send each other, counted in the text of a compiled program."""

import functools
import math
import re
from typing import NamedTuple

COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.-]+ = (.*?) ([a-z][a-z-]*)\((.*)$")
ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)[a-z\d]*)\[([\d,]*)\]")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
BODY = re.compile(r"\bbody=%?([\w.-]+)")
CALLED = re.compile(r"\b(?:to_apply|calls)=%?([\w.-]+)")
BRANCHES = re.compile(
    r"\b(?:branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.-]+))"
)


class Instruction(NamedTuple):
    """One line of a program: the type of its result, the operation, and what follows."""

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
        return sum(map(of_one, computations.get(name, ())))

    def of_one(one: Instruction) -> int:
        if one.operation == operation:
            return bytes_of(one.result)
        if one.operation == "while":
            body, trips = BODY.search(one.rest), TRIPS.search(one.rest)
            return (int(trips[1]) if trips else 1) * total(body[1] if body else "")
        if one.operation == "conditional":
            words = (word for pair in BRANCHES.findall(one.rest) for word in pair if word)
            names = [name.strip(" %") for word in words for name in word.split(",")]
            return max(map(total, names), default=0)
        return sum(map(total, CALLED.findall(one.rest)))

    return total(entry)
