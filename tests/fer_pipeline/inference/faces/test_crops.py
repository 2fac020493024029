"""Faces are cut out as measured, and scaled as picture files are."""

import numpy as np
import pytest
from PIL import Image

from fer_pipeline import images
from fer_pipeline.inference.faces import crops


@pytest.mark.parametrize("box", [(60, 40, 100, 100), (-30, 20, 100, 90), (150, 130, 120, 120)])
def test_a_crop_is_the_square_with_its_border_repeated(portrait, box):
    picture = np.asarray(portrait.crop((120, 80, 360, 300)))
    left, top, side = crops.square(box)
    assert side == round(crops.SIDE * max(box[2:]))
    assert abs(left + side / 2 - (box[0] + box[2] / 2)) <= 0.5
    assert abs(top + side / 2 - (box[1] + box[3] / 2 - crops.UP * max(box[2:]))) <= 1
    wide = np.pad(picture, ((300, 300), (300, 300), (0, 0)), mode="edge")
    wanted = wide[top + 300 : top + 300 + side, left + 300 : left + 300 + side]
    face = crops.cut(picture, box)
    assert face.shape == (48, 48, 1)
    np.testing.assert_array_equal(face, images.to_face(wanted))
    # Pillow scales with the same kernel, in whole numbers.
    grey = Image.fromarray(wanted).convert("L").resize((48, 48), Image.Resampling.BILINEAR)
    assert np.abs(face[..., 0].astype(int) - np.asarray(grey)).max() <= 2


def test_a_face_of_a_pixel_can_be_cut(portrait):
    assert crops.cut(np.asarray(portrait), (10, 10, 0.2, 0.2)).shape == (48, 48, 1)


def test_a_picture_is_filled_by_a_large_face_alone():
    assert crops.fills(100, 100, (5, 5, 90, 90))
    assert not crops.fills(100, 160, (5, 5, 90, 90))
    assert not crops.fills(300, 300, (50, 50, 150, 150))
