"""The training loop: compiled steps, a schedule, checkpoints and epoch hooks.

Keras' model and optimizer are used as they are. The loop around them is this one because a run
that is continued has to end as one that was never interrupted, and Keras' ``fit`` forgets where in
an epoch it was and what its callbacks counted.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fer_pipeline import freezing, recipes, run_dir
from fer_pipeline.config import Config
from fer_pipeline.datasets.splits import Splits
from fer_pipeline.devices import precision, strategy, xla
from fer_pipeline.devices.strategy import Devices
from fer_pipeline.errors import UserError
from fer_pipeline.input_pipeline import batches
from fer_pipeline.models import networks
from fer_pipeline.run_record import known_resume_key, with_defaults
from fer_pipeline.terminal import interruption
from fer_pipeline.terminal.progress import Progress
from fer_pipeline.training import checkpoints, guards, steps
from fer_pipeline.training import epoch as epoch_lib
from fer_pipeline.training.callbacks import callback_list, keras_logs
from fer_pipeline.training.schedules import LinearSchedule, PlateauSchedule, Schedule
from fer_pipeline.training.state import EpochLog, EpochTiming, Session, State

if TYPE_CHECKING:
    import keras

#: Called after every epoch with all rows so far.
EpochHook = Callable[[Sequence[EpochLog], Sequence[EpochTiming]], None]


class Trained(NamedTuple):
    """What training leaves: the network that was trained, and its record.

    Attributes:
      model: the training network with its last weights, or under ``--ema`` with their averages.
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
    config: Config,
    *,
    devices: Devices | None = None,
    run: Path | None = None,
    hooks: Sequence[EpochHook] = (),
    callbacks: Sequence[keras.callbacks.Callback] = (),
    resume_key: Mapping[str, Any] | None = None,
    targets: np.ndarray | None = None,
    initial: Sequence[np.ndarray] | None = None,
    log: Callable[[str], None] = print,
) -> Trained:
    """Trains the network, continuing from the newest checkpoint in ``run`` if it has one.

    On SIGTERM or Ctrl-C the current execution is finished and a checkpoint saved.

    Args:
      splits: the data; training uses ``train`` and ``validation``. The same on every host.
      config: the settings; those about data, first weights, export and the run directory are not
        used.
      devices: what trains; None is the first device of this host.
      run: the run directory for checkpoints, or None to keep nothing on disk. With several hosts
        the chief's counts.
      hooks: called on the chief after every epoch, once its checkpoint is safe.
      callbacks: Keras callbacks that act when training or an epoch begins or ends; they get
        ``loss``, ``accuracy``, ``val_loss``, ``val_accuracy`` and ``learning_rate``, and may set
        ``model.stop_training``; the learning rate is the schedule's. With several hosts they run on
        all of them. What they count is not part of a checkpoint, so that a run which one of them
        has stopped goes on when it is continued.
      resume_key: what else has to be the same when ``run`` is continued, as JSON values.
      targets: what teachers say of the training images, float32 ``[N, C]``; see ``distillation``.
      initial: weights to start from, in the order of the network's ``get_weights()``; those of its
        last layer may be left out. Those that are left out, or all, are random.
      log: takes a line of text about what happens.

    Returns:
      The trained network and the rows of its epochs, those of an earlier process included.

    Raises:
      UserError: a loss is not finite, all checkpoints in ``run`` are damaged or the newest one is
        of another training, there is no space for more, or another host has gone.
      InterruptedByUser: SIGTERM or Ctrl-C came, and a checkpoint is written.
    """
    devices = devices or strategy.join("one_device")
    config = resolve(config, devices)
    check_devices(splits, config, devices)
    session = _open(splits, config, devices, run, resume_key or {}, targets, initial)
    strategy.check_same(devices, _settings(session))
    chief = devices.worker.chief
    if _resume(session, log) and chief and session.state.history:
        # The run may have been interrupted after a checkpoint and before its hooks.
        for hook in hooks:
            hook(session.state.history, session.state.timing)
    with strategy.errors_on_all_workers(devices):
        if session.writes:
            needed = checkpoints.space_needed(run, checkpoints.size(session.capture()))
            run_dir.check_space(run, needed, "its checkpoints")

    model, optimizer, state = session.model, session.optimizer, session.state
    executions, validate = epoch_lib.compile_epoch(session)
    keras_callbacks = callback_list(callbacks, model, optimizer)
    keras_callbacks.on_train_begin()
    model.stop_training = strategy.any_worker(devices, bool(model.stop_training))
    with strategy.lost_worker_explained(devices.worker), interruption.deferred_signals() as request:
        while state.epoch < config.epochs and not model.stop_training:
            optimizer.learning_rate = state.schedule.learning_rate
            title = f"epoch {state.epoch + 1}/{config.epochs}"
            if chief:
                progress = Progress(title, len(splits.train.labels), done=session.images)
            keras_callbacks.on_epoch_begin(state.epoch)
            saved = time.monotonic()
            for _ in executions():
                if chief:
                    progress.update(session.images)
                _stop_if_asked(session, request, save=True)
                if time.monotonic() - saved > 60 * config.checkpoint_minutes:
                    session.save()
                    saved = time.monotonic()
            row, timing = _finish_epoch(session, validate, request)
            state.finish_epoch(row, timing)
            session.save(best=is_best(state.history))
            # Printed only now: an epoch that is shown is saved.
            if chief:
                progress.close(*_summaries(row, timing))
                for hook in hooks:
                    hook(state.history, state.timing)
            keras_callbacks.on_epoch_end(state.epoch - 1, keras_logs(row))
            model.stop_training = strategy.any_worker(devices, bool(model.stop_training))
            _stop_if_asked(session, request, save=False)
    keras_callbacks.on_train_end()
    return Trained(session.scored, optimizer, state.history, state.timing)


def is_best(history: Sequence[EpochLog]) -> bool:
    """Whether the last epoch is the first of the highest validation accuracy."""
    *before, last = history
    return all(last.val_accuracy > row.val_accuracy for row in before)


def resolve(config: Config, devices: Devices) -> Config:
    """Fills in what the recipe decides, and what ``auto`` means on these devices.

    That is the dtype policy, and whether to use XLA.

    Raises:
      UserError: XLA is asked for on several devices.
    """
    config = recipes.resolve(config)
    gpus = strategy.training_gpus(devices)
    use_xla = xla.resolve(
        config.jit_compile,
        gpus,
        replicas=devices.replicas,
        deterministic=config.deterministic,
    )
    return dataclasses.replace(
        config,
        precision=precision.resolve(config.precision, gpus),
        jit_compile="true" if use_xla else "false",
    )


def check_devices(splits: Splits, config: Config, devices: Devices) -> None:
    """Raises UserError if a replica would never get an image."""
    replicas = devices.replicas
    fewest = min(config.batch_size, len(splits.train.labels), len(splits.validation.labels))
    if fewest < replicas:
        raise UserError(
            f"--batch_size={config.batch_size}: it, {len(splits.train.labels)} training and "
            f"{len(splits.validation.labels)} validation images have to be {replicas} or more, one "
            "for each device"
        )


def make_optimizer(config: Config, model: keras.Model) -> keras.optimizers.Optimizer:
    """The optimizer of a network; under float16 with dynamic loss scaling."""
    from fer_pipeline.training import optimizers

    return optimizers.make(
        config.optimizer,
        config.learning_rate,
        model=model,
        weight_decay=config.weight_decay,
        loss_scaling=config.precision == "mixed_float16",
    )


def make_schedule(config: Config, images: int) -> Schedule:
    """The schedule of learning rates for so many training images."""
    if config.schedule == "plateau":
        return PlateauSchedule(config.learning_rate)
    return LinearSchedule(
        config.learning_rate,
        warmup=config.warmup,
        steps_per_epoch=batches.num_steps(images, config.batch_size),
        epochs=config.epochs,
    )


def _open(
    splits: Splits,
    config: Config,
    devices: Devices,
    run: Path | None,
    resume_key: Mapping[str, Any],
    targets: np.ndarray | None,
    initial: Sequence[np.ndarray] | None = None,
) -> Session:
    build = functools.partial(
        networks.build_training_model,
        config.model,
        len(splits.classes),
        dtype_policy=config.precision,
        seed=config.seed,
        replicas=devices.replicas,
        dropout=config.dropout,
        normalization_momentum=config.normalization_momentum,
    )
    with devices.strategy.scope():
        model = build()
        _start_from(model, initial)
        networks.freeze(model, freezing.parse(config.freeze))
        optimizer = make_optimizer(config, model)
        optimizer.build(model.trainable_variables)
        # By the same seed the same first weights.
        averaged = build() if config.ema else None
        if averaged is not None:
            _start_from(averaged, initial)
    model.stop_training = False
    return Session(
        splits=splits,
        config=config,
        devices=devices,
        run=run,
        resume_key=known_resume_key(config) | {"classes": list(splits.classes)} | dict(resume_key),
        model=model,
        optimizer=optimizer,
        state=State(make_schedule(config, len(splits.train.labels))),
        targets=targets,
        averaged=averaged,
    )


def _start_from(model: keras.Model, initial: Sequence[np.ndarray] | None) -> None:
    for variable, value in zip(model.weights, initial or (), strict=False):
        variable.assign(value)


def _settings(session: Session) -> dict[str, Any]:
    """What all hosts have to be started with, or they would wait for one another for ever."""
    settings = session.resume_key | {
        "epochs": session.config.epochs,
        "steps_per_execution": session.config.steps_per_execution,
        "number of devices": session.devices.shard.count,
        "number of training images": len(session.splits.train.labels),
        "number of validation images": len(session.splits.validation.labels),
    }
    # Each may have its own.
    settings.pop("threads", None)
    return settings


def _resume(session: Session, log: Callable[[str], None]) -> bool:
    """Puts the newest checkpoint's values in place, on every host; whether there was one."""
    devices, state = session.devices, session.state
    with strategy.errors_on_all_workers(devices):
        found = checkpoints.load_latest(session.run, log) if session.writes else None
        if found:
            before = with_defaults(found.state["identity"])
            run_dir.check_same_config(session.run, before, session.resume_key)
    content = strategy.broadcast_from_chief(devices, checkpoints.pack(found) if found else None)
    if content is None:
        return False
    checkpoint = checkpoints.unpack(content)
    checkpoints.restore(checkpoint, session.model, session.optimizer, session.averaged)
    state.restore(checkpoint.state)
    if session.writes and not state.step and is_best(state.history):
        checkpoints.restore_best(session.run, checkpoint)
    log(f"continuing after epoch {state.epoch}" + (f", step {state.step}" if state.step else ""))
    return True


def _finish_epoch(
    session: Session, validate: Callable[[], Iterator], request: interruption.Request
) -> tuple[EpochLog, EpochTiming]:
    """The rows of the epoch whose last step is done."""
    state = session.state
    begun = time.perf_counter()
    metric_sums = np.zeros(3)
    for rows in validate():
        metric_sums = steps.accumulate_metrics(metric_sums, rows)
        # Continued, the run begins with this validation.
        _stop_if_asked(session, request, save=True)
    val_loss = float(metric_sums[steps.LOSS] / metric_sums[steps.IMAGES])
    val_accuracy = float(metric_sums[steps.CORRECT] / metric_sums[steps.IMAGES])
    loss, correct, images = state.metric_sums
    if not math.isfinite(val_loss):
        guards.stop(session.position(), f"the validation loss is {val_loss:g}")
    if not images:
        guards.stop(session.position(), "no step of the epoch had a finite loss")
    row = EpochLog(
        epoch=state.epoch + 1,
        learning_rate=state.schedule.learning_rate,
        train_loss=float(loss / images),
        train_accuracy=float(correct / images),
        val_loss=val_loss,
        val_accuracy=val_accuracy,
    )
    rate = len(session.splits.train.labels) / state.seconds
    return row, EpochTiming(row.epoch, state.seconds, time.perf_counter() - begun, rate)


def _stop_if_asked(session: Session, request: interruption.Request, *, save: bool) -> None:
    """Ends training where a signal has come on any host, with a checkpoint if ``save``."""
    if not strategy.any_worker(session.devices, bool(request)):
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


def _summaries(row: EpochLog, timing: EpochTiming) -> list[str]:
    """What is said of an epoch, and two shorter versions for terminals of 80 characters."""
    train, val = (row.train_loss, row.train_accuracy), (row.val_loss, row.val_accuracy)
    seconds = f"{timing.train_seconds + timing.validation_seconds:.1f} s"
    rate = f"{timing.images_per_second:.0f} images/s"
    long = "loss {:.4f}  accuracy {:.4f}  val_loss {:.4f}  val_accuracy {:.4f}".format(*train, *val)
    short = "loss {:.4f}  acc {:.4f}  val_loss {:.4f}  val_acc {:.4f}".format(*train, *val)
    return [f"{long}  {seconds}  {rate}", f"{short}  {seconds}", short]
