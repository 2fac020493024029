"""Our loop against Keras' fit on the same compiled model and the same batches, by turns.

    python tests/proofs/loop_against_fit.py

Once with the whole network, where arithmetic dominates, and once with a tiny one, where Python
between the steps does. Both take uint8 batches of 64 from our input pipeline; one iterator serves
the loop, and fit opens one a round, which over that many steps is nothing.
"""

import statistics
import time

import keras
import numpy as np
import tensorflow as tf

from fer_pipeline.datasets.splits import Split
from fer_pipeline.input_pipeline import batches as batches_lib
from fer_pipeline.models.notebook_cnn import build_training_model
from fer_pipeline.training import steps

ROUNDS = 9
BATCH = 64


def tiny():
    return keras.Sequential(
        [
            keras.Input((48, 48, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(7, activation="softmax"),
        ]
    )


def compare(name, model, count, **compiled):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4096, 48, 48, 1)).astype(np.uint8)
    split = Split(images, rng.integers(0, 7, 4096).astype(np.int32))
    batches = batches_lib.training_batches(split, batch_size=BATCH, seed=0, epoch=0, epochs=None)
    model.compile(keras.optimizers.Adam(5e-4), "sparse_categorical_crossentropy", **compiled)
    model.optimizer.build(model.trainable_variables)
    train_steps = steps.compile_train_steps(model, model.optimizer)
    endless, sizes = iter(batches), tf.fill([count], BATCH)
    runs = {
        "loop": lambda: train_steps(endless, sizes).numpy(),
        "fit": lambda: model.fit(batches, steps_per_epoch=count, shuffle=False, verbose=0),
    }
    times = {name: [] for name in runs}
    for turn in range(1 + ROUNDS):
        for kind, run in runs.items():
            start = time.perf_counter()
            run()
            if turn:
                times[kind].append(1e3 * (time.perf_counter() - start) / count)
    ours, fit = (statistics.median(times[kind]) for kind in runs)
    print(f"{name}: loop {ours:.3f} ms/step, fit {fit:.3f} ms/step, {fit / ours:.2f}x", flush=True)


if __name__ == "__main__":
    compare("tiny", tiny(), 2000)
    compare("tiny, fit with steps_per_execution=32", tiny(), 2000, steps_per_execution=32)
    for policy in ("float32", "mixed_bfloat16"):
        compare(f"whole network, {policy}", build_training_model(dtype_policy=policy), 4)
