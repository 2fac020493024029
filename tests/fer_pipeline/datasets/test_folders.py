"""Listing and decoding class folders, on disk and inside .zip files."""

import io
import os
import random
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

from fer_pipeline.datasets import files, folders
from fer_pipeline.datasets import splits as splits_lib
from fer_pipeline.errors import UserError


def list_zip(path):
    return folders.list_zip(path, files.open_zip(path))


def listings(make_source, contents):
    """The contents as a folder and as a .zip, each with its listing."""
    root, path = make_source.folder(contents), make_source.zip(contents)
    return [(root, folders.list_folder(root)), (path, list_zip(path))]


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
        assert faces.groups.tolist() == [splits_lib.TRAIN] * 14 + [splits_lib.PUBLIC_TEST] * 7
        assert (faces.converted, faces.skipped) == (0, ())


def test_both_families_of_names_in_test_are_told_apart(make_source, train_files, make_files):
    names = ("PrivateTest_5.png", "PublicTest_7.png", "other.png")
    listing = folders.list_folder(make_source.folder(train_files | make_files("test", *names)))
    expected = [splits_lib.PUBLIC_TEST, splits_lib.TEST, splits_lib.PRIVATE_TEST]
    assert listing.groups[14:].tolist() == np.repeat(expected, 7).tolist()
    found = [listing.files.name(i).rpartition("/")[2] for i in (14, 21, 28)]
    assert found == ["PublicTest_7.png", "other.png", "PrivateTest_5.png"]


@pytest.mark.parametrize("name", ["validation", "valid", "val"])
def test_a_validation_folder_is_found(make_source, train_files, make_files, name):
    contents = train_files | make_files(name, "a.png", first_level=50)
    faces = folders.decode(folders.list_folder(make_source.folder(contents)))
    assert faces.groups.tolist() == [splits_lib.TRAIN] * 14 + [splits_lib.VALIDATION] * 7
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
        "Train/Happy/desktop.ini",
        "Train/Happy/@eaDir/Training_1.png",
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
        assert faces.left_out == ()


def test_files_that_are_no_images_are_named(make_source, train_files, test_files):
    others = ("train/happy/notes.txt", "train/labels.csv", "test/sad/face.pdf", "test/sad/README")
    contents = train_files | test_files | dict.fromkeys(others, b"no image")
    contents["notes.txt"] = b"of no split"
    for source, listing in listings(make_source, contents):
        faces = folders.decode(listing)
        assert faces.left_out == tuple(f"{source}/{name}" for name in sorted(others))
        assert len(faces.labels) == 21


def test_the_content_decides_where_the_name_does_not(make_source, train_files, test_files):
    png = train_files.pop("train/sad/Training_2.png")
    tiff = io.BytesIO()
    Image.fromarray(np.full((48, 48), 200, np.uint8)).save(tiff, "TIFF")
    for name in ("a", "b.jpg", "c.pjpeg", "d.jfif", "e.dat", "f.JPE"):
        train_files[f"train/sad/{name}"] = png
    train_files["train/sad/g.jpg"] = tiff.getvalue()
    for _, listing in listings(make_source, train_files | test_files):
        faces = folders.decode(listing)
        assert faces.left_out == ()
        assert levels(faces)[10:18] == [10, *[11] * 6, 200]


def test_members_that_begin_with_a_dot_and_a_slash_are_read(make_source, train_files, test_files):
    contents = {f"./{name}": data for name, data in (train_files | test_files).items()}
    faces = folders.decode(list_zip(make_source.zip(contents)))
    assert levels(faces) == [*range(14), *range(100, 107)]


def test_a_folder_beside_the_sources_own_may_be_unreadable(
    make_source, train_files, test_files, monkeypatch
):
    contents = {f"fer/{name}": data for name, data in (train_files | test_files).items()}
    root = make_source.folder(contents | {"private/a.txt": b"", "aside/b/c.txt": b""})
    (root / "loop").symlink_to("loop")
    scandir = os.scandir
    forbidden = root / "private"

    def refuse(path):
        if os.path.realpath(path) == str(forbidden):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(folders.os, "scandir", refuse)
    assert len(folders.list_folder(root).labels) == 21
    forbidden = root / "fer/train/happy"
    with pytest.raises(UserError, match=r"train/happy: Permission denied; make it readable"):
        folders.list_folder(root)


@pytest.mark.parametrize("target", ["itself", ".", "..", "../..", "../../..", "/", "mutual"])
def test_links_that_lead_back_end_in_one_line(make_source, train_files, test_files, target):
    root = make_source.folder(train_files | test_files)
    link = root / "train/angry/link"
    if target == "mutual":
        link.symlink_to("../happy")
        (root / "train/happy/back").symlink_to("../angry")
    else:
        link.symlink_to("link" if target == "itself" else target)
    with pytest.raises(UserError) as raised:
        folders.list_folder(root)
    said = str(raised.value)
    assert said.startswith(f"{root}/train/")
    assert "\n" not in said
    assert ("Too many levels" if target == "itself" else "a folder that it lies in") in said


def test_links_that_lead_elsewhere_are_followed(make_source, train_files, test_files, tmp_path):
    root = make_source.folder(train_files | test_files)
    (root / "train/angry").rename(tmp_path / "angry")
    (root / "train/angry").symlink_to(tmp_path / "angry")
    assert len(folders.list_folder(root).labels) == 21


def test_a_file_that_is_too_large_is_named_and_not_read(
    make_source, train_files, test_files, monkeypatch
):
    monkeypatch.setattr(files, "MAX_BYTES", 2**20)
    train_files["train/sad/Training_2.png"] = bytes(2**20 + 1)
    for source, listing in listings(make_source, train_files | test_files):
        with pytest.raises(UserError, match="larger than 1 MiB") as raised:
            folders.decode(listing)
        assert str(raised.value).startswith(f"{source}/train/sad/Training_2.png")
        assert len(folders.decode(listing, on_bad_image="skip").labels) == 20


def test_a_member_that_is_larger_than_it_says_is_not_unpacked(make_source, train_files, test_files):
    train_files["train/sad/Training_2.png"] = zeros = bytes(2**26)
    path = make_source.zip(train_files | test_files)
    data = path.read_bytes()
    size = len(zeros).to_bytes(4, "little")
    assert data.count(size) == 2
    path.write_bytes(data.replace(size, (1000).to_bytes(4, "little")))
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"Training_2\.png: damaged in the archive"):
            folders.decode(list_zip(path))
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


class Large:
    """Images of a MiB behind a small one."""

    def __init__(self, image: bytes):
        self._image = image

    def __len__(self):
        return 200

    def name(self, i):
        return str(i)

    def read(self, i, most=None):
        return self._image if i == 0 else self._image + bytes(2**20)


def test_what_is_decoded_at_a_time_depends_on_the_bytes_read(make_png, monkeypatch):
    sizes = []
    decode = folders.images_lib.decode_faces

    def note(encoded, names, **options):
        sizes.append(sum(map(len, encoded)))
        return decode(encoded, names, **options)

    monkeypatch.setattr(folders.images_lib, "decode_faces", note)
    batches = list(folders.decoded_batches(Large(make_png(7)), range(200)))
    assert np.concatenate([batch.kept for batch in batches]).tolist() == list(range(200))
    assert all((batch.images == 7).all() for batch in batches)
    assert max(sizes) < 18 * 2**20
    assert sum(sizes) > 199 * 2**20


def test_as_many_threads_as_the_process_may_use_cores(make_png, monkeypatch):
    pools = []
    pool = folders.ThreadPoolExecutor

    def note(workers, **options):
        pools.append(workers)
        return pool(workers, **options)

    monkeypatch.setattr(folders, "ThreadPoolExecutor", note)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5})
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    list(folders.decoded_batches(Large(make_png(7)), range(200)))
    assert pools == [2]


def test_names_that_are_no_text_can_be_printed(make_source, train_files, test_files):
    root = make_source.folder(train_files | test_files)
    for name in (b"a\xff.png", b"b\xff.txt"):
        with open(os.path.join(os.fsencode(root), b"train/happy", name), "wb") as file:
            file.write(b"no image")
    faces = folders.decode(folders.list_folder(root), on_bad_image="skip")
    names = (*faces.skipped, *faces.left_out)
    assert names == tuple(f"{root}/train/happy/{name}" for name in ("a\\xff.png", "b\\xff.txt"))
    assert (
        len(folders.decode(folders.list_folder(root), on_bad_image="skip", stream=True).labels)
        == 21
    )


def test_names_of_several_lines_are_shown_on_one(make_source, train_files, test_files):
    train_files["train/happy/a\n\tb.png"] = b"no image"
    for source, listing in listings(make_source, train_files | test_files):
        with pytest.raises(UserError) as raised:
            folders.decode(listing)
        assert str(raised.value).startswith(rf"{source}/train/happy/a\n\tb.png: not a readable")


def test_a_pipe_is_not_waited_for(make_source, train_files, test_files):
    root = make_source.folder(train_files | test_files)
    for name in ("pipe.png", "pipe"):
        os.mkfifo(root / "train/happy" / name)
    faces = folders.decode(folders.list_folder(root), on_bad_image="skip")
    assert faces.skipped == (f"{root}/train/happy/pipe.png",)
    assert faces.left_out == (f"{root}/train/happy/pipe",)


def test_a_zip_that_is_none_is_refused(make_source, tmp_path, train_files):
    path = tmp_path / "fer2013.zip"
    whole = make_source.zip(train_files).read_bytes()
    newer = bytearray(whole)
    newer[newer.index(b"PK\x01\x02") + 6] = 148  # Needs version 14.8 to extract.
    for data in (b"", b"<html>", whole[: len(whole) // 2], newer):
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"fer2013\.zip: not a readable \.zip file"):
            list_zip(path)


def test_names_in_utf_8_without_its_flag_are_read(make_source, make_png):
    """As macOS writes them; other names without the flag are of code page 437."""
    contents = {f"{name}/1.png": make_png(i) for i, name in enumerate(("müde 😴", "a", "wüst"))}
    path = make_source.zip(contents)
    content = path.read_bytes()
    # The flags lie 6 bytes into a local header and 8 bytes into one of the directory.
    for magic, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        parts = content.split(magic)
        changed = [part[: place - 4] + b"\0\0" + part[place - 2 :] for part in parts[1:]]
        content = magic.join([parts[0], *changed])
    # This name alone is in the code page.
    path.write_bytes(content.replace("wüst/".encode(), b"w\x81est/"))
    assert not any(member.flag_bits for member in zipfile.ZipFile(path).infolist())
    assert list_zip(path).classes == ("a", "müde 😴", "wüest")
    assert len(folders.decode(list_zip(path)).images) == 3


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
