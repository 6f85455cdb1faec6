"""Command-line words that replace a config's fields: parsed by tyro, refused in one line."""

import contextlib
import dataclasses
import difflib
import io
import re
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

from cifar_jax.errors import ConfigError

T = TypeVar("T")


def override(config: T, words: Sequence[str]) -> T:
    """Replace fields of a dataclass of dataclasses by command-line words.

    Args:
      config: the values to start from.
      words: as ``["--train.epochs", "2", "--optim.nesterov=True"]``.

    Returns:
      A new config; ranges are not checked.

    Raises:
      ConfigError: for an unknown name (with the nearest right one) or a value of the wrong type.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            config, unknown = _parse(config, words, return_unknown_args=True, add_help=False)
    except SystemExit:  # tyro has printed a box: a title, a rule, the message, a rule, help
        box = re.sub(r"[│|╭╮╰╯+\s]+", " ", said.getvalue())
        title, message, *_ = re.split(r" *[-─]{4,} *", box.strip(" -─"))
        raise ConfigError(message.removeprefix(title).strip()) from None
    if unknown:
        name = unknown[0].split("=")[0]
        near = difflib.get_close_matches(
            name.replace("_", "-"), options_of(config), n=1, cutoff=0.5
        )
        hint = f"; did you mean {near[0]}?" if near else "; --help lists every field"
        shown = name if name.isprintable() else repr(name)
        raise ConfigError(f"{shown}: no such option{hint}")
    return config


def print_fields(config: Any, prog: str) -> None:
    """Print every field with its comment, type and value in ``config``."""
    with contextlib.suppress(SystemExit):
        _parse(config, ["--help"], prog=prog)


def options_of(config: Any) -> list[str]:
    """The options of its fields, as ``--train.epochs``."""
    return [
        f"--{section.name}.{field.name}".replace("_", "-")
        for section in dataclasses.fields(config)
        for field in dataclasses.fields(getattr(config, section.name))
    ]


def _parse(config: Any, words: Sequence[str], **options: Any) -> Any:
    return tyro.cli(
        type(config),
        default=config,
        args=list(words),
        config=(tyro.conf.FlagConversionOff,),
        **options,
    )
