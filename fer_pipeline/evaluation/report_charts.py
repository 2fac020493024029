"""The report's charts as inline SVG: lines over epochs, and a reliability diagram.

Colours and fonts are the style sheet's, by class. What the pointer or the keyboard is on shows its
values: every point is a group that can be reached by Tab, and its values are also its label for
screen readers.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from fer_pipeline.evaluation.markup import Markup, element, join
from fer_pipeline.evaluation.report_data import Bin

#: Sizes in user units; a chart is about as wide on a phone, and a little wider on a desk.
_WIDTH, _HEIGHT = 330, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 12, 38

#: Of the text that appears at a point: height of a line, padding, and width of a character.
_LINE, _PADDING, _CHARACTER = 15, 7, 7.2

#: Characters of a line's name at a point; its label for screen readers has all of them.
_NAME = 22

#: Lines that can be told apart by colour; the style sheet has as many, and as many dashes.
STYLES = 6


class Series(NamedTuple):
    """A line: its name, its style's number, and its points as (x, y)."""

    name: str
    style: int
    points: list[tuple[float, float]]


class _Frame(NamedTuple):
    """Where values lie in a chart."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def line_chart(
    description: str,
    series: Sequence[Series],
    *,
    show: Callable[[float], str],
    x_name: str = "epoch",
    steps: bool = False,
) -> Markup:
    """Draws lines over epochs.

    Args:
      description: what it shows, for those who do not see it.
      series: the lines; at least one has a point.
      show: formats a value.
      x_name: what x counts.
      steps: whether a value holds for its whole epoch: it is drawn as a step, above zero.
    """
    xs = sorted({x for line in series for x, _ in line.points})
    ys = [y for line in series for _, y in line.points]
    ticks = nice_ticks(0.0 if steps else min(ys), max(ys))
    # A single epoch stands in the middle.
    half = 0.5 if steps or len(xs) == 1 else 0
    frame = _Frame(xs[0] - half, xs[-1] + half, ticks[0], ticks[-1])
    return _chart(
        description,
        _y_axis(frame, ticks, show),
        _x_axis(frame, _whole_ticks(xs), x_name, lambda value: f"{value:g}"),
        (_line(frame, line, steps=steps) for line in series),
        _epochs(frame, xs, series, show, x_name),
    )


def reliability_chart(description: str, bins: Sequence[Bin]) -> Markup:
    """Draws how often predictions of some confidence are right; the diagonal is perfect.

    A bar is as wide as its bin and as high as its accuracy. The strip below has the share of
    images in each bin.
    """
    frame = _Frame(0, 1, 0, 1)
    ticks = [0, 0.25, 0.5, 0.75, 1]
    total = sum(part.count for part in bins)
    diagonal = element(
        "path",
        d=_path([(frame.x(0), frame.y(0)), (frame.x(1), frame.y(1))]),
        class_="ideal",
    )
    return _chart(
        description,
        _y_axis(frame, ticks, _percent),
        _x_axis(frame, ticks, "confidence", _percent),
        (_bar(frame, part) for part in bins),
        diagonal,
        (_bin(frame, part, total) for part in bins),
        y_name="accuracy",
    )


def nice_ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """About ``count`` round values around ``low`` and ``high``, in steps of 1, 2 or 5 times ten's.

    The first is at most ``low`` and the last at least ``high``; there are two or more.
    """
    span = high - low or abs(high) or 1.0
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]


def _whole_ticks(xs: Sequence[float]) -> list[float]:
    found = nice_ticks(xs[0], xs[-1]) if len(xs) > 1 else xs
    return [x for x in found if x == int(x) and xs[0] <= x <= xs[-1]]


def _chart(description: str, *parts: object, y_name: str | None = None) -> Markup:
    title = (
        element("text", y_name, x=_LEFT + 6, y=_TOP + 10, class_="axis-name") if y_name else None
    )
    return element(
        "svg",
        title,
        *parts,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="group",
        aria_label=description,
        class_="chart",
    )


def _y_axis(frame: _Frame, ticks: Sequence[float], show: Callable[[float], str]) -> Markup:
    parts = []
    for value in ticks:
        y = frame.y(value)
        parts += [
            element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="grid"),
            element("text", _short(show(value)), x=_LEFT - 6, y=y + 4, text_anchor="end"),
        ]
    return element("g", parts, aria_hidden="true")


def _x_axis(
    frame: _Frame, ticks: Sequence[float], name: str, show: Callable[[float], str]
) -> Markup:
    base = _HEIGHT - _BOTTOM
    marks = [
        element("text", show(value), x=frame.x(value), y=base + 16, text_anchor="middle")
        for value in ticks
    ]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    title = element("text", name, x=middle, y=_HEIGHT - 5, text_anchor="middle", class_="axis-name")
    line = element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=base, y2=base, class_="base")
    return element("g", line, marks, title, aria_hidden="true")


def _line(frame: _Frame, series: Series, *, steps: bool) -> Markup:
    places = [(frame.x(x), frame.y(y)) for x, y in series.points]
    if steps:
        half = frame.x(1) - frame.x(0.5)
        places = [(x + side, y) for x, y in places for side in (-half, half)]
    dots = [element("circle", cx=x, cy=y, r=2.6) for x, y in places if not steps]
    line = element("path", d=_path(places))
    return element("g", line, dots, class_=f"line style-{series.style}", aria_hidden="true")


def _epochs(
    frame: _Frame,
    xs: Sequence[float],
    series: Sequence[Series],
    show: Callable[[float], str],
    x_name: str,
) -> Iterator[Markup]:
    """A group for every x, as wide as half the way to its neighbours."""
    edges = [
        _LEFT,
        *(frame.x((a + b) / 2) for a, b in itertools.pairwise(xs)),
        _WIDTH - _RIGHT,
    ]
    for x, left, right in zip(xs, edges, edges[1:], strict=False):
        found = [(line, dict(line.points)[x]) for line in series if x in dict(line.points)]
        names = [line.name for line, _ in found]
        values = [show(y) for _, y in found]
        head = f"{x_name} {x:g}"
        shown = [head, *(f"{_cut(n)} {v}" for n, v in zip(names, values, strict=True))]
        label = ", ".join([head, *(f"{n} {v}" for n, v in zip(names, values, strict=True))])
        place = frame.x(x)
        rule = element("line", x1=place, x2=place, y1=_TOP, y2=_HEIGHT - _BOTTOM, class_="rule")
        dots = [
            element("circle", cx=place, cy=frame.y(y), r=4, class_=f"style-{line.style}")
            for line, y in found
        ]
        yield _point((left, right), place, shown, label, rule, dots)


def _bar(frame: _Frame, part: Bin) -> Markup | None:
    """Nothing where the bin is empty; what is missing to the confidence is outlined."""
    if not part.count:
        return None
    left, right = frame.x(part.low) + 1, frame.x(part.high) - 1
    top, base = frame.y(part.accuracy), frame.y(0)
    gap = sorted((frame.y(part.confidence), top))
    return element(
        "g",
        element("rect", x=left, y=top, width=right - left, height=base - top, class_="bar"),
        element("rect", x=left, y=gap[0], width=right - left, height=gap[1] - gap[0], class_="gap"),
        aria_hidden="true",
    )


def _bin(frame: _Frame, part: Bin, total: int) -> Markup:
    lines = [f"confidence {_percent(part.low)} to {_percent(part.high)}", "no image"]
    if part.count:
        lines[1:] = [
            f"{part.count:,} images, {part.count / total:.1%}",
            f"mean confidence {part.confidence:.1%}",
            f"accuracy {part.accuracy:.1%}",
        ]
    left, right = frame.x(part.low), frame.x(part.high)
    return _point((left, right), (left + right) / 2, lines, ", ".join(lines))


def _point(
    sides: tuple[float, float], place: float, lines: Sequence[str], label: str, *marks: object
) -> Markup:
    """An invisible area that shows ``marks`` and ``lines`` while it is pointed at or focused."""
    width = max(map(len, lines)) * _CHARACTER + 2 * _PADDING
    height = len(lines) * _LINE + 2 * _PADDING - 3
    left = place + 8 if place < (_LEFT + _WIDTH) / 2 else place - 8 - width
    left = min(max(left, 2), _WIDTH - 2 - width)
    top = _TOP + 4
    texts = [
        element("text", line, x=left + _PADDING, y=top + _PADDING + 9 + i * _LINE)
        for i, line in enumerate(lines)
    ]
    box = element("rect", x=left, y=top, width=width, height=height, rx=4)
    area = element(
        "rect",
        x=sides[0],
        y=_TOP,
        width=sides[1] - sides[0],
        height=_HEIGHT - _TOP - _BOTTOM,
        class_="area",
    )
    tip = element("g", join(*marks), element("g", box, texts, class_="tip"), class_="shown")
    return element("g", area, tip, class_="point", tabindex=0, role="img", aria_label=label)


def _cut(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)


def _short(text: str) -> str:
    """A number without the zeros that end its decimals: ``38.0%`` is ``38%``."""
    return re.sub(r"\.?0+(?=\D*$)", "", text) if "." in text else text


def _percent(value: float) -> str:
    return f"{value:.0%}"
