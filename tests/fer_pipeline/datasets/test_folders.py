"""Listing and decoding class folders, on disk and inside .zip files."""

import io
import os
import random
import zipfile

import numpy as np
import pytest
from PIL import Image

from fer_pipeline.datasets import files, folders, splitting
from fer_pipeline.errors import UserError
from fer_pipeline.expressions import CLASS_NAMES


def list_zip(path):
    return folders.list_zip(path, files.open_zip(path))


def levels(faces) -> list[int]:
    """The grey level of each flat image."""
    images = faces.images[:]
    assert images.shape[1:] == (48, 48, 1)
    assert (images == images[:, :1, :1]).all()
    return images[:, 0, 0, 0].tolist()


def test_a_folder_and_a_zip_of_it_give_the_same(make_source, train_files, test_files):
    contents = train_files | test_files
    shuffled = list(contents.items())
    random.Random(0).shuffle(shuffled)
    listings = [
        folders.list_folder(make_source.folder(contents)),
        list_zip(make_source.zip(dict(shuffled))),
        list_zip(make_source.zip(dict(shuffled), "stored.zip", zipfile.ZIP_STORED)),
    ]
    for listing in listings:
        faces = folders.decode(listing)
        assert levels(faces) == [*range(14), *range(100, 107)]
        assert faces.labels.tolist() == [i // 2 for i in range(14)] + list(range(7))
        assert faces.labels.dtype == np.int32
        assert faces.groups.tolist() == [splitting.TRAIN] * 14 + [splitting.PUBLIC_TEST] * 7
        assert (faces.converted, faces.skipped) == (0, ())


def test_both_families_of_names_in_test_are_told_apart(make_source, train_files, make_files):
    names = ("PrivateTest_5.png", "PublicTest_7.png", "other.png")
    listing = folders.list_folder(make_source.folder(train_files | make_files("test", *names)))
    expected = [splitting.PUBLIC_TEST, splitting.TEST, splitting.PRIVATE_TEST]
    assert listing.groups[14:].tolist() == np.repeat(expected, 7).tolist()
    found = [listing.files.name(i).rpartition("/")[2] for i in (14, 21, 28)]
    assert found == ["PublicTest_7.png", "other.png", "PrivateTest_5.png"]


@pytest.mark.parametrize("name", ["validation", "val"])
def test_a_validation_folder_is_found(make_source, train_files, make_files, name):
    contents = train_files | make_files(name, "a.png", first_level=50)
    faces = folders.decode(folders.list_folder(make_source.folder(contents)))
    assert faces.groups.tolist() == [splitting.TRAIN] * 14 + [splitting.VALIDATION] * 7
    assert levels(faces)[14:] == list(range(50, 57))


@pytest.mark.parametrize("parent", ["fer2013/", "archive/images/"])
def test_everything_may_lie_in_a_parent_folder(make_source, train_files, test_files, parent):
    contents = {parent + path: data for path, data in (train_files | test_files).items()}
    for listing in (
        folders.list_folder(make_source.folder(contents)),
        list_zip(make_source.zip(contents)),
    ):
        assert levels(folders.decode(listing)) == [*range(14), *range(100, 107)]


def test_debris_is_passed_over_and_case_does_not_matter(make_source, train_files, test_files):
    contents = {
        path.replace("train/happy", "Train/Happy").replace("train/", "Train/"): data
        for path, data in (train_files | test_files).items()
    }
    contents["Train/Happy/Training_3.PNG"] = contents["Train/Happy/Training_1.png"]
    expected = folders.decode(folders.list_folder(make_source.folder(contents, "clean")))
    assert len(expected.labels) == 22
    debris = (
        "__MACOSX/train/happy/._Training_1.png",
        "Train/Happy/.DS_Store",
        "Train/Happy/.hidden.png",
        "Train/Happy/Thumbs.db",
        "Train/.ipynb_checkpoints/happy.png",
        "README.txt",
    )
    contents |= dict.fromkeys(debris, b"debris")
    for listing in (
        folders.list_folder(make_source.folder(contents)),
        list_zip(make_source.zip(contents)),
    ):
        faces = folders.decode(listing)
        np.testing.assert_array_equal(faces.images, expected.images)
        np.testing.assert_array_equal(faces.labels, expected.labels)


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
    lazy = folders.stream(listing).images
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
        folders.stream(listing)


def test_an_image_that_goes_bad_later_is_named_when_it_is_met(make_source, train_files, test_files):
    root = make_source.folder(train_files | test_files)
    lazy = folders.stream(folders.list_folder(root)).images
    (root / "train/disgust/Training_1.png").write_bytes(b"")
    assert lazy[0:2].shape[0] == 2
    with pytest.raises(UserError, match=r"train/disgust/Training_1\.png: empty file"):
        lazy[np.array([0, 2])]


def test_streaming_can_skip_bad_images(make_source, train_files, test_files):
    train_files["train/disgust/Training_1.png"] = b"no image"
    listing = list_zip(make_source.zip(train_files | test_files))
    faces = folders.stream(listing, on_bad_image="skip")
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


def test_an_unreadable_file_is_named(make_source, train_files, test_files):
    root = make_source.folder(train_files | test_files)
    listing = folders.list_folder(root)
    os.remove(root / "train/sad/Training_2.png")
    with pytest.raises(UserError, match=r"train/sad/Training_2\.png: No such file"):
        folders.decode(listing)


def refusal(make_source, contents) -> list[str]:
    """What is said of the contents as a folder and as a .zip, less the path of the source."""
    said = []
    for source, list_source in (
        (make_source.folder(contents), folders.list_folder),
        (make_source.zip(contents), list_zip),
    ):
        with pytest.raises(UserError) as raised:
            list_source(source)
        message = str(raised.value)
        assert message.startswith(str(source))
        assert "\n" not in message
        said.append(message.removeprefix(str(source)))
    assert said[0] == said[1]
    return said[0]


def test_a_source_without_class_folders_is_refused(make_source, make_png):
    said = refusal(make_source, {"happy/1.png": make_png(0), "sad/2.png": make_png(0)})
    assert said.startswith(": no train/<class>/ folders in it (found happy, sad)")
    assert ", ".join(CLASS_NAMES) in said


def test_an_unknown_class_is_refused(make_source, make_png, train_files, test_files):
    contents = train_files | test_files | {"train/joyful/1.png": make_png(0)}
    said = refusal(make_source, contents)
    assert said.startswith("/train/joyful: not a class")
    assert ", ".join(CLASS_NAMES) in said


def test_an_image_beside_the_class_folders_is_refused(
    make_source, make_png, train_files, test_files
):
    said = refusal(make_source, train_files | test_files | {"train/1.png": make_png(0)})
    assert said.startswith("/train/1.png: in no class folder")


def test_an_empty_class_is_refused(make_source, train_files, test_files):
    for name in ("Training_1.png", "Training_2.png"):
        del train_files[f"train/disgust/{name}"]
    train_files["train/disgust/notes.txt"] = b"to do"
    said = refusal(make_source, train_files | test_files)
    assert said.startswith("/train/disgust: no images in it")


def test_a_missing_class_is_refused(make_source, train_files, test_files):
    del test_files["test/neutral/PublicTest_1.png"]
    assert refusal(make_source, train_files | test_files).startswith("/test/neutral: not there")


def test_a_source_without_training_images_is_refused(make_source, test_files):
    assert refusal(make_source, test_files).startswith(": has test/ but no train/")


def test_two_validation_folders_are_refused(make_source, train_files, make_files):
    contents = train_files | make_files("val", "a.png") | make_files("validation", "a.png")
    assert refusal(make_source, contents).startswith(": has both val/ and validation/")


def test_two_data_sets_are_refused(make_source, train_files):
    contents = {f"{half}/{path}": data for half in "ab" for path, data in train_files.items()}
    assert refusal(make_source, contents).startswith(": several data sets (a/, b/)")


def test_a_zip_that_is_none_is_refused(make_source, tmp_path, train_files):
    path = tmp_path / "fer2013.zip"
    whole = make_source.zip(train_files).read_bytes()
    for data in (b"", b"<html>", whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"fer2013\.zip: not a readable \.zip file"):
            list_zip(path)


def test_an_encrypted_zip_is_refused(make_source, train_files, test_files):
    path = make_source.zip(train_files | test_files)
    data = bytearray(path.read_bytes())
    # The flags of every entry of the central directory: bit 0 says encrypted.
    start = data.index(b"PK\x01\x02")
    while start >= 0:
        data[start + 8] |= 1
        start = data.find(b"PK\x01\x02", start + 4)
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"faces\.zip: encrypted; unpack it"):
        list_zip(path)


def test_an_uncommon_compression_is_refused(make_source, train_files, test_files):
    path = make_source.zip(train_files | test_files, compression=zipfile.ZIP_BZIP2)
    with pytest.raises(UserError, match="neither stored nor deflated; unpack the archive"):
        list_zip(path)
