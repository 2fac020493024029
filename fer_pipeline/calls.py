"""An epoch in calls of about a second, each of many compiled steps."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from fer_pipeline import augmentation, distillation, distribution, input_pipeline, steps
from fer_pipeline.input_pipeline import Extra
from fer_pipeline.session import Session

if TYPE_CHECKING:
    import tensorflow as tf

#: Evaluation keeps no activations for a backward pass, so larger batches fit and go faster.
_EVALUATION_BATCH = 256

#: Batches of a call of evaluation.
_EVALUATION_CALL = 4

#: A call should take about a second: longer than Python needs between two of them by far, and short
#: enough for a progress bar and for whoever sends SIGTERM.
_SHORT_CALL, _LONG_CALL = 0.5, 2.0
_LARGEST_CALL = 1024


def compile_calls(session: Session) -> tuple[Callable[[], Iterator[None]], Callable[[], Iterator]]:
    """Compiles the steps of training and of validation, and opens their endless batches.

    Returns:
      A function that trains the rest of an epoch, yielding after each call, and one that yields the
      rows of the validation images, call by call.
    """
    import tensorflow as tf

    splits, recipe, job, state = session.splits, session.recipe, session.job, session.state
    train_batches = distribution.batches(
        job,
        lambda share: input_pipeline.training_batches(
            splits.train,
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            epoch=state.epoch,
            first_step=state.step,
            epochs=None,
            share=share,
            flip=augmentation.parse(recipe.augment).flip,
            extras=extras(session),
        ),
    )
    validation_batches = distribution.batches(
        job,
        lambda share: input_pipeline.evaluation_batches(
            splits.validation, batch_size=_EVALUATION_BATCH, epochs=None, share=share
        ),
    )
    train_steps = steps.compile_train_steps(
        session.model,
        session.optimizer,
        strategy=job.strategy,
        jit_batch_size=recipe.batch_size if session.execution.jit_compile else None,
        objective=distillation.objective(
            label_smoothing=recipe.label_smoothing,
            temperature=recipe.temperature,
            distill=recipe.distill,
        ),
    )

    @functools.cache
    def train_call() -> Callable:
        """One trace for calls of any number of steps, made when the first step is due."""
        sizes = tf.TensorSpec([None], tf.int32, name="sizes")
        rates = tf.TensorSpec([None], tf.float32, name="rates")
        return train_steps.get_concrete_function(train_batches, sizes, rates)

    evaluate_steps = steps.compile_evaluate_steps(session.model, strategy=job.strategy)
    return (
        lambda: _train_epoch(session, lambda *plan: train_call()(train_batches, *plan)),
        lambda: _validate(evaluate_steps, validation_batches, len(splits.validation.labels)),
    )


def extras(session: Session) -> list[Extra]:
    """What a training's batches hold beside images and labels."""
    recipe, images, targets = session.recipe, len(session.splits.train.labels), session.targets
    changes = augmentation.parse(recipe.augment)

    # Two: while an epoch ends, the next one is begun ahead.
    @functools.lru_cache(maxsize=2)
    def draws(epoch: int) -> np.ndarray:
        strengths = augmentation.strengths(epoch * images, images, recipe.epochs * images)
        return augmentation.draw(changes, strengths, seed=recipe.seed, epoch=epoch)

    found = []
    if changes.moves:
        columns = augmentation.COLUMNS
        found.append(Extra("draws", columns, lambda epoch, _, at: draws(epoch)[at]))
    if targets is not None:
        found.append(Extra("targets", targets.shape[1], lambda _, rows, at: targets[rows]))
    return found


def _train_epoch(session: Session, train_steps: Callable) -> Iterator[None]:
    """Trains what is left of the epoch, yielding after each call."""
    import tensorflow as tf

    state, fixed, sizes = session.state, session.execution.steps_per_execution, session.sizes
    while state.step < len(sizes):
        begun = time.perf_counter()
        count = fixed or session.steps_per_call
        call = sizes[state.step : state.step + count]
        rates = state.schedule.rates(state.step, len(call))
        rows = train_steps(tf.constant(call), tf.constant(rates)).numpy()
        seconds = time.perf_counter() - begun
        if not fixed and len(call) == count:
            # Hosts have clocks of their own and have to take the same number of steps.
            of_chief = distribution.number_from_chief(session.job, seconds)
            session.steps_per_call = next_call(count, of_chief)
        session.take(rows, seconds)
        yield


def _validate(
    evaluate_steps: Callable, batches: tf.data.Iterator, images: int
) -> Iterator[np.ndarray]:
    """Rows of the validation images, call by call."""
    import tensorflow as tf

    count = input_pipeline.num_steps(images, _EVALUATION_BATCH)
    for done in range(0, count, _EVALUATION_CALL):
        call = tf.constant(min(_EVALUATION_CALL, count - done))
        yield evaluate_steps(batches, call).numpy()


def next_call(steps: int, seconds: float) -> int:
    """How many steps the next call should take, after one of ``steps`` that took ``seconds``.

    Twice as many after less than half a second, up to 1,024; half after more than two, at least 1.
    """
    if seconds < _SHORT_CALL:
        return min(2 * steps, _LARGEST_CALL)
    return max(steps // 2, 1) if seconds > _LONG_CALL else steps
