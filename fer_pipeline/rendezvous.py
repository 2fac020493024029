"""The hosts of a job wait for one another, where a signal or a clock can end it.

TensorFlow's own waiting does neither: it holds the interpreter, has no time limit and takes
SIGTERM. So it begins only when every host is there: they report to the chief, and the chief tells
all of them to go on.
"""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

from fer_pipeline.cluster import Place
from fer_pipeline.errors import UserError

#: Seconds between two attempts, and for an answer that is due.
_PAUSE, _PATIENCE = 0.2, 1.0

#: What a host sends to the chief, before its number, and what the chief answers in the end.
_HELLO, _GO = b"fer_pipeline worker", b"go\n"

_ALONE = "--strategy=one_device, or no TF_CONFIG, trains on this host alone"


def wait_for_workers(here: Place, *, minutes: float, say: Callable[[str], None] = print) -> None:
    """Waits until every host of the job is there.

    Args:
      here: this process among the hosts.
      minutes: how long to wait.
      say: takes the line that says what is waited for.

    Raises:
      UserError: this host's port is taken, or a host has not come in time.
    """
    others = [address for i, address in enumerate(here.addresses) if i != here.worker]
    awaited = others if here.chief else here.addresses[:1]
    say(
        f"worker {here.worker} of {here.workers}: waiting up to {minutes:g} minutes for "
        f"{', '.join(awaited)} (from TF_CONFIG); {_ALONE}"
    )
    deadline = time.monotonic() + 60 * minutes
    with _listening(here.addresses[here.worker]) as server:
        if here.chief:
            missing = _gather(server, here, deadline)
    if not here.chief:
        missing = _report(here, deadline)
    if missing:
        raise UserError(
            f"TF_CONFIG: {', '.join(missing)} has not come within {minutes:g} minutes; start the "
            f"same command on all hosts, or raise --join_minutes; {_ALONE}"
        )


def _gather(server: socket.socket, here: Place, deadline: float) -> list[str]:
    """Takes the reports of all other hosts and lets them go on; the addresses of those missing."""
    server.settimeout(_PAUSE)
    reported: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        while len(reported) < here.workers - 1 and time.monotonic() < deadline:
            # Nobody comes within the pause, or somebody who breaks off.
            with contextlib.suppress(OSError):
                connection = stack.enter_context(server.accept()[0])
                worker = _number_of(connection)
                if worker in range(1, here.workers):
                    reported[worker] = connection
                else:
                    connection.close()
            reported = {worker: one for worker, one in reported.items() if _is_open(one)}
        missing = [here.addresses[i] for i in range(1, here.workers) if i not in reported]
        for connection in () if missing else reported.values():
            connection.sendall(_GO)
    return missing


def _number_of(connection: socket.socket) -> int | None:
    """The number of the worker that has just called; None where it is another program."""
    connection.settimeout(_PATIENCE)
    with connection.makefile("rb") as stream:
        greeting = re.fullmatch(_HELLO + rb" (\d+)\n", stream.readline(64))
    return int(greeting[1]) if greeting else None


def _is_open(connection: socket.socket) -> bool:
    """Whether a worker that has reported is still there; it says nothing more."""
    connection.setblocking(False)
    try:
        return bool(connection.recv(1))
    except BlockingIOError:
        return True
    except OSError:
        return False


def _report(here: Place, deadline: float) -> list[str]:
    """Reports to the chief until it says to go on; its address where it never does."""
    host, _, port = here.addresses[0].rpartition(":")
    while time.monotonic() < deadline:
        # Refused, cut off, or answered by something else: tried again.
        with (
            contextlib.suppress(OSError),
            socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE) as chief,
        ):
            chief.sendall(_HELLO + b" %d\n" % here.worker)
            if _answer(chief, deadline) == _GO:
                return []
        time.sleep(_PAUSE)
    return [here.addresses[0]]


def _answer(chief: socket.socket, deadline: float) -> bytes:
    """What the chief sends; nothing where it has gone or the time is up."""
    chief.settimeout(_PAUSE)
    while time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError):
            return chief.recv(len(_GO))
    return b""


@contextlib.contextmanager
def _listening(address: str) -> Iterator[socket.socket]:
    """Listens at the port of ``host:port``, at every address of this host, as TensorFlow will."""
    port = int(address.rpartition(":")[2])
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        server = socket.create_server(("", port), family=family, dualstack_ipv6=both)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"TF_CONFIG: this host cannot listen at port {port} "
            f"({getattr(error, 'strerror', None) or error}); end what uses it or name another"
        ) from error
    with server:
        yield server


@contextlib.contextmanager
def ended_by_signals(minutes: float) -> Iterator[None]:
    """Lets Ctrl-C, SIGTERM, and SIGALRM after some minutes end the process in the block at once.

    For calls of TensorFlow that hold the interpreter, so that no handler of Python's can run, and
    before anything has been written. Afterwards the handlers are what they were, SIGTERM's
    included, which TensorFlow takes in between. In a thread other than the main one, where Python
    sets no handlers, nothing happens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGALRM, signal.SIGTERM)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    signal.setitimer(signal.ITIMER_REAL, 60 * minutes)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
