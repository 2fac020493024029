"""benchmark.png: a panel of bars for each table, drawn from benchmark.json's value alone."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

_COLOURS = {"ours": "#1f77b4", "rival": "#b0b0b0", "limit": "#d95f02"}

#: What a stage's bars show, the first figure that its rows have: key, unit, logarithmic or not.
_FIGURES = (
    ("p50_ms", "ms a call, median (shorter is faster)", True),
    ("images_per_second", "images/s, median", True),
    ("microseconds", "microseconds an image", False),
    ("seconds", "seconds", False),
)

_INCHES_A_BAR, _INCHES_A_PANEL = 0.22, 0.9


def list_panels(result: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Title and rows of every table that has figures, without the rows that have none."""
    return [
        (f"{stage}: {table['title']}", rows)
        for stage, found in result["stages"].items()
        for table in found
        if (rows := [row for row in table["rows"] if _figure(row)])
    ]


def draw(result: dict[str, Any]) -> Figure:
    """Draws every table of ``result["stages"]`` one below the other; one has figures at least.

    A bar is the median, the line in it goes from the smallest round to the largest.
    """
    tables = list_panels(result)
    heights = [_INCHES_A_PANEL + _INCHES_A_BAR * len(rows) for _, rows in tables]
    figure = Figure(figsize=(9, sum(heights) + 0.5), layout="constrained")
    figure.suptitle(result["machine"]["cpu"] + ", " + _devices(result["machine"]), fontsize=10)
    grid = figure.subplots(len(tables), 1, squeeze=False, height_ratios=heights)[:, 0]
    there = {row.get("kind", "rival") for _, rows in tables for row in rows}
    kinds = [kind for kind in _COLOURS if kind in there]
    figure.legend(
        [Patch(color=_COLOURS[kind]) for kind in kinds],
        kinds,
        loc="outside lower right",
        ncols=len(kinds),
        fontsize=7,
        frameon=False,
    )
    for axis, (title, rows) in zip(grid, tables, strict=True):
        _panel(axis, title, rows)
    return figure


def _panel(axis: Axes, title: str, rows: list[dict[str, Any]]) -> None:
    key, unit, logarithmic = _figure(rows[0])
    values = [row[key] for row in rows]
    names = [row["name"] for row in rows]
    colours = [_COLOURS[row.get("kind", "rival")] for row in rows]
    axis.barh(range(len(rows)), values, color=colours)
    for place, (row, value) in enumerate(zip(rows, values, strict=True)):
        end = row.get("max", value)
        axis.plot([row.get("min", value), end], [place, place], color="black", linewidth=0.8)
        label = f"{value:,.3g}" if value < 100 else f"{value:,.0f}"
        axis.annotate(
            label,
            (max(end, value), place),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    axis.set_yticks(range(len(rows)), names, fontsize=7)
    axis.invert_yaxis()
    if logarithmic and max(values) > 20 * min(values):
        axis.set_xscale("log")
    axis.margins(x=0.12)
    axis.set_title(title, fontsize=9, loc="left")
    axis.set_xlabel(unit, fontsize=7)
    axis.tick_params(axis="x", labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)


def _figure(row: dict[str, Any]) -> tuple[str, str, bool] | None:
    return next((figure for figure in _FIGURES if row.get(figure[0]) is not None), None)


def _devices(machine: dict[str, Any]) -> str:
    return f"{machine['cores']} cores, {', '.join(machine['gpus']) or 'no GPU'}"
