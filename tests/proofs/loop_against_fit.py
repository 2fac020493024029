"""Our loop against Keras' fit on the same compiled model and the same batches, by turns.

    python tests/proofs/loop_against_fit.py

Once with the whole network, where arithmetic dominates, and once with a tiny one, where Python
between the steps does. Both take batches of 64 from our input pipeline.
"""

import statistics
import time

import keras
import numpy as np
import tensorflow as tf

from fer_pipeline import input_pipeline, steps
from fer_pipeline.datasets.splits import Split
from fer_pipeline.model import build_training_model

ROUNDS = 5
BATCH = 64


def tiny(policy):
    return keras.Sequential(
        [
            keras.Input((48, 48, 1)),
            keras.layers.MaxPooling2D(8),
            keras.layers.Flatten(),
            keras.layers.Dense(7, activation="softmax", dtype="float32"),
        ]
    )


def batches(split):
    return input_pipeline.training_batches(split, batch_size=BATCH, seed=0, epoch=0, epochs=None)


def of_fit(model, split, count):
    model.compile(keras.optimizers.Adam(5e-4), "sparse_categorical_crossentropy")
    data = batches(split).map(lambda images, labels: (tf.cast(images, tf.float32), labels))
    return lambda: model.fit(data, steps_per_epoch=count, shuffle=False, verbose=0)


def of_loop(model, split, count):
    optimizer = keras.optimizers.Adam(5e-4)
    optimizer.build(model.trainable_variables)
    train_steps = steps.compile_train_steps(model, optimizer)
    data, sizes = iter(batches(split)), tf.fill([count], BATCH)
    return lambda: train_steps(data, sizes).numpy()


def compare(name, build, policy, count):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4096, 48, 48, 1)).astype(np.uint8)
    split = Split(images, rng.integers(0, 7, 4096).astype(np.int32))
    runs = [of_loop(build(policy), split, count), of_fit(build(policy), split, count)]
    times = [[], []]
    for turn in range(1 + ROUNDS):
        for run, kept in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            if turn:
                kept.append(1e3 * (time.perf_counter() - start) / count)
    ours, fit = (statistics.median(kept) for kept in times)
    print(f"{name} {policy}: loop {ours:.3f} ms/step, fit {fit:.3f} ms/step, {fit / ours:.2f}x")


if __name__ == "__main__":
    compare("tiny", tiny, "float32", 500)
    for policy in ("float32", "mixed_bfloat16"):
        compare(
            "whole network", lambda policy: build_training_model(dtype_policy=policy), policy, 4
        )
