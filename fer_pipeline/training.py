"""The training loop: compiled steps, a plateau schedule, checkpoints and epoch hooks.

Keras' model and optimizer are used as they are. The loop around them is this one because a run
that is continued has to end as one that was never interrupted, and Keras' ``fit`` forgets where in
an epoch it was and what its callbacks counted.
"""

from __future__ import annotations

import dataclasses
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fer_pipeline import (
    calls,
    checkpoints,
    distribution,
    guards,
    input_pipeline,
    interruption,
    run_dir,
    steps,
)
from fer_pipeline.callbacks import callback_list, keras_logs
from fer_pipeline.datasets.splits import Splits
from fer_pipeline.distribution import Job
from fer_pipeline.errors import UserError
from fer_pipeline.networks import build_training_model
from fer_pipeline.progress import Progress
from fer_pipeline.schedule import LinearSchedule, PlateauSchedule, Schedule
from fer_pipeline.session import EpochLog, EpochTiming, Execution, Recipe, Session, State

if TYPE_CHECKING:
    import keras

#: Called after every epoch with all rows so far.
EpochHook = Callable[[Sequence[EpochLog], Sequence[EpochTiming]], None]


class Trained(NamedTuple):
    """What training leaves: the network that was trained, and its record.

    Attributes:
      model: the training network with its last weights.
      optimizer: its optimizer, ``make_optimizer``'s.
      history: a row an epoch.
      timing: a row an epoch of this process or an earlier one.
    """

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    history: list[EpochLog]
    timing: list[EpochTiming]


def train(
    splits: Splits,
    recipe: Recipe,
    *,
    run: Path | None = None,
    hooks: Sequence[EpochHook] = (),
    callbacks: Sequence[keras.callbacks.Callback] = (),
    execution: Execution | None = None,
    identity: Mapping[str, Any] | None = None,
    targets: np.ndarray | None = None,
    say: Callable[[str], None] = print,
) -> Trained:
    """Trains the network, continuing from the newest checkpoint in ``run`` if it has one.

    On SIGTERM or Ctrl-C the steps of the call under way are finished and a checkpoint written.

    Args:
      splits: the data; training uses ``train`` and ``validation``. The same on every host.
      recipe: how the weights are fitted.
      run: the run directory for checkpoints, or None to keep nothing on disk. With several hosts
        the chief's counts.
      hooks: called on the chief after every epoch, once its checkpoint is safe.
      callbacks: Keras callbacks that act when training or an epoch begins or ends; they are told
        ``loss``, ``accuracy``, ``val_loss``, ``val_accuracy`` and ``learning_rate``, and may set
        ``model.stop_training``; the learning rate is the schedule's. With several hosts they run on
        all of them. What they count is not part of a checkpoint, so that a run which one of them
        has stopped goes on when it is continued.
      execution: how the recipe is carried out; None is ``Execution()``.
      identity: what makes a checkpoint this training's, as JSON values; beside the recipe, without
        its epochs.
      targets: what teachers say of the training images, float32 ``[N, 7]``; see ``distillation``.
      say: takes a line of text about what happens.

    Returns:
      The trained network and the rows of its epochs, those of an earlier process included.

    Raises:
      UserError: a loss is not finite, all checkpoints in ``run`` are damaged or the newest one is
        of another training, there is no space for more, or another host has gone.
      InterruptedByUser: SIGTERM or Ctrl-C came, and a checkpoint is written.
    """
    execution = execution or Execution()
    job = execution.job or distribution.join("one_device")
    check_devices(splits, recipe, execution, job)
    session = _open(splits, recipe, execution, job, run, identity or {}, targets)
    distribution.check_same(job, _settings(session))
    chief = job.place.chief
    if _resume(session, say) and chief and session.state.history:
        # Whoever was interrupted between a checkpoint and its hooks catches up.
        for hook in hooks:
            hook(session.state.history, session.state.timing)
    with distribution.together(job):
        if session.writes:
            needed = checkpoints.space_needed(run, checkpoints.size(session.capture()))
            run_dir.check_space(run, needed, "its checkpoints")

    model, optimizer, state = session.model, session.optimizer, session.state
    train_calls, validate = calls.compile_calls(session)
    told = callback_list(callbacks, model, optimizer)
    told.on_train_begin()
    model.stop_training = distribution.any_worker(job, bool(model.stop_training))
    with distribution.lost_worker_explained(job.place), interruption.deferred() as request:
        while state.epoch < recipe.epochs and not model.stop_training:
            optimizer.learning_rate = state.schedule.learning_rate
            title = f"epoch {state.epoch + 1}/{recipe.epochs}"
            progress = Progress(title, len(splits.train.labels), done=session.images)
            told.on_epoch_begin(state.epoch)
            saved = time.monotonic()
            for _ in train_calls():
                if chief:
                    progress.update(session.images)
                _stop_if_asked(session, request, save=True)
                if time.monotonic() - saved > 60 * execution.checkpoint_minutes:
                    session.save()
                    saved = time.monotonic()
            log, timing = _finish_epoch(session, validate, request)
            state.finish_epoch(log, timing)
            session.save(best=is_best(state.history))
            # Only now: an epoch that is on the terminal is one that will not be lost.
            if chief:
                progress.close(_summary(log, timing))
                for hook in hooks:
                    hook(state.history, state.timing)
            told.on_epoch_end(state.epoch - 1, keras_logs(log))
            model.stop_training = distribution.any_worker(job, bool(model.stop_training))
            _stop_if_asked(session, request, save=False)
    told.on_train_end()
    return Trained(model, optimizer, state.history, state.timing)


def is_best(history: Sequence[EpochLog]) -> bool:
    """Whether the last epoch is the first of the highest validation accuracy."""
    *before, last = history
    return all(last.val_accuracy > row.val_accuracy for row in before)


def check_devices(splits: Splits, recipe: Recipe, execution: Execution, job: Job) -> None:
    """Checks that a training can be spread over its devices.

    Raises:
      UserError: a replica would never get an image, or XLA is asked for on several.
    """
    replicas = job.replicas
    if replicas == 1:
        return
    if execution.jit_compile:
        raise UserError(f"--jit_compile: is for one device and not {replicas}; leave it on auto")
    fewest = min(recipe.batch_size, len(splits.train.labels), len(splits.validation.labels))
    if fewest < replicas:
        raise UserError(
            f"--batch_size={recipe.batch_size}: it, {len(splits.train.labels)} training and "
            f"{len(splits.validation.labels)} validation images have to be {replicas} or more, one "
            "for each device"
        )


def make_optimizer(recipe: Recipe, model: keras.Model) -> keras.optimizers.Optimizer:
    """The recipe's optimizer for a network; under float16 with dynamic loss scaling."""
    from fer_pipeline import optimizers

    return optimizers.make(
        recipe.optimizer,
        recipe.learning_rate,
        model=model,
        weight_decay=recipe.weight_decay,
        loss_scaling=recipe.precision == "mixed_float16",
    )


def make_schedule(recipe: Recipe, images: int) -> Schedule:
    """The recipe's schedule of learning rates for so many training images."""
    if recipe.schedule == "plateau":
        return PlateauSchedule(recipe.learning_rate)
    return LinearSchedule(
        recipe.learning_rate,
        warmup=recipe.warmup,
        steps_per_epoch=input_pipeline.num_steps(images, recipe.batch_size),
        epochs=recipe.epochs,
    )


def _open(
    splits: Splits,
    recipe: Recipe,
    execution: Execution,
    job: Job,
    run: Path | None,
    identity: Mapping[str, Any],
    targets: np.ndarray | None,
) -> Session:
    with job.strategy.scope():
        model = build_training_model(
            recipe.model,
            dtype_policy=recipe.precision,
            seed=recipe.seed,
            replicas=job.replicas,
            dropout=recipe.dropout,
            normalization_momentum=recipe.normalization_momentum,
        )
        optimizer = make_optimizer(recipe, model)
        optimizer.build(model.trainable_variables)
    model.stop_training = False
    of_recipe = dataclasses.asdict(recipe)
    if not recipe.depends_on_epochs:
        del of_recipe["epochs"]
    return Session(
        splits=splits,
        recipe=recipe,
        execution=execution,
        job=job,
        run=run,
        identity=of_recipe | dict(identity),
        model=model,
        optimizer=optimizer,
        state=State(make_schedule(recipe, len(splits.train.labels))),
        targets=targets,
    )


def _settings(session: Session) -> dict[str, Any]:
    """What all hosts have to be started with, or they would wait for one another for ever."""
    settings = session.identity | {
        "epochs": session.recipe.epochs,
        "steps_per_execution": session.execution.steps_per_execution,
        "number of devices": session.job.share.count,
        "number of training images": len(session.splits.train.labels),
        "number of validation images": len(session.splits.validation.labels),
    }
    # Each may have its own.
    settings.pop("threads", None)
    return settings


def _resume(session: Session, say: Callable[[str], None]) -> bool:
    """Puts the newest checkpoint's values in place, on every host; whether there was one."""
    job, state = session.job, session.state
    with distribution.together(job):
        found = checkpoints.load_latest(session.run, say) if session.writes else None
        if found:
            run_dir.refuse_another(session.run, found.state["identity"], session.identity)
    content = distribution.from_chief(job, checkpoints.pack(found) if found else None)
    if content is None:
        return False
    checkpoint = checkpoints.unpack(content)
    checkpoints.restore(checkpoint, session.model, session.optimizer)
    state.restore(checkpoint.state)
    if session.writes and not state.step and is_best(state.history):
        checkpoints.restore_best(session.run, checkpoint)
    say(f"continuing after epoch {state.epoch}" + (f", step {state.step}" if state.step else ""))
    return True


def _finish_epoch(
    session: Session, validate: Callable[[], Iterator], request: interruption.Request
) -> tuple[EpochLog, EpochTiming]:
    """The rows of the epoch whose last step is done."""
    state = session.state
    begun = time.perf_counter()
    sums = np.zeros(3)
    for rows in validate():
        sums = steps.add(sums, rows)
        # Continued, the run begins with this validation.
        _stop_if_asked(session, request, save=True)
    val_loss = float(sums[steps.LOSS] / sums[steps.IMAGES])
    val_accuracy = float(sums[steps.CORRECT] / sums[steps.IMAGES])
    loss, correct, images = state.sums
    if not math.isfinite(val_loss):
        guards.stop(session.where(), f"the validation loss is {val_loss:g}")
    if not images:
        guards.stop(session.where(), "no step of the epoch had a finite loss")
    log = EpochLog(
        epoch=state.epoch + 1,
        learning_rate=state.schedule.learning_rate,
        train_loss=float(loss / images),
        train_accuracy=float(correct / images),
        val_loss=val_loss,
        val_accuracy=val_accuracy,
    )
    rate = len(session.splits.train.labels) / state.seconds
    return log, EpochTiming(log.epoch, state.seconds, time.perf_counter() - begun, rate)


def _stop_if_asked(session: Session, request: interruption.Request, *, save: bool) -> None:
    """Ends training where a signal has come on any host, with a checkpoint if ``save``."""
    if not distribution.any_worker(session.job, bool(request)):
        return
    if save:
        session.save()
    signum = request.signum or signal.SIGTERM
    continues = "saved; the same command, without --overwrite, continues"
    kept = continues if session.run else "nothing was kept"
    epoch, step = session.state.epoch, session.state.step
    raise interruption.InterruptedByUser(
        signum, f"stopped after epoch {epoch}, step {step}: {kept}"
    )


def _summary(log: EpochLog, timing: EpochTiming) -> str:
    seconds = timing.train_seconds + timing.validation_seconds
    return (
        f"loss {log.train_loss:.4f}  accuracy {log.train_accuracy:.4f}  "
        f"val_loss {log.val_loss:.4f}  val_accuracy {log.val_accuracy:.4f}  "
        f"{seconds:.1f} s  {timing.images_per_second:.0f} images/s"
    )
