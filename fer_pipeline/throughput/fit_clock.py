"""Keras' ``fit`` by a clock that sees its steps and not its start."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fer_pipeline.throughput.cases import Timing
from fer_pipeline.throughput.rounds import Clock, Take

if TYPE_CHECKING:
    import keras


def timed(
    model: keras.Model,
    given: Callable[[int], dict[str, Any]],
    images: int,
    clock: Clock = time.perf_counter,
) -> Take:
    """A function that has ``fit`` do so many steps, and one before them, and times these.

    ``fit`` opens its data anew at every call, which takes some tenths of a second. A training calls
    it once, and our own rounds go on with batches that are open, so a clock around the call would
    count against ``fit`` what is no part of a step. This one starts when the first step has ended
    and stops when the last one has. The first step's images are not counted either.

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
