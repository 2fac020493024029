"""The front: one function for every source."""

import os
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from fer_pipeline import datasets
from fer_pipeline.datasets import folders, synthetic
from fer_pipeline.datasets.splits import LazyImages, fingerprint
from fer_pipeline.errors import UserError

#: Kaggle's codes of CLASS_NAMES.
CODES = [0, 1, 2, 3, 6, 4, 5]


def write_csv(path, splits):
    """Kaggle's CSV of splits."""
    usages = ("Training", "PublicTest", "PrivateTest")
    lines = ["emotion,pixels,Usage"]
    for split, usage in zip(splits[:3], usages, strict=True):
        for image, label in zip(split.images, split.labels, strict=True):
            lines.append(f"{CODES[label]},{' '.join(map(str, image.ravel()))},{usage}")
    path.write_text("\n".join(lines))
    return path


def entries(cache):
    """The entries of a cache, without its locks."""
    return list(cache.glob("[!.]*"))


@pytest.fixture
def contents(train_files, make_files):
    """Training images, levels 0..13, and both halves of test, 100..113."""
    test = make_files("test", "PrivateTest_2.png", "PublicTest_1.png", first_level=100)
    return train_files | test


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_every_container_and_cache_gives_the_same_splits(make_source, tmp_path, contents, cache):
    options = {"cache": cache, "cache_dir": tmp_path / "cache"}
    root = make_source.folder(contents, "fer2013")
    first = datasets.load(root, **options)
    path = write_csv(tmp_path / "fer2013.csv", first.splits)
    zipped = tmp_path / "csv.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.write(path, "fer2013.csv")
    loaded = [
        first,
        datasets.load(make_source.zip(contents, "fer2013.zip"), **options),
        datasets.load(path, **options),
        datasets.load(zipped, **options),
    ]
    assert [one.name for one in loaded] == ["fer2013"] * 3 + ["csv"]
    assert len({fingerprint(one.splits) for one in loaded}) == 1
    splits = first.splits
    assert splits.train.images[:][:, 0, 0, 0].tolist() == list(range(14))
    assert splits.validation.images[:][:, 0, 0, 0].tolist() == list(range(101, 114, 2))
    assert splits.test.images[:][:, 0, 0, 0].tolist() == list(range(100, 114, 2))
    assert splits.train.labels.tolist() == [i // 2 for i in range(14)]
    assert splits.selected_on == "validation"


def test_images_are_held_as_the_cache_says(make_source, tmp_path, contents):
    path = make_source.zip(contents)
    kinds = {}
    for cache in ("memory", "disk", "none"):
        loaded = datasets.load(path, cache=cache, cache_dir=tmp_path / "cache")
        kinds[cache] = [(type(split.images), loaded.decoded) for split in loaded.splits[:3]]
    assert kinds == {
        "memory": [(np.ndarray, True)] * 3,
        "disk": [(LazyImages, True)] * 3,
        "none": [(LazyImages, True)] * 3,
    }


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_a_fraction_for_validation(make_source, tmp_path, make_files, cache):
    names = [f"Training_{i}.png" for i in range(4)]
    contents = make_files("train", *names) | make_files("test", "a.png", first_level=200)
    options = {"validation_fraction": 0.25, "cache": cache, "cache_dir": tmp_path / "cache"}
    path = make_source.zip(contents)
    splits = datasets.load(path, seed=5, **options).splits
    levels = [split.images[:][:, 0, 0, 0].tolist() for split in splits[:3]]
    assert sorted(levels[0] + levels[1]) == list(range(28))
    assert [level // 4 for level in levels[1]] == list(range(7))
    assert levels[2] == list(range(200, 207))
    assert fingerprint(datasets.load(path, seed=5, **options).splits) == fingerprint(splits)
    others = {fingerprint(datasets.load(path, seed=s, **options).splits) for s in (6, 7, 8)}
    assert others != {fingerprint(splits)}


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_bad_images_are_skipped_and_named(make_source, tmp_path, contents, cache):
    contents["train/happy/Training_9.png"] = b"no image"
    path = make_source.zip(contents)
    options = {"cache": cache, "cache_dir": tmp_path / "cache"}
    loaded = datasets.load(path, on_bad_image="skip", **options)
    assert loaded.skipped == (f"{path}/train/happy/Training_9.png",)
    assert loaded.splits.train.images[:][:, 0, 0, 0].tolist() == list(range(14))
    with pytest.raises(UserError, match=r"train/happy/Training_9\.png: not a readable image"):
        datasets.load(path, **options).splits.train.images[:]


@pytest.mark.parametrize("kind", ["folder", "zip", "csv"])
def test_a_second_start_reads_the_cache_until_the_source_changes(
    make_source, make_png, tmp_path, contents, kind
):
    options = {"cache": "disk", "cache_dir": tmp_path / "cache"}
    source = make_source.folder(contents) if kind == "folder" else make_source.zip(contents)
    if kind == "csv":
        source = write_csv(tmp_path / "faces.csv", datasets.load(source).splits)
    loaded = [datasets.load(source, **options) for _ in range(2)]
    assert [one.decoded for one in loaded] == [True, False]
    assert fingerprint(loaded[0].splits) == fingerprint(loaded[1].splits)
    if kind == "folder":
        (source / "train/sad/Training_1.png").write_bytes(make_png(250))
    elif kind == "zip":
        make_source.zip(contents | {"train/sad/Training_1.png": make_png(250)})
    else:
        # A level of the last row, and nothing that the size would tell.
        source.write_text(source.read_text().removesuffix("112,PrivateTest") + "111,PrivateTest")
        os.utime(source, ns=(1, 1))
    changed = datasets.load(source, **options)
    assert changed.decoded
    assert fingerprint(changed.splits) != fingerprint(loaded[0].splits)


@pytest.mark.parametrize("kind", ["folder", "csv"])
def test_a_change_that_leaves_size_and_time_as_they_were_is_seen(
    make_source, make_png, tmp_path, contents, kind
):
    options = {"cache": "disk", "cache_dir": tmp_path / "cache"}
    source = make_source.folder(contents)
    changed = source / "train/sad/Training_1.png"
    new = make_png(251)
    if kind == "csv":
        changed = source = write_csv(tmp_path / "faces.csv", datasets.load(source).splits)
        # A level of the last row, far behind the beginning.
        new = (source.read_text().removesuffix("112,PrivateTest") + "111,PrivateTest").encode()
    first = datasets.load(source, **options)
    before = changed.stat()
    assert len(new) == before.st_size
    changed.write_bytes(new)
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    second = datasets.load(source, **options)
    assert second.decoded
    assert fingerprint(second.splits) != fingerprint(first.splits)


def test_a_source_that_changes_while_it_is_read_is_not_cached(
    make_source, make_png, tmp_path, contents, monkeypatch
):
    source = make_source.folder(contents)
    options = {"cache": "disk", "cache_dir": tmp_path / "cache"}
    decode = folders.decode

    def slow_decode(*args, **kwargs):
        found = decode(*args, **kwargs)
        (source / "train/sad/Training_1.png").write_bytes(make_png(250))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(folders, "decode", slow_decode)
        with pytest.raises(UserError, match=r"changed while it was read; start again") as raised:
            datasets.load(source, **options)
    assert str(raised.value).startswith(f"{source}: ")
    assert entries(tmp_path / "cache") == []
    assert 250 in datasets.load(source, **options).splits.train.images[:]


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_a_dangling_link_is_an_unreadable_image(make_source, make_png, tmp_path, contents, cache):
    source = make_source.folder(contents)
    link = source / "train/sad/link.png"
    link.symlink_to("../../nowhere")
    options = {"cache": cache, "cache_dir": tmp_path / "cache"}
    with pytest.raises(UserError, match=r"sad/link\.png: No such file.*--on_bad_image=skip"):
        datasets.load(source, **options)
    loaded = datasets.load(source, on_bad_image="skip", **options)
    assert loaded.skipped == (str(link),)
    (source / "nowhere").write_bytes(make_png(250))
    found = datasets.load(source, **options)
    assert found.decoded
    assert 250 in found.splits.train.images[:]


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_a_source_of_bad_images_alone_is_named(make_source, tmp_path, contents, cache):
    source = make_source.folder(dict.fromkeys(contents, b"no image"))
    options = {"cache": cache, "cache_dir": tmp_path / "cache", "on_bad_image": "skip"}
    with pytest.raises(UserError, match="no readable image, nor is any other"):
        datasets.load(source, **options)


def test_a_validation_fraction_takes_no_second_copy_on_disk(make_source, tmp_path, contents):
    source = make_source.folder(contents)
    options = {"cache": "disk", "cache_dir": tmp_path / "cache"}
    fractions = (None, 0.3, 0.5)
    loaded = [datasets.load(source, validation_fraction=f, **options) for f in fractions]
    assert [one.decoded for one in loaded] == [True, False, False]
    [entry] = entries(tmp_path / "cache")
    assert (entry / "images.u8").stat().st_size == 28 * 48 * 48
    for fraction, one in zip(fractions, loaded, strict=True):
        expected = datasets.load(source, validation_fraction=fraction)
        assert fingerprint(one.splits) == fingerprint(expected.splits)


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_what_is_no_image_is_named_at_every_start(make_source, tmp_path, contents, cache):
    contents["train/happy/notes.txt"] = b"to do"
    source = make_source.folder(contents)
    for _ in range(2):
        loaded = datasets.load(source, cache=cache, cache_dir=tmp_path / "cache")
        assert loaded.left_out == (f"{source}/train/happy/notes.txt",)


def test_a_test_split_of_a_csv_that_lacks_a_class_is_refused(make_source, tmp_path, contents):
    path = write_csv(tmp_path / "faces.csv", datasets.load(make_source.folder(contents)).splits)
    lines = path.read_text().splitlines()
    for usage, use in (("PublicTest", "validation"), ("PrivateTest", "test")):
        less = [line for line in lines if not (line[0] == "1" and line.endswith(usage))]
        path.write_text("\n".join(less))
        with pytest.raises(UserError, match=rf"faces\.csv: no {use} image of disgust"):
            datasets.load(path)


def test_a_zip_is_recognised_wherever_it_lies(make_source, tmp_path, contents):
    path = make_source.zip(contents)
    options = {"cache": "disk", "cache_dir": tmp_path / "cache"}
    assert datasets.load(path, **options).decoded
    (tmp_path / "elsewhere").mkdir()
    copy = shutil.copyfile(path, tmp_path / "elsewhere/faces.zip")
    assert not datasets.load(copy, **options).decoded


def test_a_damaged_cache_is_rebuilt(make_source, tmp_path, contents):
    path = make_source.zip(contents)
    options = {"cache": "disk", "cache_dir": tmp_path / "cache"}
    expected = fingerprint(datasets.load(path, **options).splits)
    [entry] = entries(tmp_path / "cache")
    (entry / "images.u8").write_bytes(b"damaged")
    for decoded in (True, False):
        loaded = datasets.load(path, **options)
        assert (loaded.decoded, fingerprint(loaded.splits)) == (decoded, expected)


def test_a_cached_start_needs_no_tensorflow(make_source, tmp_path, contents):
    path = make_source.zip(contents)
    datasets.load(path, cache="disk", cache_dir=tmp_path / "cache")
    code = (
        "import sys; from fer_pipeline import datasets;"
        f"x = datasets.load({str(path)!r}, cache='disk', cache_dir={str(tmp_path / 'cache')!r});"
        "print(x.decoded, len(x.splits.train.labels), 'tensorflow' in sys.modules)"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.split() == ["False", "14", "False"]


def test_the_embedded_default_does_not_depend_on_the_seed(monkeypatch):
    small = synthetic.load
    monkeypatch.setattr(
        synthetic, "load", lambda seed: small(train=14, validation=7, test=7, seed=seed)
    )
    loaded = [datasets.load("synthetic", seed=seed) for seed in (0, 1)]
    assert fingerprint(loaded[0].splits) == fingerprint(loaded[1].splits)
    assert loaded[0].name == datasets.source_name("synthetic") == "synthetic"
    assert len(loaded[0].splits.train.labels) == 14


@pytest.mark.parametrize(
    ("source", "name"),
    [("data/fer2013.zip", "fer2013"), ("FER.CSV", "FER"), ("data/v1.2/", "v1.2"), ("a/..", None)],
)
def test_names(source, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert datasets.source_name(source) == (name or tmp_path.name)


def test_a_source_of_training_images_wants_a_fraction(make_source, train_files):
    root = make_source.folder(train_files)
    with pytest.raises(UserError, match=r"--validation_fraction=0\.1") as raised:
        datasets.load(root)
    assert str(raised.value).startswith(f"{root}: ")
    splits = datasets.load(root, validation_fraction=0.5).splits
    assert splits.selected_on == "test"
    assert splits.test.labels.tolist() == list(range(7))


def test_sources_that_are_none_are_refused(tmp_path):
    missing = tmp_path / "missing.zip"
    with pytest.raises(UserError, match=r"missing\.zip: no such file or folder"):
        datasets.load(missing)
    text = tmp_path / "faces.txt"
    text.touch()
    with pytest.raises(UserError, match=r"faces\.txt: neither a folder nor a \.zip nor a \.csv"):
        datasets.load(text)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match=r"empty: no class folders in it"):
        datasets.load(empty)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"validation_fraction": 0.0},
            r"--validation_fraction=0\.0: must be a number above 0 and below 1",
        ),
        (
            {"validation_fraction": 1.0},
            r"--validation_fraction=1\.0: must be a number above 0 and below 1",
        ),
        ({"validation_fraction": 0.1}, "--validation_fraction: the synthetic faces have"),
        ({"on_bad_image": "ignore"}, "--on_bad_image=ignore: must be one of fail, skip"),
        ({"cache": "ram"}, "--cache=ram: must be one of memory, disk, none"),
        ({"classes": "cat,dog"}, r"synthetic: has other classes \(angry, .*\), not cat, dog; only"),
        ({"classes": ("cat",)}, "--classes: has 1 class, where 2 to 1,000 are possible"),
    ],
)
def test_arguments_are_checked(options, said):
    with pytest.raises(UserError, match=said):
        datasets.load("synthetic", **options)


def test_classes_of_ones_own_go_through_the_cache_and_a_cut(make_source, make_png, tmp_path):
    names = ("b, c", "a", "ü")
    paths = [f"train/{name}/{i}.png" for name in names for i in range(8)]
    paths += [f"test/{name}/0.png" for name in names]
    root = make_source.folder({path: make_png(level) for level, path in enumerate(paths)})
    options = {"cache": "disk", "cache_dir": tmp_path / "cache", "validation_fraction": 0.25}
    first, second = (datasets.load(root, **options) for _ in range(2))
    assert (first.decoded, second.decoded) == (True, False)
    assert first.splits.classes == second.splits.classes == ("a", "b, c", "ü")
    assert np.bincount(second.splits.validation.labels).tolist() == [2, 2, 2]
    # Another order is another entry.
    third = datasets.load(root, classes='ü,"b, c",a', **options)
    assert third.decoded
    assert third.splits.classes == ("ü", "b, c", "a")
    assert third.splits.test.images[:][:, 0, 0, 0].tolist() == [26, 24, 25]


def test_a_folder_that_comes_later_is_named_from_the_cache_too(
    make_source, train_files, test_files, make_png, tmp_path
):
    path = make_source.folder(train_files | test_files)
    options = {"cache": "disk", "cache_dir": tmp_path / "cache"}
    assert datasets.load(path, **options).unread == ()
    make_source.folder({"dev/happy/1.png": make_png(0)})
    assert datasets.load(path, **options).unread == ("dev",)
    assert not datasets.load(path, **options).decoded
