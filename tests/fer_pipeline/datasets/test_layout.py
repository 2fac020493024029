"""Folders that are not laid out as a data set are refused, on disk and inside .zip files."""

import pytest

from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.datasets import files, folders, layout
from fer_pipeline.datasets.splits import TEST, TRAIN, UNSPLIT
from fer_pipeline.errors import UserError


def list_zip(path):
    return folders.list_zip(path, files.open_zip(path))


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


def listings(make_source, contents, classes=None):
    """The listings of the contents as a folder and as a .zip."""
    path = make_source.zip(contents)
    yield folders.list_folder(make_source.folder(contents), classes)
    yield folders.list_zip(path, files.open_zip(path), classes)


@pytest.fixture
def pets(make_png):
    """Three classes with odd names, two training images and one test image of each."""
    names = ("Zwerg, kleiner", "Äffchen 🐒", "dog")
    paths = [f"train/{name}/{i}.png" for name in names for i in "12"]
    paths += [f"test/{name}/1.png" for name in names]
    return {path: make_png(level) for level, path in enumerate(paths)}


def test_the_folders_in_train_are_the_classes(make_source, pets):
    for listing in listings(make_source, pets):
        assert listing.classes == ("Zwerg, kleiner", "dog", "Äffchen 🐒")
        assert listing.labels.tolist() == [0, 0, 1, 1, 2, 2, 0, 1, 2]


def test_folders_whose_names_look_the_same_are_no_two_classes(make_source, pets):
    contents = pets | {"train/A\u0308ffchen 🐒/3.png": pets["train/dog/1.png"]}
    said = refusal(make_source, contents)
    assert said.startswith("/train/\u00c4ffchen 🐒: there twice, its accents written in two ways")
    # They are one where a name is asked for.
    for listing in listings(make_source, contents, ("\u00c4ffchen 🐒", "dog", "Zwerg, kleiner")):
        assert listing.labels.tolist() == [0, 0, 0, 1, 1, 2, 2, 0, 1, 2]


def test_classes_have_the_order_that_is_asked_for(make_source, pets):
    # One name in other letters, and one with its dots written apart, as macOS does.
    asked = ("A\u0308ffchen 🐒", "DOG", "Zwerg, kleiner")
    for listing in listings(make_source, pets, asked):
        assert listing.classes == asked
        names = [listing.files.name(i).split("/")[-2] for i in range(9)]
        assert [n[0] for n in names] == list("ÄÄddZZÄdZ")
        assert listing.labels.tolist() == [0, 0, 1, 1, 2, 2, 0, 1, 2]


def test_classes_may_differ_in_case_alone(make_source, make_png):
    paths = [f"{split}/{name}/1.png" for split in ("train", "test") for name in "aAb"]
    for listing in listings(make_source, {path: make_png(i) for i, path in enumerate(paths)}):
        assert listing.classes == ("A", "a", "b")
        assert listing.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_fer2013_has_its_own_names_in_any_case(make_source, train_files, test_files):
    files_ = {path.replace("happy", "Happy"): data for path, data in train_files.items()}
    for listing in listings(make_source, files_ | test_files):
        assert listing.classes == CLASS_NAMES


@pytest.mark.parametrize("around", ["", "faces/", "a/b/"])
@pytest.mark.parametrize("names", [("dog", "cat", "Äffchen 🐒"), CLASS_NAMES])
def test_folders_without_a_split_are_the_classes(make_source, make_png, around, names):
    # One picture in a folder of its own, and a file that is none.
    paths = [f"{around}{name.upper()}/{i}.png" for name in names for i in ("1", "later/2")]
    contents = {path: make_png(level) for level, path in enumerate(paths)}
    for listing in listings(make_source, contents | {f"{around}notes.txt": b"to do"}):
        fer = names == CLASS_NAMES
        assert listing.classes == (names if fer else tuple(sorted(n.upper() for n in names)))
        assert listing.labels.tolist() == [label for label in range(len(names)) for _ in "12"]
        assert set(listing.groups.tolist()) == {UNSPLIT}
        [left_out] = listing.left_out
        assert left_out.endswith(f"/{around}notes.txt")


def test_classes_without_a_split_have_the_order_that_is_asked_for(make_source, make_png):
    contents = {f"{name}/1.png": make_png(0) for name in "abc"}
    for listing in listings(make_source, contents, ("c", "a", "b")):
        names = [listing.files.path(i) for i in range(3)]
        assert names == ["c/1.png", "a/1.png", "b/1.png"]
        assert listing.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (["1.png"], ": no class folders in it (found no folders); expected a folder for"),
        (["a/1.png", "b/1.png", "2.png"], "/2.png: in no class folder; move it to <class>/"),
        (["x/a/1.png", "x/b/1.png", "x/2.png"], "/x/2.png: in no class folder; move it to x/<cl"),
        (["a/1.png"], ": has one class folder, a; 2 to 1,000 classes can be told apart"),
        (["a/1.png", "b/1.txt"], "/b: no images in it; every folder is a class and needs images"),
        # Deeper than a split is looked for; its folders are no classes.
        (["x/y/z/train/a/1.png", "x/y/z/test/a/1.png"], ": no class folders in it (found x)"),
        (["x/y/z/1.png", "x/y/z/2.png"], "/x/y: has one class folder, z; 2 to 1,000"),
        (["a/1.png", "b/Test/c/1.png"], ": has b/Test/ but no b/train/; add the training images"),
    ],
)
def test_a_source_without_splits_and_classes_is_refused(make_source, make_png, paths, said):
    contents = {path: make_png(0) if path.endswith(".png") else b"to do" for path in paths}
    assert refusal(make_source, contents).startswith(said)


@pytest.mark.parametrize("names", [("training", "testing"), ("Training", "Testing")])
def test_training_and_testing_are_splits_and_no_classes(make_source, pets, names):
    contents = {
        path.replace("train", names[0], 1).replace("test", names[1], 1): data
        for path, data in pets.items()
    }
    for listing in listings(make_source, contents):
        assert listing.classes == ("Zwerg, kleiner", "dog", "Äffchen 🐒")
        assert listing.groups.tolist() == [TRAIN] * 6 + [TEST] * 3


def test_folders_beside_the_splits_are_named(make_source, pets, make_png):
    contents = {f"a/b/{path}": data for path, data in pets.items()}
    beside = ["a/b/dev/dog/1.png", "a/b/images/train/dog/1.png", "a/c/1.png", "d/e/f/g/1.png"]
    beside += ["__MACOSX/a/b/1.png", ".git/1.png"]
    contents |= {path: make_png(0) for path in beside}
    for listing in listings(make_source, contents):
        assert len(listing.labels) == 9
        assert listing.unread == ("a/b/dev", "a/b/images", "a/c", "d")
    said = layout.describe_unread(listing.unread)
    assert said.endswith("named like no split: a/b/dev/, a/b/images/, a/c/, d/")


def test_a_class_that_is_named_like_a_split_is_not_lost(make_source, make_png):
    contents = {f"{name}/1.png": make_png(0) for name in ("car", "ship", "train")}
    assert refusal(make_source, contents) == (
        "/train/1.png: in no class folder; move it to train/<class>/, or rename train/ if that is "
        "a class"
    )


@pytest.mark.parametrize("beside", [(), ("a", "b")])
def test_classes_beside_one_that_is_named_like_a_split_are_named(make_source, make_png, beside):
    folders_ = ("train/x", "train/y", "test/x", "test/y", *beside)
    for listing in listings(make_source, {f"{name}/1.png": make_png(0) for name in folders_}):
        assert listing.classes == ("x", "y")
        assert listing.unread == beside


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("a", "b", "c"), "/c: not there; every folder is a class"),
        (("a", "d"), "/b: not among --classes"),
    ],
)
def test_folders_without_a_split_are_the_classes_asked_for(make_source, make_png, asked, said):
    contents = {f"{name}/1.png": make_png(0) for name in "ab"}
    with pytest.raises(UserError, match=said):
        next(listings(make_source, contents, asked))


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("train/joyful/1.png", "/test/joyful: not there; every split needs images of angry, "),
        ("test/joyful/1.png", "/test/joyful: train/ has no such class; rename or remove it, the "),
    ],
)
def test_a_class_of_one_split_alone_is_refused(
    make_source, make_png, train_files, test_files, extra, said
):
    message = refusal(make_source, train_files | test_files | {extra: make_png(0)})
    assert message.startswith(said)
    assert ", ".join(CLASS_NAMES[:3]) in message


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("dog", "Äffchen 🐒"), "/t[a-z]+/Zwerg, kleiner: not among --classes; rename or remove"),
        (("dog", "cat", "Äffchen 🐒", "Zwerg, kleiner"), "/t[a-z]+/cat: not there; every split"),
    ],
)
def test_folders_and_the_classes_asked_for_are_the_same(make_source, pets, asked, said):
    with pytest.raises(UserError, match=said):
        next(listings(make_source, pets, asked))


@pytest.mark.parametrize(
    ("count", "said"), [(1, "one class folder, 0000"), (1001, "1,001 class folders")]
)
def test_too_few_or_too_many_classes_are_refused(make_source, make_png, count, said):
    contents = {f"train/{i:04}/1.png": make_png(0) for i in range(count)}
    message = refusal(make_source, contents)
    assert message == f"/train: has {said}; 2 to 1,000 classes can be told apart"


@pytest.mark.parametrize("name", ["two\nlines", "bell\a", "line\u2028end", " "])
def test_a_class_that_no_line_can_name_is_refused(make_source, make_png, name):
    contents = {f"train/{cls}/1.png": make_png(0) for cls in (name, "b")}
    with pytest.raises(UserError, match=r"train/.*; rename it") as raised:
        folders.list_folder(make_source.folder(contents))
    assert len(str(raised.value).splitlines()) == 1


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
