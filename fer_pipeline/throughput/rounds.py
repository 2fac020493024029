"""Rounds that can be compared: how long they last, and what their clock sees."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_pipeline.throughput.cases import Round, Timing

if TYPE_CHECKING:
    import keras

#: Seconds, as ``time.perf_counter`` counts them.
Clock = Callable[[], float]

#: Does so many steps in one call, and times them.
Take = Callable[[int], Timing]

#: How idle this process has to be before a turn, and how long that is waited for: seconds.
_WINDOW, _BUSY, _PATIENCE = 0.02, 0.004, 3.0

#: The share of a round that goes ahead of it, untimed.
_RUN_UP = 0.5

#: A call aims at so many times the shortest round, because the next call may be faster.
_MARGIN = 1.1


def timed(call: Callable[[], int], clock: Clock = time.perf_counter) -> Round:
    """A round that is one call, which returns its images."""

    def run() -> Timing:
        start = clock()
        images = call()
        return Timing(images, clock() - start)

    return run


def timed_steps(take: Callable[[int], int], clock: Clock = time.perf_counter) -> Take:
    """Times a function that does so many steps and returns their images."""
    return lambda count: timed(lambda: take(count), clock)()


def timed_fit(
    model: keras.Model,
    given: Callable[[int], dict[str, Any]],
    images: int,
    clock: Clock = time.perf_counter,
) -> Take:
    """A function that has ``fit`` do so many steps, and one before them, and times these.

    ``fit`` opens its data anew at every call, which takes some tenths of a second. A training calls
    it once, and our own rounds go on with open batches, so that start is no part of a step. The
    clock runs from the end of the first step, whose images are not counted, to the end of the last.

    Args:
      model: compiled.
      given: arguments of ``fit`` for an epoch of so many batches.
      images: of a batch.
      clock: in seconds.
    """
    import keras

    def take(count: int) -> Timing:
        ends = []

        def note(step: int, logs: dict[str, Any]) -> None:
            if step in (0, count):
                # A GPU is still at work when the call returns; its result is waited for.
                float(logs["loss"])
                ends.append(clock())

        watch = keras.callbacks.LambdaCallback(on_train_batch_end=note)
        model.fit(**given(count + 1), epochs=1, verbose=0, callbacks=[watch])
        first, last = ends
        return Timing(count * images, last - first)

    return take


def for_seconds(step: Callable[[], int], seconds: float, clock: Clock = time.perf_counter) -> Round:
    """A round that repeats ``step``, which returns its images, for at least ``seconds``.

    Half as long a run-up goes before it. Between two turns a pipeline reads ahead, ours up to
    16,384 images, at a time that no clock sees. The run-up uses them up, so that a round pays for
    all that it delivers.
    """

    def take(duration: float) -> Timing:
        start = clock()
        images = step()
        while (passed := clock() - start) < duration:
            images += step()
        return Timing(images, passed)

    def run() -> Timing:
        take(_RUN_UP * seconds)
        return take(seconds)

    return run


def lasting(take: Take, least: int, seconds: float) -> Round:
    """A round of at least ``least`` steps and ``seconds``, in as few calls as can be.

    How many steps a call needs for that depends on the device, so every round takes it from the one
    before: a step of this network takes a second on some CPUs and a millisecond on some GPUs.
    ``take`` is called with 1 first, untimed, for what is compiled.
    """
    take(1)
    count = least

    def run() -> Timing:
        nonlocal count
        steps, (images, passed) = count, take(count)
        while passed < seconds:
            more = _steps(steps, passed, seconds) - steps
            timing = take(more)
            steps, images, passed = steps + more, images + timing.images, passed + timing.seconds
        count = max(least, _steps(steps, passed, seconds))
        return Timing(images, passed)

    return run


def _steps(done: int, passed: float, seconds: float) -> int:
    """How many steps last ``seconds`` and a tenth, where ``done`` of them lasted ``passed``."""
    return math.ceil(_MARGIN * done * seconds / passed)


def settle() -> None:
    """Waits until no thread of this process works, or for three seconds.

    A pipeline that has just been measured goes on filling its buffers, at the next one's expense.
    On a busy machine its threads get little time, so what waits for a core counts as work too.
    """
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        before = time.process_time()
        time.sleep(_WINDOW)
        if time.process_time() - before < _BUSY and not _others_run():
            return


def _others_run() -> bool:
    """Whether another thread of this process has a core or waits for one, as Linux tells."""
    own = str(threading.get_native_id())
    for task in Path("/proc/self/task").glob("*"):
        # A thread may have ended since.
        with contextlib.suppress(OSError):
            state = (task / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
            if state == "R" and task.name != own:
                return True
    return False
