"""The progress of an epoch: a bar on a terminal, a line now and then anywhere else."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

from tqdm import tqdm

from fer_pipeline.terminal import tables

# One bar in one thread needs neither tqdm's monitor thread nor its lock between processes.
tqdm.monitor_interval = 0
tqdm.set_lock(threading.RLock())

#: Seconds from one line to the next where there is no terminal.
LINE_SECONDS = 30.0


class Progress:
    """Shows images done, images/s and the time left, and at the end a summary.

    A terminal has a bar that is redrawn. A file or a pipe gets a line at most every
    ``LINE_SECONDS``, without control characters.
    """

    def __init__(
        self,
        title: str,
        total: int,
        *,
        done: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts the clock for ``total`` images, of which ``done`` were done before.

        Args:
          title: what is under way.
          total: images of the whole.
          done: images that an earlier process did; they do not count as speed.
          stream: where to write; None is standard output.
          clock: seconds since some moment, for the lines.
        """
        self._title = title
        self._total = total
        self._stream = stream or sys.stdout
        self._clock = clock
        self._last_line = clock()
        #: Time and images of the first update: until then the steps are compiled.
        self._start: tuple[float, int] | None = None
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
        """Shows that ``done`` images of the total are done."""
        if not self._bar.disable:
            self._bar.update(done - self._bar.n)
            return
        now = self._clock()
        if self._start is None:
            self._start = (now, done)
        started, before = self._start
        if now - self._last_line < LINE_SECONDS or not before < done < self._total:
            return
        self._last_line = now
        rate = (done - before) / (now - started)
        left = tqdm.format_interval((self._total - done) / rate)
        self._write(f"{done:,}/{self._total:,}  {rate:.2f} images/s  {left} left")

    def close(self, *summaries: str) -> None:
        """Replaces the bar by the title and a summary, and ends the line.

        Of several, the longest first, it is the first that a line of the terminal has room for.
        """
        self._bar.close()
        columns = tables.columns(self._stream)
        room = None if columns is None else columns - len(f"{self._title}  ")
        fitting = (one for one in summaries if room is None or len(one) <= room)
        self._write(next(fitting, summaries[-1]))

    def _write(self, text: str) -> None:
        print(f"{self._title}  {text}", file=self._stream, flush=True)
