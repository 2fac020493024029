"""A photograph in the public domain that Matplotlib comes with, and scenes made of it."""

import numpy as np
import pytest
from matplotlib import cbook
from PIL import Image


@pytest.fixture(scope="session")
def portrait():
    """Grace Hopper, by the US Navy: an RGB image of 512x600 pixels."""
    path = cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    return Image.open(path).convert("RGB")


@pytest.fixture(scope="session")
def face_box():
    """Her face, drawn by hand from ear to ear and from the brows to the chin."""
    return np.array([162, 126, 200, 200])


@pytest.fixture(scope="session")
def scene(portrait):
    """Makes a picture with heads in it: RGB, and their faces' boxes."""
    head = portrait.crop((82, 20, 442, 380))

    def make(size, places):
        picture = Image.new("RGB", size, (96, 120, 144))
        boxes = []
        for left, top, width in places:
            scale = width / 200
            side = round(360 * scale)
            picture.paste(head.resize((side, side), Image.Resampling.BICUBIC), (left, top))
            boxes.append((left + 80 * scale, top + 106 * scale, width, width))
        return np.asarray(picture), boxes

    return make
