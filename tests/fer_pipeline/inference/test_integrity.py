"""A file of an export is the file of its manifest, or one line says that it is not."""

import hashlib
import json
from pathlib import Path

import pytest

from fer_pipeline.errors import UserError
from fer_pipeline.inference import integrity, model_loader

FILES = ("model.tflite", "saved_model/1/saved_model.pb", "saved_model/1/variables/variables.index")


@pytest.fixture
def folder(tmp_path):
    listed = {}
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
        listed[name] = {"size": len(name), "sha256": hashlib.sha256(name.encode()).hexdigest()}
    write_manifest(tmp_path, listed)
    return tmp_path


def write_manifest(folder, listed):
    text = json.dumps({"schema": 1, "files": listed})
    (folder / "manifest.json").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / "manifest.sha256").write_text(f"{digest}  manifest.json\n")


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


@pytest.mark.parametrize("damage", ["a byte", "missing", "no hash in it", "another JSON"])
def test_a_damaged_manifest_is_no_way_around_it(folder, damage):
    manifest = folder / "manifest.json"
    match damage:
        case "a byte":
            manifest.write_bytes(b"\1" + manifest.read_bytes()[1:])
        case "missing":
            manifest.unlink()
        case "no hash in it":
            (folder / "manifest.sha256").write_text("")
        case "another JSON":
            manifest.write_text("[" * 200_000)
            digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
            (folder / "manifest.sha256").write_text(digest)
    with pytest.raises(UserError, match=r"manifest\.json: ") as error:
        integrity.check(folder / "model.tflite")
    assert "\n" not in str(error.value)


def test_a_link_is_the_file_it_leads_to(folder, tmp_path_factory):
    link = tmp_path_factory.mktemp("elsewhere") / "link.tflite"
    link.symlink_to(folder / "model.tflite")
    integrity.check(link)
    (folder / "model.tflite").write_text("another")
    for path in (link, folder / "saved_model" / ".." / "model.tflite"):
        with pytest.raises(UserError, match="damaged or exchanged"):
            integrity.check(path)


@pytest.mark.parametrize("name", ["stranger.tflite", "saved_model/2"])
def test_a_stranger_among_an_exports_files_is_refused(folder, name):
    (folder / name).mkdir()
    with pytest.raises(UserError, match="is not of the export that it lies in"):
        integrity.check(folder / name)


@pytest.mark.parametrize("model", ["model.tflite", "saved_model", "saved_model/1"])
def test_open_model_asks_before_it_opens(folder, model):
    for name in FILES:
        (folder / name).write_text("another")
    with pytest.raises(UserError, match="damaged or exchanged"):
        model_loader.open_model(folder / model)


@pytest.mark.parametrize("damaged", ["model.json", "model_weights.h5", "model.keras"])
def test_open_model_asks_of_keras_files_too(tmp_path, damaged):
    names = ("model.json", "model_weights.h5", "model.keras")
    for name in names:
        (tmp_path / name).write_text(name)
    listed = {name: {"sha256": hashlib.sha256(name.encode()).hexdigest()} for name in names}
    write_manifest(tmp_path, listed)
    (tmp_path / damaged).write_text("another")
    model = "model.json" if damaged == "model_weights.h5" else damaged
    with pytest.raises(UserError, match=f"{damaged}: not the file"):
        model_loader.open_model(tmp_path / model)


def test_without_the_hash_of_the_manifest_its_files_are_checked_all_the_same(folder):
    manifest = json.loads((folder / "manifest.json").read_text()) | {"artifacts": {}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "manifest.sha256").unlink()
    integrity.check(folder / "model.tflite")
    (folder / "model.tflite").write_text("another")
    with pytest.raises(UserError, match="damaged or exchanged"):
        integrity.check(folder / "model.tflite")


@pytest.mark.parametrize("name", ["saved_model/1/../../../zero", "/dev/zero", "saved_model/1//x"])
def test_an_entry_that_leads_out_of_the_folder_is_refused(folder, name):
    # /dev/zero never ends, so reading it would hang.
    listed = json.loads((folder / "manifest.json").read_text())["files"]
    write_manifest(folder, listed | {name: {"sha256": "0" * 64}})
    with pytest.raises(UserError, match=r"manifest\.json: damaged or exchanged"):
        integrity.check(folder / "saved_model/1")


def test_a_device_in_the_place_of_a_file_is_not_read(folder):
    (folder / "saved_model/1/variables/variables.index").unlink()
    (folder / "saved_model/1/variables/variables.index").symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"variables\.index: not the file"):
        integrity.check(folder / "saved_model/1")


def export_of(folder, **artifacts):
    listed = {}
    for path in {entry["path"] for entry in artifacts.values()}:
        (folder / path).write_bytes(path.encode())
        listed[path] = {"sha256": hashlib.sha256(path.encode()).hexdigest()}
    manifest = {"schema": 1, "artifacts": artifacts, "files": listed}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_an_export_is_a_model_its_most_exact_one(tmp_path):
    int8, float32 = {"path": "model_int8.tflite"}, {"path": "model_float32.tflite"}
    failed = {"path": "model_float16.tflite", "failures": ["it is far off"]}
    find = model_loader._exported_model
    assert find(export_of(tmp_path, int8=int8, float32=float32)).name == "model_float32.tflite"
    assert find(export_of(tmp_path, int8=int8, float16=failed)).name == "model_int8.tflite"
    assert find(export_of(tmp_path, float16=failed)) is None
    (tmp_path / "manifest.json").unlink()
    assert find(tmp_path) is None
