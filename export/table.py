"""The table that an export ends with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from export.verify import ArtifactReport

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


def format_table(reports: Sequence[ArtifactReport]) -> str:
    """One line an artifact: size, accuracy, agreement with the twin, ties, latency, gates.

    Latency is a call's: of one image, or of as many as stand behind the slash.
    """
    rows = [_HEADER, *(_row(report) for report in reports)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADER))]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: tuple[str, ...], widths: list[int]) -> str:
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
