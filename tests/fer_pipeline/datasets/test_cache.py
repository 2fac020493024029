"""Decoded faces on disk."""

import json
from pathlib import Path

import numpy as np
import pytest

from fer_pipeline.datasets import cache, splitting
from fer_pipeline.datasets.splitting import PRIVATE_TEST, PUBLIC_TEST, TEST, TRAIN
from fer_pipeline.errors import UserError


def source(*groups: int) -> splitting.Faces:
    """Ten random images of each class in each group."""
    count = 70 * len(groups)
    images = np.random.default_rng(0).integers(0, 256, (count, 48, 48, 1), np.uint8)
    labels = np.tile(np.arange(7, dtype=np.int32), 10 * len(groups))
    return splitting.Faces(images, labels, np.repeat(np.array(groups, np.int8), 70), converted=3)


def store(folder: Path, faces: splitting.Faces, **rule) -> cache.Entry:
    def decode(allocate):
        images = allocate(faces.images.shape)
        images[:] = faces.images
        # As when some could not be read: the last rows stay empty.
        return faces._replace(images=images[: len(faces.labels)])

    return cache.store(
        folder, decode, lambda decoded: splitting.assign_faces("data", decoded, **rule)
    )


def check(entry: cache.Entry, expected) -> None:
    for split, wanted in zip(entry.splits[:3], expected[:3], strict=True):
        assert isinstance(split.images, np.memmap)
        assert not split.images.flags.writeable
        np.testing.assert_array_equal(split.images, wanted.images)
        np.testing.assert_array_equal(split.labels, wanted.labels)
    assert entry.splits.selected_on == expected.selected_on


@pytest.mark.parametrize("rule", [{}, {"validation_fraction": 0.2, "seed": 1}])
@pytest.mark.parametrize("groups", [(TRAIN, TEST), (TRAIN, PUBLIC_TEST, PRIVATE_TEST)])
def test_an_entry_holds_what_was_decoded(tmp_path, groups, rule):
    faces = source(*groups)
    expected = splitting.split("data", faces, **rule)
    check(store(tmp_path / "entry", faces, **rule), expected)
    entry = cache.load(tmp_path / "entry")
    check(entry, expected)
    assert (entry.converted, entry.skipped) == (3, ())
    assert [path.name for path in tmp_path.iterdir()] == ["entry"]
    files = sorted(path.name for path in (tmp_path / "entry").iterdir())
    assert files == ["images.npy", "labels.npy", "splits.json"]


def test_images_that_were_skipped_take_no_room(tmp_path):
    faces = source(TRAIN, TEST)
    kept = faces._replace(labels=faces.labels[:-5], groups=faces.groups[:-5], skipped=("a",) * 5)
    entry = store(tmp_path / "entry", kept)
    check(entry, splitting.split("data", kept._replace(images=faces.images[:-5])))
    assert entry.skipped == ("a",) * 5
    assert len(np.load(tmp_path / "entry/images.npy", mmap_mode="r")) == 135


def test_images_already_in_memory_are_stored_too(tmp_path):
    faces = source(TRAIN, TEST)
    entry = cache.store(
        tmp_path / "entry", lambda allocate: faces, lambda f: splitting.assign_faces("data", f)
    )
    check(entry, splitting.split("data", faces))


def cut_images(folder: Path) -> None:
    data = (folder / "images.npy").read_bytes()
    (folder / "images.npy").write_bytes(data[:-1])


def other_shape(folder: Path) -> None:
    np.save(folder / "images.npy", np.zeros((140, 48, 48), np.uint8))


def fewer_labels(folder: Path) -> None:
    np.save(folder / "labels.npy", np.zeros(139, np.int32))


def other_rows(folder: Path) -> None:
    about = json.loads((folder / "splits.json").read_text())
    about["rows"]["test"] = [70, 141]
    (folder / "splits.json").write_text(json.dumps(about))


DAMAGES = [
    lambda folder: (folder / "images.npy").unlink(),
    lambda folder: (folder / "labels.npy").unlink(),
    lambda folder: (folder / "splits.json").unlink(),
    lambda folder: (folder / "images.npy").write_bytes(b""),
    lambda folder: (folder / "labels.npy").write_bytes(b"\x93NUMPY"),
    lambda folder: (folder / "splits.json").write_text("{"),
    lambda folder: (folder / "splits.json").write_text("[]"),
    cut_images,
    other_shape,
    fewer_labels,
    other_rows,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_none_and_can_be_replaced(tmp_path, damage):
    faces, folder = source(TRAIN, TEST), tmp_path / "entry"
    store(folder, faces)
    damage(folder)
    assert cache.load(folder) is None
    check(store(folder, faces), splitting.split("data", faces))


def test_no_entry_is_none(tmp_path):
    assert cache.load(tmp_path / "entry") is None


def test_an_error_while_decoding_leaves_nothing_behind(tmp_path):
    def decode(allocate):
        allocate((10, 48, 48, 1))
        raise UserError("face.jpg: not a readable image")

    with pytest.raises(UserError, match=r"face\.jpg"):
        cache.store(tmp_path / "entry", decode, lambda faces: None)
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_two_processes_wins(tmp_path):
    faces, folder = source(TRAIN, TEST), tmp_path / "entry"

    def decode(allocate):
        store(folder, faces)  # Another process, while this one decodes.
        (folder / "mark").touch()
        return faces

    entry = cache.store(folder, decode, lambda f: splitting.assign_faces("data", f))
    check(entry, splitting.split("data", faces))
    assert (folder / "mark").exists()


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file: cannot write the cache .*--cache=memory"):
        store(tmp_path / "file/entry", source(TRAIN, TEST))


def test_the_folder_depends_on_source_and_options(tmp_path):
    folders = [
        cache.entry_folder(tmp_path, "fer2013", digest, options)
        for digest in ("a", "b")
        for options in (["zip", "fail"], ["zip", "skip"], ["zip", "fail", 0.1, 0])
    ]
    assert len(set(folders)) == 6
    assert all(folder.parent == tmp_path for folder in folders)
    assert all(folder.name.startswith("fer2013-") for folder in folders)
    assert cache.entry_folder(tmp_path, "fer2013", "a", ["zip", "fail"]) == folders[0]


def test_the_default_folder_is_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.default_folder() == tmp_path / "fer_pipeline"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.default_folder() == tmp_path / "home/.cache/fer_pipeline"
