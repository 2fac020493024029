"""Cases measured side by side: alternating rounds, medians with their spread, one table."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fer_pipeline.child_processes import ChildError
from fer_pipeline.terminal import tables

#: A row of a table: ``name``, ``note`` and figures, as ``benchmark.json`` holds them.
Row = dict[str, Any]


class Case(NamedTuple):
    """One way to do the work that is measured.

    Attributes:
      name: its row in the table.
      make: prepares it, and returns a function that does one round, or one call, and times it.
        Raises ImportError where it cannot run here.
      facts: further figures of the row, and ``kind``: ``"ours"``, a ``"limit"`` that none
        can pass, or, without it, a rival.
      gpu: it computes on a GPU, so no other process may exist that does. All others see no GPU.
    """

    name: str
    make: Callable[[], Round]
    facts: Mapping[str, Any] = MappingProxyType({})
    gpu: bool = False


class Timing(NamedTuple):
    """One round or call: how many images it took, and how long."""

    images: int
    seconds: float


#: Does one round or call.
Round = Callable[[], Timing]

#: Does so many rounds or calls.
Turn = Callable[[int], list[Timing]]

#: Prepares a case and warms it up, for as long as the block lasts. Where it cannot run here, that
#: or its first turn raises ImportError; where it breaks off, ChildError.
Opener = Callable[[Case], contextlib.AbstractContextManager[Turn]]


class Column(NamedTuple):
    """A column of a table: the figure ``key`` of every row, as ``form`` formats it."""

    heading: str
    key: str
    form: str = "{:,.0f}"


class Table(NamedTuple):
    """Rows under a title."""

    title: str
    columns: tuple[Column, ...]
    rows: list[Row]

    def as_json(self) -> dict[str, Any]:
        """The table as ``benchmark.json`` holds it."""
        return {"title": self.title, "rows": self.rows}


#: Of ``measure_rates``.
RATE_COLUMNS = (
    Column("images/s", "images_per_second"),
    Column("min", "min"),
    Column("max", "max"),
    Column("ratio", "ratio", "{:,.2f}x"),
)

#: Of ``measure_latencies``.
LATENCY_COLUMNS = (
    Column("p50 ms", "p50_ms", "{:,.2f}"),
    Column("p90 ms", "p90_ms", "{:,.2f}"),
    Column("p99 ms", "p99_ms", "{:,.2f}"),
    Column("images/s", "images_per_second"),
    Column("ratio", "ratio", "{:,.2f}x"),
)


def measure_rates(
    cases: Sequence[Case],
    rounds: int,
    *,
    baseline: str,
    opener: Opener,
    untimed: int = 0,
    together: bool = True,
) -> list[Row]:
    """Images/s: runs all cases by turns, ``rounds`` times.

    Args:
      cases: what to measure.
      rounds: timed rounds of each.
      baseline: the name of the case whose ratio is 1.
      opener: prepares a case.
      untimed: rounds of each before them, for what tunes itself while it runs.
      together: False prepares one after the other, each for all its rounds, where there is no room
        for all. Cases on a GPU always are.

    Returns:
      A row a case: median, smallest, largest and all images/s, and the ``ratio`` of its median to
      that of the case named ``baseline``; None where there is nothing to tell.
    """

    def figures(timings: list[Timing]) -> dict[str, Any]:
        found = [timing.images / timing.seconds for timing in timings]
        return {
            "images_per_second": statistics.median(found) if found else None,
            "min": min(found, default=None),
            "max": max(found, default=None),
            "rounds": found,
        }

    timed = _measure(cases, rounds, 1, opener, untimed=untimed, together=together)
    return _rows(cases, timed, figures, "images_per_second", baseline)


def measure_latencies(
    cases: Sequence[Case],
    turns: int,
    calls: int,
    *,
    baseline: str,
    opener: Opener,
    together: bool = True,
) -> list[Row]:
    """Milliseconds a call: ``turns`` of ``calls`` each, by turns, after one that is not timed.

    Returns:
      A row a case with the 50th, 90th and 99th percentile, images/s of the median call, and its
      ``ratio`` of latency to the case named ``baseline``: smaller is faster.
    """

    def figures(timings: list[Timing]) -> dict[str, Any]:
        ms = [1e3 * timing.seconds for timing in timings]
        p50, p90, p99 = np.percentile(ms, (50, 90, 99)).tolist() if ms else (None,) * 3
        rate = 1e3 * timings[0].images / p50 if ms else None
        return {"p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "images_per_second": rate}

    timed = _measure(cases, turns, calls, opener, untimed=calls, together=together)
    return _rows(cases, timed, figures, "p50_ms", baseline)


def _rows(
    cases: Sequence[Case],
    timed: tuple[dict[str, list[Timing]], dict[str, str]],
    figures: Callable[[list[Timing]], dict[str, Any]],
    compared: str,
    baseline: str,
) -> list[Row]:
    """A row a case; ``ratio`` is that of its figure ``compared`` to the baseline's."""
    timings, notes = timed
    found = {case.name: figures(timings[case.name]) for case in cases}
    one = found.get(baseline, {}).get(compared)
    rows = []
    for case in cases:
        figure = found[case.name][compared]
        ratio = {"ratio": figure / one if figure and one else None}
        note = {"name": case.name, "note": notes.get(case.name, "")}
        rows.append({**note, **case.facts, **found[case.name], **ratio})
    return rows


def _measure(
    cases: Sequence[Case], turns: int, calls: int, opener: Opener, *, untimed: int, together: bool
) -> tuple[dict[str, list[Timing]], dict[str, str]]:
    """Timings by name, after some untimed calls, and why some cases have none.

    Alternating spreads whatever else the machine does over all of them, and every other turn goes
    backwards, so that a machine that slows down or speeds up favours none.
    """
    timed: dict[str, list[Timing]] = {case.name: [] for case in cases}
    notes: dict[str, str] = {}
    # On a GPU one alone: its memory is not shared.
    shared = [case for case in cases if together and not case.gpu]
    groups = [shared, *([case] for case in cases if case not in shared)]
    for group in groups:
        with contextlib.ExitStack() as stack:
            opened = {}
            for case in group:
                with _noted(case.name, notes):
                    opened[case.name] = stack.enter_context(opener(case))
            # All are ready before the first is timed.
            for name, turn in opened.items():
                with _noted(name, notes):
                    turn(untimed)
            for number in range(turns):
                for name in list(opened)[:: 1 if number % 2 == 0 else -1]:
                    if name not in notes:
                        with _noted(name, notes):
                            timed[name] += opened[name](calls)
    return timed, notes


@contextlib.contextmanager
def _noted(name: str, notes: dict[str, str]) -> Iterator[None]:
    """Makes a note of what a case lacks, or why it broke off."""
    try:
        yield
    except (ImportError, ChildError) as error:
        notes[name] = f"not measured: {error}"


@contextlib.contextmanager
def in_process(case: Case) -> Iterator[Turn]:
    """An ``Opener`` that runs the case here and now."""
    run = case.make()
    run()
    yield lambda calls: [run() for _ in range(calls)]


def format_table(table: Table) -> str:
    """A table as aligned text; what a row has no figure for is a dash."""
    cells = [["", *(column.heading for column in table.columns)]]
    for row in table.rows:
        figures = [
            "-" if row.get(key) is None else form.format(row[key]) for _, key, form in table.columns
        ]
        cells.append([row["name"], *figures])
    notes = ["", *(row["note"] for row in table.rows)]
    lines = zip(tables.format_table(cells).split("\n"), notes, strict=True)
    return "\n".join([table.title, *(f"{line}  {note}".rstrip() for line, note in lines)])
