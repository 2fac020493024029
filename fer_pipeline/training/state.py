"""The state of a training: its settings, its position, and its record so far."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fer_pipeline.config import Config
from fer_pipeline.datasets.splits import Splits
from fer_pipeline.devices.strategy import Devices
from fer_pipeline.training import checkpoints, guards, steps
from fer_pipeline.training.schedules import Schedule

if TYPE_CHECKING:
    import keras

#: Steps of the first execution: its duration is not known yet, and signals wait for its end.
FIRST_EXECUTION = 1


class EpochLog(NamedTuple):
    """One row of ``history.csv``: values that a repetition of the run reproduces."""

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float


class EpochTiming(NamedTuple):
    """One row of ``timing.csv``: wall-clock times in seconds; not reproducible."""

    epoch: int
    train_seconds: float
    validation_seconds: float
    images_per_second: float


@dataclasses.dataclass
class State:
    """The state of a training apart from the variables of its model and optimizer.

    ``step``, ``metric_sums`` and ``seconds`` are those of the current epoch;
    ``consecutive_overflows`` counts the updates in a row that loss scaling has just skipped.
    """

    schedule: Schedule
    history: list[EpochLog] = dataclasses.field(default_factory=list)
    timing: list[EpochTiming] = dataclasses.field(default_factory=list)
    step: int = 0
    metric_sums: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(3))
    seconds: float = 0.0
    consecutive_overflows: int = 0

    @property
    def epoch(self) -> int:
        return len(self.history)

    def as_json(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.metric_sums.tolist(),
            "seconds": self.seconds,
            "skips": self.consecutive_overflows,
            "schedule": self.schedule.state(),
            "history": self.history,
            "timing": self.timing,
        }

    def restore(self, value: dict[str, Any]) -> None:
        self.schedule.restore(value["schedule"])
        self.history = [EpochLog(*row) for row in value["history"]]
        self.timing = [EpochTiming(*row) for row in value["timing"]]
        self.step, self.seconds = value["step"], value["seconds"]
        self.metric_sums, self.consecutive_overflows = np.array(value["sums"]), value["skips"]

    def finish_epoch(self, log: EpochLog, timing: EpochTiming) -> None:
        self.history.append(log)
        self.timing.append(timing)
        self.schedule.update(log.val_loss)
        self.step, self.metric_sums, self.seconds = 0, np.zeros(3), 0.0


@dataclasses.dataclass
class Session:
    """A training under way.

    ``targets`` are what teachers say of every training image, float32 ``[N, C]``; the weights of
    ``averaged`` are the moving average of those of ``model``, None without ``--ema``.
    """

    splits: Splits
    config: Config
    devices: Devices
    run: Path | None
    resume_key: dict[str, Any]
    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    state: State
    targets: np.ndarray | None = None
    averaged: keras.Model | None = None
    steps_per_execution: int = FIRST_EXECUTION

    @property
    def scored(self) -> keras.Model:
        """The network that is validated, evaluated and exported."""
        return self.model if self.averaged is None else self.averaged

    @property
    def writes(self) -> bool:
        """Whether this process writes checkpoints."""
        return self.run is not None and self.devices.worker.chief

    @property
    def sizes(self) -> np.ndarray:
        """Images of every step of an epoch: int32 ``[S]``."""
        images, size = len(self.splits.train.labels), self.config.batch_size
        return np.minimum(size, images - np.arange(0, images, size)).astype(np.int32)

    @property
    def images(self) -> int:
        """Training images done in the epoch under way."""
        return int(self.sizes[: self.state.step].sum())

    def position(self) -> guards.TrainingPosition:
        """The position, for an error message."""
        rate = self.state.schedule.learning_rate
        return guards.TrainingPosition(self.state.epoch + 1, self.state.step, rate, self.run)

    def capture(self) -> checkpoints.Checkpoint:
        """Everything needed to continue."""
        state = self.state.as_json() | {"identity": self.resume_key}
        return checkpoints.capture(self.model, self.optimizer, state, self.averaged)

    def save(self, *, best: bool = False) -> None:
        """Writes a checkpoint, on the chief."""
        if self.writes:
            checkpoints.save(self.run, self.capture(), best=best)

    def record_steps(self, step_metrics: np.ndarray, seconds: float) -> None:
        """Adds the metrics of some steps to the epoch, after checking them."""
        scale = getattr(self.optimizer, "dynamic_scale", None)
        self.state.consecutive_overflows = guards.check(
            step_metrics,
            self.position(),
            scale=None if scale is None else float(np.asarray(scale)),
            consecutive_overflows=self.state.consecutive_overflows,
        )
        self.state.metric_sums = steps.accumulate_metrics(self.state.metric_sums, step_metrics)
        self.state.step += len(step_metrics)
        self.state.seconds += seconds
