"""The benchmark's stages: load the faces, let the contenders compete, print, write the figures."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fer_pipeline import contest, datasets, peers, run_dir
from fer_pipeline.contest import Contender
from fer_pipeline.datasets.splits import Split
from fer_pipeline.errors import UserError
from fer_pipeline.precision import cpu_flags, cpu_model

#: The file that ``measure`` writes.
RESULT = "benchmark.json"

#: Instruction sets that decide how fast this network runs on a CPU.
_FLAGS_THAT_MATTER = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def measure(
    data: str,
    *,
    stages: Sequence[str],
    batch_size: int,
    rounds: int,
    seconds: float,
    steps: int,
    out: Path,
) -> dict[str, Any]:
    """Runs the stages, prints a table for each and writes ``benchmark.json``.

    Args:
      data: source of the faces, as ``datasets.load`` takes it.
      stages: names out of ``STAGES``.
      batch_size: images of a batch.
      rounds: timed rounds of each contender.
      seconds: of an input round.
      steps: of a training round.
      out: folder of ``benchmark.json``.

    Returns:
      What was written.

    Raises:
      UserError: an unknown stage, bad data, or a folder that cannot be written.
    """
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown or not stages:
        raise UserError(f"--stages={','.join(stages)}: choose from {','.join(STAGES)}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out={out}: cannot be made ({error.strerror})") from error
    started = time.perf_counter()
    result = {"machine": machine(), "data": data, "batch_size": batch_size, "rounds": rounds}
    print(machine_line(result["machine"]), flush=True)
    start = time.perf_counter()
    splits = datasets.load(data).splits
    load_seconds = time.perf_counter() - start
    parts = (splits.train, splits.test) if splits.selected_on == "test" else splits[:3]
    images = sum(len(part.labels) for part in parts)
    result["load"] = {"images": images, "seconds": load_seconds}
    print(
        f"{data}: {images:,} images loaded cold in {load_seconds:.1f} s, "
        f"{images / load_seconds:,.0f} images/s"
    )
    for stage in stages:
        result[stage] = STAGES[stage](
            splits.train, batch_size=batch_size, rounds=rounds, seconds=seconds, steps=steps
        )
    run_dir.write_json(out / RESULT, result)
    print(f"\n{out / RESULT} written after {time.perf_counter() - started:.0f} s")
    return result


def input_stage(
    train: Split, *, batch_size: int, rounds: int, seconds: float, **_: Any
) -> list[dict[str, Any]]:
    """Delivering training batches: shuffled, randomly mirrored, cached where one can."""
    print(f"\ninput, batch {batch_size}, shuffled and mirrored", flush=True)
    with peers.class_folders(train) as (folder, part):
        contenders = peers.input_contenders(folder, part, batch_size=batch_size, seconds=seconds)
        return _compete(contenders, rounds, baseline=peers.INPUT_BASELINE)


def train_stage(
    train: Split, *, batch_size: int, rounds: int, steps: int, **_: Any
) -> list[dict[str, Any]]:
    """Optimizer steps on the network."""
    print(f"\ntrain, batch {batch_size}, {steps} steps a round", flush=True)
    contenders = peers.train_contenders(train, batch_size=batch_size, steps=steps)
    return _compete(contenders, rounds, baseline=peers.TRAIN_BASELINE, batch_size=batch_size)


#: Every stage by its name on the command line.
STAGES: dict[str, Callable[..., list[dict[str, Any]]]] = {
    "input": input_stage,
    "train": train_stage,
}


def _compete(
    contenders: Sequence[Contender], rounds: int, *, baseline: str, batch_size: int | None = None
) -> list[dict[str, Any]]:
    rows = contest.compete(contenders, rounds)
    print(contest.table(rows, baseline=baseline, batch_size=batch_size), flush=True)
    return contest.as_json(rows, baseline=baseline)


def machine() -> dict[str, Any]:
    """What the figures depend on: CPU, its flags, cores, GPUs and versions."""
    import keras
    import numpy as np
    import tensorflow as tf

    flags = cpu_flags()
    gpus = tf.config.list_physical_devices("GPU")
    return {
        "cpu": cpu_model(),
        "cpu_flags": [flag for flag in _FLAGS_THAT_MATTER if flag in flags],
        "cores": len(os.sched_getaffinity(0)),
        "gpus": [
            tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
            for gpu in gpus
        ],
        "load_average": round(os.getloadavg()[0], 2),
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
    }


def machine_line(facts: dict[str, Any]) -> str:
    """``machine()`` in one line for the terminal."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"{facts['cpu']}, {facts['cores']} cores ({' '.join(facts['cpu_flags']) or 'plain'}), "
        f"{', '.join(facts['gpus']) or 'no GPU'}, load {facts['load_average']}; {versions}"
    )
