"""One line on the terminal that says how far, how fast and how much longer."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_WIDTH = 24


class Progress:
    """A progress bar with images/s and the time left; off a terminal, only its last line."""

    def __init__(
        self, title: str, total: int, *, done: int = 0, stream: TextIO | None = None
    ) -> None:
        """Starts the clock for ``total`` images, of which ``done`` were done before."""
        self._title = title
        self._total = total
        self._before = done
        self._stream = stream or sys.stdout
        self._start = time.perf_counter()
        self._shown = 0

    def update(self, done: int) -> None:
        """Redraws the bar for ``done`` images of the total."""
        if self._stream.isatty():
            seconds = time.perf_counter() - self._start
            self._draw(bar(self._title, done, self._total, seconds, before=self._before))

    def close(self, summary: str) -> None:
        """Replaces the bar by the title and ``summary``, and ends the line."""
        self._draw(f"{self._title}  {summary}")
        self._stream.write("\n")
        self._stream.flush()

    def _draw(self, text: str) -> None:
        # Spaces wipe what is left of a longer line before.
        start = "\r" if self._stream.isatty() else ""
        self._stream.write(start + text.ljust(self._shown if start else 0))
        self._stream.flush()
        self._shown = len(text)


def bar(title: str, done: int, total: int, seconds: float, *, before: int = 0) -> str:
    """The text of a bar, ``seconds`` after its start with ``before`` images done."""
    filled = _WIDTH * done // total
    rate = (done - before) / seconds if seconds else 0.0
    left = round((total - done) / rate) if rate else 0
    return (
        f"{title}  [{'#' * filled}{'.' * (_WIDTH - filled)}] {done}/{total}"
        f"  {rate:.0f} images/s  {left // 60}:{left % 60:02d} left"
    )
