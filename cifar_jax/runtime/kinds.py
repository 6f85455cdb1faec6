"""What results.json holds, which may have been edited by hand: the kinds of its values.

A kind is one of :data:`NAMES`; a set of the texts that can be; ``[kind]`` for a list, and with
several kinds one of as many items; ``{name: kind}`` for an object that has these names, and maybe
others; ``{...: kind}`` for one of any names; ``(kind, None)`` for what may be null; and ``object``
for anything.
"""

import sys
from typing import Any

from cifar_jax.data import CLASS_NAMES

NAMES = {str: "a text", int: "a whole number", float: "a number", list: "a list", dict: "an object"}
RESULTS: dict[str, Any] = {
    **dict.fromkeys(("command", "date", "convolutions", "config_sha256", "weights_sha256"), str),
    **dict.fromkeys(("selected_epoch", "epochs", "parameters", "multiply_adds", "seed"), int),
    **dict.fromkeys(("receptive_field", "test_images", "side_by_side"), int),
    **dict.fromkeys(("test_accuracy", "test_loss", "ema_test_accuracy", "ema_test_loss"), float),
    **dict.fromkeys(("tta_accuracy", "seconds", "images_per_second", "compile_seconds"), float),
    "ema_test_calibration_error": (float, None),
    "ema_validation_accuracy": (float, None),
    "tta": {"none", "flip", "full"},
    "per_class_accuracy": dict.fromkeys(CLASS_NAMES, (float, None)),
    "confusion": [[int] * len(CLASS_NAMES)] * len(CLASS_NAMES),
    "versions": {...: str},
    "device": {"platform": str, "kind": str, "count": int, "cpu_cores": (int, None)},
    "settings": dict,
    "teacher": ({"path": str, "file_sha256": str, "parameters": int}, None),
    "config_changes": [{"step": int, "field": str, "old": object, "new": object}],
    "environment_changes": [{"step": int, "change": str}],
}


def require_kind(value: Any, kind: Any, name: str) -> None:
    """Check a value of a JSON file.

    Args:
      value: as read.
      kind: that it must be of.
      name: of the value, for the message.

    Raises:
      ValueError: naming the value, or the part of it that is of another kind.
    """
    if isinstance(kind, tuple):
        if value is not None:
            require_kind(value, kind[0], name)
    elif isinstance(kind, set):
        if value not in sorted(kind):
            raise ValueError(f"{name} must be one of {', '.join(sorted(kind))}, not {value!r:.40}")
    elif isinstance(kind, list):
        require_kind(value, list, name)
        kinds = kind * len(value) if len(kind) == 1 else kind
        if len(kinds) != len(value):
            raise ValueError(f"{name} must have {len(kinds)} items, not {len(value)}")
        for number, (item, own) in enumerate(zip(value, kinds, strict=True)):
            require_kind(item, own, f"{name}[{number}]")
    elif isinstance(kind, dict):
        require_kind(value, dict, name)
        for key, own in (dict.fromkeys(value, kind[...]) if ... in kind else kind).items():
            if key not in value:
                raise ValueError(
                    f"{name} must have {key}, not only {', '.join(value) or 'nothing'}"
                )
            require_kind(value[key], own, f"{name}.{key}")
    elif kind is not object:
        fits = isinstance(value, (int, float) if kind is float else kind)
        if kind is float and fits:
            fits = abs(value) <= sys.float_info.max  # neither infinite nor NaN
        if not fits or isinstance(value, bool):
            raise ValueError(f"{name} must be {NAMES[kind]}, not {value!r:.40}")
