"""Ctrl-C and SIGTERM: asked once, a run stops where nothing is lost; asked twice, at once."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
TOGETHER = 0.2  # seconds in which two signals are one: some send both to a process and its group
AGAIN = 0.01  # seconds after which a signal whose exception was dropped is sent again
NOTICE = b"stopping after this chunk of steps; once more to stop at once\n"


class Interrupted(KeyboardInterrupt):
    """A run that was asked to stop, and has. Attribute ``signum``: by which signal."""

    def __init__(self, signum: int):
        """Remember the signal."""
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


class Stop:
    """What has been asked of the run."""

    def __init__(self) -> None:
        """Nothing has, and a signal interrupts at once."""
        self.signum: int | None = None
        self._graceful = False
        self._dropped: list[int] = []  # signals that the process has to send itself again

    @contextlib.contextmanager
    def postponed(self) -> Iterator[None]:
        """Let signals in the block be remembered only; raise Interrupted after it."""
        self._graceful = True
        try:
            yield
        finally:
            self._graceful = False
        if self.signum is not None:
            raise Interrupted(self.signum)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        del frame
        self.signum = signum
        if not self._graceful:
            raise Interrupted(signum)

    def _watch(self, pipe: int) -> None:
        """In a thread of its own: what Python's handlers hear only between two calls into C."""
        first = None
        while byte := os.read(pipe, 1):
            if byte[0] not in SIGNALS:
                continue
            if byte[0] in self._dropped:  # not a second one, however late it comes
                self._dropped.remove(byte[0])
                continue
            now = time.monotonic()
            if first is not None and now - first > TOGETHER:
                os._exit(128 + byte[0])
            if first is None and self._graceful and sys.__stderr__ is not None:
                with contextlib.suppress(OSError):  # nobody may be there to read it
                    os.write(2, NOTICE)
            first = now if first is None else first


@contextlib.contextmanager
def listening() -> Iterator[Stop]:
    """Handle Ctrl-C and SIGTERM in the block; the second ends the process at once.

    Signals that were ignored stay so. In another thread than the main one nothing is handled.

    Yields:
      What has been asked. Outside of ``Stop.postponed`` a signal raises Interrupted.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    heard = [one for one in SIGNALS if signal.getsignal(one) not in (signal.SIG_IGN, None)]
    watch = threading.Thread(target=stop._watch, args=(reader,), daemon=True)
    watch.start()
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    before = {signum: signal.signal(signum, stop._handle) for signum in heard}
    unraisable = sys.unraisablehook

    def hook(ignored: "sys.UnraisableHookArgs") -> None:
        """Send it again: it came in a finaliser or the garbage collector, which drop exceptions."""
        if isinstance(ignored.exc_value, Interrupted):
            signum = ignored.exc_value.signum
            stop._dropped.append(signum)
            threading.Timer(AGAIN, os.kill, (os.getpid(), signum)).start()
        else:
            unraisable(ignored)

    sys.unraisablehook = hook
    try:
        yield stop
    finally:
        sys.unraisablehook = unraisable
        for signum, handler in before.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(writer)
        watch.join()
        os.close(reader)


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """Let the block finish before a Ctrl-C or SIGTERM takes effect.

    For what works in threads of its own, which would go on, and complain, after the main one has
    left. In another thread than the main one there is nothing to hold back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {
        signum: signal.signal(signum, lambda signum, _: came.append(signum))
        for signum in SIGNALS
        if callable(signal.getsignal(signum))
    }
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    for signum in came:
        handler = before[signal.Signals(signum)]
        if callable(handler):
            handler(signum, None)
