import signal
import threading

import pytest

from cifar_jax.runtime.signals import ctrl_c_waits


@pytest.fixture
def handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_takes_effect_after_the_block(handler):
    done = []

    def block():
        with ctrl_c_waits():
            signal.raise_signal(signal.SIGINT)
            done.append("the rest of the block")
        done.append("after it")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == ["the rest of the block"]
    assert signal.getsignal(signal.SIGINT) is handler


def test_without_ctrl_c_nothing_happens(handler):
    with ctrl_c_waits():
        pass
    assert signal.getsignal(signal.SIGINT) is handler


def test_an_error_passes(handler):
    with pytest.raises(ValueError, match="text"), ctrl_c_waits():
        raise ValueError("text")
    assert signal.getsignal(signal.SIGINT) is handler


def test_an_ignored_signal_stays_ignored(handler):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with ctrl_c_waits():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_other_threads():
    entered = []

    def work():
        with ctrl_c_waits():
            entered.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert entered
