"""A progress bar for an epoch."""

from __future__ import annotations

import sys
import threading
from typing import TextIO

from tqdm import tqdm

# One bar in one thread needs neither tqdm's monitor thread nor its lock between processes.
tqdm.monitor_interval = 0
tqdm.set_lock(threading.RLock())


class Progress:
    """A progress bar with images/s and the time left; off a terminal, only its last line."""

    def __init__(
        self, title: str, total: int, *, done: int = 0, stream: TextIO | None = None
    ) -> None:
        """Starts the clock for ``total`` images, of which ``done`` were done before."""
        self._title = title
        self._stream = stream or sys.stdout
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=title,
            file=self._stream,
            unit=" images",
            disable=None,  # Off a terminal.
            leave=False,
            dynamic_ncols=True,
            mininterval=0,
            miniters=1,
            bar_format="{desc}  [{bar}] {n_fmt}/{total_fmt}  {rate_noinv_fmt}  {remaining} left",
        )

    def update(self, done: int) -> None:
        """Redraws the bar for ``done`` images of the total."""
        self._bar.update(done - self._bar.n)

    def close(self, summary: str) -> None:
        """Replaces the bar by the title and ``summary``, and ends the line."""
        self._bar.close()
        print(f"{self._title}  {summary}", file=self._stream, flush=True)
