"""Contenders measured side by side: alternating rounds, medians with their spread, one table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Contender(NamedTuple):
    """One way to do the work that is measured.

    Attributes:
      name: its row in the table.
      run: does one round and returns how many images it delivered; None where it cannot run here.
      note: what the row should say beside the numbers, such as why it cannot run.
    """

    name: str
    run: Callable[[], int] | None
    note: str = ""


class Row(NamedTuple):
    """A contender's outcome: images/s of each of its rounds, in their order."""

    name: str
    rates: tuple[float, ...]
    note: str = ""

    @property
    def median(self) -> float:
        """Images/s; NaN without rounds."""
        return statistics.median(self.rates) if self.rates else float("nan")


def compete(
    contenders: Sequence[Contender],
    rounds: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
    report: Callable[[str], None] | None = None,
) -> list[Row]:
    """Runs every contender once to warm up, then all of them by turns, ``rounds`` times.

    Alternating spreads whatever else the machine does over all of them, and every other round goes
    backwards, so that a machine that slows down or speeds up favours none.

    Args:
      contenders: what to measure.
      rounds: timed runs of each.
      clock: seconds.
      report: takes the name of each contender when it warms up.
    """
    rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    able = [contender for contender in contenders if contender.run]
    for contender in able:
        if report:
            report(contender.name)
        contender.run()
    for number in range(rounds):
        for contender in able if number % 2 == 0 else reversed(able):
            start = clock()
            images = contender.run()
            rates[contender.name].append(images / (clock() - start))
    return [Row(name, tuple(rates[name]), note) for name, _, note in contenders]


def for_seconds(
    step: Callable[[], int], seconds: float, clock: Callable[[], float] = time.perf_counter
) -> Callable[[], int]:
    """A round that repeats ``step``, which returns its images, for at least ``seconds``."""

    def run() -> int:
        end = clock() + seconds
        images = step()
        while clock() < end:
            images += step()
        return images

    return run


def table(rows: Sequence[Row], *, baseline: str, batch_size: int | None = None) -> str:
    """The rows as aligned text: median, spread, ratio to the row named ``baseline``, notes.

    Args:
      rows: what ``compete`` returned.
      baseline: the row whose ratio is 1.
      batch_size: adds a column of milliseconds a step.
    """
    base = next((row.median for row in rows if row.name == baseline), float("nan"))
    head = ["", "images/s", "min-max", *(["ms/step"] if batch_size else []), "ratio"]
    cells = [head]
    for row in rows:
        if not row.rates:
            cells.append([row.name, *["-"] * (len(head) - 1)])
            continue
        step = [f"{1000 * batch_size / row.median:,.1f}"] if batch_size else []
        spread = f"{min(row.rates):,.0f}-{max(row.rates):,.0f}"
        ratio = f"{row.median / base:,.2f}x" if base == base else "-"
        cells.append([row.name, f"{row.median:,.0f}", spread, *step, ratio])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    notes = ["", *(row.note for row in rows)]
    lines = []
    for line, note in zip(cells, notes, strict=True):
        aligned = [line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]
        lines.append("  ".join([*aligned, note]).rstrip())
    return "\n".join(lines)


def as_json(rows: Sequence[Row], *, baseline: str) -> list[dict[str, Any]]:
    """The rows as ``benchmark.json`` holds them; figures of rows that did not run are null."""
    base = next((row.median for row in rows if row.name == baseline and row.rates), None)
    return [
        {
            "name": row.name,
            "images_per_second": row.median if row.rates else None,
            "min": min(row.rates, default=None),
            "max": max(row.rates, default=None),
            "rounds": list(row.rates),
            "ratio": row.median / base if row.rates and base else None,
            "note": row.note,
        }
        for row in rows
    ]
