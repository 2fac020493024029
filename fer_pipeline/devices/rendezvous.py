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

from fer_pipeline.devices.cluster import WorkerInfo
from fer_pipeline.errors import UserError
from fer_pipeline.terminal import interruption

#: Seconds between two attempts, and for an answer that is due.
_PAUSE, _PATIENCE = 0.2, 1.0

#: What a host sends to the chief, before its number.
_HELLO = b"fer_pipeline worker"

#: The chief's answers: go on; another process has come under this number; no host of this job has
#: it; others have not come in time, followed by their addresses.
_GO, _REPLACED, _UNKNOWN, _MISSING = "go", "replaced", "unknown", "missing"

_ALONE = "--strategy=one_device, or no TF_CONFIG, trains on this host alone"


def wait_for_workers(
    worker: WorkerInfo, *, minutes: float, log: Callable[[str], None] = print
) -> None:
    """Waits until every host of the job is there.

    Args:
      worker: this process among the hosts.
      minutes: how long to wait.
      log: takes the lines that say what is waited for.

    Raises:
      UserError: this host's port is taken, a host has not come in time, or the chief knows
        another TF_CONFIG or another process of this number.
    """
    others = [address for i, address in enumerate(worker.addresses) if i != worker.index]
    awaited = others if worker.chief else worker.addresses[:1]
    log(
        f"worker {worker.index} of {worker.count}: waiting up to {minutes:g} minutes for "
        f"{', '.join(awaited)} (from TF_CONFIG); {_ALONE}"
    )
    deadline = time.monotonic() + 60 * minutes
    with _listening(worker.addresses[worker.index]) as server:
        if worker.chief:
            missing = _gather(server, worker, deadline)
    if not worker.chief:
        missing = _report(worker, deadline)
    if missing:
        raise UserError(
            f"TF_CONFIG: {', '.join(missing)} has not come within {minutes:g} minutes; start the "
            f"same command on all hosts, or raise --join_minutes; {_ALONE}"
        )
    log(
        f"worker {worker.index}: all hosts are there; "
        f"they connect, or end after {minutes:g} minutes"
    )


def _gather(server: socket.socket, worker: WorkerInfo, deadline: float) -> list[str]:
    """Takes the reports of all other hosts and lets them go on; the addresses of those missing."""
    server.settimeout(_PAUSE)
    reported: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        while len(reported) < worker.count - 1 and time.monotonic() < deadline:
            # Nobody comes within the pause, or somebody who breaks off.
            with contextlib.suppress(OSError):
                connection = stack.enter_context(server.accept()[0])
                index = _number_of(connection)
                if index in range(1, worker.count):
                    if before := reported.pop(index, None):
                        _tell(before, _REPLACED)
                    reported[index] = connection
                else:
                    _tell(connection, _UNKNOWN)
            reported = {i: one for i, one in reported.items() if _is_open(one)}
        missing = [worker.addresses[i] for i in range(1, worker.count) if i not in reported]
        for connection in reported.values():
            _tell(connection, " ".join([_MISSING, *missing]) if missing else _GO)
    return missing


def _tell(connection: socket.socket, answer: str) -> None:
    """Answers a host and lets go of it."""
    with contextlib.suppress(OSError), connection:
        connection.sendall(f"{answer}\n".encode())


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


def _report(worker: WorkerInfo, deadline: float) -> list[str]:
    """Reports to the chief until it says to go on; the addresses of the hosts that are missing.

    Raises:
      UserError: the chief does not count this process among its hosts.
    """
    host, _, port = worker.addresses[0].rpartition(":")
    while time.monotonic() < deadline:
        answer = ""
        # Refused, cut off, or a name that nobody knows: tried again.
        with (
            contextlib.suppress(OSError, UnicodeError),
            socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE) as chief,
        ):
            chief.sendall(_HELLO + b" %d\n" % worker.index)
            answer = _answer(chief, deadline)
        word, *missing = answer.split() or [""]
        if word in (_GO, _MISSING):
            return missing
        if word in (_REPLACED, _UNKNOWN):
            raise UserError(
                f"TF_CONFIG: the chief at {worker.addresses[0]} has "
                f"{'another' if word == _REPLACED else 'no'} worker {worker.index}; "
                "give every host the same cluster and a task of its own"
            )
        time.sleep(_PAUSE)
    return [worker.addresses[0]]


def _answer(chief: socket.socket, deadline: float) -> str:
    """The line that the chief sends; nothing where it has gone or the time is up."""
    chief.settimeout(_PAUSE)
    received = b""
    # The chief has the same limit, counts from another start and may be a little late.
    while not received.endswith(b"\n") and time.monotonic() < deadline + _PATIENCE:
        with contextlib.suppress(TimeoutError):
            part = chief.recv(4096)
            if not part:
                break
            received += part
    return received.decode(errors="replace")


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
def limited(minutes: float) -> Iterator[None]:
    """Ends the process where the block takes longer than some minutes, or at a signal, at once.

    For the call in which TensorFlow connects the hosts: it holds the interpreter, so that no
    handler of Python's can run, and it takes SIGTERM, which is taken back afterwards.
    """
    with interruption.ended_at_once():
        if threading.current_thread() is threading.main_thread():
            before = signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, 60 * minutes)
        try:
            yield
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)
