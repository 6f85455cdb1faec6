"""The command: ``python main.py [train|sweep|eval|predict|...] ...``; ``--help`` lists all."""

import os
import signal
import sys


def leave(signum: int, frame: object) -> None:
    """End at once while packages are imported, where an exception could not be caught."""
    del frame
    try:
        os.write(2, b"\ninterrupted\n")
    finally:
        os._exit(128 + signum)


def open_closed_streams() -> None:
    """Let no file that is opened later have the number of a standard stream that is closed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            file = os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            setattr(sys, name, os.fdopen(file, "w" if number else "r"))


if __name__ == "__main__":
    open_closed_streams()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)
    if sys.getfilesystemencoding() != "utf-8":  # another locale: orbax takes UTF-8 names only
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.argv])
    from cifar_jax.cli import main

    sys.exit(main(sys.argv[1:]))
