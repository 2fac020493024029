"""Decoding the images of class folders, all at once or when they are asked for."""

import io
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from fer_pipeline.datasets import files, folders, splitting
from fer_pipeline.errors import UserError


def list_zip(path):
    return folders.list_zip(path, files.open_zip(path))


def levels(faces) -> list[int]:
    """The grey level of each flat image."""
    images = faces.images[:]
    assert images.shape[1:] == (48, 48, 1)
    assert (images == images[:, :1, :1]).all()
    return images[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("stream", [False, True])
def test_a_source_without_a_readable_image_is_named(make_source, make_files, stream):
    contents = dict.fromkeys(make_files("train", "a.png") | make_files("test", "a.png"), b"bad")
    listing = list_zip(make_source.zip(contents))
    with pytest.raises(UserError, match=r"train/angry/a\.png: no readable image, nor is any other"):
        folders.decode(listing, on_bad_image="skip", stream=stream)


def test_other_images_are_converted_and_counted(make_source, train_files, test_files):
    file = io.BytesIO()
    Image.fromarray(np.full((100, 100, 3), 77, np.uint8)).save(file, "PNG")
    train_files["train/fear/Training_1.png"] = file.getvalue()
    faces = folders.decode(folders.list_folder(make_source.folder(train_files | test_files)))
    assert faces.converted == 1
    assert levels(faces)[4] == 77


def test_more_images_than_are_read_at_a_time_keep_their_order(
    make_source, make_png, train_files, test_files
):
    many = {f"train/angry/{i:04}.png": make_png(i % 256) for i in range(1100)}
    faces = folders.decode(list_zip(make_source.zip(many | train_files | test_files)))
    assert levels(faces)[:1100] == [i % 256 for i in range(1100)]
    assert faces.labels.tolist()[1100:1106] == [0, 0, 1, 1, 2, 2]
    many["train/angry/0700.png"] = many["train/angry/0710.png"][:-30]
    path = make_source.zip(many | train_files | test_files)
    with pytest.raises(UserError, match=r"train/angry/0700\.png: not a readable image"):
        folders.decode(list_zip(path))
    skipped = folders.decode(list_zip(path), on_bad_image="skip")
    np.testing.assert_array_equal(skipped.images, np.delete(faces.images, 700, axis=0))
    np.testing.assert_array_equal(skipped.labels, np.delete(faces.labels, 700))


def test_lazy_images_are_indexed_like_an_array(make_source, train_files, test_files):
    listing = list_zip(make_source.zip(train_files | test_files))
    array = folders.decode(listing).images
    lazy = folders.decode(listing, stream=True).images
    assert (len(lazy), lazy.shape, lazy.dtype) == (21, (21, 48, 48, 1), np.uint8)
    odd = np.arange(21) % 2 == 1
    for key in (0, -1, slice(3, 7), slice(None, None, 5), np.array([20, 3, 3]), odd, slice(9, 9)):
        np.testing.assert_array_equal(lazy[key], array[key])
    np.testing.assert_array_equal(lazy.subset(np.array([5, 8, 13]))[1:], array[[8, 13]])
    with pytest.raises(IndexError):
        lazy[21]
    with pytest.raises(TypeError, match="streamed"):
        np.asarray(lazy)


def test_streaming_names_a_bad_image_at_the_start(make_source, train_files, test_files):
    train_files["train/disgust/Training_1.png"] = b""
    listing = list_zip(make_source.zip(train_files | test_files))
    with pytest.raises(UserError, match=r"faces\.zip/train/disgust/Training_1\.png: empty file"):
        folders.decode(listing, stream=True)


def test_an_image_that_goes_bad_later_is_named_when_it_is_met(make_source, train_files, test_files):
    root = make_source.folder(train_files | test_files)
    lazy = folders.decode(folders.list_folder(root), stream=True).images
    (root / "train/disgust/Training_1.png").write_bytes(b"")
    assert lazy[0:2].shape[0] == 2
    with pytest.raises(UserError, match=r"train/disgust/Training_1\.png: empty file"):
        lazy[np.array([0, 2])]


def test_streaming_can_skip_bad_images(make_source, train_files, test_files):
    train_files["train/disgust/Training_1.png"] = b"no image"
    listing = list_zip(make_source.zip(train_files | test_files))
    faces = folders.decode(listing, on_bad_image="skip", stream=True)
    decoded = folders.decode(listing, on_bad_image="skip")
    assert levels(faces) == levels(decoded) == [0, 1, *range(3, 14), *range(100, 107)]
    np.testing.assert_array_equal(faces.labels, decoded.labels)
    np.testing.assert_array_equal(faces.hashes, splitting.pixel_hashes(decoded.images))
    assert faces.skipped == decoded.skipped
    assert [name.rpartition("/")[2] for name in faces.skipped] == ["Training_1.png"]


def test_a_truncated_jpeg_on_disk_is_named(make_source, train_files, test_files):
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)
    Image.fromarray(noise).save(file, "JPEG")
    train_files["train/happy/Training_3.jpg"] = file.getvalue()[:900]
    root = make_source.folder(train_files | test_files)
    name = f"{root}/train/happy/Training_3.jpg: not a readable image (truncated JPEG?); "
    with pytest.raises(UserError) as raised:
        folders.decode(folders.list_folder(root))
    assert str(raised.value) == name + "remove it or pass --on_bad_image=skip"


def test_a_member_that_was_damaged_in_its_archive_is_named(make_source, train_files, test_files):
    path = make_source.zip(train_files | test_files, compression=zipfile.ZIP_STORED)
    listing = list_zip(path)
    data = bytearray(path.read_bytes())
    damaged = train_files["train/angry/Training_2.png"]
    data[data.index(damaged) + 60] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"train/angry/Training_2\.png: damaged in the archive"):
        folders.decode(listing)
    faces = folders.decode(list_zip(path), on_bad_image="skip")
    assert faces.skipped == (f"{path}/train/angry/Training_2.png",)


def test_a_member_beyond_all_files_is_named(make_source, train_files, test_files):
    path = make_source.zip(train_files | test_files)
    members = files.open_zip(path)
    members[0].header_offset = 2**64 - 1  # As the zip64 format has room for.
    with pytest.raises(UserError, match=r"Training_1\.png: damaged in the archive"):
        files.ZipFiles(path, members).read(0)


def test_an_unreadable_file_is_named(make_source, train_files, test_files):
    root = make_source.folder(train_files | test_files)
    listing = folders.list_folder(root)
    os.remove(root / "train/sad/Training_2.png")
    with pytest.raises(UserError, match=r"train/sad/Training_2\.png: No such file"):
        folders.decode(listing)
