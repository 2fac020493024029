"""Cases measured side by side: alternating rounds, medians with their spread, one table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

#: How idle this process has to be before a turn, and how long that is waited for: seconds.
_WINDOW, _BUSY, _PATIENCE = 0.02, 0.004, 3.0

#: A row of a table: ``name``, ``note`` and figures, as ``benchmark.json`` holds them.
Row = dict[str, Any]


class Case(NamedTuple):
    """One way to do the work that is measured.

    Attributes:
      name: its row in the table.
      run: does one round, or one call, and returns how many images it took; None where it cannot
        run here.
      note: what the row should say beside the numbers, such as why it cannot run.
      facts: further figures of the row, and ``kind``: ``"ours"``, a ``"limit"`` that nobody
        passes, or, without it, a rival.
    """

    name: str
    run: Callable[[], int] | None
    note: str = ""
    facts: Mapping[str, Any] = MappingProxyType({})


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


def case_or_note(name: str, make: Callable[[], Callable[[], int]], **facts: Any) -> Case:
    """A case whose ``run`` is ``make()``, or the reason why something it needs is not there."""
    try:
        return Case(name, make(), facts=facts)
    except ImportError as error:
        return Case(name, None, f"not measured: {error}", facts)


def rates(
    cases: Sequence[Case],
    rounds: int,
    *,
    baseline: str,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Row]:
    """Images/s: runs every case once to warm up, then all of them by turns, ``rounds`` times.

    Returns:
      A row a case: median, smallest, largest and all images/s, and the ``ratio`` of its median to
      that of the case named ``baseline``; None where there is nothing to tell.
    """
    found: dict[str, list[float]] = {case.name: [] for case in cases}
    for case in _turns(cases, rounds):
        settle()
        start = clock()
        images = case.run()
        found[case.name].append(images / (clock() - start))
    timed = {name: of_rounds[1:] for name, of_rounds in found.items()}
    medians = {name: statistics.median(values) for name, values in timed.items() if values}
    rows = []
    for case in cases:
        of_rounds, median = timed[case.name], medians.get(case.name)
        rows.append(
            _row(
                case,
                images_per_second=median,
                min=min(of_rounds, default=None),
                max=max(of_rounds, default=None),
                rounds=of_rounds,
                ratio=median / medians[baseline] if median and baseline in medians else None,
            )
        )
    return rows


def latencies(
    cases: Sequence[Case],
    turns: int,
    calls: int,
    *,
    baseline: str,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Row]:
    """Milliseconds a call: ``turns`` of ``calls`` each, by turns, after one turn to warm up.

    Returns:
      A row a case with the 50th, 90th and 99th percentile, images/s of the median call, and its
      ``ratio`` of latency to the case named ``baseline``: smaller is faster.
    """
    found: dict[str, list[float]] = {case.name: [] for case in cases}
    images = dict.fromkeys(found, 0)
    for case in _turns(cases, turns):
        settle()
        for _ in range(calls):
            start = clock()
            images[case.name] = case.run()
            found[case.name].append(1e3 * (clock() - start))
    p50 = {name: float(np.median(ms[calls:])) for name, ms in found.items() if ms}
    rows = []
    for case in cases:
        ms, name = found[case.name][calls:], case.name
        rows.append(
            _row(
                case,
                p50_ms=p50.get(name),
                p90_ms=float(np.percentile(ms, 90)) if ms else None,
                p99_ms=float(np.percentile(ms, 99)) if ms else None,
                images_per_second=1e3 * images[name] / p50[name] if ms else None,
                ratio=p50[name] / p50[baseline] if ms and baseline in p50 else None,
            )
        )
    return rows


def settle() -> None:
    """Waits until no thread of this process works, or for three seconds.

    A pipeline that has just been measured goes on filling its buffers, at the next one's expense.
    """
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        before = time.process_time()
        time.sleep(_WINDOW)
        if time.process_time() - before < _BUSY:
            return


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


def _turns(cases: Sequence[Case], turns: int) -> list[Case]:
    """Once through the cases that can run, then ``turns`` times more.

    Alternating spreads whatever else the machine does over all of them, and every other turn goes
    backwards, so that a machine that slows down or speeds up favours none.
    """
    able = [case for case in cases if case.run]
    order = list(able)
    for number in range(turns):
        order += able if number % 2 == 0 else able[::-1]
    return order


def _row(case: Case, **figures: Any) -> Row:
    return {"name": case.name, "note": case.note, **case.facts, **figures}
