"""Faces of all sizes are found where they are, and none where there are none."""

import numpy as np
import pytest
from PIL import Image

from fer_pipeline.inference.faces import boxes, detector


def shared(one, other):
    one, other = (np.array([b[0], b[1], b[0] + b[2], b[1] + b[3]]) for b in (one, other))
    return boxes.overlaps(one, other[np.newaxis])[0][0]


@pytest.mark.parametrize(
    ("size", "places"),
    [
        ((640, 480), [(400, 250, 45)]),
        ((640, 480), [(30, 60, 100), (350, 100, 130)]),
        ((1600, 1200), [(100, 700, 50), (700, 20, 600)]),
    ],
)
def test_each_face_is_found_once(scene, detect, size, places):
    picture, truths = scene(size, places)
    before = picture.copy()
    found = detect(picture)
    np.testing.assert_array_equal(picture, before)
    assert len(found) == len(truths)
    for truth in truths:
        assert max(shared(truth, face.box) for face in found) > 0.6
    assert [face.score for face in found] == sorted((face.score for face in found), reverse=True)
    for face in found:
        # The eyes lie in the upper half of the box, the right one of the person on the left.
        left, top, width, height = face.box
        (right_x, right_y), (left_x, left_y) = face.points[:2]
        assert left < right_x < left_x < left + width
        assert top < min(right_y, left_y) < max(right_y, left_y) < top + height / 2


@pytest.mark.parametrize("degrees", [-40, 40])
def test_a_tilted_face_is_found(portrait, detect, face_box, degrees):
    centre = tuple(face_box[:2] + face_box[2:] / 2)
    [found] = detect(np.asarray(portrait.rotate(degrees, center=centre)))
    assert shared(found.box, face_box) > 0.5


def test_a_face_that_fills_the_picture_or_is_cut_off_is_found(portrait, detect):
    [whole] = detect(np.asarray(portrait.crop((150, 100, 375, 340))))
    assert shared(whole.box, (12, 26, 200, 200)) > 0.6
    # The left third of the face is missing.
    [cut] = detect(np.asarray(portrait.crop((230, 20, 500, 500))))
    assert shared(cut.box, (-68, 106, 200, 200)) > 0.4


def test_there_is_no_face_in_a_wall_or_in_a_pixel(portrait, detect):
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    body = np.asarray(portrait.crop((0, 380, 512, 600)))
    for picture in (noise, np.full((50, 900, 3), 200, np.uint8), noise[:1, :1], body):
        assert detect(picture) == []


def test_the_surest_needs_the_lowest_score(portrait):
    small = np.asarray(portrait.resize((256, 300), Image.Resampling.BILINEAR))
    [face] = detector.open_detector(lowest=0.5)(small)
    assert detector.open_detector(lowest=face.score + 0.01)(small) == []
