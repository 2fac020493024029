import errno
import hashlib
import json
import os
import shutil

import numpy as np
import pytest

import export.inference_model
from export import manifest
from export.artifacts import ARTIFACTS
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


@pytest.fixture(scope="module")
def stored(exported):
    return json.loads((exported.folder / "manifest.json").read_text())


def test_lists_every_file_with_size_and_hash(exported, stored):
    assert sorted(stored["files"]) == sorted(FILES)
    for name, entry in stored["files"].items():
        content = (exported.folder / name).read_bytes()
        assert entry == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_the_hash_file_has_the_form_of_sha256sum(exported):
    digest = hashlib.sha256((exported.folder / "manifest.json").read_bytes()).hexdigest()
    assert (exported.folder / "manifest.sha256").read_text() == f"{digest}  manifest.json\n"


def test_says_what_a_developer_has_to_know(stored):
    int8 = stored["artifacts"]["int8"]
    assert int8["path"] == "model_int8.tflite"
    assert int8["inputs"] == [
        {
            "name": "image",
            "shape": [1, 48, 48, 1],
            "dtype": "uint8",
            "quantization": {"scale": 1.0, "zero_point": 0},
        }
    ]
    assert int8["outputs"][0]["quantization"] == {"scale": 1 / 256, "zero_point": 0}
    assert int8["latency"]["p50_ms"] > 0
    assert int8["latency"]["images"] == stored["tflite_batch"] == 1
    assert 0 < int8["accuracy"] <= 1
    assert stored["labels"] == "angry disgust fear happy neutral sad surprise".split()
    assert "0..255" in stored["preprocessing"]
    assert stored["run"] == {"seed": 3, "data": "synthetic"}
    assert stored["evaluation"]["images"] == 280
    assert stored["evaluation"]["accuracy_gated"] is False
    assert set(stored["versions"]) == {"python", "tensorflow", "keras", "numpy", "ai-edge-litert"}


def test_sizes_are_those_of_all_files_of_an_artifact(stored):
    sizes = {name: entry["size"] for name, entry in stored["files"].items()}
    keras_size = sizes["model.json"] + sizes["model_weights.h5"]
    assert stored["artifacts"]["keras"]["size"] == keras_size
    saved = sum(size for name, size in sizes.items() if name.startswith("saved_model/"))
    assert stored["artifacts"]["saved_model"]["size"] == saved


@pytest.mark.parametrize("name", [*FILES, "manifest.json", "manifest.sha256"])
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_any_changed_byte_fails(copy, name, where):
    content = bytearray((copy / name).read_bytes())
    content[round(where * (len(content) - 1))] ^= 0x10
    (copy / name).write_bytes(content)
    with pytest.raises(UserError, match="manifest" if "manifest" in name else name) as caught:
        manifest.check_files(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*FILES, "manifest.json", "manifest.sha256"])
def test_a_truncated_file_fails(copy, name):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[:-1])
    with pytest.raises(UserError, match="manifest" if "manifest" in name else f"{name}.*cut short"):
        manifest.check_files(copy)


@pytest.mark.parametrize("name", [*FILES, "manifest.json", "manifest.sha256"])
def test_a_missing_file_fails(copy, name):
    (copy / name).unlink()
    with pytest.raises(UserError, match=f"{name}: is missing"):
        manifest.check_files(copy)


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "saved_model/1/variables/more"])
def test_an_extra_file_fails(copy, name):
    (copy / name).write_text("extra")
    with pytest.raises(UserError, match=f"{name}: is not of this export"):
        manifest.check_files(copy)


def test_an_extra_link_fails(copy):
    (copy / "link").symlink_to(copy / "saved_model")
    with pytest.raises(UserError, match="link: is not of this export"):
        manifest.check_files(copy)


def test_a_link_in_the_place_of_a_file_fails(copy, tmp_path):
    (copy / "labels.txt").rename(tmp_path / "labels.txt")
    (copy / "labels.txt").symlink_to(tmp_path / "labels.txt")
    with pytest.raises(UserError, match=r"labels\.txt: is a link"):
        manifest.check_files(copy)


def test_a_file_that_cannot_be_read_is_named(copy, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(manifest, "sha256", refuse)
    with pytest.raises(UserError, match=r"manifest\.json: cannot be read \(Permission denied\)"):
        manifest.check_files(copy)


def test_two_files_exchanged_for_one_another_fail(copy):
    first, second = copy / "model_int8.tflite", copy / "model_float32.tflite"
    content = first.read_bytes()
    shutil.copy(second, first)
    second.write_bytes(content)
    with pytest.raises(UserError, match=r"model_float32\.tflite.*\(and 1 more\)"):
        manifest.check_files(copy)


@pytest.mark.parametrize("name", [*FILES, "manifest.json", "manifest.sha256"])
@pytest.mark.parametrize("stranger", ["another file of the export", "a text"])
def test_a_strangers_file_fails(copy, name, stranger):
    if stranger == "a text":
        (copy / name).write_text("a text")
    else:
        other = "model_float16.tflite" if name != "model_float16.tflite" else "model.keras"
        shutil.copy(copy / other, copy / name)
    with pytest.raises(UserError, match="manifest" if "manifest" in name else f"{name}: ") as error:
        manifest.check_files(copy)
    assert str(copy) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_manifest_is_no_export(tmp_path):
    with pytest.raises(UserError, match=r"manifest\.json: is missing"):
        manifest.check_files(tmp_path)


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
        manifest.check_files(tmp_path)


def test_a_manifest_of_a_later_version_is_refused(copy, rewrite_manifest):
    rewrite_manifest(copy, lambda stored: stored.update(schema=2))
    with pytest.raises(UserError, match="another version"):
        manifest.check_files(copy)


class TestVerifyFolder:
    def test_a_whole_folder_passes(self, exported):
        reports = manifest.verify_folder(exported.folder)
        assert [report.name for report in reports] == list(
            json.loads((exported.folder / "manifest.json").read_text())["artifacts"]
        )
        assert all(report.comparison.images == 64 for report in reports)

    def test_a_damaged_folder_does_not_get_as_far_as_a_runtime(self, copy, monkeypatch):
        (copy / "labels.txt").write_text("happy\n")
        monkeypatch.setattr("export.verify.verify_artifacts", None)
        with pytest.raises(UserError, match=r"labels\.txt"):
            manifest.verify_folder(copy)

    def test_golden_outputs_catch_another_network_with_right_hashes(
        self, small, weights, rewrite_manifest
    ):
        from export import saved_model, tflite
        from export.inference_model import inference_model

        other = inference_model([*weights[:-1], weights[-1] + np.arange(7, dtype=np.float32)])
        saved_model.write_fixed_batch(other, small.with_name("fixed"))
        content = tflite.convert(small.with_name("fixed"), "float32")
        (small / "model_float32.tflite").write_bytes(content)
        entry = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        rewrite_manifest(
            small, lambda stored: stored["files"].update({"model_float32.tflite": entry})
        )
        with pytest.raises(UserError, match=r"model_float32\.tflite: on the golden faces"):
            manifest.verify_folder(small)

    def test_accuracy_is_measured_where_there_are_labels(self, small, faces, twin):
        [report] = manifest.verify_folder(small, evaluation=(faces.images, faces.labels))
        assert report.comparison.accuracy == np.mean(twin.argmax(axis=1) == faces.labels)
        # It is compared with itself, and the report says so.
        assert report.reference

    @pytest.mark.parametrize(
        ("name", "kept"),
        [("keras", {"model.json", "model_weights.h5"}), ("keras_v3", {"model.keras"})],
    )
    def test_keras_files_are_compared_with_the_network_of_their_weights(
        self, copy, faces, rewrite_manifest, monkeypatch, name, kept
    ):
        def only_keras(stored):
            stored["artifacts"] = {name: stored["artifacts"][name]}
            for path in set(stored["files"]) - kept - {"golden.npz"}:
                (copy / path).unlink()
                del stored["files"][path]

        rewrite_manifest(copy, only_keras)
        data = (faces.images, faces.labels)
        [report] = manifest.verify_folder(copy, evaluation=data)
        assert report.comparison.max_difference < 1e-5
        assert not report.reference
        # Were the file compared with itself, another network for the twin would not be noticed.
        inference_model = export.inference_model.inference_model

        def other(weights):
            return inference_model([*weights[:-1], weights[-1] + np.arange(7, dtype=np.float32)])

        monkeypatch.setattr("export.inference_model.inference_model", other)
        with pytest.raises(UserError, match=f"{ARTIFACTS[name].path}: a probability differs"):
            manifest.verify_folder(copy, evaluation=data)

    def test_a_folder_without_a_float_file_is_measured_too(self, copy, faces, rewrite_manifest):
        def only_int8(stored):
            stored["artifacts"] = {"int8": stored["artifacts"]["int8"]}
            for path in set(stored["files"]) - {"model_int8.tflite", "golden.npz"}:
                (copy / path).unlink()
                del stored["files"][path]

        recorded = json.loads((copy / "manifest.json").read_text())["artifacts"]["int8"]
        rewrite_manifest(copy, only_int8)
        [report] = manifest.verify_folder(copy, evaluation=(faces.images, faces.labels))
        assert report.comparison.accuracy == recorded["accuracy"]
        assert report.reference

    def test_a_manifest_that_promises_another_accuracy_is_refused(
        self, small, faces, rewrite_manifest
    ):
        def boast(stored):
            stored["artifacts"]["float32"]["accuracy"] += 0.01
            stored["evaluation"]["fingerprint"] = "the same"

        data = (faces.images, faces.labels)
        rewrite_manifest(small, boast)
        # On other data it may be another.
        manifest.verify_folder(small, evaluation=data, fingerprint="another")
        with pytest.raises(UserError, match="of the images that the manifest is about"):
            manifest.verify_folder(small, evaluation=data, fingerprint="the same")
