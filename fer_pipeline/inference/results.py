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

_BOX = ("left", "top", "width", "height")


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The answer for one face.

    ``dataclasses.asdict``, ``json.dumps`` of that and ``pandas.DataFrame`` of a list take it.

    Attributes:
      file: the picture's name; None for an array. Bytes that are not UTF-8 are surrogates, as
        ``os.fsdecode`` makes them.
      frame: the number of the frame in a video, from 0; None for pictures.
      box: left, top, width and height of the face in pixels; None where the picture was taken
        whole.
      label: the most probable class, the first of those that are equally probable.
      probabilities: of every class, by its name, in the order of ``CLASS_NAMES``.
    """

    file: str | None
    frame: int | None
    box: tuple[int, int, int, int] | None
    label: str
    probabilities: dict[str, float]

    @classmethod
    def of(
        cls,
        row: Sequence[float],
        *,
        file: str | None = None,
        frame: int | None = None,
        box: tuple[int, int, int, int] | None = None,
    ) -> Prediction:
        """From seven probabilities in the order of ``CLASS_NAMES``."""
        probabilities = {name: float(p) for name, p in zip(CLASS_NAMES, row, strict=True)}
        return cls(file, frame, box, max(CLASS_NAMES, key=probabilities.get), probabilities)

    def ranked(self) -> list[tuple[str, float]]:
        """Classes and probabilities, the most probable first."""
        return sorted(self.probabilities.items(), key=lambda item: -item[1])


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """A file without an answer, and why."""

    file: str
    problem: str


def writer(kind: Format, *, top: int = 1, everything: bool = False, width: int = 0) -> Writer:
    """Makes the function that writes predictions.

    Args:
      kind: ``"table"`` for a person; ``"json"``, one object a line; ``"csv"``, with a header.
      top: how many of the most probable classes a row of the table names.
      everything: whether it has a column for each class, too.
      width: of its first column, for names that come later.
    """
    if kind == "json":
        return lambda found: "".join(f"{json.dumps(_rounded(one))}\n" for one in found)
    return _csv_writer() if kind == "csv" else _table_writer(top, everything, width)


def _rounded(one: Prediction) -> dict:
    probabilities = {name: round(p, _DIGITS) for name, p in one.probabilities.items()}
    return dataclasses.asdict(one) | {"probabilities": probabilities}


def _csv_writer() -> Writer:
    header: list[Sequence[str]] = [("file", "frame", *_BOX, "label", *CLASS_NAMES)]

    def write(found: Sequence[Prediction]) -> str:
        lines = io.StringIO()
        rows = csv.writer(lines, lineterminator="\n")
        while header:
            rows.writerow(header.pop())
        for one in found:
            name = "" if one.file is None else _utf8(one.file)
            frame = "" if one.frame is None else one.frame
            chances = (round(p, _DIGITS) for p in one.probabilities.values())
            rows.writerow([name, frame, *(one.box or [""] * len(_BOX)), one.label, *chances])
        return lines.getvalue()

    return write


def _utf8(name: str) -> str:
    """A name whose bytes that are not UTF-8 are written ``\\xff``."""
    return name if name.isascii() else os.fsencode(name).decode(errors="backslashreplace")


def printable(name: str) -> str:
    """A name on one line, for a person."""
    text = _utf8(name)
    return text if text.isprintable() else repr(text)[1:-1]


def _table_writer(top: int, everything: bool, width: int) -> Writer:
    header = ["file", "expression", "probability", *(_ordinal(i) for i in range(2, top + 1))]
    header += CLASS_NAMES if everything else []
    widths = [width, *(max(len(name), *map(len, CLASS_NAMES)) for name in header[1:3])]
    widths += [len(f"{max(CLASS_NAMES, key=len)} {_percent(1)}")] * (top - 1)
    widths += [max(len(name), len(_percent(1))) for name in header[len(widths) :]]
    started = False

    def line(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(widths[0]), cells[1].ljust(widths[1]), cells[2].rjust(widths[2])]
        padded += map(str.ljust, cells[3 : top + 2], widths[3:])
        padded += map(str.rjust, cells[top + 2 :], widths[top + 2 :])
        return "  ".join(padded).rstrip() + "\n"

    def write(found: Sequence[Prediction]) -> str:
        nonlocal started
        rows = [_cells(one, top, everything) for one in found]
        if not rows:
            return ""
        # Rows are written as they come, so that a later, longer name widens its own rows.
        widths[0] = max(widths[0], *(len(row[0]) for row in rows))
        head, started = ("" if started else line(header)), True
        return head + "".join(map(line, rows))

    return write


def _cells(one: Prediction, top: int, everything: bool) -> list[str]:
    (best, probability), *others = one.ranked()[:top]
    chances = list(one.probabilities.values()) if everything else []
    return [
        "" if one.file is None else printable(one.file),
        best,
        _percent(probability),
        *(f"{name} {_percent(p)}" for name, p in others),
        *map(_percent, chances),
    ]


def _percent(probability: float) -> str:
    return f"{100 * probability:.1f} %"


def _ordinal(number: int) -> str:
    return f"{number}{ {2: 'nd', 3: 'rd'}.get(number, 'th') }"
