"""SIGTERM and Ctrl-C: noted while training, acted on between two steps."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn


class InterruptedByUser(BaseException):
    """A signal ended the work in an orderly way; what had been done is safe.

    Not an ``Exception``: whoever handles errors should not take it for one.
    """

    def __init__(self, signum: int, message: str) -> None:
        """Takes the signal's number and a line about what was saved."""
        super().__init__(message)
        self.signum = signum

    @property
    def status(self) -> int:
        """The exit status by the shell's convention: 128 and the signal's number."""
        return 128 + self.signum


class Request:
    """Whether a signal has come."""

    def __init__(self) -> None:
        """No signal yet."""
        self.signum: int | None = None

    def __bool__(self) -> bool:
        return self.signum is not None


@contextlib.contextmanager
def deferred() -> Iterator[Request]:
    """Notes SIGTERM and SIGINT in the yielded request while the block runs.

    A second Ctrl-C is a ``KeyboardInterrupt`` at once. A signal that the block has not acted on
    reaches the handler that was there before when the block ends. In a thread other than the main
    one, where Python handles no signals, nothing is noted.
    """
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(signum: int, _: FrameType | None) -> None:
        if request and signum == signal.SIGINT:
            raise KeyboardInterrupt
        request.signum = signum

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    # Reached only by a block that did not raise: whoever acts on a request raises.
    if request:
        signal.raise_signal(request.signum)


def end_quietly_at_ctrl_c() -> None:
    """Has Ctrl-C end the process at once, without a traceback, until ``heed_ctrl_c``.

    For the time that a command takes to import what it needs. Where Ctrl-C is ignored, as it is in
    a shell's background, it stays so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def heed_ctrl_c() -> None:
    """Makes Ctrl-C raise KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def end_at_sigterm() -> None:
    """Makes SIGTERM raise InterruptedByUser, so that locks and half-written files are cleared."""

    def end(signum: int, _: FrameType | None) -> NoReturn:
        raise InterruptedByUser(signum, "terminated")

    signal.signal(signal.SIGTERM, end)
