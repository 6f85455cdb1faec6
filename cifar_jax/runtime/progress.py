"""How far a run is: a bar on a terminal, plain lines elsewhere."""

import shutil
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Self, TextIO

from tqdm import tqdm

BAR_SECONDS = 0.1  # between two drawings of the bar
LINE_SECONDS = 30.0  # between two plain lines of progress
RECENT_CHUNKS = 64  # chunks over which the speed is measured


def format_duration(seconds: float) -> str:
    """Write a duration as hours, minutes and seconds.

    >>> format_duration(3723), format_duration(7.2), format_duration(90 * 3600)
    ('1:02:03', '0:07', '90:00:00')

    Args:
      seconds: at least 0 [seconds]; rounded to whole ones.

    Returns:
      ``h:mm:ss``, or ``m:ss`` below an hour.
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Progress:
    """Shows images/s, the time left and a few values while a run goes on.

    The speed is that of the last ``RECENT_CHUNKS`` chunks, evaluation and checkpoints between
    them included, so that the time left is true for the whole run. It is measured from entering
    the context, so compile before. Until the first chunk is done, speed and time left show as
    ``--``.

    Without a terminal nothing but printable characters and newlines is written: the lines that
    are asked for, and one whenever ``LINE_SECONDS`` have passed. Nothing is ever coloured.

    >>> with Progress(2, 50_000, is_terminal=False) as progress:
    ...     progress.advance(50_000, loss=1.934)
    ...     progress.line("epoch 1 done")
    epoch 1 done
    """

    def __init__(
        self,
        total_epochs: int,
        images_per_epoch: int,
        *,
        start_epoch: int = 0,
        start_images: int = 0,
        stream: TextIO | None = None,
        is_terminal: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Start to count; nothing is written yet.

        Args:
          total_epochs: of the whole run, those of an earlier session included.
          images_per_epoch: images that are trained on in an epoch.
          start_epoch: epochs that are already done.
          start_images: images of the next epoch that are already done.
          stream: where to write; standard output by default.
          is_terminal: draw a bar; by default, whether ``stream`` is a terminal.
          clock: tells the time [seconds].
        """
        self._stream = _Unbreakable(sys.stdout if stream is None else stream)
        self._is_terminal = self._stream.isatty() if is_terminal is None else is_terminal
        self._clock = clock
        self._epochs, self._images = total_epochs, images_per_epoch
        self._done = start_epoch * images_per_epoch + start_images
        self._epoch = min(start_epoch + 1, total_epochs)
        self._marks: deque[tuple[float, int]] = deque(maxlen=RECENT_CHUNKS + 1)
        self._values: dict[str, float] = {}
        self._shown = clock()
        self._bar: _Bar | None = None

    def __enter__(self) -> Self:
        """Start the clock and draw the bar."""
        self._shown = self._clock()
        self._marks.append((self._shown, self._done))
        if self._is_terminal:
            self._bar = _Bar(
                total=self._epochs * self._images,
                initial=self._done,
                file=self._stream,  # type: ignore[arg-type]  # write and flush are all it needs
                bar_format=self._bar_format(),
                ncols=_columns(),
                nrows=20,  # the bar is one row; asked for its size, tqdm hides it where that is 0
            )
        return self

    def __exit__(self, *exception: object) -> None:
        """Leaves the bar as it is, on a line of its own."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    @property
    def images_per_second(self) -> float | None:
        """Recent speed; None until the first chunk is done."""
        if len(self._marks) < 2:
            return None
        (first, images), (last, done) = self._marks[0], self._marks[-1]
        return (done - images) / (last - first) if last > first else None

    @property
    def eta(self) -> float | None:
        """Time left until the end of all epochs [seconds]; None while the speed is unknown."""
        speed = self.images_per_second
        left = self._epochs * self._images - self._done
        return None if not speed else max(left, 0) / speed

    def advance(self, images: int, **values: float) -> None:
        """Count a chunk.

        Args:
          images: trained on since the last call.
          **values: shown behind the time left, as in ``loss=1.93``.
        """
        now = self._clock()
        self._done += images
        self._marks.append((now, self._done))
        self._values = values
        self._epoch = min(-(-self._done // self._images), self._epochs)
        if now - self._shown >= (BAR_SECONDS if self._bar else LINE_SECONDS):
            self._shown = now
            self._show()

    def line(self, text: str) -> None:
        """Print one finished line, above the bar if there is one."""
        if self._bar is not None:
            self._bar.clear()
        self._stream.write(f"{text}\n")
        self._stream.flush()
        if self._bar is not None:
            self._bar.refresh()

    def _show(self) -> None:
        if self._bar is not None:
            self._bar.n = self._done
            self._bar.bar_format, self._bar.ncols = self._bar_format(), _columns()
            self._bar.refresh()
            return
        percent = 100 * (self._done - (self._epoch - 1) * self._images) // self._images
        self.line("  ".join([f"epoch {self._epoch}/{self._epochs}", f"{percent}%", *self._facts()]))

    def _bar_format(self) -> str:
        facts = ", ".join(self._facts())
        return f"epoch {self._epoch}/{self._epochs} {{percentage:3.0f}}%|{{bar}}| {facts}"

    def _facts(self) -> list[str]:
        speed, eta = self.images_per_second, self.eta
        return [
            "-- images/s" if speed is None else f"{speed:,.0f} images/s",
            "ETA --" if eta is None else f"ETA {format_duration(eta)}",
            *(f"{name} {value:.4g}" for name, value in self._values.items()),
        ]


def _columns() -> int:
    return shutil.get_terminal_size().columns - 1  # 80 where a terminal does not know its size


class _Bar(tqdm):
    monitor_interval = 0  # no thread beside the training loop


class _Unbreakable:
    """A text stream that falls silent once nobody can read it any more."""

    def __init__(self, stream: TextIO | None):  # None: Python's sys.stdout when it was closed
        self._stream = stream

    def write(self, text: str) -> None:
        self._try("write", text)

    def flush(self) -> None:
        self._try("flush")

    def isatty(self) -> bool:
        return self._stream is not None and not self._stream.closed and self._stream.isatty()

    def _try(self, method: str, *args: str) -> None:
        if self._stream is None:
            return
        # Hours of training must not end because the reader of its progress went away: a pipe
        # into `head`, a terminal that hung up, a full disk under a redirected log.
        try:
            getattr(self._stream, method)(*args)
        except (
            OSError,
            ValueError,
        ):  # ValueError: a stream that was closed, or of another encoding
            self._stream = None

    def __getattr__(self, name: str) -> Any:  # tqdm asks for the encoding
        return getattr(self._stream, name)
