"""Seconds and memory of writing each artifact, each in a process of its own.

``python -m fer_pipeline.throughput.export_cost FORMAT FOLDER`` prints ``null`` when it is ready.
For each line that it reads it writes the format, of the network with random weights, into the
folder, which exists, and prints as JSON what that took: seconds, and MiB in memory at most, before
it began (``idle``) and in all (``peak``).
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fer_pipeline import child_processes, cores
from fer_pipeline.child_processes import ChildError
from fer_pipeline.datasets import synthetic
from fer_pipeline.datasets.splits import Split
from fer_pipeline.errors import UserError
from fer_pipeline.inference.runtime_worker import serve
from fer_pipeline.throughput.cases import Column, Row
from fer_pipeline.throughput.machine import process_mib

#: Images to calibrate on, as many of each class.
_IMAGES = 700

COLUMNS = (
    Column("seconds", "seconds", "{:.1f}"),
    Column("peak MiB", "peak"),
    Column("of it before", "idle"),
)


def write(names: Sequence[str], folder: Path) -> list[Row]:
    """Writes formats into a folder that exists, and says what each took.

    Their processes get ready at the same time, as many as there are cores, and write by turns.

    Returns:
      A row a format: ``seconds``, the process' ``peak`` MiB, and ``idle``, what it took before it
      began; or a note why there are none.
    """
    rows, count = [], cores.usable()
    for start in range(0, len(names), count):
        with contextlib.ExitStack() as stack:
            asks = {}
            for name in names[start : start + count]:
                command = child_processes.command(__name__, name, str(folder))
                process = child_processes.worker(command, folder / f"{name}.log")
                asks[name] = stack.enter_context(process)
            # All are ready before the first one writes.
            ready = {name: _told(ask) for name, ask in asks.items()}
            for name, ask in asks.items():
                found = ready[name] or _told(ask, "write")
                rows.append({"name": name, "note": "", "kind": "ours", **found})
    return rows


def _told(ask: Callable[..., Any], *request: str) -> dict[str, Any]:
    try:
        return ask(*request) or {}
    except ChildError as error:
        return {"note": f"not measured: {error}"}


def _prepare(name: str, folder: str) -> tuple[None, Callable[[str], dict[str, float]]]:
    """Gets ready to write the format; the function does it and says what it took."""
    from export.formats.inference_model import inference_model
    from export.pipeline import write_artifacts
    from export.spec import artifacts
    from fer_pipeline.models.notebook_cnn import build_training_model

    chosen = artifacts.choose([name])
    labels = np.arange(_IMAGES, dtype=np.int32) % 7
    train = Split(synthetic.render(labels, seed=0), labels)
    model = inference_model(build_training_model(seed=0).get_weights())

    def write(_: str) -> dict[str, float]:
        idle, start = process_mib("VmHWM"), time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch:
            list(write_artifacts(Path(folder), Path(scratch), model, chosen, train, seed=0))
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "idle": idle, "peak": process_mib("VmHWM")}

    return None, write


if __name__ == "__main__":
    serve(lambda: _prepare(*sys.argv[1:]), UserError)
