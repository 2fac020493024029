"""A file of an export is the file of its manifest, or one line says that it is not."""

import hashlib
import json
from pathlib import Path

import pytest

from fer_pipeline import integrity, runtimes
from fer_pipeline.errors import UserError

FILES = ("model.tflite", "saved_model/1/saved_model.pb", "saved_model/1/variables/variables.index")


@pytest.fixture
def folder(tmp_path):
    listed = {}
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
        listed[name] = {"size": len(name), "sha256": hashlib.sha256(name.encode()).hexdigest()}
    (tmp_path / "manifest.json").write_text(json.dumps({"schema": 1, "files": listed}))
    return tmp_path


@pytest.mark.parametrize("model", ["model.tflite", "saved_model/1", "saved_model"])
def test_whole_files_pass(folder, model):
    integrity.check(folder / model)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["a byte", "cut", "exchanged", "missing"])
def test_the_damaged_file_is_named(folder, name, damage):
    path = folder / name
    match damage:
        case "a byte":
            path.write_bytes(b"\1" + path.read_bytes()[1:])
        case "cut":
            path.write_bytes(path.read_bytes()[:-1])
        case "exchanged":
            path.write_text("another file")
        case "missing":
            path.unlink()
    model = "saved_model/1" if name.startswith("saved_model") else name
    with pytest.raises(UserError) as error:
        integrity.check(folder / model)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    # The other model is none the worse.
    integrity.check(folder / ("model.tflite" if model != "model.tflite" else "saved_model/1"))


def test_a_path_may_be_relative(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "model.tflite").write_text("another")
    with pytest.raises(UserError, match=r"model\.tflite"):
        integrity.check(Path("model.tflite"))


@pytest.mark.parametrize("text", [None, "no JSON", "[]", "{}", '{"files": 3}', '{"files": {}}'])
def test_what_no_manifest_lists_is_not_checked(tmp_path, text):
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    (tmp_path / "model.tflite").write_text("whatever")
    integrity.check(tmp_path / "model.tflite")


@pytest.mark.parametrize("model", ["model.tflite", "saved_model", "saved_model/1"])
def test_open_model_asks_before_it_opens(folder, model):
    for name in FILES:
        (folder / name).write_text("another")
    with pytest.raises(UserError, match="damaged or exchanged"):
        runtimes.open_model(folder / model)


@pytest.mark.parametrize("damaged", ["model.json", "model_weights.h5", "model.keras"])
def test_open_model_asks_of_keras_files_too(tmp_path, damaged):
    names = ("model.json", "model_weights.h5", "model.keras")
    for name in names:
        (tmp_path / name).write_text(name)
    listed = {name: {"sha256": hashlib.sha256(name.encode()).hexdigest()} for name in names}
    (tmp_path / "manifest.json").write_text(json.dumps({"files": listed}))
    (tmp_path / damaged).write_text("another")
    model = "model.json" if damaged == "model_weights.h5" else damaged
    with pytest.raises(UserError, match=f"{damaged}: not the file"):
        runtimes.open_model(tmp_path / model)
