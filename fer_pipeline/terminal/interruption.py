"""SIGTERM and Ctrl-C: recorded while training runs, handled between two steps."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn


class InterruptedByUser(BaseException):
    """A signal ended the work in an orderly way; what was done is saved.

    Not an ``Exception``, so that ``except Exception`` does not catch it.
    """

    def __init__(self, signum: int, message: str) -> None:
        """Takes the signal's number and a line that says what was saved."""
        super().__init__(message)
        self.signum = signum

    @property
    def status(self) -> int:
        """The exit status by the shell's convention: 128 and the signal's number."""
        return 128 + self.signum


class Request:
    """A signal handler that records a signal; true once there was one."""

    def __init__(self) -> None:
        """No signal yet."""
        self.signum: int | None = None

    def __bool__(self) -> bool:
        return self.signum is not None

    def __call__(self, signum: int, _: FrameType | None) -> None:
        """Records a signal; raises KeyboardInterrupt at a Ctrl-C after another signal."""
        if self and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = signum


@contextlib.contextmanager
def deferred_signals() -> Iterator[Request]:
    """Records SIGTERM and SIGINT in the yielded request while the block runs.

    A second Ctrl-C raises ``KeyboardInterrupt`` at once. If the block ends without raising, a
    recorded signal is sent again, to the handler from before. Ignored signals stay ignored, as
    Ctrl-C in a background job of a shell.
    """
    request = Request()
    with _handlers(request):
        yield request
    # The block did not raise, so it has not handled the request.
    if request:
        signal.raise_signal(request.signum)


@contextlib.contextmanager
def ended_at_once() -> Iterator[None]:
    """Lets SIGTERM and Ctrl-C end the process at once, unless ``deferred_signals`` records them.

    For calls of TensorFlow that wait for other hosts: Python's handlers do not run before they
    return. Nothing may be half-written meanwhile.
    """
    if isinstance(signal.getsignal(signal.SIGTERM), Request):
        yield
        return
    with _handlers(signal.SIG_DFL):
        yield


@contextlib.contextmanager
def _handlers(handler: Callable | signal.Handlers) -> Iterator[None]:
    """Sets a handler for SIGTERM and SIGINT, unless they are ignored, and restores the old ones.

    They are restored even if other code has replaced them in the block. In a thread other than the
    main one, where Python cannot set handlers, nothing happens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    heard = [number for number, old in before.items() if old is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            # None is a handler that was not set by Python and cannot be restored.
            if old is not None:
                signal.signal(number, old)


def end_quietly_at_ctrl_c() -> None:
    """Makes Ctrl-C end the process at once, without a traceback, until ``raise_at_ctrl_c``.

    For the time that a command takes for its imports. If Ctrl-C is ignored, as in a background job
    of a shell, it stays ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_at_ctrl_c() -> None:
    """Makes Ctrl-C raise KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def end_at_sigterm() -> None:
    """Makes SIGTERM raise InterruptedByUser, so that locks and half-written files are removed."""

    def end(signum: int, _: FrameType | None) -> NoReturn:
        raise InterruptedByUser(signum, "terminated")

    signal.signal(signal.SIGTERM, end)
