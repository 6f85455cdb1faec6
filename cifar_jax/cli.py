"""The command line: words to options, failures to one line and a status."""

import argparse
import io
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from cifar_jax.commands import COMMANDS, drop_output, note, tell
from cifar_jax.config import Config, load_config
from cifar_jax.errors import CifarJaxError
from cifar_jax.overrides import print_fields

FIELDS = "Any field of the config can follow, as in --train.epochs 2."
ABOUT = {
    "train": "train a network, or go on with an interrupted run (the default)",
    "sweep": "train with several seeds: mean and spread",
    "eval": "evaluate the network of a run, or exported weights",
    "export": "write the weights of a finished run, and a card of what they are",
    "summary": "show layers, parameters, receptive field and cost",
    "data": "fetch the data set and verify it",
}


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
        note(f"{name}: no such command; there are {', '.join(COMMANDS)}")
        return 2
    parser, command = _parser(name), shlex.join(["python", "main.py", *argv])
    try:
        options, overrides = parser.parse_known_args(words)
        if options.help:
            _help(parser, options)
        else:
            COMMANDS[name](options, overrides, command)
    except argparse.ArgumentError as error:
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
        return 1
    return 0


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python main.py {name}",
        description=ABOUT[name],
        epilog=FIELDS if name != "export" else None,
        add_help=False,
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="list every option and field")
    if name != "export":
        parser.add_argument("--config", type=Path, help="a Python file, as configs/200k.py")
    if name in ("train", "sweep", "eval", "export"):
        default = "sweep" if name == "sweep" else "seed<seed>"
        parser.add_argument(
            "--workdir", type=Path, help=f"folder of the run (default: runs/<config>-{default})"
        )
    if name in ("train", "sweep", "eval"):
        parser.add_argument(
            "--require-gpu", action="store_true", help="refuse to run without a GPU"
        )
    if name == "sweep":
        parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    if name == "export":
        parser.add_argument("--output", type=Path, help="folder to write, as pretrained/200k")
        parser.add_argument("--limits", default="", help="what its users should know besides")
    if name == "train":
        parser.add_argument(
            "--allow-config-change",
            action="store_true",
            help="go on with other values of fields that decide the result",
        )
    if name == "eval":
        parser.add_argument("--weights", type=Path, help="exported ones, as pretrained/200k")
        parser.add_argument("--split", choices=("test", "validation"), default="test")
        parser.add_argument("--checkpoint", type=int, metavar="STEP", help="not the selected one")
        parser.add_argument("--json", action="store_true", help="print JSON")
    if name == "summary":
        parser.add_argument("--picture", type=Path, help="draw the architecture into this PNG")
    return parser


def _help(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    others = "".join(f"\n  {name:9}{text}" for name, text in ABOUT.items())
    print(f"{parser.format_help()}\ncommands:{others}")
    if parser.epilog != FIELDS:
        return
    print("\nfields of the config:\n")
    config = load_config(options.config) if options.config else Config()
    print_fields(config, parser.prog)
