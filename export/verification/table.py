"""The table that an export ends with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fer_pipeline.terminal import tables

if TYPE_CHECKING:
    from export.verification.verify import ArtifactReport

_HEADER = (
    "artifact", "MB", "accuracy", "agreement", "ties", "max diff", "p50 ms", "p90 ms", "gates"
)  # fmt: skip

#: Columns that a narrow terminal has no room for, the first to go first; ``manifest.json`` and
#: ``report.html`` have them.
_SPARED = ("p90 ms", "ties")


def format_reports(
    reports: Sequence[ArtifactReport], *, golden: bool = False, columns: int | None = None
) -> str:
    """A line for each artifact: its size, figures, latency and whether it passed its gates.

    Latency is a call's: of one image, or of as many as stand behind the slash.

    Args:
      reports: a line each.
      golden: whether they are of the golden faces alone. The names of these are no accuracy of a
        network that was trained on others, so that column is left out.
      columns: of the terminal that the table goes to, or None.
    """
    rows = [[*_HEADER[:-1], "golden faces"] if golden else [*_HEADER], *map(_row, reports)]
    if golden:
        rows = _without("accuracy", rows)
    for name in _SPARED:
        table = tables.format_table(rows)
        if columns is None or table.index("\n") <= columns:
            return table
        rows = _without(name, rows)
    return tables.format_table(rows)


def _without(name: str, rows: list[list[str]]) -> list[list[str]]:
    place = rows[0].index(name)
    return [[*row[:place], *row[place + 1 :]] for row in rows]


def _row(report: ArtifactReport) -> list[str]:
    comparison, latency = report.comparison, report.latency
    compared, timed = ["-"] * 4, ["-"] * 2
    if comparison:
        compared = [
            f"{comparison.accuracy:.2%}",
            f"{comparison.agreement:.2%}",
            str(comparison.ties),
            f"{comparison.max_difference:.1e}",
        ]
    if latency:
        of = f" / {latency.images}" if latency.images > 1 else ""
        timed = [f"{ms:.2f}{of}" for ms in (latency.p50_ms, latency.p90_ms)]
    verdict = "FAILED" if report.failures else "reference" if report.reference else "passed"
    return [report.path, f"{report.size / 1e6:.2f}", *compared, *timed, verdict]
