"""The progress bar, and lines now and then where there is no terminal."""

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


def test_off_a_terminal_a_line_comes_at_most_every_half_minute():
    stream, now = io.StringIO(), [50.0]
    progress = Progress("epoch 1/2", 24_000, done=4_000, stream=stream, clock=lambda: now[0])
    # The first steps are compiled, for half a minute or more, and say nothing about the speed.
    for seconds, done in ((40, 5_000), (60, 7_000), (61, 7_100), (89, 9_000), (92, 10_200)):
        now[0] = 50.0 + seconds
        progress.update(done)
    # The last image is told by the summary.
    now[0] = 500.0
    progress.update(24_000)
    progress.close("loss 1.0")
    assert stream.getvalue().splitlines() == [
        "epoch 1/2  7,000/24,000  100.00 images/s  02:50 left",
        "epoch 1/2  10,200/24,000  100.00 images/s  02:18 left",
        "epoch 1/2  loss 1.0",
    ]


def test_a_short_epoch_is_one_line_off_a_terminal():
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


@pytest.mark.parametrize(("columns", "shown"), [(80, "a" * 20), (30, "b" * 15), (20, "c" * 10)])
def test_the_longest_summary_that_a_terminal_has_room_for_is_shown(monkeypatch, columns, shown):
    monkeypatch.setenv("COLUMNS", str(columns))
    summaries = ("a" * 20, "b" * 15, "c" * 10)
    for stream, wanted in ((Terminal(), shown), (io.StringIO(), summaries[0])):
        Progress("epoch 1/2", 10, stream=stream).close(*summaries)
        assert stream.getvalue().rpartition("\r")[2] == f"epoch 1/2  {wanted}\n"
