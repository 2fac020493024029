"""Python processes of this software: one that runs to its end, or one that answers requests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fer_pipeline import gpus


class ChildError(Exception):
    """A process that ended too early or gave no answer; says which, in words that follow its name.

    Attributes:
      refused: whether the process did answer, that it cannot do what it was asked for.
      stderr: all that ``run``'s process printed there.
    """

    def __init__(self, message: str, *, refused: bool = False, stderr: str = ""):
        super().__init__(message)
        self.refused, self.stderr = refused, stderr


def command(module: str, *arguments: str) -> list[str]:
    """What runs a module of this software; ``environment`` goes with it.

    ``-P`` keeps the working folder out of it, where a user's own files may have the same names.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def environment(*, gpu: bool = False) -> dict[str, str]:
    """The environment in which a child finds these packages, and GPUs only if it may.

    A child that does not need a GPU sees none: its answers are those of any machine, and a training
    may be using the GPU.
    """
    gpus.allow_growth()
    root = str(Path(__file__).parents[1])
    paths = filter(None, [root, os.environ.get("PYTHONPATH")])
    found = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return found if gpu else gpus.hidden(found)


def run(module: str, *arguments: str, seconds: float | None = None) -> str:
    """What a module of this software prints when it is run with arguments, on the CPU.

    Raises:
      ChildError: its process failed, or took longer than ``seconds``.
    """
    try:
        ended = subprocess.run(
            command(module, *arguments),
            capture_output=True,
            text=True,
            check=False,
            env=environment(),
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise ChildError(f"did not end within {seconds:.0f} s") from error
    if ended.returncode:
        raise ChildError(ending(ended.returncode, ended.stderr), stderr=ended.stderr.strip())
    return ended.stdout


@contextlib.contextmanager
def worker(
    command: Sequence[str], log: Path | None, *, shared_log: bool = False, gpu: bool = False
) -> Iterator[Callable[..., Any]]:
    """Runs a process that answers requests for as long as the block lasts, and kills it then.

    Args:
      command: it prints a line of JSON when it is ready, and one for each line of JSON that it
        reads. ``{"error": REASON}`` is a refusal.
      log: what it prints on stderr goes there; None drops it.
      shared_log: the log has other contents too: it is appended to, and its last line is not said
        to be the process'.
      gpu: whether the process sees GPUs.

    Yields:
      A function that sends its argument, or without one nothing, and waits for the answer; for
      ``seconds`` at most, if these are given, after which it kills the process. It raises
      ChildError where none comes, and for a refusal.
    """
    with open(log or os.devnull, "ab" if shared_log else "wb") as stderr:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            bufsize=1,
            env=environment(gpu=gpu),
        )

    def ask(*requests: Any, seconds: float | None = None) -> Any:
        # Where the process has ended the answer is missing too, and the status says why.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.writelines(f"{json.dumps(request)}\n" for request in requests)
        with _killed_after(seconds, process):
            line = process.stdout.readline()
        # A crash may cut a reply off.
        if not line.endswith("\n"):
            said = log.read_text("utf-8", "replace") if log and not shared_log else ""
            raise ChildError(ending(process.wait(), said))
        try:
            reply = json.loads(line)
        except ValueError as error:
            raise ChildError("gave no reply") from error
        if isinstance(reply, dict) and "error" in reply:
            raise ChildError(reply["error"], refused=True)
        return reply

    try:
        yield ask
    finally:
        process.kill()
        with contextlib.suppress(BrokenPipeError):
            process.communicate()


@contextlib.contextmanager
def _killed_after(seconds: float | None, process: subprocess.Popen) -> Iterator[None]:
    """Kills a process, and raises ChildError, if the block takes longer; None waits for ever."""
    if seconds is None:
        yield
        return
    late = threading.Event()
    timer = threading.Timer(seconds, lambda: (late.set(), process.kill()))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    if late.is_set():
        raise ChildError(f"did not answer within {seconds:.0f} s")


def ending(status: int, stderr: str = "") -> str:
    """How a process ended, and the last line that it printed on stderr."""
    crashed = f"crashed with {signal.Signals(-status).name}" if status < 0 else ""
    last = stderr.strip().rpartition("\n")[2]
    return (crashed or f"ended with status {status}") + (f": {last}" if last else "")
