import gc
import signal
import subprocess
import sys
import threading
import time

import pytest

from cifar_jax.runtime import signals
from cifar_jax.runtime.signals import Interrupted, listening, signals_wait

BOTH = pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])


@pytest.fixture
def heard():
    """Handlers of the tests' own, for both signals: what they have heard."""
    came = []

    def handler(signum, frame):
        came.append(signum)

    before = {signum: signal.signal(signum, handler) for signum in (signal.SIGINT, signal.SIGTERM)}
    yield came
    for signum, old in before.items():
        signal.signal(signum, old)


@BOTH
def test_a_signal_takes_effect_after_the_block(heard, signum):
    with signals_wait():
        signal.raise_signal(signum)
        assert heard == []
    assert heard == [signum]
    signal.raise_signal(signum)
    assert heard == [signum, signum]


@BOTH
@pytest.mark.usefixtures("hears_ctrl_c")
def test_a_signal_inside_of_the_garbage_collector_is_not_lost(signum, monkeypatch):
    """Where Python drops exceptions; jax has a callback there. A collection can take its time."""
    monkeypatch.setattr(signals, "AGAIN", 2 * signals.TOGETHER)
    came = []

    def callback(phase, info):
        if not came:
            came.append(phase)
            signal.raise_signal(signum)

    def collect_and_wait():
        gc.callbacks.append(callback)  # not before: a collection of its own would come too early
        try:
            gc.collect()
            time.sleep(20)
        finally:
            gc.callbacks.remove(callback)

    with pytest.raises(Interrupted), listening():
        collect_and_wait()
    assert came


def test_without_a_signal_nothing_happens(heard):
    handler = signal.getsignal(signal.SIGINT)
    with signals_wait():
        pass
    assert signal.getsignal(signal.SIGINT) is handler
    assert heard == []


def test_an_error_passes(heard):
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="text"), signals_wait():
        raise ValueError("text")
    assert signal.getsignal(signal.SIGINT) is handler


@BOTH
def test_an_ignored_signal_stays_ignored(heard, signum):
    signal.signal(signum, signal.SIG_IGN)
    with signals_wait(), listening() as stop:
        signal.raise_signal(signum)
    assert signal.getsignal(signum) is signal.SIG_IGN
    assert stop.signum is None


def test_other_threads():
    entered = []

    def work():
        with signals_wait(), listening() as stop:
            entered.append(stop)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(entered) == 1


@BOTH
def test_at_once(heard, signum):
    def work():
        with listening():
            signal.raise_signal(signum)
            pytest.fail("it goes on")

    handler = signal.getsignal(signum)
    with pytest.raises(Interrupted, match="stopped by SIG") as caught:
        work()
    assert caught.value.signum == signum
    assert signal.getsignal(signum) is handler
    assert heard == []


@BOTH
def test_postponed(heard, signum):
    done = []

    def work():
        with listening() as stop, stop.postponed():
            assert stop.signum is None
            signal.raise_signal(signum)
            done.append(stop.signum)

    with pytest.raises(Interrupted) as caught:
        work()
    assert done == [signum]
    assert caught.value.signum == signum


def test_an_error_in_the_postponed_block_passes(heard):
    def work():
        with listening() as stop, stop.postponed():
            signal.raise_signal(signal.SIGTERM)
            raise ValueError("text")

    with pytest.raises(ValueError, match="text"):
        work()


CHILD = """
import ctypes, sys
from cifar_jax.runtime import signals
from cifar_jax.runtime.signals import listening
signals.TOGETHER = 2  # seconds, for a machine that is slow
with listening() as stop, stop.postponed():
    print("ready", flush=True)
    ctypes.CDLL(None).usleep(400_000)  # in C, where no handler of Python's can run
    ctypes.CDLL(None).sleep(60)
"""


def test_the_second_signal_ends_the_process_inside_of_c():
    said = "stopping after this chunk of steps; once more to stop at once\n"
    with subprocess.Popen(
        [sys.executable, "-c", CHILD],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)  # as timeout(1) does: to the process and to its group
        assert process.stderr is not None
        assert process.stderr.readline() == said
        time.sleep(2.5)
        assert process.poll() is None
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, more = process.communicate(timeout=30)
    assert process.returncode == 143
    assert time.monotonic() - started < 20
    assert more == ""
