"""The audit of an export."""

import hashlib
import importlib
import json
import shutil

import numpy as np
import pytest

import export.formats.inference_model
from export import audit
from export.spec.artifacts import ARTIFACTS
from fer_pipeline.errors import UserError


def audited(folder, **options):
    """The reports of an export that passes; UserError where an artifact fails."""
    reports = audit.audit_export(folder, **options).reports
    audit.refuse_failed(folder, reports)
    return reports


def _remove_empty_folders(folder):
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def test_a_whole_folder_passes(exported):
    reports = audited(exported.folder)
    assert [report.name for report in reports] == list(
        json.loads((exported.folder / "manifest.json").read_text())["artifacts"]
    )
    assert all(report.comparison.images == 64 for report in reports)


def test_a_damaged_folder_does_not_get_as_far_as_a_runtime(copy, monkeypatch):
    (copy / "labels.txt").write_text("happy\n")
    monkeypatch.setattr("export.verification.verify.verify_artifacts", None)
    with pytest.raises(UserError, match=r"labels\.txt"):
        audited(copy)


def _another_export(folder, rewrite_manifest):
    (folder / "model_float32.tflite").write_bytes(b"of the other export")
    rewrite_manifest(folder, lambda stored: stored.update(machine={"cores": 99}))


@pytest.mark.parametrize("swap", [_another_export, lambda folder, _: shutil.rmtree(folder)])
@pytest.mark.parametrize("when", ["spec.golden.read", "verification.verify.measure_latency"])
def test_a_folder_that_is_exchanged_meanwhile_is_no_failed_export(
    small, rewrite_manifest, monkeypatch, swap, when
):
    module, _, name = when.rpartition(".")
    step = getattr(importlib.import_module(f"export.{module}"), name)

    def and_then(*arguments):
        result = step(*arguments)
        swap(small, rewrite_manifest)
        return result

    monkeypatch.setattr(f"export.{when}", and_then)
    with pytest.raises(UserError) as caught:
        audit.audit_export(small)
    assert str(caught.value) == f"{small}: was replaced meanwhile; start again"


def test_golden_outputs_catch_another_network_with_right_hashes(small, weights, rewrite_manifest):
    from export.formats import saved_model, tflite
    from export.formats.inference_model import inference_model

    other = inference_model([*weights[:-1], weights[-1] + np.arange(7, dtype=np.float32)])
    saved_model.write_fixed_batch(other, small.with_name("fixed"))
    content = tflite.convert(small.with_name("fixed"), "float32")
    (small / "model_float32.tflite").write_bytes(content)
    entry = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    def exchange(stored):
        stored["files"]["model_float32.tflite"] = entry
        stored["artifacts"]["float32"]["size"] = entry["size"]

    rewrite_manifest(small, exchange)
    with pytest.raises(UserError, match=r"model_float32\.tflite: on the golden faces"):
        audited(small)


def test_a_keras_file_that_cannot_be_opened_costs_its_own_row_alone(copy, faces, rewrite_manifest):
    path = copy / "model.json"
    path.write_text("{}".ljust(path.stat().st_size))

    def cover_up(stored):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        stored["files"]["model.json"]["sha256"] = digest

    rewrite_manifest(copy, cover_up)
    # Nothing else fails: no "(and 1 more artifacts)".
    with pytest.raises(UserError, match=r"model\.json: \w+Error: [^(]*$"):
        audited(copy, evaluation=(faces.images, faces.labels))


def test_accuracy_is_measured_where_there_are_labels(small, faces, reference_model):
    [report] = audited(small, evaluation=(faces.images, faces.labels))
    assert report.comparison.accuracy == np.mean(reference_model.argmax(axis=1) == faces.labels)
    # It is compared with itself, and the report says so.
    assert report.reference


@pytest.mark.parametrize(
    ("name", "kept"),
    [("keras", {"model.json", "model_weights.h5"}), ("keras_v3", {"model.keras"})],
)
def test_keras_files_are_compared_with_the_network_of_their_weights(
    copy, faces, rewrite_manifest, monkeypatch, name, kept
):
    def only_keras(stored):
        stored["artifacts"] = {name: stored["artifacts"][name]}
        for path in set(stored["files"]) - kept - {"golden.npz"}:
            (copy / path).unlink()
            del stored["files"][path]
        _remove_empty_folders(copy)

    rewrite_manifest(copy, only_keras)
    data = (faces.images, faces.labels)
    [report] = audited(copy, evaluation=data)
    assert report.comparison.max_difference < 1e-5
    assert not report.reference
    # Were the file compared with itself, another reference model would not be noticed.
    inference_model = export.formats.inference_model.inference_model

    def other(weights):
        return inference_model([*weights[:-1], weights[-1] + np.arange(7, dtype=np.float32)])

    monkeypatch.setattr("export.formats.inference_model.inference_model", other)
    with pytest.raises(UserError, match=f"{ARTIFACTS[name].path}: a probability differs"):
        audited(copy, evaluation=data)


def test_a_folder_without_a_float_file_is_measured_too(copy, faces, rewrite_manifest):
    def only_int8(stored):
        stored["artifacts"] = {"int8": stored["artifacts"]["int8"]}
        for path in set(stored["files"]) - {"model_int8.tflite", "golden.npz"}:
            (copy / path).unlink()
            del stored["files"][path]
        _remove_empty_folders(copy)

    recorded = json.loads((copy / "manifest.json").read_text())["artifacts"]["int8"]
    rewrite_manifest(copy, only_int8)
    [report] = audited(copy, evaluation=(faces.images, faces.labels))
    assert report.comparison.accuracy == recorded["accuracy"]
    assert report.reference


def test_a_manifest_that_promises_another_accuracy_is_refused(small, faces, rewrite_manifest):
    def change(stored):
        stored["artifacts"]["float32"]["accuracy"] -= 0.01
        stored["evaluation"]["fingerprint"] = "the same"

    data = (faces.images, faces.labels)
    rewrite_manifest(small, change)
    # On other data it may be another.
    audited(small, evaluation=data, fingerprint="another")
    with pytest.raises(UserError, match="of the images that the manifest is about"):
        audited(small, evaluation=data, fingerprint="the same")


def test_the_manifests_own_gates_count_unless_a_flag_overrides(
    small, faces, rewrite_manifest, monkeypatch
):
    # As many images as are needed for accuracy to be gated.
    monkeypatch.setattr("export.spec.gates.ACCURACY_GATE_IMAGES", 100)
    own = ARTIFACTS["float32"].gate._replace(accuracy_drop=0.5)
    artifact = ARTIFACTS["float32"]._replace(gate=own)
    monkeypatch.setitem(ARTIFACTS, "float32", artifact)
    # A reference model that names all as these labels do, and the file names none so.
    labels = (faces.labels + 1) % 7
    reference_model = np.eye(7, dtype=np.float32)[labels]
    monkeypatch.setattr(audit, "_reference_probabilities", lambda *_: (reference_model, None))
    wide = {"max_difference": None, "agreement": None, "accuracy_drop": 100.0}

    def lax(stored):
        stored["artifacts"]["float32"]["gate"] |= wide

    data = (faces.images, labels)
    with pytest.raises(UserError, match=r"model_float32\.tflite: a probability differs"):
        audited(small, evaluation=data)
    rewrite_manifest(small, lax)
    found = audit.audit_export(small, evaluation=data)
    assert found.reports[0].failures == ()
    assert found.reports[0].comparison.accuracy_drop > 0
    # That they are wider is said.
    assert found.lax == (
        "model_float32.tflite: its manifest's max_difference is none, not 0.0001",
        "model_float32.tflite: its manifest's agreement is none, not 0.999",
        "model_float32.tflite: its manifest's accuracy_drop is 100, not 0.5",
    )
    with pytest.raises(UserError, match="points lower > 0"):
        audited(small, evaluation=data, max_accuracy_drop=0.0)


def test_an_export_under_its_own_gates_is_not_lax(exported):
    assert audit.audit_export(exported.folder).lax == ()


def test_a_saved_model_that_asks_for_files_does_not_run(copy, tmp_path, rewrite_manifest):
    import tensorflow as tf

    stolen = tmp_path / "stolen"
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, 48, 48, 1], tf.float32, "image")])
    def serve(image):
        with tf.control_dependencies([tf.io.write_file(str(stolen), "stolen")]):
            return {"probabilities": tf.zeros([tf.shape(image)[0], 7])}

    module.serve = serve
    tf.saved_model.save(module, str(copy / "saved_model/1"), signatures=serve)

    def only_saved_model(stored):
        stored["artifacts"] = {"saved_model": stored["artifacts"]["saved_model"]}
        stored["files"] = {}
        for path in sorted(copy.rglob("*")):
            name = path.relative_to(copy).as_posix()
            if name.startswith("saved_model/1/") or name == "golden.npz":
                if path.is_file():
                    content = path.read_bytes()
                    digest = hashlib.sha256(content).hexdigest()
                    stored["files"][name] = {"size": len(content), "sha256": digest}
            elif path.is_file() and "manifest" not in name:
                path.unlink()
        parts = [entry for name, entry in stored["files"].items() if name != "golden.npz"]
        stored["artifacts"]["saved_model"]["size"] = sum(entry["size"] for entry in parts)

    rewrite_manifest(copy, only_saved_model)
    with pytest.raises(UserError, match=r"saved_model/1: .*asks for .*WriteFile.*--trust"):
        audited(copy)
    assert not stolen.exists()


def test_a_damaged_keras_file_under_a_right_hash_is_one_line(copy, rewrite_manifest):
    path = copy / "model.keras"
    path.write_bytes(b"no archive")
    entry = {"size": 10, "sha256": hashlib.sha256(b"no archive").hexdigest()}

    def only_archive(stored):
        stored["artifacts"] = {"keras_v3": stored["artifacts"]["keras_v3"]}
        for name in set(stored["files"]) - {"model.keras", "golden.npz"}:
            (copy / name).unlink()
            del stored["files"][name]
        stored["files"]["model.keras"] = entry
        stored["artifacts"]["keras_v3"]["size"] = entry["size"]

    rewrite_manifest(copy, only_archive)
    _remove_empty_folders(copy)
    with pytest.raises(UserError, match=r"model\.keras: .*zip") as caught:
        audited(copy)
    assert "\n" not in str(caught.value)
