"""What a program asks about: paths, arrays and Pillow images, with the faces in them."""

import dataclasses
import importlib.util
import json

import numpy as np
import pytest
from PIL import Image

import fer_pipeline
from fer_pipeline import images, inference
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.errors import UserError
from fer_pipeline.inference.faces import boxes, crops, program

pytestmark = pytest.mark.usefixtures("opened")


def lit(seventh):
    image = np.zeros((48, 48), np.uint8)
    np.array_split(image, 7, axis=1)[seventh][:] = 255
    return image


@pytest.fixture
def pictures(tmp_path):
    paths = [tmp_path / f"{i:02}.png" for i in range(20)]
    for i, path in enumerate(paths):
        Image.fromarray(lit(i % 7)).save(path)
    return paths


def test_every_picture_has_its_answer_in_order(pictures, opened):
    found = inference.predict(pictures[0].parent, model="m")
    assert [one.file for one in found] == list(map(str, pictures))
    assert [one.label for one in found] == [CLASS_NAMES[i % 7] for i in range(20)]
    assert list(found[0].probabilities) == list(CLASS_NAMES)
    assert sum(found[0].probabilities.values()) == pytest.approx(1, abs=1e-6)
    assert {(one.frame, one.box) for one in found} == {(None, None)}
    assert opened == ["m"]
    assert program.predict([]) == []
    assert opened == ["m"]


def test_arrays_are_converted_as_files_are():
    tall = lit(2).repeat(2, axis=0)
    found = program.predict([lit(0), tall, np.stack([lit(5)] * 3, axis=-1)], faces="never")
    assert [one.label for one in found] == [CLASS_NAMES[i] for i in (0, 2, 5)]
    assert [(one.file, one.frame) for one in found] == [(None, 0), (None, 1), (None, 2)]
    faces = np.stack([lit(i) for i in range(7)])[..., np.newaxis]
    assert [one.label for one in program.predict(faces)] == list(CLASS_NAMES)
    [one] = program.predict(lit(4))
    assert (one.label, one.frame) == (CLASS_NAMES[4], None)
    with pytest.raises(TypeError, match="uint8"):
        program.predict(faces / 255)
    with pytest.raises(TypeError, match="paths and arrays"):
        program.predict([lit(0), "a.png"])
    with pytest.raises(ValueError, match=r"not \(9,\)"):
        program.predict(np.zeros(9, np.uint8))
    for wrong in ({"faces": "maybe"}, {"on_bad_image": "continue"}):
        with pytest.raises(UserError, match=rf"^{next(iter(wrong))}=.*must be one of"):
            program.predict(lit(0), **wrong)


def test_a_pillow_image_is_the_file_it_came_from(tmp_path, brightest_seventh):
    colours = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    sixteen = np.random.default_rng(1).integers(0, 2**16, (48, 48), np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(colours).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(colours).quantize(16).save(tmp_path / "palette.png")
    Image.fromarray(colours).convert("LA").save(tmp_path / "alpha.png")
    Image.fromarray(sixteen).save(tmp_path / "deep.png")
    paths = sorted(tmp_path.iterdir())
    found = program.predict(map(Image.open, paths))
    expected = brightest_seventh(np.stack([images.read_face(p.read_bytes()) for p in paths]))
    np.testing.assert_allclose([list(one.probabilities.values()) for one in found], expected)
    [one] = program.predict(Image.open(paths[0]))
    assert one.frame is None
    with pytest.raises(UserError, match="12 or 32 bits"):
        program.predict(Image.fromarray(np.zeros((48, 48), np.float32)))


def test_faces_are_found_as_the_command_finds_them(tmp_path, scene, brightest_seventh):
    """The same picture as a path, an array and a Pillow image, with a face and then with two."""
    one, _ = scene((300, 200), [(60, 20, 70)])
    two, places = scene((480, 200), [(240, 20, 64), (10, 20, 64)])
    path = tmp_path / "two.png"
    Image.fromarray(two).save(path)
    found = fer_pipeline.predict(path)
    assert [face.file for face in found] == [str(path)] * 2
    assert [face.box for face in found] == sorted(face.box for face in found)
    shares = [boxes.overlaps(corners(face.box), corners(*sorted(places)))[0] for face in found]
    assert min(np.diag(shares)) > 0.5
    crop = crops.cut(two, found[0].box)
    expected = brightest_seventh(crop[np.newaxis])[0]
    # Its box is rounded to whole pixels, and the crop was cut before that.
    assert np.abs(list(found[0].probabilities.values()) - expected).max() < 0.02
    assert json.loads(json.dumps(dataclasses.asdict(found[0])))["box"] == list(found[0].box)
    for pixels in (two, Image.fromarray(two)):
        same = fer_pipeline.predict(pixels)
        assert [dataclasses.replace(face, file=str(path)) for face in same] == found
    listed = fer_pipeline.predict([one, np.zeros_like(one), lit(3), two])
    assert [face.frame for face in listed] == [0, 1, 2, 3, 3]
    assert [face.label is None for face in listed] == [False, True, False, False, False]
    assert [face.box for face in listed][3:] == [face.box for face in found]
    assert listed[2].box is None
    [whole] = fer_pipeline.predict(two, faces="never")
    assert whole.box is None


def corners(*places):
    """Left, top, right, bottom of left, top, width, height."""
    sides = np.array(places, np.float32)
    sides[:, 2:] += sides[:, :2]
    return sides[0] if len(places) == 1 else sides


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch):
    photo = np.zeros((200, 300, 3), np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    how = r"to find faces: pip install 'fer_pipeline\[faces\]'"
    with pytest.raises(UserError, match=rf"photo\.png: {how}"):
        program.predict(tmp_path / "photo.png")
    # It is no fault of the picture.
    with pytest.raises(UserError, match=how):
        program.predict(tmp_path / "photo.png", on_bad_image="skip")
    with pytest.raises(UserError, match=how):
        program.predict(photo)
    assert program.predict([lit(0)])[0].label == "angry"
    assert len(program.predict(photo, faces="never")) == 1


def test_an_unreadable_picture_is_named_or_left_out(pictures):
    pictures[3].write_bytes(pictures[3].read_bytes()[:50])
    # A list that can be read once only.
    with pytest.raises(UserError, match=r"03\.png: not a readable image \(truncated PNG\?\)$"):
        program.predict(iter(pictures), model="m")
    found = program.predict(iter(pictures), model="m", on_bad_image="skip")
    assert [one.file for one in found] == [str(p) for p in pictures if p != pictures[3]]
