"""The table that an export ends with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from export.verification.verify import ArtifactReport

_HEADER = (
    "artifact",
    "size",
    "accuracy",
    "agreement",
    "ties",
    "max diff",
    "p50",
    "p90",
    "gates",
)


def format_table(reports: Sequence[ArtifactReport], *, golden: bool = False) -> str:
    """One line an artifact: size, accuracy, agreement with the twin, ties, latency, gates.

    Latency is a call's: of one image, or of as many as stand behind the slash.

    Args:
      reports: a line each.
      golden: whether they are of the golden faces alone. The names of these are no accuracy of a
        network that was trained on others, so that column is left out.
    """
    header = [*_HEADER[:-1], "golden faces"] if golden else list(_HEADER)
    rows = [header, *(list(_row(report)) for report in reports)]
    if golden:
        for row in rows:
            del row[_HEADER.index("accuracy")]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: Sequence[str], widths: list[int]) -> str:
    numbers = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
    return "  ".join((row[0].ljust(widths[0]), *numbers))


def _row(report: ArtifactReport) -> tuple[str, ...]:
    comparison, latency = report.comparison, report.latency
    compared = ("-",) * 4
    if comparison:
        compared = (
            f"{comparison.accuracy:.2%}",
            f"{comparison.agreement:.2%}",
            str(comparison.ties),
            f"{comparison.max_difference:.1e}",
        )
    verdict = "reference" if report.reference else "passed"
    timed = ("-", "-")
    if latency:
        of = f" / {latency.images}" if latency.images > 1 else ""
        timed = tuple(f"{ms:.2f} ms{of}" for ms in (latency.p50_ms, latency.p90_ms))
    return (
        report.path,
        f"{report.size / 1e6:.2f} MB",
        *compared,
        *timed,
        "FAILED" if report.failures else verdict,
    )
