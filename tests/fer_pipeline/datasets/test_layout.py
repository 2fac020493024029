"""Folders that are not laid out as a data set are refused, on disk and inside .zip files."""

import pytest

from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.datasets import files, folders
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
