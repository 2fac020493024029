"""What goes to stdout and what to stderr, and when it stops."""

import os
import pty
import termios

import numpy as np
import pytest

from fer_pipeline.errors import UserError
from fer_pipeline.inference import results
from fer_pipeline.inference.faces import reporting
from fer_pipeline.inference.results import Prediction, Unreadable

GOOD = [Prediction.of(np.full(7, 1 / 7), file=name) for name in ("a.png", "b.png")]
BAD = Unreadable("no\n.png", "gone")
PARTS = [[GOOD[0], BAD], [GOOD[1]]]


def report(parts=PARTS, **options):
    return reporting.report(parts, results.writer("csv"), **options)


@pytest.mark.parametrize(
    ("policy", "line"),
    [("continue", "error: no\\n.png: gone\n"), ("skip", "no\\n.png: skipped, gone\n")],
)
def test_a_picture_that_cannot_be_read_costs_a_line(capsys, policy, line):
    assert report(on_bad_image=policy) == (2, 0, 0, 1, {})
    out, err = capsys.readouterr()
    assert [row.partition(",")[0] for row in out.splitlines()] == ["file", "a.png", "b.png"]
    assert err == line


def test_it_stops_there_if_asked_and_keeps_the_answers_before(capsys):
    with pytest.raises(UserError, match=r"no\\n\.png: gone"):
        report([[GOOD[0], BAD, GOOD[1]]], on_bad_image="fail")
    out, err = capsys.readouterr()
    assert [row.partition(",")[0] for row in out.splitlines()] == ["file", "a.png"]
    assert err == ""


def on_a_terminal(monkeypatch, **arguments):
    """What a terminal gets as stderr."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with open(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        report(**arguments)
        # A mark at the end: what a terminal gets arrives in pieces.
        print("\0", end="", file=terminal, flush=True)
        shown = b""
        while not shown.endswith(b"\0"):
            shown += os.read(ours, 2**16)
    os.close(ours)
    return shown.decode()


def test_a_terminal_shows_how_far_a_film_is(monkeypatch):
    film = [[Prediction.of(np.full(7, 1 / 7), file="a.mp4", frame=i)] for i in (0, 1800)]
    shown = on_a_terminal(monkeypatch, parts=film, on_bad_image="fail", total=lambda: 1)
    assert "frame 0 of a film" in shown
    assert "frame 1,800 of a film" in shown


def test_who_is_missing_in_pictures_and_in_films():
    names = ["wall.png", "a.MP4", "floor.png"]
    found = report([[Prediction.of_nobody(name)] for name in names], on_bad_image="fail")
    assert reporting.say_who_is_missing(found) == [
        "no face found in 2 (--faces=never takes a picture as one face)",
        "no face found in 1 film (looked for from 64 pixels of width)",
    ]
    assert reporting.say_who_is_missing(report(on_bad_image="skip")) == []


def test_a_terminal_shows_how_far_it_is(monkeypatch, capsys):
    shown = on_a_terminal(monkeypatch, on_bad_image="skip", total=lambda: 3)
    assert "/3" in shown
    assert "pictures" in shown
    # The bar has been cleared before the line, which stands alone.
    line = next(part for part in shown.split("\r") if "skipped" in part)
    assert line == r"no\n.png: skipped, gone"
    assert "pictures" not in capsys.readouterr().out


def test_films_are_summed_up_by_their_faces():
    def face(label, file="a\n.mp4", track=1):
        return Prediction(file, 0, (0, 0, 9, 9), track, label, {label: 1.0})

    one = [[face("sad")], [face("happy"), face("sad", track=2)], [face("happy")]]
    other = [[face("sad", "b.mp4", number) for number in range(1, 9)], [face("sad", "b.mp4", 8)]]
    found = report([*one, *other, [GOOD[0]]], on_bad_image="fail").followed
    assert reporting.sum_up(found) == [
        "a\\n.mp4, face 1: happy in 2 of 3 frames, sad in 1",
        "a\\n.mp4, face 2: sad in 1 of 1 frames",
        *(f"b.mp4, face {number}: sad in 1 of 1 frames" for number in range(1, 6)),
        "b.mp4, face 8: sad in 2 of 2 frames",
        "b.mp4: 2 more, none of them in more frames",
    ]
    assert reporting.sum_up({}) == []
