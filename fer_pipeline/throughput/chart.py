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


class Value(NamedTuple):
    """The median of some rounds, the smallest and the largest."""

    median: float
    low: float
    high: float


class Case(NamedTuple):
    """What was measured of one case, by column; a column may be missing."""

    kind: str
    values: dict[str, Value]


class Panel(NamedTuple):
    """Cases by name under one title; ``key`` is the figure, one of ``_FIGURES``."""

    title: str
    key: str
    columns: list[str]
    cases: dict[str, Case]


def list_panels(result: dict[str, Any]) -> list[Panel]:
    """What there is to draw: a panel of every stage, or several where its rows differ too much."""
    return [panel for stage, tables in result["stages"].items() for panel in _panels(stage, tables)]


def _panels(stage: str, tables: Sequence[dict[str, Any]]) -> Iterator[Panel]:
    shown = [table for table in tables if any(map(_key, table["rows"]))]
    names = {tuple(row["name"] for row in table["rows"]) for table in shown}
    # A title begins with what differs, such as the batch size.
    heads = [table["title"].partition(", ")[0] for table in shown]
    if len(names) == 1 and len(set(heads)) == len(shown) > 1:
        yield _joined(stage, dict(zip(heads, shown, strict=True)))
        return
    for table in shown:
        yield from _by_variants(stage, table)


def _joined(stage: str, tables: dict[str, dict[str, Any]]) -> Panel:
    """Tables with the same rows as the columns of one panel."""
    cases: dict[str, Case] = {}
    for column, table in tables.items():
        for row in filter(_key, table["rows"]):
            _add(cases, row["name"], column, row)
    first = next(iter(tables.values()))
    title = first["title"].partition(", ")[2]
    return Panel(f"{stage}: {title}", _table_key(first), list(tables), cases)


def _by_variants(stage: str, table: dict[str, Any]) -> Iterator[Panel]:
    """Rows that differ in a variant as the columns of one row; those with the same together."""
    cases: dict[str, Case] = {}
    for row in filter(_key, table["rows"]):
        found = _VARIANT.fullmatch(row["name"])
        name, column = found.groups() if found else (row["name"], "")
        _add(cases, name, column, row)
    for columns in dict.fromkeys(tuple(case.values) for case in cases.values()):
        together = {name: case for name, case in cases.items() if tuple(case.values) == columns}
        yield Panel(f"{stage}: {table['title']}", _table_key(table), [*columns], together)


def _add(cases: dict[str, Case], name: str, column: str, row: dict[str, Any]) -> None:
    median = row[_key(row)]
    value = Value(median, row.get("min") or median, row.get("max") or median)
    cases.setdefault(name, Case(row.get("kind") or "rival", {})).values[column] = value


def draw(result: dict[str, Any]) -> Figure:
    """Draws every panel of ``result["stages"]`` one below the other; there is one at least.

    A dot is the median, the line through it goes from the smallest round to the largest.
    """
    panels = list_panels(result)
    heights = [_TITLE + _ROW * len(panel.cases) + _AXIS for panel in panels]
    total = _HEAD + sum(heights) + _FOOT
    figure = Figure(figsize=(_WIDTH, total), facecolor="white")
    machine = f"{result['machine']['cpu']}, {_devices(result['machine'])}"
    figure.text(0.1 / _WIDTH, 1 - 0.2 / total, machine, fontsize=_POINTS + 1, va="center")
    columns = max(len(panel.columns) for panel in panels)
    width = _WIDTH - _NAMES - 0.15 - _COLUMN * columns - 0.1
    top = total - _HEAD
    for panel, height in zip(panels, heights, strict=True):
        bottom = (top - height + _AXIS) / total
        size = (width / _WIDTH, _ROW * len(panel.cases) / total)
        axis = figure.add_axes((_NAMES / _WIDTH, bottom, *size))
        _draw_panel(axis, panel, width)
        top -= height
    there = {case.kind for panel in panels for case in panel.cases.values()}
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
    headed = any(panel.columns)
    for i, column in enumerate(panel.columns):
        marker, sign = _MARKERS[i % len(_MARKERS)], _SIGNS[i % len(_SIGNS)]
        for place, case in enumerate(panel.cases.values()):
            if value := case.values.get(column):
                _draw_value(axis, value, place, marker, _COLOURS[case.kind])
                median = value.median
                text = f"{median:.3g}" if median < 100 else f"{median:,.0f}"
                _write(axis, text, i, place, width)
        if headed:
            _write(axis, f"{sign} {column}", i, -1, width)
    values = [value for case in panel.cases.values() for value in case.values.values()]
    medians = [value.median for value in values]
    unit, logarithmic = next(figure[1:] for figure in _FIGURES if figure[0] == panel.key)
    if logarithmic and max(medians) > 20 * min(medians):
        axis.set_xscale("log")
        axis.margins(x=0.06)
    else:
        axis.set_xlim(0, 1.06 * max(value.high for value in values))
    axis.set_yticks(range(len(panel.cases)), panel.cases, fontsize=_POINTS)
    axis.set_ylim(len(panel.cases) - 0.5, -0.5)
    axis.set_title(
        f"{panel.title}; {unit}",
        fontsize=_POINTS + 0.5,
        fontweight="bold",
        loc="left",
        x=(0.1 - _NAMES) / width,
        pad=17 if headed else 6,
    )
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelsize=_POINTS - 0.5, color="0.6")
    axis.minorticks_off()
    axis.grid(color="0.9", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.spines["bottom"].set_color("0.6")


def _draw_value(axis: Axes, value: Value, place: int, marker: str, colour: str) -> None:
    if value.low != value.high:
        axis.plot([value.low, value.high], [place, place], color=colour, linewidth=1, alpha=0.6)
    axis.plot([value.median], [place], marker, color=colour, markersize=5)


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


def _table_key(table: dict[str, Any]) -> str:
    return next(filter(None, map(_key, table["rows"])))


def _devices(machine: dict[str, Any]) -> str:
    return f"{machine['cores']} cores, {', '.join(machine['gpus']) or 'no GPU'}"
