"""Cases in processes of their own, so that none meets what another did to its process.

TensorFlow, for one, makes malloc return memory at once as soon as it reads from a generator, which
costs whatever else runs in the process half of its speed; and thread pools and GPU memory are not
shared well either.

A child (``python -m fer_pipeline.throughput.processes MODULE ARGUMENTS NAME``) prepares the case
NAME of ``fer_pipeline.throughput.MODULE``'s ``cases(**ARGUMENTS)`` and answers lines of JSON:
``null`` when it is ready, or why it cannot run; then, for a number of rounds or calls, their
``[images, seconds]``.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fer_pipeline import child_processes
from fer_pipeline.child_processes import ChildError
from fer_pipeline.inference.runtime_worker import serve
from fer_pipeline.throughput.cases import Case, Opener, Timing, Turn, in_process
from fer_pipeline.throughput.rounds import settle


def opener(module: str, arguments: dict[str, Any], logs: Path) -> Opener:
    """Opens cases of ``module``, one of this package, each in a process of its own.

    The processes make them by ``module``'s ``cases(**arguments)``, whose arguments are JSON values,
    and print to files in the folder ``logs``.

    Returns:
      An opener that does not wait for the process; its first turn does, and raises ImportError
      where the case cannot run here. Every turn may raise ChildError.
    """
    logs.mkdir(exist_ok=True)

    @contextlib.contextmanager
    def opened(case: Case) -> Iterator[Turn]:
        command = child_processes.command(__name__, module, json.dumps(arguments), case.name)
        log = logs / re.sub(r"\W+", "-", case.name)
        ready = False
        with child_processes.worker(command, log, gpu=case.gpu) as ask:

            def turn(calls: int) -> list[Timing]:
                nonlocal ready
                try:
                    # Only now: processes that are opened together start together.
                    if not ready:
                        ask()
                except ChildError as error:
                    raise (ImportError(error) if error.refused else error) from None
                ready = True
                return [Timing(*pair) for pair in ask(calls)]

            yield turn

    return opened


def _prepare(
    stack: contextlib.ExitStack, module: str, arguments: str, name: str
) -> tuple[None, Callable[[int], list[Timing]]]:
    cases = importlib.import_module(f"fer_pipeline.throughput.{module}").cases
    [case] = [case for case in cases(**json.loads(arguments)) if case.name == name]
    turn = stack.enter_context(in_process(case))

    def settled_turn(calls: int) -> list[Timing]:
        timings = turn(calls)
        # Buffers go on being filled after a turn, and the next one is another process'.
        settle()
        return timings

    settle()
    return None, settled_turn


if __name__ == "__main__":
    with contextlib.ExitStack() as stack:
        serve(lambda: _prepare(stack, *sys.argv[1:]), ImportError)
