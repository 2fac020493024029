"""HEIC images: read with the extra ``images``, and left out and counted without it."""

import io

import numpy as np
import pytest
from PIL import Image

from fer_pipeline import images, pictures
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.datasets import files, folders
from fer_pipeline.errors import UserError

ROWS, COLUMNS = np.mgrid[:96, :64]
COLOUR = np.stack([2 * ROWS, 3 * COLUMNS, 255 - ROWS], axis=-1).astype(np.uint8)

#: How a HEIC file of a telephone begins, and how AVIF files do.
BEGINNING = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
OTHER_BRAND = b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(100)
AVIF = (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif")


def heic(image, **options):
    """Without loss, so that its pixels are known."""
    plugin = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    plugin.from_pillow(image).save(file, quality=-1, chroma=444, matrix_coefficients=0, **options)
    return file.getvalue()


@pytest.fixture
def without_extra(monkeypatch):
    pictures._register_heif.cache_clear()
    monkeypatch.setattr(pictures, "reads_heif", lambda: False)
    yield
    pictures._register_heif.cache_clear()


def test_a_heic_image_becomes_the_face_that_its_pixels_become():
    encoded = heic(Image.fromarray(COLOUR))
    expected = images.to_face(COLOUR)
    np.testing.assert_array_equal(images.read_face(encoded), expected)
    decoded = images.decode_faces([encoded], ["face.heic"])
    np.testing.assert_array_equal(decoded.images[0], expected)
    assert decoded.converted == 1


def test_a_grey_heic_image_of_the_right_size_is_kept():
    grey = COLOUR[:48, :48, 0]
    decoded = images.decode_faces([heic(Image.fromarray(grey))], ["face.heic"])
    np.testing.assert_array_equal(decoded.images[0, ..., 0], grey)
    assert decoded.converted == 0


def test_its_orientation_is_applied_once():
    exif = Image.Exif()
    exif[274] = 6
    encoded = heic(Image.fromarray(COLOUR), exif=exif.tobytes())
    turned = np.rot90(COLOUR, -1)
    np.testing.assert_array_equal(images.read_colour(encoded), turned)


def test_a_damaged_one_is_named():
    broken = heic(Image.fromarray(COLOUR))[:300]
    with pytest.raises(UserError, match=r"x.heic: not a readable image \(truncated HEIF\?\)"):
        images.decode_faces([broken], ["x.heic"])
    skipped = images.decode_faces([broken], ["x.heic"], on_bad_image="skip")
    assert skipped.skipped == ("x.heic",)


def test_what_a_heic_file_is_its_bytes_say():
    for encoded in (BEGINNING, OTHER_BRAND):
        assert pictures.format_of(encoded[: pictures.MAGIC_BYTES]) == "HEIF"
    for encoded in AVIF:
        assert pictures.format_of(encoded) is None


def class_folders(root, name, content):
    for split in ("train", "test"):
        for label, cls in enumerate(CLASS_NAMES):
            folder = root / split / cls
            folder.mkdir(parents=True)
            Image.fromarray(np.full((48, 48), label, np.uint8)).save(folder / "1.png")
    (root / "train" / "sad" / name).write_bytes(content)
    return root


@pytest.mark.parametrize("name", ["face.HEIC", "face.heif", "face"])
def test_without_the_extra_they_are_left_out_and_counted(tmp_path, without_extra, name):
    listing = folders.list_folder(class_folders(tmp_path / "faces", name, BEGINNING))
    assert len(listing.labels) == 14
    assert listing.left_out == (str(tmp_path / "faces/train/sad" / name),)


def test_without_the_extra_one_under_another_name_is_a_bad_image(tmp_path, without_extra):
    root = class_folders(tmp_path / "faces", "face.jpg", BEGINNING)
    said = r"face.jpg: a HEIC image; pip install 'fer_pipeline\[images\]' to read it; remove it or"
    with pytest.raises(UserError, match=said):
        folders.decode(folders.list_folder(root))
    found = folders.decode(folders.list_folder(root), on_bad_image="skip")
    assert len(found.labels) == 14
    assert found.skipped == (str(root / "train/sad/face.jpg"),)


def test_with_the_extra_they_are_images(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "reads_heif", lambda: True)
    listing = folders.list_folder(class_folders(tmp_path / "faces", "face.HEIC", BEGINNING))
    assert len(listing.labels) == 15
    assert files.is_image("x.heif", None)
