"""Asks whether a source can be reached without ever waiting long for the answer."""

import threading
import time
from collections.abc import Callable

from cifar_jax.data.dataset import DataError, Unavailable

SECONDS = 5.0  # that a source has to show that it can be reached


class Probe:
    """Runs a check in a thread of its own, from now on.

    A name server that does not answer blocks for minutes, and no timeout of a socket covers it. The
    thread is a daemon: it neither holds up the answer nor the end of the program.
    """

    def __init__(self, check: Callable[[], None], seconds: float = SECONDS):
        """Starts ``check``, which raises `DataError` where the source is out of reach."""
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._error: Exception | None = None
        self._done = threading.Event()
        threading.Thread(target=self._run, args=(check,), daemon=True).start()

    def _run(self, check: Callable[[], None]) -> None:
        try:
            check()
        except Exception as error:  # raised where it is waited for
            self._error = error
        finally:
            self._done.set()

    def require(self) -> None:
        """Returns once the source has been reached; raises `DataError` or OSError if it was not."""
        if not self._done.wait(max(0.0, self._deadline - time.monotonic())):
            raise Unavailable(f"no answer within {self._seconds:.0f} s")
        if isinstance(self._error, DataError | OSError):
            raise self._error
        if self._error is not None:
            reason = f"{type(self._error).__name__}: {self._error}"
            raise Unavailable(reason) from self._error
