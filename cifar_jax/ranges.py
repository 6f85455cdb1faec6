"""Ranges that a config's fields declare in their types. Imports no jax."""

import dataclasses
import math
import sys
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from cifar_jax.errors import ConfigError, shown


@dataclasses.dataclass(frozen=True)
class Range:
    """The closed interval that a number, or each number of a tuple, must lie in."""

    low: float
    high: float = math.inf

    def __contains__(self, value: float) -> bool:
        """Whether ``value`` lies in the interval; NaN, and what no float can be, never do."""
        return self.low <= value <= self.high and abs(value) <= sys.float_info.max

    def __str__(self) -> str:
        """The interval as a requirement: ``at least 1``, ``between 0 and 1``."""
        if math.isfinite(self.high):
            return f"between {self.low:.10g} and {self.high:.10g}"
        return f"at least {self.low:g}"


Probability = Annotated[float, Range(0, 1)]
Fraction = Annotated[float, Range(0, 1)]
Positive = Annotated[float, Range(1e-12)]
NonNegative = Annotated[float, Range(0)]
Count = Annotated[int, Range(1, 2**31 - 1)]
CountOrOff = Annotated[int, Range(0, 2**31 - 1)]
Seed = Annotated[int, Range(0, 2**31 - 1)]


def requirement(hint: Any) -> str:
    """What the words of a command line for a field of this type must be, as ``a whole number``."""
    if get_origin(hint) is tuple:
        return f"{requirement(get_args(hint)[0]).removeprefix('a ')}s separated by spaces"
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return {int: "a whole number", float: "a number", bool: "True or False"}.get(kind, "text")


def check_fields(section: str, fields: Any) -> None:
    """Check each field of a dataclass against its type and :class:`Range`.

    Args:
      section: what to call the dataclass in a message.
      fields: the dataclass; fields are numbers, strings, Literals and tuples of those.

    Raises:
      ConfigError: naming the first field that does not hold, the requirement and the value.
    """
    for name, hint in get_type_hints(type(fields), include_extras=True).items():
        _check(f"{section}.{name}", getattr(fields, name), hint)


def with_floats(fields: Any) -> dict[str, Any]:
    """The fields of a dataclass by name, with floats where ints stand for them.

    Args:
      fields: as for :func:`check_fields`, and checked by it.
    """
    hints = get_type_hints(type(fields), include_extras=True)
    return {name: _with_floats(getattr(fields, name), hint) for name, hint in hints.items()}


def _with_floats(value: Any, hint: Any) -> Any:
    if get_origin(hint) is tuple:
        return tuple(_with_floats(item, get_args(hint)[0]) for item in value)
    kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return float(value) if kind is float and type(value) is int else value


def _check(name: str, value: Any, hint: Any) -> None:
    if get_origin(hint) is tuple:
        if not isinstance(value, tuple) or not value:
            raise ConfigError(f"{name} must be a tuple of at least one number, not {shown(value)}")
        for item in value:
            _check(name, item, get_args(hint)[0])
        return
    if get_origin(hint) is Literal:
        if not isinstance(value, str) or value not in get_args(hint):
            raise ConfigError(
                f"{name} must be one of {', '.join(get_args(hint))}, not {shown(value)}"
            )
        return
    kind, *ranges = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or isinstance(value, bool) != (kind is bool):
        raise ConfigError(f"{name} must be of type {kind.__name__}, not {shown(value)}")
    for limits in ranges:
        if value not in limits:
            raise ConfigError(f"{name} must be {limits}, not {shown(value)}")
