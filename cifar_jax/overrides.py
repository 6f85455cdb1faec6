"""Command-line words that replace a config's fields: parsed by tyro, refused in one line."""

import contextlib
import dataclasses
import difflib
import io
import os
import re
import shutil
from collections.abc import Sequence
from typing import Any, TypeVar, get_type_hints

import tyro

from cifar_jax.errors import ConfigError
from cifar_jax.ranges import requirement

T = TypeVar("T")
NARROWEST = 40  # columns of help; tyro writes for ever where there are less than five
SHORT = {"lr": "learning-rate", "wd": "weight-decay"}  # what other programs call a field


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
    # tyro has options of its own
    unknown = [word for word in words if word.replace("_", "-").startswith("--tyro-")]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            if not unknown:
                config, unknown = _parse(config, words, return_unknown_args=True, add_help=False)
    except SystemExit:  # tyro has printed a box: a title, a rule, the message, a rule, help
        box = re.sub(r"[│|╭╮╰╯+\s]+", " ", said.getvalue())
        title, *message = re.split(r" *[-─]{4,} *", box.strip(" -─"))
        said_of_it = (message or [title])[0].removeprefix(title).strip()
        raise ConfigError(_refusal(config, words, said_of_it or title)) from None
    if unknown:
        name = unknown[0].split("=")[0]
        near = _nearest(name, options_of(config))
        hint = f"did you mean {' or '.join(near)}?" if near else "--help lists the options"
        shown = name if name.isprintable() else repr(name)
        raise ConfigError(f"{shown}: no such option; {hint}")
    return config


def _refusal(config: Any, words: Sequence[str], message: str) -> str:
    """In place of tyro's message about a value: the option, the requirement and the value."""
    named = [word for word in re.findall(r"--[\w.-]+\w", message) if word in options_of(config)]
    if not named:
        return message
    option = named[-1]  # after the value, which may look like one
    section, _, field = option.removeprefix("--").replace("-", "_").partition(".")
    needed = requirement(get_type_hints(type(getattr(config, section)), include_extras=True)[field])
    given, values = False, list[str]()
    for word in words:
        name, _, value = word.partition("=")
        if name.startswith("--"):
            given = name.replace("_", "-") == option
            values = ([value] if value else []) if given else values
        elif given:
            values.append(word)
    if not values:
        return f"{option} must be followed by {needed}"
    return f"{option} must be {needed}, not {' '.join(values)!r:.40}"


def _nearest(name: str, options: Sequence[str]) -> list[str]:
    """The options that may be meant: of that field, of a part of its name, or of the nearest."""
    section, _, field = name.removeprefix("--").replace("_", "-").rpartition(".")
    field = SHORT.get(field, field)
    if same := [option for option in options if option.endswith(f".{field}")]:
        return same
    own = [option for option in options if option.startswith(f"--{section}.")] or options
    if parts := [option for option in own if field in option.partition(".")[2].split("-")]:
        return parts
    for among in (own, options):
        by_field = {option.partition(".")[2]: option for option in reversed(among)}
        if near := difflib.get_close_matches(field, by_field, n=1, cutoff=0.7):
            return [by_field[near[0]]]
    return []


def print_fields(config: Any, prog: str) -> None:
    """Print every field with its comment, type and value in ``config``."""
    if shutil.get_terminal_size().columns < NARROWEST:
        os.environ["COLUMNS"] = str(NARROWEST)
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
