"""The learning rate's schedule: reduced when the validation loss stops falling."""

from __future__ import annotations

import math
from typing import Any


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

    def state(self) -> dict[str, Any]:
        """What ``restore`` needs to continue where this schedule stands, as JSON values."""
        best = None if math.isinf(self._best) else self._best
        return {"learning_rate": self.learning_rate, "best": best, "wait": self._wait}

    def restore(self, state: dict[str, Any]) -> None:
        """Continues from a ``state()``."""
        self.learning_rate = state["learning_rate"]
        self._best = math.inf if state["best"] is None else state["best"]
        self._wait = state["wait"]
