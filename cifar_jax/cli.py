"""The command line: words to options, failures to one line and a status."""

import argparse
import contextlib
import difflib
import io
import shlex
import signal
import sys
from collections.abc import Sequence

from cifar_jax.commands import COMMANDS
from cifar_jax.commands.command import FIELDS, Command, refuse_misspelt
from cifar_jax.commands.console import drop_output, flush_output, note, print_versions, tell
from cifar_jax.config import Config
from cifar_jax.config_file import load_config
from cifar_jax.errors import CifarJaxError
from cifar_jax.overrides import print_fields


def main(argv: Sequence[str]) -> int:
    """Run one command.

    Args:
      argv: words after the program's name.

    Returns:
      The exit status: 0; 1 for a run that failed; 2 for what the user has to put right; 130 after
      Ctrl-C and 143 after SIGTERM. Each failure is one line on standard error.
    """
    for stream in (sys.stdout, sys.stderr):  # what a terminal cannot show must not end a run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    words = list(argv)
    name = words.pop(0) if words and not words[0].startswith("-") else "train"
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
        if name.endswith(".py"):
            hint = f"did you mean --config {name}?"
        note(f"{name}: no such command; {hint}")
        return 2
    parser, command = _parser(name), shlex.join(["python", "main.py", *argv])
    try:
        options, overrides = parser.parse_known_args(words)
        if options.help:
            _help(parser, COMMANDS[name], options)
        elif options.version:
            print_versions()
        else:
            refuse_misspelt(overrides, options)
            COMMANDS[name].run(options, overrides, command)
        flush_output()
    except (argparse.ArgumentError, argparse.ArgumentTypeError) as error:
        note(str(error))
        return 2
    except CifarJaxError as error:
        note(str(error))
        return error.status
    except BrokenPipeError:  # the reader of what was printed has gone; training never ends so
        drop_output()
    except KeyboardInterrupt as error:
        more = f"; to go on: {command}" if name in ("train", "sweep") else ""
        tell(f"\n{str(error) or 'interrupted'}{more}")
        return 128 + getattr(error, "signum", signal.SIGINT)
    except OSError as error:
        note(str(error))
        with contextlib.suppress(OSError):
            flush_output()
        return 1
    return 0


def _parser(name: str) -> argparse.ArgumentParser:
    command = COMMANDS[name]
    parser = argparse.ArgumentParser(
        prog=f"python main.py {name}",
        description=command.about,
        epilog=command.fields or None,
        add_help=False,
        allow_abbrev=False,
        exit_on_error=False,
    )
    about = "list every option" + (" and field" if command.fields == FIELDS else "")
    parser.add_argument("-h", "--help", action="store_true", help=about)
    parser.add_argument("--version", action="store_true", help="show versions, as in results.json")
    command.add_options(parser)
    return parser


def _help(parser: argparse.ArgumentParser, command: Command, options: argparse.Namespace) -> None:
    others = "".join(f"\n  {name:13}{each.about}" for name, each in COMMANDS.items())
    print(f"{parser.format_help()}\ncommands:{others}")
    if command.fields != FIELDS:  # it takes few or none, which it names
        return
    print("\nfields of the config:\n")
    path = getattr(options, "config", None)
    print_fields(load_config(path) if path else Config(), parser.prog)
