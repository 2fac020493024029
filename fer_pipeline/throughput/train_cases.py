"""Ways to take optimizer steps on the network."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from fer_pipeline import allocator
from fer_pipeline.datasets.splits import Split
from fer_pipeline.throughput import ceiling, input_cases, machine, torch_rivals, work
from fer_pipeline.throughput.cases import RATE_COLUMNS, Case, Column, Row

#: The case that ratios refer to.
BASELINE = "the seed's cell: fit, float32, generator"

#: The rows that all of one dtype are compared with.
CEILING, OUR_CEILING = "TensorFlow's products alone", "our products alone"

#: Beginnings of the names of the cases of a quick look.
QUICK = (BASELINE, "ours", "PyTorch", CEILING)

COLUMNS = (
    *RATE_COLUMNS,
    Column("ms/step", "ms_per_step", "{:,.1f}"),
    Column("GFLOP/s", "gflops"),
    Column("of ceiling", "of_ceiling", "{:.2f}"),
    Column("of peak", "of_peak", "{:.0%}"),
)

_LEARNING_RATE = 5e-4


def cases(
    folder: str, batch_size: int, steps: int, policies: Sequence[str], on_gpu: bool
) -> list[Case]:
    """Ways to train, and the products alone; on a GPU with XLA and without.

    Args:
      folder: of images by class, ``input_cases.class_folders``'.
      batch_size: images of a step.
      steps: of one round.
      policies: dtype policies that the device has.
      on_gpu: whether the device is a GPU.
    """
    root = Path(folder)
    rivals = {
        BASELINE: lambda: _seed(root, batch_size, steps),
        "fit, float32, arrays": lambda: _fit(root, batch_size, steps),
    }
    found = [Case(name, make, {"policy": "float32"}) for name, make in rivals.items()]
    for policy in policies:
        for jit_compile in (False, True) if on_gpu else (False,):
            name = f"ours, {policy}" + (", XLA" if jit_compile else "")
            make = functools.partial(_loop, root, batch_size, steps, policy, jit_compile)
            found.append(Case(name, make, {"policy": policy, "kind": "ours"}))
    for bfloat16 in (False, True):
        policy = "mixed_bfloat16" if bfloat16 else "float32"
        emulated = bfloat16 and not on_gpu and policy not in policies
        arguments = (root, batch_size, steps, bfloat16, on_gpu)
        make = _emulated if emulated else functools.partial(_torch, *arguments)
        name = "PyTorch, " + ("bfloat16" if bfloat16 else "float32")
        found.append(Case(name, make, {"policy": policy}))
    for policy in policies:
        for name, ours in ((CEILING, False), (OUR_CEILING, True)):
            make = functools.partial(ceiling.products_alone, policy, batch_size, ours=ours)
            facts = {"policy": policy, "kind": "limit"}
            found.append(Case(f"{name}, {policy}", _rounds_of(make, steps), facts))
    return found


def with_shares(rows: list[Row], batch_size: int) -> list[Row]:
    """The rows with ms a step, operations a second, and shares of the ceiling and of the peak.

    Operations are the definition's, ``work.training_flops``: an algorithm that needs fewer shows as
    a higher rate.
    """
    rates = {row["name"]: row["images_per_second"] for row in rows}
    found = []
    for row in rows:
        rate, policy = row["images_per_second"], row.get("policy")
        figures = dict.fromkeys(("ms_per_step", "gflops", "of_ceiling", "of_peak"))
        if rate:
            flops = rate * work.training_flops()
            top, peak = rates.get(f"{CEILING}, {policy}"), machine.peak_flops(policy)
            figures = {
                "ms_per_step": 1e3 * batch_size / rate,
                "gflops": flops / 1e9,
                "of_ceiling": rate / top if top else None,
                "of_peak": flops / peak if peak else None,
            }
        found.append(row | figures)
    return found


def _rounds_of(
    make: Callable[[], Callable[[], int]], steps: int
) -> Callable[[], Callable[[], int]]:
    """Makes a round of so many of the steps that ``make`` makes."""

    def prepare() -> Callable[[], int]:
        step = make()
        return lambda: sum(step() for _ in range(steps))

    return prepare


def _seed(folder: Path, batch_size: int, steps: int) -> Callable[[], int]:
    """The notebook's cell, less its validation and its callbacks."""
    import keras

    from fer_pipeline.model import build_model

    batches = input_cases.generator(folder, batch_size)
    model = build_model()
    model.compile(
        keras.optimizers.Adam(_LEARNING_RATE), "categorical_crossentropy", metrics=["accuracy"]
    )

    # An epoch at most: the generator ends there.
    count = min(steps, len(batches))

    def run() -> int:
        model.fit(x=batches, steps_per_epoch=count, epochs=1, verbose=0)
        return min(count * batch_size, batches.n)

    return run


def _fit(folder: Path, batch_size: int, steps: int) -> Callable[[], int]:
    import keras
    import numpy as np

    from fer_pipeline.model import build_model

    train = input_cases.repeated(input_cases.epoch_beside(folder), batch_size * steps)
    model = build_model()
    model.compile(
        keras.optimizers.Adam(_LEARNING_RATE),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    images = train.images[: batch_size * steps].astype(np.float32)
    labels = train.labels[: batch_size * steps]

    def run() -> int:
        model.fit(images, labels, batch_size=batch_size, epochs=1, verbose=0)
        return len(labels)

    return run


def _torch(
    folder: Path, batch_size: int, steps: int, bfloat16: bool, on_gpu: bool
) -> Callable[[], int]:
    train, weights = input_cases.epoch_beside(folder), work.random_weights()
    options = {"bfloat16": bfloat16, "on_gpu": on_gpu}
    return torch_rivals.train_steps(weights, train, batch_size, steps, **options)


def _emulated() -> Callable[[], int]:
    raise ImportError("this CPU only emulates bfloat16")


def _loop(
    folder: Path, batch_size: int, steps: int, policy: str, jit_compile: bool
) -> Callable[[], int]:
    import tensorflow as tf

    from fer_pipeline import steps as compiled
    from fer_pipeline import training
    from fer_pipeline.model import build_training_model

    allocator.keep_memory()
    train = input_cases.epoch_beside(folder)
    # A smaller last batch would be compiled once more in the middle of a round.
    whole = len(train.labels) // batch_size * batch_size
    train = Split(train.images[:whole], train.labels[:whole])
    recipe = training.Recipe(learning_rate=_LEARNING_RATE, precision=policy)
    model = build_training_model(dtype_policy=policy)
    optimizer = training.make_optimizer(recipe)
    optimizer.build(model.trainable_variables)
    train_steps = compiled.compile_train_steps(
        model, optimizer, jit_batch_size=batch_size if jit_compile else None
    )
    batches = iter(input_cases.endless(train, batch_size))
    sizes = tf.fill([steps], batch_size)

    def run() -> int:
        rows = train_steps(batches, sizes).numpy()
        return int(rows[:, compiled.IMAGES].sum())

    return run
