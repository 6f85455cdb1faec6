"""A config file, which is Python and defines ``get_config() -> Config``, and its overrides."""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from cifar_jax.config import Config, check_sections, validate
from cifar_jax.errors import ConfigError, line_with_type, shown
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
    if path.suffix != ".py":
        raise ConfigError(f"{path}: a config is a Python file whose name ends in .py")
    module = ModuleType("cifar_jax_user_config")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where dataclasses look for the names in annotations
    try:  # from its text: importlib's bytecode would hide an edit within a second
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
        config = module.get_config() if hasattr(module, "get_config") else None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the user's file raises, SystemExit as well
        raise ConfigError(f"{path}: {line_with_type(error)}") from error
    if not isinstance(config, Config):
        needed = "must have a function get_config() that returns a Config"
        raise ConfigError(f"{path}: {needed}, not {shown(config)}")
    check_sections(config)
    return validate(override(config, overrides))
