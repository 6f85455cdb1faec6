"""A config file, which is Python and defines ``get_config() -> Config``, and its overrides."""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from cifar_jax.config import Config, check_sections, validate
from cifar_jax.errors import ConfigError, line_with_type
from cifar_jax.overrides import override


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Load a config file, apply overrides and check every range.

    Args:
      path: a Python file that defines ``get_config() -> Config``.
      overrides: command-line words, as ``["--train.epochs", "2"]``.

    Returns:
      The checked config.

    Raises:
      ConfigError: in one line, for a missing or broken file, an unknown name (with the nearest
        right one), a value of the wrong type or out of range, or fields that do not fit together.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such config file")
    spec = importlib.util.spec_from_file_location("cifar_jax_user_config", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: a config is a Python file whose name ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for the names in annotations
    try:
        spec.loader.exec_module(module)
        config = module.get_config() if hasattr(module, "get_config") else None
    except Exception as error:  # whatever the user's file raises is the user's to read
        raise ConfigError(f"{path}: {line_with_type(error)}") from error
    if not isinstance(config, Config):
        needed = "must have a function get_config() that returns a Config"
        raise ConfigError(f"{path}: {needed}, not {config!r:.60}")
    check_sections(config)
    return validate(override(config, overrides))
