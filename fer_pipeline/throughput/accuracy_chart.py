"""accuracy.png: accuracy against size, drawn from benchmark.json's value alone."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from matplotlib.figure import Figure

from fer_pipeline.throughput.cases import Row

_COLOURS = {"ours": "#1f77b4", "rival": "#7f7f7f"}


def list_points(result: dict[str, Any]) -> list[Row]:
    """The rows of the accuracy stage that have figures."""
    tables = result["stages"].get("accuracy", [])
    return [row for table in tables for row in table["rows"] if row.get("accuracy") is not None]


def draw(points: list[Row]) -> Figure:
    """Draws a point for every row of ``list_points``: kilobytes, logarithmic, and accuracy."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axis = figure.subplots()
    for kind, colour in _COLOURS.items():
        rows = [row for row in points if row["kind"] == kind]
        axis.scatter(
            [row["kilobytes"] for row in rows],
            [100 * row["accuracy"] for row in rows],
            color=colour,
            label={"ours": "fer_pipeline", "rival": "other packages"}[kind],
        )
    for row in points:
        axis.annotate(
            _short(row),
            (row["kilobytes"], 100 * row["accuracy"]),
            (0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.set_xlabel("kB of the file")
    axis.set_ylabel("accuracy on the test images, %")
    axis.margins(x=0.15, y=0.15)
    axis.grid(alpha=0.3)
    # Where small files of low accuracy would be: the names of points are not in its way there.
    axis.legend(loc="lower left")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def _short(row: Row) -> str:
    """A rival by its package; a file of ours by its run and format."""
    if row["kind"] == "rival":
        return row["name"].partition(",")[0]
    path = PurePath(row["name"])
    folders = [part for part in path.parts[:-1] if part != "export"]
    return " ".join([*folders[-1:], path.stem.removeprefix("model_")])
