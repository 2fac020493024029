"""Seconds and memory of writing each artifact, each in a process of its own."""

from __future__ import annotations

from pathlib import Path

from fer_pipeline.throughput.cases import Column, Row
from fer_pipeline.throughput.processes import answer

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

COLUMNS = (
    Column("seconds", "seconds", "{:.1f}"),
    Column("peak MiB", "peak"),
    Column("of it before", "idle"),
)


def write(name: str, folder: Path) -> Row:
    """Writes one format into a folder that exists, and says what it took.

    Returns:
      A row with ``seconds``, the process' ``peak`` MiB, and ``idle``, what it took before it began.

    Raises:
      RuntimeError: it failed; with what it printed.
    """
    found = answer("export.cost", name, str(folder))
    return {"name": name, "note": "", "kind": "ours", **found}
