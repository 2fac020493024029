"""One epoch, as executions of about a second; each runs many compiled steps."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from fer_pipeline import augmentation
from fer_pipeline.datasets.splits import class_counts
from fer_pipeline.devices import strategy
from fer_pipeline.input_pipeline import augmentation_draws
from fer_pipeline.input_pipeline import batches as batches_lib
from fer_pipeline.input_pipeline.batches import Extra
from fer_pipeline.training import averaging, class_weights, distillation, steps
from fer_pipeline.training.state import Session

if TYPE_CHECKING:
    import tensorflow as tf

#: Evaluation keeps no activations for a backward pass, so larger batches fit and go faster.
_EVALUATION_BATCH = 256

#: Batches of an execution of evaluation.
_STEPS_PER_EVALUATION = 4

#: An execution should take about a second: far longer than the Python code between two of them,
#: and short enough for the progress bar and for SIGTERM to be handled soon.
_SHORT_SECONDS, _LONG_SECONDS = 0.5, 2.0
_MAX_STEPS = 1024


def compile_epoch(session: Session) -> tuple[Callable[[], Iterator[None]], Callable[[], Iterator]]:
    """Compiles the steps of training and of validation, and opens their endless batches.

    Returns:
      A function that trains the rest of an epoch and yields after each execution, and one that
      yields the step metrics of the validation images, one execution at a time.
    """
    import tensorflow as tf

    splits, config, devices, state = session.splits, session.config, session.devices, session.state
    train_batches = strategy.batches(
        devices,
        lambda shard: batches_lib.training_batches(
            splits.train,
            batch_size=config.batch_size,
            seed=config.seed,
            epoch=state.epoch,
            first_step=state.step,
            epochs=None,
            shard=shard,
            flip=augmentation.parse(config.augment).flip,
            extras=extras(session),
        ),
    )
    validation_batches = strategy.batches(
        devices,
        lambda shard: batches_lib.evaluation_batches(
            splits.validation, batch_size=_EVALUATION_BATCH, epochs=None, shard=shard
        ),
    )
    train_steps = steps.compile_train_steps(
        session.model,
        session.optimizer,
        strategy=devices.strategy,
        jit_batch_size=config.batch_size if config.jit_compile == "true" else None,
        objective=distillation.objective(
            label_smoothing=config.label_smoothing,
            temperature=config.temperature,
            distill=config.distill,
            class_weights=class_weights.make(
                config.class_weight, class_counts(splits.train, len(splits.classes))
            ),
        ),
        after_step=_averaging(session),
    )

    @functools.cache
    def traced_steps() -> Callable:
        """One trace for any number of steps, made when the first step is due."""
        sizes = tf.TensorSpec([None], tf.int32, name="sizes")
        rates = tf.TensorSpec([None], tf.float32, name="rates")
        return train_steps.get_concrete_function(train_batches, sizes, rates)

    evaluate_steps = steps.compile_evaluate_steps(session.scored, strategy=devices.strategy)
    return (
        lambda: _train_epoch(session, lambda *plan: traced_steps()(train_batches, *plan)),
        lambda: _validate(evaluate_steps, validation_batches, len(splits.validation.labels)),
    )


def _averaging(session: Session) -> Callable[[], None] | None:
    if session.averaged is None:
        return None
    return averaging.make_update(
        session.averaged,
        session.model,
        session.optimizer,
        momentum=session.config.ema,
        strategy=session.devices.strategy,
    )


def extras(session: Session) -> list[Extra]:
    """What the batches of a training hold beside images and labels."""
    config, images, targets = session.config, len(session.splits.train.labels), session.targets
    changes = augmentation.parse(config.augment)

    # Two: the next epoch is gathered ahead while one ends.
    @functools.lru_cache(maxsize=2)
    def draws(epoch: int) -> np.ndarray:
        strengths = augmentation_draws.strengths(epoch * images, images, config.epochs * images)
        return augmentation_draws.draw(changes, strengths, seed=config.seed, epoch=epoch)

    found = []
    if changes.moves:
        columns = augmentation_draws.COLUMNS
        found.append(Extra("draws", columns, lambda epoch, _, at: draws(epoch)[at]))
    if targets is not None:
        found.append(Extra("targets", targets.shape[1], lambda _, rows, at: targets[rows]))
    votes = session.splits.train_votes
    if votes is not None:
        found.append(Extra("votes", votes.shape[1], lambda _, rows, at: votes[rows]))
    return found


def _train_epoch(session: Session, train_steps: Callable) -> Iterator[None]:
    """Trains the rest of the epoch and yields after each execution."""
    import tensorflow as tf

    state, fixed, sizes = session.state, session.config.steps_per_execution, session.sizes
    while state.step < len(sizes):
        begun = time.perf_counter()
        count = fixed or session.steps_per_execution
        batch_sizes = sizes[state.step : state.step + count]
        rates = state.schedule.rates(state.step, len(batch_sizes))
        rows = train_steps(tf.constant(batch_sizes), tf.constant(rates)).numpy()
        seconds = time.perf_counter() - begun
        if not fixed and len(batch_sizes) == count:
            # Hosts have clocks of their own and have to take the same number of steps.
            of_chief = strategy.broadcast_number(session.devices, seconds)
            session.steps_per_execution = next_steps_per_execution(count, of_chief)
        session.record_steps(rows, seconds)
        yield


def _validate(
    evaluate_steps: Callable, batches: tf.data.Iterator, images: int
) -> Iterator[np.ndarray]:
    """Yields the step metrics of the validation images, one execution at a time."""
    import tensorflow as tf

    count = batches_lib.num_steps(images, _EVALUATION_BATCH)
    for done in range(0, count, _STEPS_PER_EVALUATION):
        steps_due = tf.constant(min(_STEPS_PER_EVALUATION, count - done))
        yield evaluate_steps(batches, steps_due).numpy()


def next_steps_per_execution(steps: int, seconds: float) -> int:
    """Steps of the next execution, after one of ``steps`` steps that took ``seconds``.

    Twice as many after less than half a second, up to 1,024; half after more than two, at least 1.
    """
    if seconds < _SHORT_SECONDS:
        return min(2 * steps, _MAX_STEPS)
    return max(steps // 2, 1) if seconds > _LONG_SECONDS else steps
