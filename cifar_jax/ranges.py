"""Ranges that a config's fields declare in their types. Imports no jax."""

import dataclasses
import math
from typing import Annotated, Any, Literal, get_args, get_type_hints


class ConfigError(Exception):
    """A configuration that cannot be run: names the field, the requirement and the value."""


@dataclasses.dataclass(frozen=True)
class Range:
    """The closed interval that a number, or each number of a tuple, must lie in."""

    low: float = -math.inf
    high: float = math.inf

    def __contains__(self, value: float) -> bool:
        """Whether ``value`` lies in the interval; NaN and infinities never do."""
        return math.isfinite(value) and self.low <= value <= self.high

    def __str__(self) -> str:
        """The interval as a requirement: ``at least 1``, ``between 0 and 1``."""
        if math.isfinite(self.low) and math.isfinite(self.high):
            return f"between {self.low:g} and {self.high:g}"
        if math.isfinite(self.low):
            return f"at least {self.low:g}"
        return f"at most {self.high:g}" if math.isfinite(self.high) else "a finite number"


Probability = Annotated[float, Range(0, 1)]
Positive = Annotated[float, Range(1e-12)]
NonNegative = Annotated[float, Range(0)]
Count = Annotated[int, Range(1)]
CountOrOff = Annotated[int, Range(0)]
Seed = Annotated[int, Range(0, 2**31 - 1)]


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


def _check(name: str, value: Any, hint: Any) -> None:
    kind, *rest = get_args(hint) or (hint,)
    if isinstance(value, tuple):
        if not value:
            raise ConfigError(f"{name} must have at least one number, not ()")
        for item in value:
            _check(name, item, kind)
        return
    if getattr(hint, "__origin__", None) is Literal:
        if value not in get_args(hint):
            raise ConfigError(f"{name} must be one of {', '.join(get_args(hint))}, not {value!r}")
        return
    if isinstance(value, bool) != (kind is bool) or not isinstance(
        value, (int, float) if kind is float else kind
    ):
        raise ConfigError(f"{name} must be of type {kind.__name__}, not {value!r}")
    for limit in rest:
        if value not in limit:
            raise ConfigError(f"{name} must be {limit}, not {value!r}")
