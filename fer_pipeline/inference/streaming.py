"""Work on a stream of items in several threads, with the results in order."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Items that are taken from the stream before work on them begins.
_AHEAD = 4096

_END, _DONE = object(), object()


def in_order(
    items: Iterable[Item],
    work: Callable[[Iterable[Item]], Result],
    *,
    threads: int,
    weight: Callable[[Item], float],
) -> Iterator[Result]:
    """Calls ``work`` on batches of items, in threads, and yields its results in the items' order.

    A result comes out as soon as it and those before it are ready, also while the stream waits for
    its next item. Batches are of what is there: single items from a slow stream, many from a fast
    one. Memory is bounded, however long the stream is.

    Args:
      items: taken in a thread of their own.
      work: of a batch, which it goes through once. Where nobody wants the results any more, the
        batch raises CancelledError in the place of its next item, so that the thread ends.
      threads: how many call it.
      weight: the part of a batch that an item takes; one of 1 or more is a batch alone.

    Raises:
      Exception: what the stream or ``work`` raises, after the results of the items before.
    """
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    room, stopped = threading.Semaphore(_AHEAD), threading.Event()

    def feed() -> None:
        last = _END
        try:
            for item in items:
                room.acquire()
                if stopped.is_set():
                    return
                events.put((item,))
        except BaseException as error:
            last = error
        events.put(last)

    waiting: deque[Item] = deque()
    running: deque[Future[Result]] = deque()
    ended, failure = False, None
    threading.Thread(target=feed, name="sources", daemon=True).start()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="faces")
    try:
        while not (ended and not waiting and not running):
            for event in _arrived(events):
                if isinstance(event, BaseException):
                    failure = event
                ended = ended or event is _END or failure is not None
                waiting.extend(event if isinstance(event, tuple) else ())
            while running and running[0].done():
                yield running.popleft().result()
            # After that, so that a place that has become free is taken before the next wait.
            while waiting and len(running) < 2 * threads:
                batch = _next_batch(waiting, weight)
                room.release(len(batch))
                future = pool.submit(work, _until(stopped, batch))
                future.add_done_callback(lambda _: events.put(_DONE))
                running.append(future)
        if failure:
            raise failure
    finally:
        # Nothing is waited for: the caller ends what the threads are in.
        stopped.set()
        room.release()
        pool.shutdown(wait=False, cancel_futures=True)


def _arrived(events: queue.SimpleQueue[Any]) -> Iterator[Any]:
    """All events that are there; waits for the first."""
    yield events.get()
    while not events.empty():
        yield events.get()


def _until(stopped: threading.Event, batch: Iterable[Item]) -> Iterator[Item]:
    """The items of a batch; Python does not end before the threads that are in one."""
    for item in batch:
        if stopped.is_set():
            raise CancelledError
        yield item


def _next_batch(waiting: deque[Item], weight: Callable[[Item], float]) -> list[Item]:
    batch = [waiting.popleft()]
    total = weight(batch[0])
    while waiting and total + weight(waiting[0]) <= 1:
        total += weight(waiting[0])
        batch.append(waiting.popleft())
    return batch
