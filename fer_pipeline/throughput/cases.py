"""Cases measured side by side: alternating rounds, medians with their spread, one table."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

#: A row of a table: ``name``, ``note`` and figures, as ``benchmark.json`` holds them.
Row = dict[str, Any]


class Case(NamedTuple):
    """One way to do the work that is measured.

    Attributes:
      name: its row in the table.
      make: prepares it, and returns a function that does one round, or one call, and times it.
        Raises ImportError where it cannot run here.
      facts: further figures of the row, and ``kind``: ``"ours"``, a ``"limit"`` that nobody
        passes, or, without it, a rival.
      gpu: it computes on a GPU, so no other process may exist that does. All others see no GPU.
    """

    name: str
    make: Callable[[], Round]
    facts: Mapping[str, Any] = MappingProxyType({})
    gpu: bool = False


class CaseError(RuntimeError):
    """A case that broke off; what it says is why."""


class Timing(NamedTuple):
    """One round or call: how many images it took, and how long."""

    images: int
    seconds: float


#: Does one round or call.
Round = Callable[[], Timing]

#: Does so many rounds or calls.
Turn = Callable[[int], list[Timing]]

#: Prepares a case and warms it up, for as long as the block lasts. Where it cannot run here, that
#: or its first turn raises ImportError; where it breaks off, CaseError.
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


#: Of ``rates``.
RATE_COLUMNS = (
    Column("images/s", "images_per_second"),
    Column("min", "min"),
    Column("max", "max"),
    Column("ratio", "ratio", "{:,.2f}x"),
)

#: Of ``latencies``.
LATENCY_COLUMNS = (
    Column("p50 ms", "p50_ms", "{:,.2f}"),
    Column("p90 ms", "p90_ms", "{:,.2f}"),
    Column("p99 ms", "p99_ms", "{:,.2f}"),
    Column("images/s", "images_per_second"),
    Column("ratio", "ratio", "{:,.2f}x"),
)


def rates(
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
    timed, notes = _measure(cases, rounds, 1, opener, untimed=untimed, together=together)
    found = {
        name: [timing.images / timing.seconds for timing in timings]
        for name, timings in timed.items()
    }
    medians = {name: statistics.median(values) for name, values in found.items() if values}
    return [
        {
            "name": case.name,
            "note": notes.get(case.name, ""),
            **case.facts,
            "images_per_second": medians.get(case.name),
            "min": min(found[case.name], default=None),
            "max": max(found[case.name], default=None),
            "rounds": found[case.name],
            "ratio": _ratio(medians, case.name, baseline),
        }
        for case in cases
    ]


def latencies(
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
    timed, notes = _measure(cases, turns, calls, opener, untimed=calls, together=together)
    found = {name: [1e3 * timing.seconds for timing in timed[name]] for name in timed}
    medians = {name: statistics.median(values) for name, values in found.items() if values}
    rows = []
    for case in cases:
        ms, p50 = found[case.name], medians.get(case.name)
        rows.append(
            {
                "name": case.name,
                "note": notes.get(case.name, ""),
                **case.facts,
                "p50_ms": p50,
                "p90_ms": float(np.percentile(ms, 90)) if ms else None,
                "p99_ms": float(np.percentile(ms, 99)) if ms else None,
                "images_per_second": 1e3 * timed[case.name][0].images / p50 if ms else None,
                "ratio": _ratio(medians, case.name, baseline),
            }
        )
    return rows


def _measure(
    cases: Sequence[Case], turns: int, calls: int, opener: Opener, *, untimed: int, together: bool
) -> tuple[dict[str, list[Timing]], dict[str, str]]:
    """Timings by name, after some untimed calls, and why some cases have none.

    Alternating spreads whatever else the machine does over all of them, and every other turn goes
    backwards, so that a machine that slows down or speeds up favours none.
    """
    timed: dict[str, list[Timing]] = {case.name: [] for case in cases}
    notes = {}
    for group in _groups(cases, together=together):
        with contextlib.ExitStack() as stack:
            entered, opened = {}, {}
            for case in group:
                with _noted(case.name, notes):
                    entered[case.name] = stack.enter_context(opener(case))
            for name, turn in entered.items():
                # All are ready before the first is timed.
                with _noted(name, notes):
                    turn(untimed)
                    opened[name] = turn
            for number in range(turns):
                for name in list(opened)[:: 1 if number % 2 == 0 else -1]:
                    with _noted(name, notes):
                        timed[name] += opened[name](calls)
                    if name in notes:
                        del opened[name]
    return timed, notes


def _groups(cases: Sequence[Case], *, together: bool) -> list[list[Case]]:
    """Which cases are prepared at the same time: on a GPU one alone, its memory is not shared."""
    shared = [case for case in cases if together and not case.gpu]
    alone = [[case] for case in cases if case.gpu or not together]
    return [shared, *alone] if shared else alone


@contextlib.contextmanager
def _noted(name: str, notes: dict[str, str]) -> Iterator[None]:
    """Makes a note of what a case lacks, or why it broke off."""
    try:
        yield
    except (ImportError, CaseError) as error:
        notes[name] = f"not measured: {error}"


def _ratio(medians: Mapping[str, float], name: str, baseline: str) -> float | None:
    return medians[name] / medians[baseline] if {name, baseline} <= medians.keys() else None


@contextlib.contextmanager
def in_process(case: Case) -> Iterator[Turn]:
    """An ``Opener`` that runs the case here and now."""
    run = case.make()
    run()
    yield lambda calls: [run() for _ in range(calls)]


def text(table: Table) -> str:
    """A table as aligned text; what a row has no figure for is a dash."""
    cells = [["", *(column.heading for column in table.columns)]]
    for row in table.rows:
        figures = [
            "-" if row.get(key) is None else form.format(row[key]) for _, key, form in table.columns
        ]
        cells.append([row["name"], *figures])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    notes = ["", *(row["note"] for row in table.rows)]
    lines = []
    for line, note in zip(cells, notes, strict=True):
        aligned = [line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]
        lines.append("  ".join([*aligned, note]).rstrip())
    return "\n".join([table.title, *lines])
