"""What a model said of a face, and how it is written: a table, JSON lines or CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from collections.abc import Callable, Sequence
from typing import Literal

from fer_pipeline.classes import CLASS_NAMES

Format = Literal["table", "json", "csv"]

#: Turns predictions into lines; called for one part of them after the other.
Writer = Callable[[Sequence["Prediction"]], str]

#: Digits after the point; the outputs of an 8-bit model count in steps of 0.004.
_DIGITS = 6

#: Characters of the end of a row that says where the face is.
_ROOM = len("1234x1234 at 1234,1234")

_BOX = ("left", "top", "width", "height")


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The answer for one face.

    ``dataclasses.asdict``, ``json.dumps`` of that and ``pandas.DataFrame`` of a list take it.

    Attributes:
      file: the picture's name; None for an array. Bytes that are not UTF-8 are surrogates, as
        ``os.fsdecode`` makes them.
      frame: the number of the frame in a video, or of an array among several, from 0; None for
        other pictures.
      box: left, top, width and height of the face in pixels; None where the picture was taken
        whole or no face was found.
      track: the number of the face in a video, from 1; None for pictures.
      label: the most probable class, the first of those that are equally probable; None where no
        face was found.
      probabilities: of every class, by its name, in the model's order; None where no face was
        found.
    """

    file: str | None
    frame: int | None
    box: tuple[int, int, int, int] | None
    track: int | None
    label: str | None
    probabilities: dict[str, float] | None

    @classmethod
    def of(
        cls,
        row: Sequence[float],
        classes: Sequence[str] = CLASS_NAMES,
        *,
        file: str | None = None,
        frame: int | None = None,
        box: tuple[int, int, int, int] | None = None,
        track: int | None = None,
    ) -> Prediction:
        """From the probabilities of classes, in their order."""
        probabilities = {name: float(p) for name, p in zip(classes, row, strict=True)}
        best = max(classes, key=probabilities.get)
        return cls(file, frame, box, track, best, probabilities)

    @classmethod
    def of_nobody(cls, file: str | None) -> Prediction:
        """For a picture or a film in which no face was found."""
        return cls(file, None, None, None, None, None)

    def ranked(self) -> list[tuple[str, float]]:
        """Classes and probabilities, the most probable first."""
        return sorted((self.probabilities or {}).items(), key=lambda item: -item[1])


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """A file without an answer, and why."""

    file: str
    problem: str


def writer(
    kind: Format,
    classes: Sequence[str] = CLASS_NAMES,
    *,
    top: int = 1,
    everything: bool = False,
    width: int = 0,
    columns: int | None = None,
) -> Writer:
    """Makes the function that writes predictions.

    Args:
      kind: ``"table"`` for a person; ``"json"``, one object a line; ``"csv"``, with a header.
      classes: all that a face may be.
      top: how many of the most probable classes a row of the table names.
      everything: whether it has a column for each class, too.
      width: of its first column, for names that come later.
      columns: of the terminal that the table goes to, or None. Where a row with a face's box has
        no room, its second and further classes are in lines below it.
    """
    if kind == "json":
        return lambda found: "".join(f"{json.dumps(_rounded(one))}\n" for one in found)
    if kind == "csv":
        return _csv_writer(classes)
    row = 2 * (top + 2) + width + _ROOM + top * (len(max(classes, key=len)) + len(_percent(1)))
    stacked = top > 1 and columns is not None and row > columns
    return _table_writer(classes, top, everything, width, stacked=stacked)


def _rounded(one: Prediction) -> dict:
    whole = dataclasses.asdict(one)
    if one.probabilities:
        whole["probabilities"] = {name: round(p, _DIGITS) for name, p in one.probabilities.items()}
    return whole


def _csv_writer(classes: Sequence[str]) -> Writer:
    fixed = ("file", "frame", *_BOX, "track", "label")
    # A class may be called as another column is, and a reader would take one for the other.
    taken, named = {*fixed, *classes}, []
    for name in classes:
        column = name
        while name in fixed and column in taken:
            column = f"p({column})"
        taken.add(column)
        named.append(column)
    header: list[Sequence[str]] = [(*fixed, *named)]

    def write(found: Sequence[Prediction]) -> str:
        lines = io.StringIO()
        rows = csv.writer(lines, lineterminator="\n")
        while header:
            rows.writerow(header.pop())
        for one in found:
            name = None if one.file is None else _utf8(one.file)
            chances = [round(p, _DIGITS) for p in (one.probabilities or {}).values()]
            # None is an empty cell.
            box = one.box or [None] * len(_BOX)
            chances = chances or [None] * len(classes)
            rows.writerow([name, one.frame, *box, one.track, one.label, *chances])
        return lines.getvalue()

    return write


def _utf8(name: str) -> str:
    """A name whose bytes that are not UTF-8 are written ``\\xff``."""
    return name if name.isascii() else os.fsencode(name).decode(errors="backslashreplace")


def printable(name: str) -> str:
    """A name on one line, for a person."""
    text = _utf8(name)
    return text if text.isprintable() else repr(text)[1:-1]


def _table_writer(
    classes: Sequence[str], top: int, everything: bool, width: int, *, stacked: bool
) -> Writer:
    below, top = (top, 1) if stacked else (1, top)
    others = top - 1 + everything * len(classes)
    kind = "expression" if tuple(classes) == CLASS_NAMES else "class"
    header = ["file", kind, "probability", *(_ordinal(i) for i in range(2, top + 1))]
    header += classes if everything else []
    header.append("")
    widths = [width, *(max(len(name), *map(len, classes)) for name in header[1:3])]
    widths += [len(f"{max(classes, key=len)} {_percent(1)}")] * (top - 1)
    widths += [max(len(name), len(_percent(1))) for name in header[len(widths) : -1]]
    started = False

    def line(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(widths[0]), cells[1].ljust(widths[1]), cells[2].rjust(widths[2])]
        padded += map(str.ljust, cells[3 : top + 2], widths[3:])
        padded += map(str.rjust, cells[top + 2 : -1], widths[top + 2 :])
        padded.append(cells[-1])
        return "  ".join(padded).rstrip() + "\n"

    def write(found: Sequence[Prediction]) -> str:
        nonlocal started
        rows = []
        for one in found:
            rows.append(_cells(one, top, others))
            for name, p in one.ranked()[1:below]:
                rows.append(["", name, _percent(p), *[""] * others, ""])
        if not rows:
            return ""
        # Rows are written as they come, so that a later, longer name widens its own rows.
        widths[0] = max(widths[0], *(len(row[0]) for row in rows))
        head, started = ("" if started else line(header)), True
        return head + "".join(map(line, rows))

    return write


def _cells(one: Prediction, top: int, count: int) -> list[str]:
    if one.probabilities is None:
        return [_name(one), "no face", "", *[""] * count, ""]
    (best, probability), *others = one.ranked()[:top]
    chances = list(one.probabilities.values()) if count >= top else []
    return [
        _name(one),
        best,
        _percent(probability),
        *(f"{name} {_percent(p)}" for name, p in others),
        *map(_percent, chances),
        _where(one),
    ]


def _name(one: Prediction) -> str:
    return "" if one.file is None else printable(one.file)


def _where(one: Prediction) -> str:
    """Which face it is, for the end of a row: its number in a film, its box in a picture."""
    if one.frame is not None:
        return f"frame {one.frame}" + ("" if one.track is None else f", face {one.track}")
    if one.box is None:
        return ""
    left, top, width, height = one.box
    return f"{width}x{height} at {left},{top}"


def _percent(probability: float) -> str:
    return f"{100 * probability:.1f} %"


def _ordinal(number: int) -> str:
    return f"{number}{ {2: 'nd', 3: 'rd'}.get(number, 'th') }"
