"""The progress bar, and silence where there is no terminal."""

import io
import re

import pytest

from fer_pipeline.terminal.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """The time that tqdm reads: ``clock[0]``, in seconds."""
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("before", "done", "total", "seconds", "shown"),
    [
        (0, 500, 2000, 10.0, r"500/2000 +50\.00 images/s +00:30 left"),
        # What an earlier process did does not count as speed.
        (40, 60, 100, 4.0, r"60/100 +5\.00 images/s +00:08 left"),
        # Less than one image a second.
        (0, 1, 3, 4.0, r"1/3 +0\.25 images/s +00:08 left"),
    ],
)
def test_rate_and_time_left(clock, before, done, total, seconds, shown):
    stream = Terminal()
    progress = Progress("epoch 1/15", total, done=before, stream=stream)
    clock[0] += seconds
    progress.update(done)
    assert re.search(shown, stream.getvalue())


def test_only_the_last_line_off_a_terminal():
    stream = io.StringIO()
    progress = Progress("epoch 1/2", 10, stream=stream)
    progress.update(5)
    progress.close("loss 1.0")
    assert stream.getvalue() == "epoch 1/2  loss 1.0\n"


def test_a_terminal_line_is_overwritten_whole():
    stream = Terminal()
    progress = Progress("epoch 1/2", 10, stream=stream)
    progress.update(5)
    progress.close("done")
    *bars, wiped, last = stream.getvalue().split("\r")
    assert bars[-1].startswith("epoch 1/2  [")
    assert wiped.isspace()
    assert len(wiped) >= len(bars[-1])
    assert last == "epoch 1/2  done\n"
