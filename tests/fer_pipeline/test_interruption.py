"""Signals are noted while work is under way, and the handlers before come back."""

import os
import signal
import threading

import pytest

from fer_pipeline import interruption


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_nothing_is_raised(number):
    before = signal.getsignal(number)
    with interruption.deferred() as request:
        assert not request
        os.kill(os.getpid(), number)
        assert request
        assert request.signum == number
    assert signal.getsignal(number) == before


def test_a_second_ctrl_c_is_not_put_off():
    with interruption.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_in_another_thread_nothing_is_noted_and_nothing_breaks():
    seen = []

    def work():
        with interruption.deferred() as request:
            seen.append(bool(request))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]


def test_the_exit_status_is_the_shells():
    assert interruption.InterruptedByUser(signal.SIGTERM, "").status == 143
    assert interruption.InterruptedByUser(signal.SIGINT, "").status == 130


def test_sigterm_can_be_made_an_exception():
    before = signal.getsignal(signal.SIGTERM)
    try:
        interruption.end_at_sigterm()
        with pytest.raises(interruption.InterruptedByUser) as stop:
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.value.status == 143
    finally:
        signal.signal(signal.SIGTERM, before)
