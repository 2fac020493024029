"""Ways to take optimizer steps on the network."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_pipeline.config import Config
from fer_pipeline.datasets.splits import Split
from fer_pipeline.devices import allocator
from fer_pipeline.throughput import ceiling, input_cases, machine, torch_rivals, work
from fer_pipeline.throughput.cases import RATE_COLUMNS, Case, Column, Round, Row
from fer_pipeline.throughput.rounds import Take, lasting, timed_fit, timed_steps

if TYPE_CHECKING:
    import keras

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
    folder: str,
    batch_size: int,
    steps: int,
    seconds: float,
    policies: Sequence[str],
    on_gpu: bool,
) -> list[Case]:
    """Ways to train, and the products alone; on a GPU with XLA and without.

    The images are those of ``input_cases.class_folders``, and each of the dtype ``policies`` is one
    that the device has. A round has at least so many ``steps`` and ``seconds``.
    """
    root = Path(folder)
    found = []

    def add(
        name: str, make: Callable[..., Take], policy: str, *, xla: bool = False, **facts: str
    ) -> None:
        def prepare() -> Round:
            return lasting(make(), steps, seconds)

        found.append(Case(name, prepare, {"policy": policy, "xla": xla, **facts}, gpu=on_gpu))

    # Where there is a GPU, Keras has XLA compile what ``fit`` runs.
    add(BASELINE, lambda: _seed(root, batch_size), "float32", xla=on_gpu)
    add("fit, float32, arrays", lambda: _fit(root, batch_size), "float32", xla=on_gpu)
    compiled = [(policy, xla) for policy in policies for xla in ((False, True)[: 1 + on_gpu])]
    for policy, xla in compiled:
        make = functools.partial(_loop, root, batch_size, policy, xla)
        add(f"ours, {_named(policy, xla)}", make, policy, xla=xla, kind="ours")
    for bfloat16 in (False, True):
        policy = "mixed_bfloat16" if bfloat16 else "float32"
        emulated = bfloat16 and not on_gpu and policy not in policies
        make = functools.partial(_torch, root, batch_size, bfloat16, on_gpu)
        name = "PyTorch, " + ("bfloat16" if bfloat16 else "float32")
        add(name, _emulated if emulated else make, policy)
    for policy, xla in compiled:
        for name, ours in ((CEILING, False), (OUR_CEILING, True)):
            make = functools.partial(_products, policy, batch_size, ours, xla)
            add(f"{name}, {_named(policy, xla)}", make, policy, xla=xla, kind="limit")
    return found


def _named(policy: str, xla: bool) -> str:
    return policy + (", XLA" if xla else "")


def with_shares(rows: list[Row], batch_size: int) -> list[Row]:
    """The rows with ms a step, operations a second, and shares of the ceiling and of the peak.

    Operations are the definition's, ``work.training_flops``: an algorithm that needs fewer shows as
    a higher rate. The ceiling is the one of the same policy, compiled by XLA where the row is. The
    peak is that of the ``arithmetic`` by which the row's policy multiplies.
    """
    rates = {row["name"]: row["images_per_second"] for row in rows}
    found = []
    for row in rows:
        rate, policy = row["images_per_second"], row["policy"]
        arithmetic = machine.arithmetic(policy)
        figures = dict.fromkeys(("ms_per_step", "gflops", "of_ceiling", "of_peak"))
        if rate:
            flops = rate * work.training_flops()
            top = rates.get(f"{CEILING}, {_named(policy, row['xla'])}")
            peak = machine.peak_flops(arithmetic)
            figures = {
                "ms_per_step": 1e3 * batch_size / rate,
                "gflops": flops / 1e9,
                "of_ceiling": rate / top if top else None,
                "of_peak": flops / peak if peak else None,
            }
        found.append(row | {"arithmetic": arithmetic} | figures)
    return found


def _seed(folder: Path, batch_size: int) -> Take:
    """The notebook's cell, less its validation and its callbacks."""
    import keras

    model = _compiled("categorical_crossentropy")
    batches = input_cases.generator(folder, batch_size)
    # Of an epoch; where all images do not fill a batch it is one all the same.
    whole = max(1, batches.n // batch_size)

    class Continued(keras.utils.PyDataset):
        """So many of its whole batches, in epochs that follow one another without a new start."""

        def __init__(self, count: int):
            super().__init__()
            self._count = count

        def __len__(self) -> int:
            return self._count

        def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
            if i and i % whole == 0:
                batches.on_epoch_end()
            return batches[i % whole]

    def given(count: int) -> dict[str, Any]:
        # The order is the generator's own.
        return {"x": Continued(count), "shuffle": False}

    return timed_fit(model, given, min(batch_size, batches.n))


def _compiled(loss: str) -> keras.Model:
    import keras

    from fer_pipeline.models.notebook_cnn import build_model

    model = build_model()
    model.compile(keras.optimizers.Adam(_LEARNING_RATE), loss, metrics=["accuracy"])
    return model


def _fit(folder: Path, batch_size: int) -> Take:
    train = input_cases.epoch_beside(folder)
    model = _compiled("sparse_categorical_crossentropy")

    def given(count: int) -> dict[str, Any]:
        part = input_cases.repeated(train, count * batch_size)
        images = part.images[: count * batch_size].astype(np.float32)
        return {"x": images, "y": part.labels[: len(images)], "batch_size": batch_size}

    return timed_fit(model, given, batch_size)


def _torch(folder: Path, batch_size: int, bfloat16: bool, on_gpu: bool) -> Take:
    train, weights = input_cases.epoch_beside(folder), work.random_weights()
    options = {"bfloat16": bfloat16, "on_gpu": on_gpu}
    return timed_steps(torch_rivals.train_steps(weights, train, batch_size, **options))


def _emulated() -> Take:
    raise ImportError("this CPU only emulates bfloat16")


def _products(policy: str, batch_size: int, ours: bool, jit_compile: bool) -> Take:
    return timed_steps(
        ceiling.products_alone(policy, batch_size, ours=ours, jit_compile=jit_compile)
    )


def _loop(folder: Path, batch_size: int, policy: str, jit_compile: bool) -> Take:
    import tensorflow as tf

    from fer_pipeline.models.notebook_cnn import build_training_model
    from fer_pipeline.training import loop
    from fer_pipeline.training import steps as compiled

    allocator.retain_freed_memory()
    train = input_cases.epoch_beside(folder)
    # A smaller last batch would be compiled once more in the middle of a round.
    whole = len(train.labels) // batch_size * batch_size
    train = Split(train.images[:whole], train.labels[:whole])
    config = Config(learning_rate=_LEARNING_RATE, precision=policy)
    model = build_training_model(dtype_policy=policy)
    optimizer = loop.make_optimizer(config)
    optimizer.build(model.trainable_variables)
    train_steps = compiled.compile_train_steps(
        model, optimizer, jit_batch_size=batch_size if jit_compile else None
    )
    batches = iter(input_cases.endless(train, batch_size))

    # Traced once, whatever number of steps a call has.
    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)])
    def call(sizes: tf.Tensor) -> tf.Tensor:
        return train_steps(batches, sizes)

    def take(count: int) -> int:
        rows = call(tf.fill([count], batch_size)).numpy()
        return int(rows[:, compiled.IMAGES].sum())

    return timed_steps(take)
