"""One process of a training job, run by tests and by the proofs in BUILD_NOTES.md.

    python tests/proofs/job.py --strategy=mirrored --logical_devices=2 --out=weights.npz

It trains on random faces and writes weights and history. The network is narrow unless --full. After
--and there may be a second job for the same process, on one device: to import TensorFlow takes
longer than either.
"""

import argparse
import itertools
import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from fer_pipeline.config import Config, settings
from fer_pipeline.datasets.splits import Split, Splits
from fer_pipeline.devices import strategy as strategy_lib
from fer_pipeline.errors import UserError
from fer_pipeline.models import compact_cnn, notebook_cnn
from fer_pipeline.terminal import interruption
from fer_pipeline.training import loop


def arguments():
    """Those of each job."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strategy", default="one_device", choices=settings()["strategy"].choices)
    parser.add_argument("--logical_devices", type=int, default=1)
    parser.add_argument("--precision", default="float64")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--images", type=int, default=235)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--learning_rate", type=float, default=5e-4)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--checkpoint_minutes", type=float, default=10.0)
    parser.add_argument("--steps_per_execution", type=int)
    parser.add_argument("--jit_compile", action="store_true")
    parser.add_argument("--overflow_at", type=int, default=0, help="step, on the last replica")
    parser.add_argument("--trace", action="store_true", help="keep the weights of every epoch")
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--tuned", action="store_true", help="the tuned recipe, distilled, the first layers frozen"
    )
    jobs = itertools.groupby(sys.argv[1:], lambda argument: argument == "--and")
    return [parser.parse_args(list(job)) for ends, job in jobs if not ends] or [parser.parse_args()]


def faces(count, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 48, 48, 1)).astype(np.uint8)
    return Split(images, rng.integers(0, 7, count).astype(np.int32))


#: Every setting of the tuned recipe that a step computes with, but for dropout.
TUNED = {
    "model": "tiny",
    "optimizer": "muon",
    "schedule": "linear",
    "warmup": 0.1,
    "weight_decay": 0.05,
    "label_smoothing": 0.1,
    "dropout": 0.0,
    "augment": "flip,shift:3,rotate:8,zoom:0.08,cutout:8",
    "temperature": 2.0,
    "distill": 0.7,
    "ema": 0.9,
    "class_weight": "balanced",
    "freeze": "4",
}


def targets(count):
    powers = np.random.default_rng(2).random((count, 7), np.float32)
    return powers / powers.sum(axis=1, keepdims=True)


def first_kernel():
    """What the first layer starts from: the narrow network's kernel."""
    return np.random.default_rng(3).normal(0, 0.2, (5, 5, 1, 4)).astype(np.float32)


def overflow_at(step):
    """Makes the loss of the last replica infinite at one step, before anyone has added it up."""

    class Overflowing(keras.optimizers.LossScaleOptimizer):
        def scale_loss(self, loss):
            context = tf.distribute.get_replica_context()
            last = context.replica_id_in_sync_group == context.num_replicas_in_sync - 1
            # Updates that were skipped are not counted; the scale tells the second try apart.
            first_try = self.dynamic_scale.value == self.initial_scale
            hit = tf.logical_and(self.iterations.value == step - 1, tf.logical_and(first_try, last))
            return super().scale_loss(loss) * tf.cast(tf.where(hit, float("inf"), 1.0), loss.dtype)

    # Low enough that nothing overflows by itself.
    loop.make_optimizer = lambda config, model: Overflowing(
        keras.optimizers.Adam(config.learning_rate), initial_scale=2.0**12
    )


class Trace(keras.callbacks.Callback):
    """All trainable weights after every epoch, as one vector each."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def on_epoch_end(self, epoch, logs=None):
        values = [np.asarray(variable).ravel() for variable in self.model.trainable_variables]
        self.weights.append(np.concatenate(values))


def join(strategy):
    """The job, and how many of the SIGTERMs sent right after the hosts have met were heard."""
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    job = strategy_lib.join(strategy)
    os.kill(os.getpid(), signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)
    return job, len(heard)


def main(options):
    if options.logical_devices > 1:
        [cpu] = tf.config.list_physical_devices("CPU")
        devices = [tf.config.LogicalDeviceConfiguration()] * options.logical_devices
        tf.config.set_logical_device_configuration(cpu, devices)
    notebook_cnn.DROPOUT_RATE = options.dropout
    if not options.full:
        notebook_cnn.CONVOLUTIONS = ((4, 3), (4, 5), (8, 3), (8, 3))
        notebook_cnn.DENSE_UNITS = (16, 16)
    compact_cnn.WIDTHS["tiny"] = (4, 8, 8)
    if options.overflow_at:
        overflow_at(options.overflow_at)
    validation = faces(37, 1)
    trace = Trace() if options.trace else None
    job, sigterms_heard = join(options.strategy)
    trained = loop.train(
        Splits(faces(options.images, 0), validation, validation),
        Config(
            epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            precision=options.precision,
            checkpoint_minutes=options.checkpoint_minutes,
            steps_per_execution=options.steps_per_execution,
            jit_compile=str(options.jit_compile).lower(),
            **(TUNED if options.tuned else {}),
        ),
        targets=targets(options.images) if options.tuned else None,
        initial=[first_kernel()] if options.tuned else None,
        devices=job,
        run=options.run,
        callbacks=[trace] if trace else [],
    )
    if options.out:
        arrays = {f"w{i:02d}": np.asarray(v) for i, v in enumerate(trained.model.weights)}
        history = np.array(trained.history)
        scale = float(np.asarray(getattr(trained.optimizer, "dynamic_scale", 0.0)))
        updates = int(np.asarray(trained.optimizer.iterations))
        if trace:
            arrays["trace"] = np.stack(trace.weights)
        counts = {"updates": updates, "sigterms_heard": sigterms_heard}
        np.savez(options.out, history=history, scale=scale, **counts, **arrays)


def guarded():
    """The exit status; outside the handlers no frame holds an iterator (see terminal.cli)."""
    try:
        for options in arguments():
            main(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except interruption.InterruptedByUser as stop:
        print(stop, file=sys.stderr)
        return stop.status
    return 0


if __name__ == "__main__":
    sys.exit(guarded())
