"""Listed images are left out of training and validation, whatever the form of source and list."""

import csv
import hashlib

import numpy as np
import pytest

from fer_pipeline import datasets
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.datasets import exclusion, run_data
from fer_pipeline.datasets.splits import Split, Splits, fingerprint
from fer_pipeline.errors import UserError


def digest_of(level):
    """Of a flat image, by hand: SHA-256 of 48 x 48 equal bytes."""
    return hashlib.sha256(bytes([level]) * 48 * 48).hexdigest()


def levels(split):
    return np.asarray(split.images[:])[:, 0, 0, 0].tolist()


@pytest.fixture
def contents(train_files, make_files, test_files):
    """Levels 0 to 13 for training, 50 to 63 for validation, 100 to 106 for the test."""
    return train_files | make_files("validation", "a.png", "b.png", first_level=50) | test_files


@pytest.fixture
def write_list(tmp_path):
    def write(*lines):
        path = tmp_path / "list.txt"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_paths_and_hashes_leave_out_all_but_test_images(
    make_source, contents, write_list, tmp_path, kind, cache
):
    source = getattr(make_source, kind)(contents)
    listed = write_list(
        "path",
        "# by hand",
        "./train/angry/Training_2.png",
        digest_of(3).upper(),
        "",
        "validation/sad/b.png",
        digest_of(100),
        "test/sad/PublicTest_1.png",
        "train/angry/no such.png",
        "ab" * 32,
    )
    options = {"exclude": listed, "cache": cache, "cache_dir": tmp_path / "cache"}
    for _ in range(2 if cache == "disk" else 1):
        loaded = datasets.load(source, **options)
        assert levels(loaded.splits.train) == [0, 2, *range(4, 14)]
        assert levels(loaded.splits.validation) == [n for n in range(50, 64) if n != 61]
        assert levels(loaded.splits.test) == list(range(100, 107))
        assert loaded.splits.train.labels.tolist() == [0, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
        found = loaded.excluded
        assert (found.train, found.validation, found.lines, found.kept_test) == (2, 1, 7, 2)
        assert [line.number for line in found.unmatched] == [9, 10]
    said = exclusion.describe(found)
    assert "left out 2 training and 1 validation images, by 7 lines" in said
    assert "test images, which stay, are meant by 2 lines" in said
    assert "no image is meant by 2 lines, first line 9: train/angry/no such.png" in said


def test_a_csv_means_only_the_copy_with_its_label(make_source, train_files, test_files, tmp_path):
    files = train_files | test_files
    files["train/sad/copy.png"] = files["train/happy/Training_1.png"]
    source, path = make_source.folder(files), tmp_path / "doubtful.csv"
    row = f"train/sad/copy.png,train,{digest_of(6)},sad,happy,0.1,0.8\n"
    header = "name,split,sha256,label,suggested,label_probability,suggested_probability\n"
    path.write_text(header + row)
    splits = datasets.load(source, exclude=path).splits
    assert levels(splits.train) == list(range(14))
    assert splits.train.labels[6] == CLASS_NAMES.index("happy")
    path.write_text(header + row.replace(digest_of(6), "123"))
    with pytest.raises(UserError, match="line 2 has no SHA-256"):
        datasets.load(source, exclude=path)
    path.write_text(f"sha256\n{digest_of(6)}\n")
    assert levels(datasets.load(source, exclude=path).splits.train) == [
        n for n in range(14) if n != 6
    ]


def test_rows_of_a_csv_source_are_named_as_a_spreadsheet_counts(tmp_path, write_list):
    rows = ["emotion,pixels,Usage"]
    for i in range(21):
        usage = ("Training", "Training", "PublicTest")[i // 7]
        rows.append(f"{i % 7},{' '.join([str(i)] * 2304)},{usage}")
    source = tmp_path / "fer2013.csv"
    source.write_text("\n".join(rows) + "\n")
    loaded = datasets.load(source, exclude=write_list("row 2", "row 16", digest_of(9)))
    assert sorted(levels(loaded.splits.train)) == [n for n in range(1, 14) if n != 9]
    # Row 16 is a test image, and validates, too.
    assert (loaded.excluded.train, loaded.excluded.kept_test) == (2, 1)
    assert levels(loaded.splits.test) == list(range(14, 21))
    faces = datasets.read(source)
    assert datasets.names(source, faces, np.array([0, 20])) == ["row 2", "row 22"]


def test_arrays_have_hashes_but_no_names(write_list):
    images = np.arange(14, dtype=np.uint8).repeat(48 * 48).reshape(14, 48, 48, 1)
    part = Split(images, np.arange(14, dtype=np.int32) % 7)
    splits = Splits(part, part, part)
    listed = exclusion.read(write_list(digest_of(0), "face 3"))
    thinned, found = exclusion.apply(splits, listed)
    assert levels(thinned.train) == levels(thinned.validation) == list(range(1, 14))
    assert len(thinned.test.labels) == len(splits.train.labels) == 14
    assert [line.text for line in found.unmatched] == ["face 3"]


@pytest.mark.parametrize(
    ("label", "train"), [("caf\u00e9", 1), ("CAFE\u0301", 1), ("dog", 0), ("cow", 0)]
)
def test_a_label_means_its_class_however_that_is_spelled(tmp_path, label, train):
    images = np.arange(4, dtype=np.uint8).repeat(48 * 48).reshape(4, 48, 48, 1)
    part = Split(images, np.arange(4, dtype=np.int32) % 2)
    splits = Splits(part, part, part, classes=("Caf\u00e9", "dog"))
    listed = tmp_path / "doubtful.csv"
    listed.write_text(f"name,sha256,label\nx,{digest_of(2)},{label}\n", "utf-8")
    assert exclusion.apply(splits, exclusion.read(listed))[1].train == train


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_blanks_of_a_label_are_its_own_before_they_are_typing(tmp_path, delimiter):
    images = np.arange(6, dtype=np.uint8).repeat(48 * 48).reshape(6, 48, 48, 1)
    part = Split(images, np.arange(6, dtype=np.int32) % 3)
    splits = Splits(part, part, part, classes=(" a ", "a", "b"))
    listed = tmp_path / "list.csv"
    rows = [("name", "sha256", "label"), ("x", digest_of(0), " a "), ("y", digest_of(5), " b")]
    # A spreadsheet of another language has other delimiters, and a name may hold a line break.
    rows += [("two\nlines", digest_of(4), "a"), ("z", digest_of(3), "a")]
    with open(listed, "w", newline="") as file:
        file.write("# by hand\n\n")
        csv.writer(file, delimiter=delimiter).writerows(rows)
    kept, found = exclusion.apply(splits, exclusion.read(listed))
    assert levels(kept.train) == [1, 2, 3]
    assert [(line.number, line.text) for line in found.unmatched] == [(8, "z")]


@pytest.mark.parametrize("text", ['x,{},"sad', 'x,{},"sad" or happy', 'x,"{}\ny,{}'])
def test_a_row_with_a_stray_quote_swallows_no_other(tmp_path, text):
    listed = tmp_path / "list.csv"
    listed.write_text(f"name,sha256,label\nw,{digest_of(1)},sad\n{text}\n".format(*2 * "a"))
    with pytest.raises(UserError, match=r"list\.csv: line 3 "):
        exclusion.read(listed)


def test_a_line_of_any_length_is_one_that_means_no_image(write_list):
    part = Split(np.zeros((2, 48, 48, 1), np.uint8), np.arange(2, dtype=np.int32))
    splits = Splits(part, part, part, classes=("a", "b"))
    listed = exclusion.read(write_list("x" * 200_000, '"' + "y," * 100_000))
    _, found = exclusion.apply(splits, listed, lambda: [["a", "b"]] * 3)
    assert [line.number for line in found.unmatched] == [1, 2]


def test_a_path_means_the_image_of_just_that_name_if_there_is_one(write_list):
    names = ["a/1.png", " a/1.png", "a\\2.png", "a/2.png", 'b/"3".png', "b/,4.png", "#b/5.png"]
    images = np.arange(8, dtype=np.uint8).repeat(48 * 48).reshape(8, 48, 48, 1)
    part = Split(images, np.arange(8, dtype=np.int32) % 2)
    splits = Splits(part, part._replace(images=images[:0], labels=part.labels[:0]), part)
    listed = write_list(" a/1.png", "a\\2.png", 'b/"3".png', '"b/,4.png"', "./#b/5.png", "#b/6.png")
    kept, found = exclusion.apply(
        splits, exclusion.read(listed), lambda: [[*names, "#b/6.png"], [], []]
    )
    assert levels(kept.train) == [0, 3, 7]
    assert found.unmatched == []


def test_lines_may_end_as_those_of_old_macs(tmp_path):
    listed = tmp_path / "list.csv"
    for text, expected in (
        ("name\ra/1.png\rb/2.png\r", [(2, None), (3, None)]),
        (f"name,sha256\rx,{digest_of(1)}\r", [(2, digest_of(1))]),
    ):
        listed.write_bytes(text.encode())
        lines = exclusion.read(listed).lines
        assert [(line.number, line.digest) for line in lines] == expected


@pytest.mark.parametrize("name", ["#1.png", " #1.png", "=1.png"])
def test_no_path_of_a_table_is_a_comment(tmp_path, name):
    listed = tmp_path / "list.csv"
    listed.write_text(f"name,sha256\n{exclusion.as_path_cell(name)},{digest_of(1)}\n")
    assert len(exclusion.read(listed).lines) == 1


def test_a_class_without_images_ends_in_one_line(make_source, contents, write_list):
    listed = write_list("train/sad/Training_1.png", "train/sad/Training_2.png")
    with pytest.raises(UserError, match="leaves no training image of sad"):
        datasets.load(make_source.folder(contents), exclude=listed)


@pytest.mark.parametrize("what", ["missing", "folder", "binary"])
def test_what_is_no_list_is_named(tmp_path, what):
    path = tmp_path / what
    if what == "folder":
        path.mkdir()
    if what == "binary":
        path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UserError, match=f"--exclude=.*{what}: "):
        datasets.load("synthetic", exclude=path)


@pytest.mark.parametrize("own_name", [True, False])
def test_a_runs_faces_are_loaded_without_those_it_left_out(
    make_source, contents, write_list, own_name
):
    source, listed = make_source.folder(contents), write_list("train/angry/Training_2.png")
    splits = datasets.load(source, exclude=listed).splits
    config = {
        "data": str(source),
        "exclude": str(listed),
        "exclude_sha256": hashlib.sha256(listed.read_bytes()).hexdigest(),
        "fingerprint": fingerprint(splits),
    }
    loaded = run_data.load(config, None if own_name else str(source))
    assert loaded.own
    assert levels(loaded.splits.train) == [0, *range(2, 14)]
    listed.write_text("train/angry/Training_1.png\n")
    if own_name:
        with pytest.raises(UserError, match="has changed since the run was started"):
            run_data.load(config)
    else:
        assert not run_data.load(config, str(source)).own
