"""Seconds and memory of writing each artifact, each in a process of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fer_pipeline import cores
from fer_pipeline.throughput.cases import CaseError, Column, Row
from fer_pipeline.throughput.processes import worker_process

#: Every format, in the order of the export's table.
FORMATS = (
    "keras",
    "keras_v3",
    "saved_model",
    "float32",
    "float16",
    "dynamic_range",
    "int8",
    "float32_rgb",
    "int8_rgb",
)

#: The module that each process runs.
_WORKER = "fer_pipeline.throughput.export_worker"

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
            asks = {
                name: stack.enter_context(
                    worker_process(
                        [_WORKER, name, str(folder)],
                        folder / f"{name}.log",
                    )
                )
                for name in names[start : start + count]
            }
            # All are ready before the first one writes.
            ready = {name: _told(ask) for name, ask in asks.items()}
            for name, ask in asks.items():
                found = ready[name] or _told(ask, "write")
                rows.append({"name": name, "note": "", "kind": "ours", **found})
    return rows


def _told(ask: Callable[..., Any], *question: str) -> dict[str, Any]:
    try:
        return ask(*question) or {}
    except CaseError as error:
        return {"note": f"not measured: {error}"}
