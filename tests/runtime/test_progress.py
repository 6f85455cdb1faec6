import io
import os
import pty
import subprocess
import sys
from collections.abc import Sequence

import pytest

from cifar_jax.runtime.progress import Progress, format_duration


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Closed(io.StringIO):
    """A pipe whose reader leaves after a few writes."""

    def __init__(self, writes: int):
        super().__init__()
        self.left = writes

    def write(self, text):
        if self.left == 0:
            raise BrokenPipeError(32, "Broken pipe")
        self.left -= 1
        return super().write(text)


@pytest.fixture
def clock():
    return Clock()


def run(progress: Progress, clock: Clock, chunks: Sequence[tuple[float, int]]) -> None:
    for seconds, images in chunks:
        clock.now += seconds
        progress.advance(images, loss=1.9344)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (3599.6, "1:00:00"), (360_005, "100:00:05")],
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text


def test_a_line_every_thirty_seconds_and_when_asked(clock):
    stream = io.StringIO()
    with Progress(3, 1000, stream=stream, clock=clock) as progress:
        run(progress, clock, [(20, 250), (5, 250), (5, 250), (5, 250)])
        progress.line("epoch 1 done")
        run(progress, clock, [(25, 500), (4, 500)])
    assert stream.getvalue().splitlines() == [
        "epoch 1/3  75%  25 images/s  ETA 1:30  loss 1.934",  # 750 images in 30 s
        "epoch 1 done",
        "epoch 2/3  50%  25 images/s  ETA 1:00  loss 1.934",
    ]


def test_without_a_terminal_only_printable_text_is_written(clock):
    stream = io.StringIO()
    with Progress(50, 100, stream=stream, clock=clock) as progress:
        run(progress, clock, [(30, 100)] * 50)
    text = stream.getvalue()
    assert text.count("\n") == 50
    assert text.replace("\n", "").isprintable()


def test_speed_and_eta_count_from_entering(clock):
    progress = Progress(10, 1000, stream=io.StringIO(), clock=clock)
    clock.now += 60  # compilation
    with progress:
        assert progress.images_per_second is None
        assert progress.eta is None
        run(progress, clock, [(2, 100)])
        assert progress.images_per_second == 50
        assert progress.eta == (10_000 - 100) / 50


def test_eta_follows_the_recent_speed(clock):
    progress = Progress(10, 100_000, stream=io.StringIO(), clock=clock)
    run(progress, clock, [(10, 100)] * 100 + [(1, 100)] * 64)
    assert progress.images_per_second == 100
    assert progress.eta == (1_000_000 - 16_400) / 100


def test_a_resumed_run_counts_only_what_is_left(clock):
    stream = io.StringIO()
    with Progress(10, 100, start_epoch=8, stream=stream, clock=clock) as progress:
        run(progress, clock, [(20, 50), (20, 50)])
        assert progress.eta == 40
    assert stream.getvalue() == "epoch 9/10  100%  2 images/s  ETA 0:40  loss 1.934\n"


def test_eta_is_zero_at_the_end(clock):
    progress = Progress(1, 100, stream=io.StringIO(), clock=clock)
    run(progress, clock, [(1, 50), (1, 50)])
    assert progress.eta == 0


def test_bar_on_a_terminal(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "90")
    stream = io.StringIO()
    with Progress(2, 1000, stream=stream, is_terminal=True, clock=clock) as progress:
        assert "epoch 1/2   0%|" in stream.getvalue()
        run(progress, clock, [(2, 500), (2, 500), (0.01, 1)])  # the last comes too soon to be drawn
        progress.line("epoch 1 done")
    drawings = stream.getvalue().split("\r")
    assert any(
        d.endswith("| 250 images/s, ETA 0:04, loss 1.934") and " 50%|" in d for d in drawings
    )
    assert {len(drawing) for drawing in drawings if "%|" in drawing} <= {89, 90}  # 90 with newline
    assert not any("249 images/s" in drawing for drawing in drawings)
    assert any(drawing == "epoch 1 done\n" for drawing in drawings)
    assert stream.getvalue().endswith("\n")
    assert "\x1b" not in stream.getvalue()


def test_terminal_is_asked_for(clock):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with Progress(1, 10, stream=stream, clock=clock):
        pass
    assert "\r" in stream.getvalue()


@pytest.mark.parametrize("writes", range(4))
@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_broken_pipe_is_dropped_silently(clock, writes, is_terminal):
    stream = Closed(writes)
    with Progress(3, 100, stream=stream, is_terminal=is_terminal, clock=clock) as progress:
        run(progress, clock, [(30, 50)] * 6)
        progress.line("done")
        assert progress.eta == 0
    assert stream.left == 0


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_reader_that_leaves_does_not_fail_the_process(is_terminal):
    code = f"""
from cifar_jax.runtime.progress import Progress
with Progress(2, 10, is_terminal={is_terminal}) as progress:
    progress.advance(10)
    progress.line("done")
"""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", code], stdout=writer, check=False, timeout=60)
    os.close(writer)
    assert done.returncode == 0


def test_bar_on_a_real_terminal_without_a_size():
    code = (
        "from cifar_jax.runtime.progress import Progress\nwith Progress(2, 10) as p: p.advance(5)"
    )
    master, slave = pty.openpty()
    subprocess.run([sys.executable, "-c", code], stdout=slave, check=True, timeout=60)
    os.close(slave)
    assert b"epoch 1/2   0%|" in os.read(master, 10_000)
    os.close(master)


def test_no_standard_output_at_all(clock, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with Progress(1, 100, clock=clock) as progress:
        run(progress, clock, [(1, 100)])


def test_a_closed_stream_is_no_reader(clock):
    stream = io.StringIO()
    stream.close()
    progress = Progress(1, 100, stream=stream, clock=clock)
    progress.line("text")
    progress.line("text")


def test_other_errors_are_not_swallowed(clock):
    class Broken(io.StringIO):
        def write(self, text):
            raise TypeError("text")

    with pytest.raises(TypeError, match="text"):
        Progress(1, 100, stream=Broken(), is_terminal=False, clock=clock).line("text")


def test_standard_output_is_the_default(clock, capsys):
    with Progress(1, 100, clock=clock) as progress:
        progress.line("to whom it may concern")
    assert capsys.readouterr().out == "to whom it may concern\n"
