"""The training loop: compiled steps, a plateau schedule, checkpoints and epoch hooks.

Keras' model and optimizer are used as they are. The loop around them is this one because a run
that is continued has to end as one that was never interrupted, and the callbacks of Keras' ``fit``
forget their state.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fer_pipeline import checkpoints, input_pipeline
from fer_pipeline.datasets.splits import Split, Splits
from fer_pipeline.errors import UserError
from fer_pipeline.model import build_training_model
from fer_pipeline.progress import Progress
from fer_pipeline.schedule import PlateauSchedule

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

#: Steps between two looks at the clock: the compiled loop runs this many without Python.
_STEPS_PER_CALL = 8

#: Evaluation keeps no activations for a backward pass, so larger batches fit and go faster.
_EVALUATION_BATCH = 256


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the weights are fitted; the defaults are the seed's.

    Attributes:
      epochs: passes over the training images.
      batch_size: images of a step.
      learning_rate: Adam's, at the start.
      seed: seed of the initial weights, the dropout masks, the shuffling and the flips.
      precision: Keras dtype policy of the training network.
    """

    epochs: int = 15
    batch_size: int = 64
    learning_rate: float = 5e-4
    seed: int = 0
    precision: str = "float32"


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


#: Called after every epoch with all rows so far.
EpochHook = Callable[[Sequence[EpochLog], Sequence[EpochTiming]], None]


class Trained(NamedTuple):
    """What training leaves: the network that was trained, and its record.

    Attributes:
      model: the training network with its last weights.
      history: a row an epoch.
      timing: a row an epoch of this process or an earlier one.
    """

    model: keras.Model
    history: list[EpochLog]
    timing: list[EpochTiming]


def train(
    splits: Splits,
    recipe: Recipe,
    *,
    run: Path | None = None,
    hooks: Sequence[EpochHook] = (),
    say: Callable[[str], None] = print,
) -> Trained:
    """Trains the network, continuing from the newest checkpoint in ``run`` if it has one.

    Args:
      splits: the data; training uses ``train`` and ``validation``.
      recipe: how.
      run: the run directory for checkpoints, or None to keep nothing on disk.
      hooks: called after every epoch, once its checkpoint is safe.
      say: takes a line of text about what happens.

    Returns:
      The trained network and the rows of its epochs, those of an earlier process included.

    Raises:
      UserError: a loss is not finite, or all checkpoints in ``run`` are damaged.
    """
    model = build_training_model(dtype_policy=recipe.precision, seed=recipe.seed)
    optimizer = make_optimizer(recipe)
    optimizer.build(model.trainable_variables)
    schedule = PlateauSchedule(recipe.learning_rate)
    history: list[EpochLog] = []
    timing: list[EpochTiming] = []

    checkpoint = checkpoints.load_latest(run, say) if run else None
    if checkpoint:
        checkpoints.restore(checkpoint, model, optimizer)
        schedule.restore(checkpoint.state["schedule"])
        history = [EpochLog(*row) for row in checkpoint.state["history"]]
        timing = [EpochTiming(*row) for row in checkpoint.state["timing"]]
        say(f"continuing after epoch {len(history)}")
        # Whoever was interrupted between a checkpoint and its hooks catches up.
        for hook in hooks:
            hook(history, timing)

    batches = iter(
        input_pipeline.training_batches(
            splits.train,
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            epoch=len(history),
            epochs=max(recipe.epochs - len(history), 0),
        )
    )
    train_steps = compile_train_steps(model, optimizer)
    evaluate_steps = compile_evaluate_steps(model)
    while len(history) < recipe.epochs:
        epoch = len(history)
        optimizer.learning_rate = schedule.learning_rate
        progress = Progress(f"epoch {epoch + 1}/{recipe.epochs}", len(splits.train.labels))
        log, clock = _run_epoch(
            splits, recipe, epoch, batches, train_steps, evaluate_steps, progress
        )
        log = log._replace(learning_rate=schedule.learning_rate)
        _check_finite(log)
        best = all(log.val_accuracy > row.val_accuracy for row in history)
        history.append(log)
        timing.append(clock)
        schedule.update(log.val_loss)
        if run:
            state = _state(history, timing, schedule)
            checkpoints.save(run, model, optimizer, state, best=best)
        # Only now: an epoch that is on the terminal is one that will not be lost.
        progress.close(_summary(log, clock))
        for hook in hooks:
            hook(history, timing)
    return Trained(model, history, timing)


def make_optimizer(recipe: Recipe) -> keras.optimizers.Optimizer:
    """Adam (Kingma and Ba, 2015) with Keras' defaults; under float16 with dynamic loss scaling."""
    import keras

    adam = keras.optimizers.Adam(recipe.learning_rate)
    if recipe.precision == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(adam)
    return adam


def compile_train_steps(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Callable:
    """Compiles ``(iterator, steps) -> (loss_sum, correct, images)`` over training batches.

    The loss of a step is the mean categorical cross-entropy over its batch, the partial last batch
    included; what is returned are sums over all images seen, as float32 scalars.
    """
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def train_steps(iterator: tf.data.Iterator, steps: tf.Tensor) -> tf.Tensor:
        totals = tf.zeros([3])
        for _ in tf.range(steps):
            images, labels = next(iterator)
            with tf.GradientTape() as tape:
                probabilities = model(tf.cast(images, tf.float32), training=True)
                losses = cross_entropy(labels, probabilities)
                loss = optimizer.scale_loss(tf.reduce_mean(losses))
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
            totals += batch_totals(labels, probabilities, losses)
        return totals

    return train_steps


def compile_evaluate_steps(model: keras.Model) -> Callable:
    """Compiles ``(iterator, steps) -> (loss_sum, correct, images)`` in inference mode."""
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def evaluate_steps(iterator: tf.data.Iterator, steps: tf.Tensor) -> tf.Tensor:
        totals = tf.zeros([3])
        for _ in tf.range(steps):
            images, labels = next(iterator)
            probabilities = model(tf.cast(images, tf.float32), training=False)
            totals += batch_totals(labels, probabilities, cross_entropy(labels, probabilities))
        return totals

    return evaluate_steps


def cross_entropy(labels: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """Cross-entropy in nats, float32 ``[B]``, of int32 ``[B]`` and float32 ``[B, 7]``."""
    import keras

    return keras.losses.sparse_categorical_crossentropy(labels, probabilities)


def batch_totals(labels: tf.Tensor, probabilities: tf.Tensor, losses: tf.Tensor) -> tf.Tensor:
    """Sum of losses, right answers and images of a batch: float32 ``[3]``."""
    import tensorflow as tf

    predicted = tf.argmax(probabilities, axis=-1, output_type=labels.dtype)
    correct = tf.cast(predicted == labels, tf.float32)
    return tf.stack(
        [tf.reduce_sum(losses), tf.reduce_sum(correct), tf.reduce_sum(tf.ones_like(losses))]
    )


def evaluate(evaluate_steps: Callable, split: Split) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of a split."""
    batches = input_pipeline.evaluation_batches(split, batch_size=_EVALUATION_BATCH)
    steps = input_pipeline.num_steps(len(split.labels), _EVALUATION_BATCH)
    loss, correct, images = _in_pieces(evaluate_steps, iter(batches), steps)
    return float(loss / images), float(correct / images)


def _run_epoch(
    splits: Splits,
    recipe: Recipe,
    epoch: int,
    batches: tf.data.Iterator,
    train_steps: Callable,
    evaluate_steps: Callable,
    progress: Progress,
) -> tuple[EpochLog, EpochTiming]:
    start = time.perf_counter()
    size = len(splits.train.labels)
    steps = input_pipeline.num_steps(size, recipe.batch_size)
    loss, correct, images = _in_pieces(train_steps, batches, steps, progress.update)
    train_seconds = time.perf_counter() - start
    val_loss, val_accuracy = evaluate(evaluate_steps, splits.validation)
    validation_seconds = time.perf_counter() - start - train_seconds
    log = EpochLog(
        epoch=epoch + 1,
        learning_rate=recipe.learning_rate,
        train_loss=float(loss / images),
        train_accuracy=float(correct / images),
        val_loss=val_loss,
        val_accuracy=val_accuracy,
    )
    return log, EpochTiming(epoch + 1, train_seconds, validation_seconds, size / train_seconds)


def _summary(log: EpochLog, clock: EpochTiming) -> str:
    seconds = clock.train_seconds + clock.validation_seconds
    return (
        f"loss {log.train_loss:.4f}  accuracy {log.train_accuracy:.4f}  "
        f"val_loss {log.val_loss:.4f}  val_accuracy {log.val_accuracy:.4f}  "
        f"{seconds:.1f} s  {clock.images_per_second:.0f} images/s"
    )


def _check_finite(log: EpochLog) -> None:
    """Raises UserError for an epoch with a loss that is NaN or infinite."""
    if not math.isfinite(log.train_loss + log.val_loss):
        raise UserError(
            f"epoch {log.epoch}: the loss is {log.train_loss} (validation {log.val_loss}) at "
            f"learning rate {log.learning_rate:g}; checkpoints before it are kept, lower "
            "--learning_rate"
        )


def _in_pieces(
    compiled: Callable,
    iterator: tf.data.Iterator,
    steps: int,
    report: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Runs ``steps`` compiled steps, reporting in between; sums in float64 ``[3]``."""
    import tensorflow as tf

    totals = np.zeros(3)
    for done in range(0, steps, _STEPS_PER_CALL):
        count = min(_STEPS_PER_CALL, steps - done)
        totals += compiled(iterator, tf.constant(count)).numpy()
        if report:
            report(int(totals[2]))
    return totals


def _state(
    history: list[EpochLog], timing: list[EpochTiming], schedule: PlateauSchedule
) -> dict[str, Any]:
    return {
        "epoch": len(history),
        "schedule": schedule.state(),
        "history": history,
        "timing": timing,
    }
