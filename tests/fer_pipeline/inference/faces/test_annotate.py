"""Labels are inside the picture, on nobody's face, and legible in small pictures."""

import numpy as np
import pytest
from PIL import Image

from fer_pipeline.inference.faces import annotate
from fer_pipeline.inference.faces.annotate import Mark

GREY = np.full((480, 640, 3), 128, np.uint8)


def test_only_the_box_and_its_label_are_drawn():
    box = (200, 150, 120, 120)
    drawn = annotate.draw(GREY, [Mark(box, 3, "happy 93 %")])
    assert (GREY == 128).all()
    changed = (drawn != 128).any(axis=-1)
    rows, columns = changed.any(axis=1).nonzero()[0], changed.any(axis=0).nonzero()[0]
    assert 150 - 30 < rows[0] < 150
    assert rows[-1] <= 271
    assert (columns[0], columns[-1]) == (200, 320)
    # The face itself is left free.
    assert not changed[160:260, 210:310].any()
    colour = tuple(drawn[270, 260])
    assert "#{:02X}{:02X}{:02X}".format(*colour) == annotate.COLOURS[3]
    assert len(set(annotate.COLOURS)) == 7
    # The eighth class has the first colour again.
    again, first = (annotate.draw(GREY, [Mark(box, place, "x")]) for place in (7, 0))
    np.testing.assert_array_equal(again, first)


@pytest.mark.parametrize("box", [(0, 0, 100, 100), (600, 440, 80, 80), (-20, 400, 700, 100), None])
def test_a_label_stays_in_the_picture(box):
    label = (110, 20)
    left, top = annotate.place(box, label, (640, 480), [], [])
    assert 0 <= left <= 640 - 110
    assert 0 <= top <= 480 - 20


def test_labels_avoid_each_other_and_other_faces():
    faces = [(100, 100, 80, 80), (110, 185, 80, 80), (190, 100, 80, 80)]
    taken = []
    for i, face in enumerate(faces):
        others = faces[:i] + faces[i + 1 :]
        corner = annotate.place(face, (100, 18), (640, 480), taken, others)
        taken.append((*corner, 100, 18))
    covered = np.zeros((480, 640), int)
    for left, top, width, height in taken:
        covered[top : top + height, left : left + width] += 1
    assert covered.max() == 1
    for left, top, width, height in faces:
        assert covered[top : top + height, left : left + width].mean() < 0.2


@pytest.mark.parametrize("size", [(48, 48), (30, 90), (1200, 900)])
def test_small_pictures_are_enlarged_and_large_ones_get_large_letters(size):
    picture = np.full((size[1], size[0], 3), 200, np.uint8)
    drawn = annotate.draw(picture, [Mark(None, 6, "surprise 100 %")])
    scale = drawn.shape[0] // size[1]
    assert drawn.shape == (scale * size[1], scale * size[0], 3)
    assert max(drawn.shape) >= 320
    label = (drawn != 200).any(axis=-1)
    height, width = label.any(axis=1).sum(), label.any(axis=0).sum()
    assert height >= max(13, min(size) / 36)
    assert width <= drawn.shape[1]
    assert annotate.draw(picture, [], enlarge=False).shape == picture.shape
    assert Image.fromarray(drawn).getpixel((2, 2)) != (200, 200, 200)
