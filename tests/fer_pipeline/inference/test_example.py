"""The picture to try the software with."""

import pytest
from PIL import Image

from fer_pipeline.errors import UserError
from fer_pipeline.inference import example


def test_the_example_takes_no_other_files_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert example.write_example() == "face.jpg"
    path = tmp_path / "face.jpg"
    with Image.open(path) as image:
        assert (image.size, image.mode, image.format) == ((48, 48), "L", "JPEG")
    before = path.read_bytes()
    assert example.write_example([str(path)]) == str(path)
    assert path.read_bytes() == before
    path.write_text("mine")
    with pytest.raises(UserError, match=r"face\.jpg: is there already"):
        example.write_example()
    assert path.read_text() == "mine"


@pytest.mark.parametrize("names", [["a.png", "b.png"], ["-"]])
def test_the_example_is_one_picture(names):
    with pytest.raises(UserError, match="--example"):
        example.write_example(names)
