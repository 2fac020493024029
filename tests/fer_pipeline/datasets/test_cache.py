"""Decoded faces on disk."""

import multiprocessing
import os
import stat
import threading
from pathlib import Path

import numpy as np
import pytest

from fer_pipeline.datasets import cache
from fer_pipeline.datasets import splits as splits_lib
from fer_pipeline.datasets.splits import TEST, TRAIN, LazyImages
from fer_pipeline.errors import UserError


@pytest.fixture
def faces() -> splits_lib.Faces:
    """Random images: more than share a checksum."""
    count = 5000
    rng = np.random.default_rng(0)
    return splits_lib.Faces(
        images=rng.integers(0, 256, (count, 48, 48, 1), np.uint8),
        labels=rng.integers(0, 7, count).astype(np.int32),
        groups=np.repeat(np.array([TRAIN, TEST], np.int8), count // 2),
        converted=3,
        left_out=("train/happy/notes.txt",),
    )


@pytest.fixture
def folder(tmp_path) -> Path:
    return cache.entry_folder(tmp_path, "faces", "digest", [])


def store(folder: Path, faces: splits_lib.Faces) -> tuple[splits_lib.Faces, bool]:
    def decode(allocate):
        images = allocate(faces.images.shape)
        images[:] = faces.images
        # As when some could not be read: the last rows stay empty.
        return faces._replace(images=images[: len(faces.labels)])

    return cache.store(folder, decode, lambda: None)


def check(entry: splits_lib.Faces, expected: splits_lib.Faces) -> None:
    assert isinstance(entry.images, LazyImages)
    np.testing.assert_array_equal(entry.images[:], expected.images)
    np.testing.assert_array_equal(
        entry.images[np.array([4999, 3, 3])], expected.images[[4999, 3, 3]]
    )
    np.testing.assert_array_equal(entry.labels, expected.labels)
    np.testing.assert_array_equal(entry.groups, expected.groups)
    assert entry[3:6] == expected[3:6]


def test_an_entry_holds_what_was_decoded(folder, faces):
    entry, decoded = store(folder, faces)
    assert decoded
    check(entry, faces)
    check(cache.load(folder), faces)
    assert sorted(os.listdir(folder.parent)) == [f".{folder.name}.lock", folder.name]
    assert sorted(os.listdir(folder)) == ["about.npz", "images.u8"]


def test_images_that_were_skipped_take_no_room(folder, faces):
    kept = faces._replace(labels=faces.labels[:-5], groups=faces.groups[:-5], skipped=("a",) * 5)
    entry, _ = store(folder, kept)
    np.testing.assert_array_equal(entry.images[:], faces.images[:-5])
    assert entry.skipped == ("a",) * 5
    assert (folder / "images.u8").stat().st_size == 4995 * 48 * 48


def test_images_already_in_memory_are_stored_too(folder, faces):
    entry, _ = cache.store(folder, lambda allocate: faces, lambda: None)
    check(entry, faces)


def cut_images(folder: Path) -> None:
    data = (folder / "images.u8").read_bytes()
    (folder / "images.u8").write_bytes(data[:-1])


def change_about(folder: Path, **changes) -> None:
    about = dict(np.load(folder / "about.npz"))
    np.savez(folder / "about.npz", **about | changes)


def other_labels(folder: Path) -> None:
    data = bytearray((folder / "about.npz").read_bytes())
    labels = np.load(folder / "about.npz")["labels"].tobytes()
    data[data.index(labels) + 28] ^= 1
    (folder / "about.npz").write_bytes(data)


DAMAGES = [
    lambda folder: (folder / "images.u8").unlink(),
    lambda folder: (folder / "about.npz").unlink(),
    lambda folder: (folder / "images.u8").write_bytes(b""),
    lambda folder: (folder / "about.npz").write_bytes(b""),
    lambda folder: (folder / "about.npz").write_bytes(b"PK"),
    lambda folder: (folder / "about.npz").write_bytes((folder / "about.npz").read_bytes()[:-9]),
    lambda folder: np.savez(folder / "about.npz", labels=np.zeros(5000, np.int32)),
    lambda folder: change_about(folder, labels=np.zeros(4999, np.int32)),
    cut_images,
    other_labels,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_none_and_can_be_replaced(folder, faces, damage):
    store(folder, faces)
    damage(folder)
    assert cache.load(folder) is None
    entry, decoded = store(folder, faces)
    assert decoded
    check(entry, faces)


def test_zeroed_images_are_not_served_and_the_next_start_decodes_anew(folder, faces):
    store(folder, faces)
    with open(folder / "images.u8", "r+b") as file:
        file.seek(4500 * 48 * 48)
        file.write(bytes(3 * 48 * 48))
    entry = cache.load(folder)
    np.testing.assert_array_equal(entry.images[:10], faces.images[:10])
    with pytest.raises(UserError, match=r"damaged on the disk; start again"):
        entry.images[np.array([4700])]
    assert cache.load(folder) is None
    check(store(folder, faces)[0], faces)


def test_no_entry_is_none(tmp_path):
    assert cache.load(tmp_path / "entry") is None


@pytest.mark.parametrize("when", ["decoding", "checking the source"])
def test_an_error_leaves_nothing_behind(folder, faces, when):
    def fail(*_):
        raise UserError("face.jpg: not a readable image")

    decode = fail if when == "decoding" else lambda allocate: faces
    with pytest.raises(UserError, match=r"face\.jpg"):
        cache.store(folder, decode, fail)
    assert os.listdir(folder.parent) == [f".{folder.name}.lock"]


def test_the_first_of_two_wins_and_the_second_waits_for_it(folder, faces):
    decoding, go_on = threading.Event(), threading.Event()
    calls, found = [], []

    def decode(allocate):
        calls.append(None)
        decoding.set()
        assert go_on.wait(60)
        return faces

    def start():
        found.append(cache.store(folder, decode, lambda: None))

    first, second = (threading.Thread(target=start) for _ in range(2))
    first.start()
    assert decoding.wait(60)
    second.start()
    go_on.set()
    first.join(60)
    second.join(60)
    assert len(calls) == 1
    assert sorted(decoded for _, decoded in found) == [False, True]
    for entry, _ in found:
        check(entry, faces)


def die_while_decoding(folder: Path) -> None:
    def decode(allocate):
        allocate((100, 48, 48, 1))[:] = 1
        os._exit(0)

    cache.store(folder, decode, lambda: None)


def test_what_a_killed_process_left_is_removed(folder, faces):
    other = cache.entry_folder(folder.parent, "other", "digest", [])
    for killed in (folder, other):
        process = multiprocessing.get_context("fork").Process(
            target=die_while_decoding, args=(killed,)
        )
        process.start()
        process.join(60)
        assert killed.with_name(f".{killed.name}.partial").exists()
    # As an earlier version called them.
    folder.with_name(f".{folder.name}.ab12cd34").mkdir()
    # From memory: nothing of what was left may be taken for these images.
    entry, _ = cache.store(folder, lambda allocate: faces, lambda: None)
    check(entry, faces)
    locks = {f".{name.name}.lock" for name in (folder, other)}
    assert set(os.listdir(folder.parent)) == {folder.name, *locks}


def test_what_somebody_is_writing_is_not_taken_for_left(folder, faces):
    other = cache.entry_folder(folder.parent, "other", "digest", [])

    def decode(allocate):
        images = allocate(faces.images.shape)
        store(other, faces)
        images[:] = faces.images
        return faces._replace(images=images)

    entry, _ = cache.store(folder, decode, lambda: None)
    check(entry, faces)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_mode_follows_the_umask(folder, faces, mask):
    before = os.umask(mask)
    try:
        store(folder, faces)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o777 & ~mask
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {0o666 & ~mask}


def test_a_cache_that_cannot_be_written_is_named(tmp_path, faces):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file: cannot write the cache .*--cache=memory"):
        store(tmp_path / "file/entry", faces)


def test_an_entry_that_cannot_be_replaced_is_named_before_anything_is_decoded(
    folder, faces, monkeypatch
):
    store(folder, faces)
    (folder / "about.npz").write_bytes(b"")

    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(cache.shutil, "rmtree", refuse)
        with pytest.raises(UserError, match=r"cannot write the cache \(Permission denied\)"):
            cache.store(folder, lambda allocate: pytest.fail("decoded"), lambda: None)


def test_the_folder_depends_on_source_and_options(tmp_path):
    folders = [
        cache.entry_folder(tmp_path, "fer2013", digest, options)
        for digest in ("a", "b")
        for options in (["zip", "fail"], ["zip", "skip"], ["csv", "fail"])
    ]
    assert len(set(folders)) == 6
    assert all(folder.parent == tmp_path for folder in folders)
    assert all(folder.name.startswith("fer2013-") for folder in folders)
    assert cache.entry_folder(tmp_path, "fer2013", "a", ["zip", "fail"]) == folders[0]


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127])
def test_the_name_of_a_source_may_be_long(tmp_path, faces, name):
    folder = cache.entry_folder(tmp_path, name, "a", [])
    assert folder.name.startswith(name[:40])
    check(store(folder, faces)[0], faces)


def test_the_default_folder_is_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.entry_folder(None, "a", "b", []).parent == tmp_path / "fer_pipeline"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    expected = tmp_path / "home/.cache/fer_pipeline"
    assert cache.entry_folder(None, "a", "b", []).parent == expected
    assert cache.entry_folder("~/faces", "a", "b", []).parent == tmp_path / "home/faces"


def test_a_missing_home_is_named(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(UserError, match=r"no home folder is known; pass --cache_dir"):
        cache.entry_folder("~nobody-of-this-name/faces", "a", "b", [])


def test_any_user_may_take_a_lock(folder, faces):
    before = os.umask(0o077)
    try:
        store(folder, faces)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.with_name(f".{folder.name}.lock").stat().st_mode) == 0o666
