"""A TFLite file or SavedModel in several processes, started when they are needed."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from fer_pipeline.inference import runtime_client
from fer_pipeline.inference.runtime_client import Runtime

#: Lends a runtime to one caller for a block.
Borrow = Callable[[], contextlib.AbstractContextManager[Runtime]]


@contextlib.contextmanager
def opened(path: Path, processes: int = 1) -> Iterator[Borrow]:
    """Starts a process for the model, and more of them while several threads ask at a time.

    The first one starts at once and is not waited for. When the block ends all are killed, which
    ends calls that other threads are in.

    Args:
      path: of the TFLite file, or of the version folder of a SavedModel.
      processes: how many there may be.
    """
    idle: queue.SimpleQueue[Runtime] = queue.SimpleQueue()
    lock = threading.Lock()
    left = processes

    with contextlib.ExitStack() as stack:

        def start() -> None:
            nonlocal left
            with lock:
                if left > 0:
                    left -= 1
                    idle.put(stack.enter_context(runtime_client.opened(path)))

        @contextlib.contextmanager
        def borrow() -> Iterator[Runtime]:
            if idle.empty():
                start()
            runtime = idle.get()
            try:
                yield runtime
            finally:
                idle.put(runtime)

        start()
        try:
            yield borrow
        finally:
            # A thread that still runs starts no process any more.
            with lock:
                left = 0
