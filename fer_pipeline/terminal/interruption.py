"""SIGTERM and Ctrl-C: noted while training, acted on between two steps."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
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
    """Whether a signal has come; as a signal's handler it notes one."""

    def __init__(self) -> None:
        """No signal yet."""
        self.signum: int | None = None

    def __bool__(self) -> bool:
        return self.signum is not None

    def __call__(self, signum: int, _: FrameType | None) -> None:
        """Notes a signal; raises KeyboardInterrupt at a Ctrl-C after another signal."""
        if self and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = signum


@contextlib.contextmanager
def deferred_signals() -> Iterator[Request]:
    """Notes SIGTERM and SIGINT in the yielded request while the block runs.

    A second Ctrl-C is a ``KeyboardInterrupt`` at once. A signal that the block has not acted on
    reaches the handler that was there before when the block ends. A signal that is ignored stays
    so, as Ctrl-C is in a shell's background.
    """
    request = Request()
    with _handlers(request):
        yield request
    # Reached only by a block that did not raise: whoever acts on a request raises.
    if request:
        signal.raise_signal(request.signum)


@contextlib.contextmanager
def ended_at_once() -> Iterator[None]:
    """Lets SIGTERM and Ctrl-C end the process inside the block, unless ``deferred`` notes them.

    For calls of TensorFlow that wait for other hosts: no handler of Python's runs before they
    return. Nothing may be half-written meanwhile.
    """
    if isinstance(signal.getsignal(signal.SIGTERM), Request):
        yield
        return
    with _handlers(signal.SIG_DFL):
        yield


@contextlib.contextmanager
def _handlers(handler: Callable | signal.Handlers) -> Iterator[None]:
    """Sets a handler for SIGTERM and SIGINT, unless they are ignored; the ones before come back.

    Whoever else takes them in between. In a thread other than the main one, where Python sets no
    handlers, nothing happens.
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
            # None stands for a handler that is not Python's, which cannot be put back.
            if old is not None:
                signal.signal(number, old)


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
