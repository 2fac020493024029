"""Views cover a picture, and are cut out of the right place."""

import itertools

import numpy as np
import pytest
from PIL import Image

from fer_pipeline.inference.faces import views


@pytest.mark.parametrize(("width", "height"), [(640, 480), (100, 700), (50, 50), (4000, 3000)])
def test_views_cover_the_picture_and_share_a_quarter(width, height):
    sides = views.sides(height, width, 400)
    assert sides[0] == max(width, height)
    assert sides[-1] <= max(401, width / 8) or len(sides) == 1
    assert all(larger <= 2.001 * smaller for larger, smaller in itertools.pairwise(sides))
    for side in sides:
        tiles = views.tiles(height, width, side)
        for axis, length in ((0, width), (1, height)):
            starts = sorted({tile[axis] for tile in tiles})
            assert starts[0] <= 0
            assert starts[-1] + side >= length - 1e-6
            assert all(b - a <= 0.75 * side + 1e-6 for a, b in itertools.pairwise(starts))
        assert len(tiles) <= 120
    # What fits is seen once.
    assert len(views.tiles(height, width, sides[0])) == 1


def test_the_pixels_are_those_of_the_view():
    # Red grows to the right, green downwards.
    y, x = np.mgrid[:240, :320]
    picture = Image.fromarray(np.stack([x // 2, y // 2, 0 * x], axis=-1).astype(np.uint8))
    for view, pixels in views.pyramid(picture, [320, 160], 32):
        assert pixels.shape == (32, 32, 3)
        for row, column in ((4, 4), (16, 16), (27, 27)):
            at = np.array([view.left, view.top]) + view.side / 32 * (np.array([column, row]) + 0.5)
            # The whole picture has black above and below.
            wanted = at / 2 if 0 < at[1] < 240 else [0, 0]
            assert np.abs(pixels[row, column, :2] - wanted).max() < 4
    corner = views.look(picture, views.View(-40, -40, 80), 16)
    assert not corner[:8].any()
    assert not corner[:, :8].any()
    assert np.abs(corner[12, 12, :2] - [11, 11]).max() < 3
