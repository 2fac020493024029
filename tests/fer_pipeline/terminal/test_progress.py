"""The bar's arithmetic, and silence where there is no terminal."""

import io

from fer_pipeline.terminal.progress import Progress, bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_rate_and_time_left():
    text = bar("epoch 1/15", 500, 2000, 10.0)
    assert "500/2000" in text
    assert "50 images/s" in text
    assert "0:30 left" in text
    assert text.count("#") * 3 == text.count(".") == 18


def test_nothing_seen_yet_is_no_division_by_zero():
    assert "0/10" in bar("epoch", 0, 10, 0.0)


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
    first, last = stream.getvalue().split("\r")[1:]
    assert first.startswith("epoch 1/2  [")
    assert last.rstrip() == "epoch 1/2  done"
    assert len(last) >= len(first)


def test_what_an_earlier_process_did_does_not_count_as_speed():
    text = bar("epoch 2/3", 60, 100, 4.0, before=40)
    assert "60/100  5 images/s  0:08 left" in text
