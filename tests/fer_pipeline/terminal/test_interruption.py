"""Signals are noted while work is under way, and the handlers before come back."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from fer_pipeline.terminal import interruption


@pytest.fixture
def handled():
    """The signals that reached the handlers of whoever encloses the block, which come back."""
    seen = []
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {n: signal.signal(n, lambda number, _: seen.append(number)) for n in numbers}
    yield seen
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_inside_and_reaches_the_handler_before_it_at_the_end(handled, number):
    before = signal.getsignal(number)
    with interruption.deferred_signals() as request:
        assert not request
        os.kill(os.getpid(), number)
        assert request
        assert request.signum == number
        assert handled == []
    assert signal.getsignal(number) == before
    assert handled == [number]


def test_a_signal_that_was_acted_on_does_not_come_again(handled):
    def act():
        with interruption.deferred_signals() as request:
            os.kill(os.getpid(), signal.SIGTERM)
            raise interruption.InterruptedByUser(request.signum, "saved")

    with pytest.raises(interruption.InterruptedByUser):
        act()
    assert handled == []


def test_a_second_ctrl_c_is_not_put_off(handled):
    with interruption.deferred_signals():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("module", ["fer_pipeline.train", "fer_pipeline", "export"])
def test_ctrl_c_while_a_command_is_still_being_imported_leaves_no_traceback(tmp_path, module):
    """Whatever is imported first after the package sends the signal."""
    (tmp_path / "absl.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-m", module, *(["train"] if module == "fer_pipeline" else [])],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert (result.returncode, result.stdout, result.stderr) == (-signal.SIGINT, "", "")


def test_where_ctrl_c_is_ignored_it_stays_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruption.deferred_signals() as request:
            os.kill(os.getpid(), signal.SIGINT)
            assert not request
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_call_that_waits_is_ended_at_once_unless_signals_are_noted(handled):
    ours = signal.getsignal(signal.SIGTERM)
    with interruption.ended_at_once():
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is ours
    with interruption.deferred_signals() as request, interruption.ended_at_once():
        assert signal.getsignal(signal.SIGTERM) is request


def test_in_another_thread_nothing_is_noted_and_nothing_breaks():
    seen = []

    def work():
        with interruption.deferred_signals() as request:
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
