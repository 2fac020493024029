"""The learning rate's schedules: cut when the validation loss stalls, or warm-up and a line."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


class PlateauSchedule:
    """Keras' ``ReduceLROnPlateau``, as an explicit object whose whole state can be saved.

    After ``patience`` epochs in a row without an improvement of more than ``min_delta`` the
    learning rate is multiplied by ``factor``, down to ``min_learning_rate``. Keras' callback does
    the same arithmetic (tests compare the two), but forgets its counters whenever training
    starts, so that a resumed run would differ from an uninterrupted one.
    """

    def __init__(
        self,
        learning_rate: float,
        *,
        factor: float = 0.1,
        patience: int = 2,
        min_delta: float = 1e-4,
        min_learning_rate: float = 1e-5,
    ) -> None:
        """Starts at ``learning_rate``; the defaults are the notebook's, ``min_delta`` is Keras'."""
        self.learning_rate = learning_rate
        self._factor = factor
        self._patience = patience
        self._min_delta = min_delta
        self._min_learning_rate = min_learning_rate
        self._best = math.inf
        self._wait = 0

    def update(self, val_loss: float) -> float:
        """Takes an epoch's validation loss and returns the next epoch's learning rate."""
        if val_loss < self._best - self._min_delta:
            self._best = val_loss
            self._wait = 0
            return self.learning_rate
        self._wait += 1
        if self._wait >= self._patience and self.learning_rate > self._min_learning_rate:
            self.learning_rate = max(self.learning_rate * self._factor, self._min_learning_rate)
            self._wait = 0
        return self.learning_rate

    def rates(self, first: int, count: int) -> np.ndarray:
        """The rates of some steps of the epoch under way: float32 ``[count]``, all the same."""
        return np.full(count, self.learning_rate, np.float32)

    def state(self) -> dict[str, Any]:
        """What ``restore`` needs to continue where this schedule stands, as JSON values."""
        best = None if math.isinf(self._best) else self._best
        return {"learning_rate": self.learning_rate, "best": best, "wait": self._wait}

    def restore(self, state: dict[str, Any]) -> None:
        """Continues from a ``state()``."""
        self.learning_rate = state["learning_rate"]
        self._best = math.inf if state["best"] is None else state["best"]
        self._wait = state["wait"]


class LinearSchedule:
    """Warm-up, then a straight line to zero: the rate is a function of the step alone."""

    def __init__(self, peak: float, *, warmup: float, steps_per_epoch: int, epochs: int) -> None:
        """Rises over the share ``warmup`` of all steps to ``peak``, and falls over the others."""
        self._peak = peak
        self._total = steps_per_epoch * epochs
        self._rising = round(warmup * self._total)
        self._steps_per_epoch = steps_per_epoch
        self._epoch = 0

    @property
    def learning_rate(self) -> float:
        """The rate of the last step of the epoch under way."""
        return float(self.rates(self._steps_per_epoch - 1, 1)[0])

    def rates(self, first: int, count: int) -> np.ndarray:
        """The rates of steps ``first`` to ``first + count`` of the epoch under way: float32.

        The first step of all has a share of the peak and the one after warm-up the peak, and the
        last one a share that is not zero yet: no step is without effect.
        """
        steps = self._epoch * self._steps_per_epoch + first + np.arange(count)
        rising = (steps + 1) / max(self._rising, 1)
        falling = (self._total - steps) / max(self._total - self._rising, 1)
        return (self._peak * np.clip(np.minimum(rising, falling), 0.0, 1.0)).astype(np.float32)

    def update(self, val_loss: float) -> float:
        """Goes on to the next epoch, whatever the validation loss."""
        self._epoch += 1
        return self.learning_rate

    def state(self) -> dict[str, Any]:
        """What ``restore`` needs to continue where this schedule stands, as JSON values."""
        return {"epoch": self._epoch}

    def restore(self, state: dict[str, Any]) -> None:
        """Continues from a ``state()``."""
        self._epoch = state["epoch"]


Schedule = PlateauSchedule | LinearSchedule
