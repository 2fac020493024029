"""Tables for the terminal."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from typing import TextIO

#: Rows of a class each that a table shows.
_MOST = 40


def columns(stream: TextIO) -> int | None:
    """Characters of a line of the terminal that a stream writes to; None if it is none."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def shortened(rows: Sequence[Sequence[str]], most: int = _MOST) -> list[Sequence[str]]:
    """The first rows of many, and one that says how many more there are."""
    if len(rows) <= most:
        return list(rows)
    return [*rows[:most], (f"... {len(rows) - most:,} more", *[""] * (len(rows[0]) - 1))]


def format_table(rows: Iterable[Sequence[str]], *, min_width: int = 0) -> str:
    """Aligns the cells of a table: the first column to the left, all others to the right.

    Args:
      rows: the cells of each row, the header's first; all rows have the same number.
      min_width: characters that a column has at least.
    """
    rows = list(rows)
    widths = [max(min_width, *map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )
