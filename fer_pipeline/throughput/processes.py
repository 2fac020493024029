"""Cases in processes of their own, so that none meets what another did to its process.

TensorFlow, for one, makes malloc return memory at once as soon as it reads from a generator, which
costs whatever else runs in the process half of its speed; and thread pools and GPU memory are not
shared well either.

A child (``python -m fer_pipeline.throughput.processes MODULE ARGUMENTS NAME``) prepares the case
NAME of ``fer_pipeline.throughput.MODULE``'s ``cases(**ARGUMENTS)`` and answers lines with lines of
JSON: ``null`` when it is ready, or why it cannot run; then, for a number of rounds or calls, their
``[images, seconds]``.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fer_pipeline import child_processes
from fer_pipeline.throughput.cases import (
    Case,
    CaseError,
    Opener,
    Timing,
    Turn,
    in_process,
)
from fer_pipeline.throughput.rounds import settle


def opener(module: str, arguments: dict[str, Any], logs: Path) -> Opener:
    """Opens cases each in a process of its own.

    Args:
      module: of this package, whose ``cases`` makes them.
      arguments: of ``cases``, as JSON values.
      logs: folder for what the processes print on stderr.

    Returns:
      An opener that does not wait for the process; its first turn does, and raises ImportError
      where the case cannot run here. Every turn may raise CaseError.
    """
    logs.mkdir(exist_ok=True)

    @contextlib.contextmanager
    def opened(case: Case) -> Iterator[Turn]:
        command = [__name__, module, json.dumps(arguments), case.name]
        log = logs / re.sub(r"\W+", "-", case.name)
        ready = False
        with worker_process(command, log, gpu=case.gpu) as ask:

            def turn(calls: int) -> list[Timing]:
                nonlocal ready
                # Only now: processes that are opened together start together.
                if not ready and (reason := ask()):
                    raise ImportError(reason)
                ready = True
                return [Timing(*pair) for pair in ask(calls)]

            yield turn

    return opened


@contextlib.contextmanager
def worker_process(
    command: Sequence[str], log: Path, *, gpu: bool = False
) -> Iterator[Callable[..., Any]]:
    """Runs a module of this project for as long as the block lasts, and speaks with it.

    Args:
      command: its name and arguments. It prints a line of JSON when it is ready, and one for each
        line that it gets.
      log: what it prints on stderr goes there.
      gpu: whether it sees GPUs.

    Yields:
      A function that sends its argument, or without one nothing, and waits for the answer. It
      raises CaseError where the process has ended instead.
    """
    with open(log, "wb") as stderr:
        process = subprocess.Popen(
            child_processes.command(*command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=child_processes.environment(gpu=gpu),
        )

    def ask(*question: Any) -> Any:
        # Where the process has ended the answer is missing too, and tells it.
        with contextlib.suppress(BrokenPipeError):
            for value in question:
                process.stdin.write(f"{value}\n")
                process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            said = log.read_text(encoding="utf-8", errors="replace")
            raise CaseError(_ending(process.wait(), said))
        return json.loads(line)

    try:
        yield ask
    finally:
        process.kill()
        with contextlib.suppress(BrokenPipeError):
            process.communicate()


def answer(module: str, *arguments: str) -> Any:
    """What a module of this project prints as JSON when it is run with arguments, on the CPU.

    Raises:
      CaseError: its process ended otherwise.
    """
    # Run and not imported: its memory is its own, and nothing here imports what exports.
    ended = subprocess.run(
        child_processes.command(module, *arguments),
        capture_output=True,
        text=True,
        check=False,
        env=child_processes.environment(),
    )
    if ended.returncode:
        raise CaseError(_ending(ended.returncode, ended.stderr))
    return json.loads(ended.stdout)


def _ending(status: int, said: str) -> str:
    """How a process ended, and the last line it printed."""
    how = f"ended by signal {-status}" if status < 0 else f"ended with status {status}"
    last = said.strip().rpartition("\n")[2]
    return f"{how}: {last}" if last else how


def replies() -> Callable[[Any], None]:
    """A function that answers whoever runs this process in a ``worker_process``.

    What anything else prints to stdout goes to stderr from now on.
    """
    stdout = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return lambda value: print(json.dumps(value), file=stdout)


def _serve(module: str, arguments: str, name: str) -> None:
    reply = replies()
    cases = importlib.import_module(f"fer_pipeline.throughput.{module}").cases
    [case] = [case for case in cases(**json.loads(arguments)) if case.name == name]
    with contextlib.ExitStack() as stack:
        try:
            turn = stack.enter_context(in_process(case))
        except ImportError as error:
            reply(str(error))
            return
        settle()
        reply(None)
        for line in sys.stdin:
            timings = turn(int(line))
            # Buffers go on being filled after a turn, and the next one is another process'.
            settle()
            reply(timings)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
