"""benchmark.png: a table with dots for each stage, drawn from benchmark.json's value alone.

Cases that differ only in their batch size or their threads share a row, so that a full benchmark
fits a page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

#: Okabe and Ito's blue and vermilion, which the colour-blind tell apart, and a grey between them.
_COLOURS = {"ours": "#0072b2", "rival": "#767676", "limit": "#c94f00"}

#: Markers of the columns, and the same as characters for their headings.
_MARKERS, _SIGNS = "os^DvP", "●■▲◆▼✚"

#: What a stage's dots show, the first figure that its rows have: key, unit, logarithmic or not.
_FIGURES = (
    ("p50_ms", "ms a call, median; less is faster", True),
    ("images_per_second", "images/s, median", True),
    ("microseconds", "microseconds an image; less is faster", False),
    ("seconds", "seconds; less is faster", False),
)

#: What tells two rows of one case apart.
_VARIANT = re.compile(r"(.+), (\d+ threads?|batch [\d,]+)")

#: Inches. README shows the picture about 800 pixels wide, where 8 points are 11 pixels high.
_WIDTH, _NAMES, _COLUMN, _ROW = 8.0, 2.85, 0.84, 0.18
_TITLE, _AXIS, _HEAD, _FOOT = 0.48, 0.22, 0.3, 0.35
_POINTS = 8


class Panel(NamedTuple):
    """Rows by name, each with its kind and its figures by column: median, smallest, largest."""

    title: str
    key: str
    columns: list[str]
    rows: dict[str, tuple[str, dict[str, tuple[float, float, float]]]]


def list_panels(result: dict[str, Any]) -> list[Panel]:
    """What there is to draw: a panel of every stage, or several where its rows differ too much."""
    return [panel for stage, tables in result["stages"].items() for panel in _panels(stage, tables)]


def _panels(stage: str, tables: Sequence[dict[str, Any]]) -> Iterator[Panel]:
    """Joins the tables of a stage that have the same rows, and what differs in a variant alone."""
    shown = [(table["title"], [row for row in table["rows"] if _key(row)]) for table in tables]
    shown = [(title, rows) for title, rows in shown if rows]
    same = len({tuple(row["name"] for row in rows) for _, rows in shown}) == 1
    groups = [shown] if same else [[table] for table in shown]
    for group in groups if shown else ():
        heads = [title.partition(", ") for title, _ in group]
        joined = len(group) > 1
        title = heads[0][2] if joined else group[0][0]
        cases: dict[str, tuple[str, dict[str, tuple[float, float, float]]]] = {}
        for (head, _, _), (_, rows) in zip(heads, group, strict=True):
            for row in rows:
                found = None if joined else _VARIANT.fullmatch(row["name"])
                name, column = found.groups() if found else (row["name"], head if joined else "")
                kind = row.get("kind") or "rival"
                value = row[_key(row)]
                spread = (row.get("min") or value, row.get("max") or value)
                cases.setdefault(name, (kind, {}))[1][column] = (value, *spread)
        # Rows that have the same columns stand together.
        for columns in dict.fromkeys(tuple(values) for _, values in cases.values()):
            rows = {name: case for name, case in cases.items() if tuple(case[1]) == columns}
            yield Panel(f"{stage}: {title}".rstrip(": "), _key(group[0][1][0]), [*columns], rows)


def draw(result: dict[str, Any]) -> Figure:
    """Draws every panel of ``result["stages"]`` one below the other; there is one at least.

    A dot is the median, the line through it goes from the smallest round to the largest.
    """
    panels = list_panels(result)
    heights = [_TITLE + _ROW * len(panel.rows) + _AXIS for panel in panels]
    total = _HEAD + sum(heights) + _FOOT
    figure = Figure(figsize=(_WIDTH, total), facecolor="white")
    machine = f"{result['machine']['cpu']}, {_devices(result['machine'])}"
    figure.text(0.1 / _WIDTH, 1 - 0.2 / total, machine, fontsize=_POINTS + 1, va="center")
    columns = max(len(panel.columns) for panel in panels)
    width = _WIDTH - _NAMES - 0.15 - _COLUMN * columns - 0.1
    top = total - _HEAD
    for panel, height in zip(panels, heights, strict=True):
        bottom = (top - height + _AXIS) / total
        size = (width / _WIDTH, _ROW * len(panel.rows) / total)
        axis = figure.add_axes((_NAMES / _WIDTH, bottom, *size))
        _draw_panel(axis, panel, width)
        top -= height
    there = {kind for panel in panels for kind, _ in panel.rows.values()}
    kinds = [kind for kind in _COLOURS if kind in there]
    figure.legend(
        [Line2D([], [], marker="o", linestyle="", color=_COLOURS[kind]) for kind in kinds],
        kinds,
        loc="lower right",
        ncols=len(kinds),
        fontsize=_POINTS,
        frameon=False,
    )
    return figure


def _draw_panel(axis: Axes, panel: Panel, width: float) -> None:
    for place, (kind, values) in enumerate(panel.rows.values()):
        for i, (value, low, high) in enumerate(values.values()):
            colour = _COLOURS[kind]
            if (low, high) != (value, value):
                axis.plot([low, high], [place, place], color=colour, linewidth=1, alpha=0.6)
            marker = _MARKERS[i % len(_MARKERS)]
            axis.plot([value], [place], marker, color=colour, markersize=5)
            _write(axis, f"{value:.3g}" if value < 100 else f"{value:,.0f}", i, place, width)
    for i, column in enumerate(panel.columns):
        if column:
            _write(axis, f"{_SIGNS[i % len(_SIGNS)]} {column}", i, -1, width)
    unit, logarithmic = next(figure[1:] for figure in _FIGURES if figure[0] == panel.key)
    medians = [value for _, values in panel.rows.values() for value, _, _ in values.values()]
    if logarithmic and max(medians) > 20 * min(medians):
        axis.set_xscale("log")
        axis.margins(x=0.06)
    else:
        axis.set_xlim(
            0, 1.06 * max(v[2] for _, values in panel.rows.values() for v in values.values())
        )
    axis.set_yticks(range(len(panel.rows)), panel.rows, fontsize=_POINTS)
    axis.set_ylim(len(panel.rows) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelsize=_POINTS - 0.5, color="0.6")
    axis.minorticks_off()
    axis.grid(axis="both", color="0.9", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.spines["bottom"].set_color("0.6")
    axis.set_title(
        f"{panel.title}; {unit}",
        fontsize=_POINTS + 0.5,
        loc="left",
        x=-_NAMES / width + 0.1 / width,
        fontweight="bold",
        pad=17 if any(panel.columns) else 6,
    )


def _write(axis: Axes, text: str, column: int, place: float, width: float) -> None:
    """Writes into a column to the right of the dots."""
    x = 1 + (0.15 + _COLUMN * (column + 1)) / width
    axis.text(
        x,
        place,
        text,
        transform=axis.get_yaxis_transform(),
        ha="right",
        va="center",
        fontsize=_POINTS,
    )


def _key(row: dict[str, Any]) -> str | None:
    return next((key for key, *_ in _FIGURES if row.get(key) is not None), None)


def _devices(machine: dict[str, Any]) -> str:
    return f"{machine['cores']} cores, {', '.join(machine['gpus']) or 'no GPU'}"
