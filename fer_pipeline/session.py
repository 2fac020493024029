"""What a training is: its recipe, how it is carried out, and where it stands."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fer_pipeline import augmentation, checkpoints, guards, steps
from fer_pipeline.datasets.splits import Splits
from fer_pipeline.distribution import Job
from fer_pipeline.schedule import Schedule

if TYPE_CHECKING:
    import keras

#: Steps of the first call: what a step costs is not known yet, and a signal waits for its end.
FIRST_CALL = 1


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the weights are fitted; the defaults are the seed's.

    Attributes:
      epochs: passes over the training images.
      batch_size: images of a step, over all replicas.
      learning_rate: at the start, or the largest; Muon's is relative, see ``optimizers``.
      seed: seed of the initial weights, the dropout masks, the shuffling and the flips.
      precision: Keras dtype policy of the training network.
      model: one of ``networks.NAMES``.
      optimizer: one of ``optimizers.NAMES``.
      schedule: one of ``schedule.NAMES``.
      warmup: share of all steps over which the linear schedule's rate rises.
      weight_decay: of AdamW.
      label_smoothing: share of a label's weight that is spread over all classes.
      dropout: rate before the head alone; None is the network's own.
      normalization_momentum: of batch normalisation's moving statistics.
      augment: what ``augmentation.parse`` reads.
      temperature: at which a teacher is imitated.
      distill: share of the loss that is a teacher's, where there is one.
    """

    epochs: int = 15
    batch_size: int = 64
    learning_rate: float = 5e-4
    seed: int = 0
    precision: str = "float32"
    model: str = "notebook"
    optimizer: str = "adam"
    schedule: str = "plateau"
    warmup: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    dropout: float | None = None
    normalization_momentum: float = 0.99
    augment: str = "flip"
    temperature: float = 1.0
    distill: float = 0.5

    @property
    def depends_on_epochs(self) -> bool:
        """Whether what a step does depends on how many epochs there will be."""
        return self.schedule == "linear" or augmentation.parse(self.augment).moves


@dataclasses.dataclass(frozen=True)
class Execution:
    """How a recipe is carried out; none of it changes what is computed but its rounding.

    Attributes:
      job: the devices; None is the first one of this host.
      steps_per_execution: steps between two looks at the clock; None finds how many take about a
        second.
      jit_compile: compile steps by XLA; for a single device.
      checkpoint_minutes: between two checkpoints inside an epoch.
    """

    job: Job | None = None
    steps_per_execution: int | None = None
    jit_compile: bool = False
    checkpoint_minutes: float = 10.0


class EpochLog(NamedTuple):
    """One row of ``history.csv``: what a repetition of the run would reproduce."""

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float


class EpochTiming(NamedTuple):
    """One row of ``timing.csv``: what it would not. Seconds of wall time."""

    epoch: int
    train_seconds: float
    validation_seconds: float
    images_per_second: float


@dataclasses.dataclass
class State:
    """Everything about a training that is no variable of its model or optimizer.

    ``step``, ``sums`` and ``seconds`` are those of the epoch that is under way; ``skips`` counts
    the updates that loss scaling has just skipped in a row.
    """

    schedule: Schedule
    history: list[EpochLog] = dataclasses.field(default_factory=list)
    timing: list[EpochTiming] = dataclasses.field(default_factory=list)
    step: int = 0
    sums: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(3))
    seconds: float = 0.0
    skips: int = 0

    @property
    def epoch(self) -> int:
        return len(self.history)

    def as_json(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.sums.tolist(),
            "seconds": self.seconds,
            "skips": self.skips,
            "schedule": self.schedule.state(),
            "history": self.history,
            "timing": self.timing,
        }

    def restore(self, value: dict[str, Any]) -> None:
        self.schedule.restore(value["schedule"])
        self.history = [EpochLog(*row) for row in value["history"]]
        self.timing = [EpochTiming(*row) for row in value["timing"]]
        self.step, self.seconds = value["step"], value["seconds"]
        self.sums, self.skips = np.array(value["sums"]), value["skips"]

    def finish_epoch(self, log: EpochLog, timing: EpochTiming) -> None:
        self.history.append(log)
        self.timing.append(timing)
        self.schedule.update(log.val_loss)
        self.step, self.sums, self.seconds = 0, np.zeros(3), 0.0


@dataclasses.dataclass
class Session:
    """A training under way.

    ``targets`` are the teachers' of every training image, float32 ``[N, 7]``.
    """

    splits: Splits
    recipe: Recipe
    execution: Execution
    job: Job
    run: Path | None
    identity: dict[str, Any]
    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    state: State
    targets: np.ndarray | None = None
    steps_per_call: int = FIRST_CALL

    @property
    def writes(self) -> bool:
        """Whether this process writes checkpoints."""
        return self.run is not None and self.job.place.chief

    @property
    def sizes(self) -> np.ndarray:
        """Images of every step of an epoch: int32 ``[S]``."""
        images, size = len(self.splits.train.labels), self.recipe.batch_size
        return np.minimum(size, images - np.arange(0, images, size)).astype(np.int32)

    @property
    def images(self) -> int:
        """Training images done in the epoch under way."""
        return int(self.sizes[: self.state.step].sum())

    def where(self) -> guards.Where:
        """Where it stands, for a message."""
        rate = self.state.schedule.learning_rate
        return guards.Where(self.state.epoch + 1, self.state.step, rate, self.run)

    def capture(self) -> checkpoints.Checkpoint:
        """Everything that it takes to continue."""
        state = self.state.as_json() | {"identity": self.identity}
        return checkpoints.capture(self.model, self.optimizer, state)

    def save(self, *, best: bool = False) -> None:
        """Writes a checkpoint, on the chief."""
        if self.writes:
            checkpoints.save(self.run, self.capture(), best=best)

    def take(self, rows: np.ndarray, seconds: float) -> None:
        """Adds the rows of a call's steps to the epoch, unless something has gone wrong."""
        scale = getattr(self.optimizer, "dynamic_scale", None)
        self.state.skips = guards.check(
            rows,
            self.where(),
            scale=None if scale is None else float(np.asarray(scale)),
            skips=self.state.skips,
        )
        self.state.sums = steps.add(self.state.sums, rows)
        self.state.step += len(rows)
        self.state.seconds += seconds
