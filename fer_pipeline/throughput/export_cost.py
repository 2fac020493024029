"""Seconds and memory of writing each artifact, each in a process of its own."""

from __future__ import annotations

from pathlib import Path

from fer_pipeline.throughput.cases import CaseError, Column, Row
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
      A row with ``seconds``, the process' ``peak`` MiB, and ``idle``, what it took before it began;
      or with a note why there are none.
    """
    row = {"name": name, "note": "", "kind": "ours"}
    try:
        return row | answer("export.cost", name, str(folder))
    except CaseError as error:
        return row | {"note": f"not measured: {error}"}
