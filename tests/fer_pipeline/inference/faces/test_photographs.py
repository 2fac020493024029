"""Which faces a picture file has, and its copy with boxes and labels."""

import sys
import types

import numpy as np
import pytest
from PIL import Image

from fer_pipeline import images
from fer_pipeline.errors import UserError
from fer_pipeline.inference.faces import crops, photographs
from fer_pipeline.inference.faces.detector import Face
from fer_pipeline.inference.results import Prediction, Unreadable
from fer_pipeline.inference.sources import Source


@pytest.fixture
def found(monkeypatch):
    """The boxes that a detector in the real one's place finds, and the pictures that it got."""
    boxes, asked = [], []

    def open_detector(*, smallest):
        def detect(picture):
            asked.append(picture)
            return [Face(box, 0.9, np.zeros((6, 2))) for box in boxes]

        return detect

    module = types.SimpleNamespace(open_detector=open_detector)
    monkeypatch.setitem(sys.modules, "fer_pipeline.inference.faces.detector", module)
    monkeypatch.setattr("fer_pipeline.inference.faces.detector", module)
    return boxes, asked


def save(path, width, height, orientation=1):
    """A picture of random colours that stands upright by its orientation."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.rot90(pixels) if orientation == 6 else pixels
    Image.fromarray(stored).save(path, exif=exif)
    return pixels


@pytest.mark.parametrize(
    ("faces", "size", "boxes", "whole", "asked"),
    [
        ("auto", (48, 48), [], True, False),
        ("auto", (64, 60), [(0, 0, 9, 9)], True, False),
        ("always", (48, 48), [(9, 9, 30, 30)], False, True),
        ("never", (300, 200), [(9, 9, 30, 30)], True, False),
        # The only face fills the picture; it does not; there are two.
        ("auto", (100, 100), [(5, 5, 90, 90)], True, True),
        ("always", (100, 100), [(5, 5, 90, 90)], False, True),
        ("auto", (300, 200), [(20, 30, 90, 90)], False, True),
        ("auto", (100, 100), [(5, 5, 90, 90), (1, 1, 20, 20)], False, True),
        ("auto", (100, 100), [], False, True),
    ],
)
def test_pictures_are_searched_or_taken_whole(tmp_path, found, faces, size, boxes, whole, asked):
    pixels = save(tmp_path / "a.png", *size)
    found[0][:] = boxes
    got = photographs.open_reader(faces)(Source(str(tmp_path / "a.png")))
    assert bool(found[1]) == asked
    if whole:
        [face] = got
        assert face.box is None
        np.testing.assert_array_equal(face.pixels, images.to_face(pixels))
    else:
        # From left to right.
        assert [face.box for face in got] == sorted(boxes)
        for face in got:
            np.testing.assert_array_equal(face.pixels, crops.cut(pixels, face.box))


def test_a_photograph_is_turned_upright_before_the_search(tmp_path, found):
    pixels = save(tmp_path / "a.png", 300, 200, orientation=6)
    photographs.open_reader("auto")(Source(str(tmp_path / "a.png")))
    np.testing.assert_array_equal(found[1][0], pixels)


def test_a_file_that_is_no_picture_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    with pytest.raises(UserError, match="not a readable image"):
        photographs.open_reader("auto")(Source(str(tmp_path / "a.jpg")))


def test_copies_have_names_of_their_own_and_never_replace_a_picture(tmp_path):
    sources = [tmp_path / "a" / "x.png", tmp_path / "b" / "x.png", tmp_path / "b" / "y.jpg"]
    for path in sources:
        path.parent.mkdir(exist_ok=True)
        save(path, 400, 300)
    row = np.eye(7)[3]
    answers = [Prediction.of(row, file=str(path), box=(50, 60, 100, 100)) for path in sources[:2]]
    parts = [[*answers, answers[1], Unreadable("z", "?")], [Prediction.of_nobody(str(sources[2]))]]
    out = tmp_path / "out"
    assert list(photographs.annotate_copies(parts, out)) == parts
    assert sorted(path.name for path in out.iterdir()) == ["x-2.png", "x.png", "y.jpg"]
    first, copy = (np.asarray(Image.open(path)) for path in (sources[0], out / "x.png"))
    assert (first[100:150, 60:140] == copy[100:150, 60:140]).all()
    assert (first[60, 50:150] != copy[60, 50:150]).any()
    for path in (tmp_path / "a", tmp_path / "b"):
        with pytest.raises(UserError, match="is the original; name another folder"):
            list(photographs.annotate_copies([[p for p in answers if str(path) in p.file]], path))
    np.testing.assert_array_equal(np.asarray(Image.open(sources[0])), first)


@pytest.mark.parametrize("name", ["x.png", "x.jpg"])
def test_a_copy_takes_the_place_of_a_copy_and_of_nothing_else(tmp_path, name):
    path, out = tmp_path / "a" / name, tmp_path / "out"
    for folder in (path.parent, out):
        folder.mkdir()
        save(folder / name, 400, 300)
    answer = Prediction.of(np.eye(7)[3], file=str(path), box=(50, 60, 100, 100))
    before = (out / name).read_bytes()
    with pytest.raises(UserError, match="is no copy of an earlier start and is kept"):
        list(photographs.annotate_copies([[answer]], out))
    assert (out / name).read_bytes() == before
    (out / name).unlink()
    for _ in range(2):
        list(photographs.annotate_copies([[answer]], out))
    assert (out / name).read_bytes() != before
    # What a camera sees has no file.
    photographs.check_replaceable("rtsp://camera/1", out / name)
