"""A folder is whole, or one line names the first thing that is not."""

import errno
import hashlib
import os
import shutil

import pytest

from export.delivery import contents
from fer_pipeline.errors import UserError

FILES = (
    "MODEL_CARD.md",
    "golden.npz",
    "labels.txt",
    "model.json",
    "model.keras",
    "model_dynamic_range.tflite",
    "model_float16.tflite",
    "model_float32.tflite",
    "model_float32_rgb.tflite",
    "model_int8.tflite",
    "model_int8_rgb.tflite",
    "model_weights.h5",
    "saved_model/1/assets/labels.txt",
    "saved_model/1/fingerprint.pb",
    "saved_model/1/saved_model.pb",
    "saved_model/1/variables/variables.data-00000-of-00001",
    "saved_model/1/variables/variables.index",
)


@pytest.mark.parametrize("name", [*FILES, "manifest.json", "manifest.sha256"])
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_any_changed_byte_fails(copy, name, where):
    content = bytearray((copy / name).read_bytes())
    content[round(where * (len(content) - 1))] ^= 0x10
    (copy / name).write_bytes(content)
    with pytest.raises(UserError, match="manifest" if "manifest" in name else name) as caught:
        contents.check_files(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*FILES, "manifest.json", "manifest.sha256"])
def test_a_truncated_file_fails(copy, name):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[:-1])
    with pytest.raises(UserError, match="manifest" if "manifest" in name else f"{name}.*cut short"):
        contents.check_files(copy)


@pytest.mark.parametrize("name", [*FILES, "manifest.json", "manifest.sha256"])
def test_a_missing_file_fails(copy, name):
    (copy / name).unlink()
    with pytest.raises(UserError, match=f"{name}: is missing"):
        contents.check_files(copy)


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "saved_model/1/variables/more"])
def test_an_extra_file_fails(copy, name):
    (copy / name).write_text("extra")
    with pytest.raises(UserError, match=f"{name}: is not of this export"):
        contents.check_files(copy)


def test_an_extra_link_fails(copy):
    (copy / "link").symlink_to(copy / "saved_model")
    with pytest.raises(UserError, match="link: is not of this export"):
        contents.check_files(copy)


def test_a_link_in_the_place_of_a_file_fails(copy, tmp_path):
    (copy / "labels.txt").rename(tmp_path / "labels.txt")
    (copy / "labels.txt").symlink_to(tmp_path / "labels.txt")
    with pytest.raises(UserError, match=r"labels\.txt: is a link"):
        contents.check_files(copy)


def test_a_file_that_cannot_be_read_is_named(copy, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(contents, "sha256", refuse)
    with pytest.raises(UserError, match=r"MODEL_CARD\.md: cannot be read \(Permission denied\)"):
        contents.check_files(copy)


def test_two_files_exchanged_for_one_another_fail(copy):
    first, second = copy / "model_int8.tflite", copy / "model_float32.tflite"
    content = first.read_bytes()
    shutil.copy(second, first)
    second.write_bytes(content)
    with pytest.raises(UserError, match=r"model_float32\.tflite.*\(and 1 more\)"):
        contents.check_files(copy)


@pytest.mark.parametrize("name", [*FILES, "manifest.json", "manifest.sha256"])
@pytest.mark.parametrize("stranger", ["another file of the export", "a text"])
def test_a_strangers_file_fails(copy, name, stranger):
    if stranger == "a text":
        (copy / name).write_text("a text")
    else:
        other = "model_float16.tflite" if name != "model_float16.tflite" else "model.keras"
        shutil.copy(copy / other, copy / name)
    with pytest.raises(UserError, match="manifest" if "manifest" in name else f"{name}: ") as error:
        contents.check_files(copy)
    assert str(copy) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_manifest_is_no_export(tmp_path):
    with pytest.raises(UserError, match=r"manifest\.json: is missing"):
        contents.check_files(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        pytest.param("[" * 200_000, id="deep"),
        "[]",
        "{}",
        '{"schema": 1}',
        '{"schema": 1, "artifacts": {"int8": 3}, "files": 3}',
    ],
)
def test_something_else_that_is_hashed_is_no_manifest(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    (tmp_path / "manifest.sha256").write_text(f"{digest}  manifest.json\n")
    with pytest.raises(UserError, match=r"manifest\.json: is"):
        contents.check_files(tmp_path)


def test_a_manifest_of_a_later_version_is_refused(copy, rewrite_manifest):
    rewrite_manifest(copy, lambda stored: stored.update(schema=2))
    with pytest.raises(UserError, match="another version"):
        contents.check_files(copy)


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "saved_model/1/.DS_Store"])
def test_what_systems_leave_in_folders_is_nobodys_business(copy, name):
    (copy / name).write_text("looked into")
    contents.check_files(copy)


@pytest.mark.parametrize(
    "put",
    [
        pytest.param(lambda path: path.write_bytes(bytes(100_000)), id="a payload"),
        pytest.param(lambda path: path.symlink_to("/etc/hosts"), id="a link"),
        pytest.param(lambda path: path.mkdir(), id="a folder"),
        pytest.param(lambda path: (path.mkdir(), (path / path.name).touch()), id="a full folder"),
    ],
)
@pytest.mark.parametrize("name", [".DS_Store", "saved_model/1/Thumbs.db"])
def test_what_has_the_name_of_a_systems_file_and_is_none_fails(copy, name, put):
    put(copy / name)
    with pytest.raises(UserError, match=f"{name}.*: is not of this export"):
        contents.check_files(copy)


def test_a_systems_file_in_a_folder_of_its_own_fails(copy):
    (copy / "hidden").mkdir()
    (copy / "hidden/.DS_Store").touch()
    with pytest.raises(UserError, match=r"hidden/\.DS_Store: is not of this export"):
        contents.check_files(copy)


@pytest.mark.parametrize("name", ["empty", "saved_model/2", "saved_model/1/assets.extra"])
def test_an_empty_folder_fails(copy, name):
    (copy / name).mkdir()
    with pytest.raises(UserError, match=f"{name}: is not of this export"):
        contents.check_files(copy)


def _listed(folder, name):
    content = (folder / name).read_bytes()
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize("name", ["labels.txt", "saved_model/1/assets/labels.txt"])
def test_swapped_names_fail_although_they_are_hashed(copy, rewrite_manifest, name):
    path = copy / name
    swapped = path.read_text().replace("happy", "x").replace("sad", "happy").replace("x", "sad")
    path.write_text(swapped)
    rewrite_manifest(copy, lambda stored: stored["files"].update({name: _listed(copy, name)}))
    with pytest.raises(UserError, match=f"{name}: holds other labels"):
        contents.check_files(copy)


def test_swapped_names_in_the_manifest_fail(copy, rewrite_manifest):
    rewrite_manifest(copy, lambda stored: stored["labels"].reverse())
    with pytest.raises(UserError, match="its labels are not those that the models answer with"):
        contents.check_files(copy)


def test_a_listed_file_that_would_not_be_opened_fails(copy, rewrite_manifest):
    (copy / "stowaway.tflite").write_text("never opened")

    def add(stored):
        stored["files"]["stowaway.tflite"] = _listed(copy, "stowaway.tflite")

    rewrite_manifest(copy, add)
    with pytest.raises(UserError, match=r"stowaway\.tflite: is listed, but of no artifact"):
        contents.check_files(copy)
    # Nor one of a format that the manifest leaves out.
    (copy / "stowaway.tflite").unlink()

    def leave_out(stored):
        del stored["artifacts"]["int8"], stored["files"]["stowaway.tflite"]

    rewrite_manifest(copy, leave_out)
    with pytest.raises(UserError, match=r"model_int8\.tflite: is listed, but of no artifact"):
        contents.check_files(copy)


@pytest.mark.parametrize(
    "name", ["saved_model/1/evil.sh", "saved_model/1/variables/variables.data-00007-of-00009"]
)
def test_a_listed_file_more_in_a_saved_model_fails(copy, rewrite_manifest, name):
    (copy / name).write_text("never opened")
    entry = _listed(copy, name)

    def add(stored):
        stored["files"][name] = entry
        stored["artifacts"]["saved_model"]["size"] += entry["size"]

    rewrite_manifest(copy, add)
    with pytest.raises(UserError, match=f"{name}: is listed, but of no artifact"):
        contents.check_files(copy)


@pytest.mark.parametrize("name", FILES[-5:])
def test_a_file_less_in_a_saved_model_fails_though_it_is_not_listed(copy, rewrite_manifest, name):
    size = (copy / name).stat().st_size
    (copy / name).unlink()
    if not any((copy / name).parent.iterdir()):
        (copy / name).parent.rmdir()

    def leave_out(stored):
        del stored["files"][name]
        stored["artifacts"]["saved_model"]["size"] -= size

    rewrite_manifest(copy, leave_out)
    with pytest.raises(UserError, match=f"{name}: is not listed by the manifest"):
        contents.check_files(copy)


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sha256"])
def test_a_link_in_the_place_of_the_manifest_fails(copy, tmp_path, name):
    (copy / name).rename(tmp_path / name)
    (copy / name).symlink_to(tmp_path / name)
    with pytest.raises(UserError, match=f"{name}: is a link"):
        contents.check_files(copy)


def test_a_manifest_of_another_size_than_manifests_have_is_not_read(copy):
    os.truncate(copy / "manifest.json", 2**24 + 1)
    with pytest.raises(UserError, match=r"manifest\.json: is too large"):
        contents.check_files(copy)


@pytest.mark.parametrize("name", ["../outside", "/dev/zero", "saved_model/../../outside", "./x"])
def test_a_listed_path_that_leads_out_fails(copy, rewrite_manifest, name):
    entry = {"size": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    rewrite_manifest(copy, lambda stored: stored["files"].update({name: entry}))
    with pytest.raises(UserError, match="which is no path in its folder"):
        contents.check_files(copy)


def _put(*path, value):
    def change(stored):
        for key in path[:-1]:
            stored = stored[key]
        stored[path[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _put("artifacts", value=[]),
        _put("artifacts", value={}),
        _put("artifacts", "int8", value=3),
        _put("artifacts", "int8", "path", value="/dev/zero"),
        _put("artifacts", "int8", "gate", value="none"),
        _put("artifacts", "int8", "gate", "agreement", value=float("nan")),
        _put("artifacts", "int8", "gate", "agreement", value="0.5"),
        _put("artifacts", "int8", "golden_max_difference", value=1.0),
        _put("artifacts", "int8", "golden_max_difference", value=float("nan")),
        _put("artifacts", "int8", "golden_max_difference", value=None),
        _put("artifacts", "float32", "golden_max_difference", value=0.01),
        _put("artifacts", "int8", "gate", "agreement", value=1e308),
        _put("artifacts", "int8", "gate", "accuracy_drop", value=10**400),
        _put("artifacts", "int8", "accuracy", value="all"),
        _put("artifacts", "int8", "accuracy", value=10**400),
        _put("artifacts", "int8", "accuracy", value=1.5),
        _put("artifacts", "int8", "failures", value="none"),
        _put("artifacts", "int8", "failures", value=[3]),
        _put("artifacts", "int8", "inputs", 0, "shape", value=[1, 3, 3, 3]),
        _put("artifacts", "int8", "outputs", 0, "quantization", "scale", value=0.5),
        _put("artifacts", "float32", "inputs", value=[]),
        _put("artifacts", "keras", "outputs", value=None),
        _put("artifacts", "saved_model", "signatures", "classify", value={}),
        _put("artifacts", "saved_model", "size", value=1),
        _put("artifacts", "keras", "size", value="large"),
        _put("tflite_batch", value=8),
        _put("preprocessing", value="divide by 255 and subtract the mean"),
        _put("postprocessing", value="apply softmax"),
        _put("artifacts", "onnx", value={}),
        _put("warnings", value=3),
        _put("warnings", value=[{}]),
        _put("kept_back", value=[]),
        _put("kept_back", value={"int8": {"path": "x"}}),
        _put("tflite_batch", value=10**30),
        _put("tflite_batch", value=None),
        _put("mirror", value="yes"),
        _put("temperature", value={"value": 2.0}),
        _put("labels", value=None),
        _put("schema", value="1"),
        _put("run", value=None),
        _put("run", "seed", value="three"),
        _put("evaluation", "source", value={}),
        _put("evaluation", "images", value="many"),
        _put("run", "seed", value=-1),
        _put("run", "validation_fraction", value={}),
        _put("run", "validation_fraction", value=float("nan")),
        _put("evaluation", value=7),
        _put("files", value=[]),
        _put("files", "labels.txt", value=None),
        _put("files", "labels.txt", "size", value="12"),
        _put("files", "labels.txt", "sha256", value=12),
    ],
)
def test_an_odd_manifest_is_one_line(copy, rewrite_manifest, change):
    rewrite_manifest(copy, change)
    with pytest.raises(UserError, match=r"manifest\.json: (is|its) ") as caught:
        contents.check_files(copy)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_listed_name_that_would_move_the_cursor_is_spelled_out(copy, rewrite_manifest):
    entry = {"size": 0, "sha256": ""}
    rewrite_manifest(copy, lambda stored: stored["files"].update({"\x1b[2J\nwhole": entry}))
    with pytest.raises(UserError) as caught:
        contents.check_files(copy)
    assert str(caught.value).startswith(rf"{copy}/\x1b[2J\nwhole: is missing")


def test_a_device_in_the_place_of_a_manifest_does_not_hang(copy):
    (copy / "manifest.json").unlink()
    (copy / "manifest.json").symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"manifest\.json: is missing"):
        contents.check_files(copy)
