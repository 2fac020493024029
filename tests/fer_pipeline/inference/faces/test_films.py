"""A film's answers: which frames, which faces, smoothed, drawn and shown."""

import numpy as np
import pytest

from fer_pipeline.inference.faces import annotate, films, video
from fer_pipeline.inference.faces.detector import Face
from fer_pipeline.inference.results import Prediction

PICTURE = np.full((120, 160, 3), 90, np.uint8)


def detect(picture):
    """The faces that a frame names in its first pixel."""
    boxes = [(100, 10, 40, 40), (10, 20, 50, 50)][: picture[0, 0, 0]]
    return [Face(box, 0.9, np.zeros((6, 2))) for box in boxes]


def classify(faces):
    """The class that the frame names, of seven, by the level of the face."""
    return np.eye(7)[faces[:, 24, 24, 0].astype(int) // 10]


def film(counts, levels):
    for number, (count, level) in enumerate(zip(counts, levels, strict=True)):
        picture = np.full_like(PICTURE, level)
        picture[0, 0] = count
        yield video.Frame(number, number / 10, lambda picture=picture: picture)


def ask(counts, levels, **options):
    frames = film(counts, levels)
    parts = films.predictions(frames, "f.mp4", detect=detect, classify=classify, **options)
    return [one for part in parts for one in part]


def test_a_row_a_face_and_frame_with_smoothed_values():
    rows = ask([2, 2, 0, 1], [30, 30, 30, 60], smooth=0.5)
    assert [(one.frame, one.track, one.box[0]) for one in rows] == [
        (0, 1, 10),
        (0, 2, 100),
        (1, 1, 10),
        (1, 2, 100),
        (3, 2, 100),
    ]
    assert rows[3].probabilities["happy"] == 1
    assert rows[4].probabilities["happy"] == rows[4].probabilities["surprise"] == 0.5
    assert {one.file for one in rows} == {"f.mp4"}


def test_every_third_frame_is_looked_at_and_all_are_shown(tmp_path, monkeypatch):
    marks = []
    monkeypatch.setattr(annotate, "draw", lambda p, m, enlarge: marks.append(list(m)) or p)
    shown = []
    copy = tmp_path / "copy.mp4"
    rows = ask(
        [1] * 7, [0] * 7, every=3, copy=copy, show=lambda picture: shown.append(1) or len(shown) < 5
    )
    assert [one.frame for one in rows] == [0, 3]
    # The window was closed at the fifth.
    assert len(shown) == len(marks) == 5
    assert [mark.text for mark in marks[2]] == ["1 angry 100 %"]
    assert len(list(video.read(str(copy)))) == 5


@pytest.mark.parametrize("count", [0, 3])
def test_a_film_without_a_face_says_so_once(count):
    assert ask([0] * count, [0] * count) == [Prediction.of_nobody("f.mp4")]
