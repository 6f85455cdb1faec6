"""What commands say to people, and how they are interrupted."""

import contextlib
import os
import signal
import sys

from cifar_jax.errors import printable


def print_what_is_saved(text: str) -> None:
    """Print what is in a file as well: a reader that has gone is no failure."""
    try:
        print(text, flush=True)
    except OSError:
        drop_output()


def print_versions() -> None:
    """Print a line for each package whose version a result tells, and the code's hash."""
    from cifar_jax.runtime.environment import versions

    print("\n".join(f"{package} {number}" for package, number in versions().items()))


def drop_output() -> None:
    """Let what is still to be written to standard output go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def flush_output() -> None:
    """Write out what was printed; raises OSError if that fails, and lets it go nowhere."""
    try:
        if sys.stdout:  # None where it is closed, but for main.py
            sys.stdout.flush()
    except OSError as error:
        drop_output()
        raise OSError(error.errno, error.strerror, "standard output") from error


def interruptible() -> None:
    """Let Ctrl-C unwind from here on; main.py ends at once while packages are imported."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def note(message: str) -> None:
    """Say something on standard error, in one line; what a terminal cannot show is escaped."""
    tell(f"main.py: {printable(message)}")


def tell(text: str) -> None:
    """Print to standard error, if it is still there."""
    with contextlib.suppress(OSError):  # the exit status says it as well
        print(text, file=sys.stderr, flush=True)
