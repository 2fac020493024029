import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from export import audit, pipeline
from export.delivery import contents, manifest
from export.spec import artifacts
from export.spec.gates import Gate
from fer_pipeline.datasets.splits import Split, Splits
from fer_pipeline.errors import UserError
from fer_pipeline.models import notebook_cnn

# All artifacts of the narrow network, written in a process that does nothing else.
WRITE = """
import sys
from pathlib import Path
import numpy as np
from export.spec import artifacts
from export import pipeline
from export.formats.inference_model import inference_model
from fer_pipeline.models import notebook_cnn as model
from fer_pipeline.datasets.splits import Split
model.CONVOLUTIONS, model.DENSE_UNITS = {convolutions}, {dense_units}
given = np.load({given!r})
weights = [given[f"arr_{{i}}"] for i in range(len(given.files) - 2)]
folder, scratch = (Path(name) for name in sys.argv[1:])
list(pipeline.write_artifacts(
    folder, scratch, inference_model(weights), artifacts.ARTIFACTS,
    Split(given["images"], given["labels"]), seed=3,
))
"""


def _hashes(folder):
    return {name: manifest.sha256(folder / name) for name in manifest.list_files(folder)}


def _export(run, faces, weights, **options):
    arguments = {
        "train": faces,
        "evaluation": faces,
        "config": {},
        "metrics": None,
        "log_path": run / "tf.log",
        "say": lambda _: None,
    }
    return pipeline.export_run(run, weights, **(arguments | options))


def test_every_artifact_passes_and_is_reported(exported, faces, reference_model):
    assert [report.name for report in exported.reports] == list(artifacts.ARTIFACTS)
    assert all(report.failures == () for report in exported.reports)
    accuracy = np.mean(reference_model.argmax(axis=1) == faces.labels)
    assert exported.reports[0].comparison.accuracy == pytest.approx(accuracy)


def test_the_run_holds_the_export_and_no_workshop(exported):
    names = {path.name for path in exported.run.iterdir()}
    assert names == {"export", "tf.log", ".export.lock"}
    assert contents.check_files(exported.folder)["schema"] == 1


def test_the_table_ends_the_stage(exported):
    lines = exported.said.splitlines()
    [header] = [line for line in lines if line.startswith("artifact")]
    for word in ("MB", "accuracy", "agreement", "p50 ms"):
        assert word in header
    for artifact in artifacts.ARTIFACTS.values():
        assert any(line.startswith(artifact.path) for line in lines)


def test_a_slow_export_says_how_far_it_is(monkeypatch):
    clock = iter([0.0, 10.0, 31.0, 31.0, 60.0, 62.0, 62.0])
    monkeypatch.setattr(pipeline.time, "monotonic", lambda: next(clock))
    said = []
    names = ["saved_model", "float32", "int8", "keras"]
    assert [*pipeline._announced(iter(names), 4, said.append)] == names
    assert said == [f"exporting: {number} of 4 formats written" for number in (2, 4)]


def test_nothing_native_reaches_the_terminal(exported, faces, weights, tmp_path, capfd):
    _export(tmp_path, faces, weights, formats=["float16"], say=print)
    captured = capfd.readouterr()
    assert captured.err == ""
    assert "model_float16.tflite" in captured.out
    assert all(
        line.startswith(("exporting", "artifact", "model_", "verified"))
        for line in captured.out.splitlines()
    )


def test_a_temperature_is_the_metrics_or_fitted_and_part_of_the_weights(
    pool, network, weights, temperature_record
):
    said = []
    splits = Splits(pool, pool, pool)
    arguments = (weights, {"temperature": temperature_record}, splits)
    folded, found = pipeline.calibrated(*arguments, say=said.append)
    assert found == temperature_record
    np.testing.assert_allclose(folded[-2], weights[-2] / 1.25, rtol=1e-6)
    assert said == [
        "temperature 1.250, fitted on the validation images: calibration error of the test images "
        "0.1234 before, 0.0321 after"
    ]
    folded, found = pipeline.calibrated(weights, None, splits, say=said.append)
    # The temperature that is fitted beats its neighbours, by Keras' own loss.
    losses = []
    model = keras.models.clone_model(network)
    model.compile(loss="sparse_categorical_crossentropy")
    for factor in (0.9, 1.0, 1.1):
        last = [array / factor for array in folded[-2:]]
        model.set_weights([*folded[:-2], *last])
        losses.append(model.evaluate(pool.images.astype(np.float32), pool.labels, verbose=0))
    assert losses[1] < min(losses[0], losses[2])
    assert found["accuracy_before"] == found["accuracy_after"]
    assert found["ece_after"] < found["ece_before"]


def test_some_formats_alone_make_a_whole_export(faces, weights, tmp_path):
    reports = _export(tmp_path, faces, weights, formats=["int8", "float32"])
    assert [report.name for report in reports] == ["float32", "int8"]
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == [
        "MODEL_CARD.md",
        "golden.npz",
        "labels.txt",
        "manifest.json",
        "manifest.sha256",
        "model_float32.tflite",
        "model_int8.tflite",
    ]


def test_a_batch_of_several_images_is_exported_stated_and_proved(faces, weights, tmp_path):
    # 45 images: five calls and most of a sixth.
    few = Split(faces.images[:45], faces.labels[:45])
    arguments = {"formats": ["float32", "int8_rgb"], "tflite_batch": 8, "evaluation": few}
    reports = _export(tmp_path, faces, weights, **arguments)
    assert [report.latency.images for report in reports] == [8, 8]
    assert [report.comparison.images for report in reports] == [45, 45]
    assert reports[0].comparison.max_difference < 1e-4
    stored = contents.check_files(tmp_path / "export")
    assert stored["tflite_batch"] == 8
    assert stored["artifacts"]["int8_rgb"]["inputs"][0]["shape"] == [8, 48, 48, 3]
    assert stored["artifacts"]["int8_rgb"]["outputs"][0]["shape"] == [8, 7]
    audited = audit.audit_export(tmp_path / "export").reports
    assert [report.latency.images for report in audited] == [8, 8]


def test_an_impossible_batch_is_refused_before_anything_is_done(faces, weights, tmp_path):
    with pytest.raises(UserError, match="--tflite_batch=0"):
        _export(tmp_path, faces, weights, tflite_batch=0)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def impossible(monkeypatch):
    """No float16 file passes."""
    gate = artifacts.ARTIFACTS["float16"].gate._replace(p99_difference=0.0)
    artifact = artifacts.ARTIFACTS["float16"]._replace(gate=gate)
    monkeypatch.setitem(artifacts.ARTIFACTS, "float16", artifact)


def test_where_all_miss_their_gates_the_previous_export_stays(copy, faces, weights, impossible):
    run = copy.parent
    before = _hashes(copy)
    said = []
    with pytest.raises(
        UserError, match=r"export\.failed: kept back model_float16\.tflite: prob.*not"
    ):
        _export(run, faces, weights, formats=["float16"], say=said.append)
    assert _hashes(copy) == before
    assert contents.check_files(copy)
    [report] = json.loads((run / "export.failed/report.json").read_text())
    assert report["comparison"]["max_difference"] > 0
    assert len(report["failures"]) == 1
    assert (run / "export.failed/model_float16.tflite").exists()
    assert "FAILED" in "\n".join(said)


def test_one_missed_gate_keeps_one_file_back(copy, faces, weights, impossible):
    run = copy.parent
    names = ["float16", "float32", "keras_v3"]
    with pytest.raises(UserError, match=r"kept back model_float16\.tflite: .*; the other 2 are in"):
        _export(run, faces, weights, formats=names)
    stored = contents.check_files(copy)
    assert list(stored["artifacts"]) == ["keras_v3", "float32"]
    [kept] = stored["kept_back"].values()
    assert kept["path"] == "model_float16.tflite"
    assert "99 % of the images" in kept["failures"][0]
    assert not (copy / "model_float16.tflite").exists()
    assert "`model_float16.tflite` is not in this export" in (copy / "MODEL_CARD.md").read_text()
    reports = audit.audit_export(copy).reports
    assert [report.failures for report in reports] == [(), ()]
    # What was kept back can be looked into, and is not taken for verified.
    failed = run / "export.failed"
    [report] = audit.audit_export(failed).reports
    assert report.comparison.agreement > 0.9
    assert [line for line in report.failures if line.startswith("at export: ")]
    with pytest.raises(UserError, match=r"model_float16\.tflite: .*at export: probabilities"):
        audit.refuse_failed(failed, audit.audit_export(failed).reports)
    # The next whole export takes its place.
    _export(run, faces, weights, formats=["float32"])
    assert not failed.exists()


@pytest.mark.slow
def test_a_saved_model_that_is_kept_back_leaves_no_empty_folder(
    faces, weights, tmp_path, monkeypatch
):
    gate = Gate(golden_difference=-1.0)
    artifact = artifacts.ARTIFACTS["saved_model"]._replace(gate=gate)
    monkeypatch.setitem(artifacts.ARTIFACTS, "saved_model", artifact)
    with pytest.raises(UserError, match="kept back saved_model/1: on the golden faces"):
        _export(tmp_path, faces, weights, formats=["saved_model", "float32"])
    assert not (tmp_path / "export/saved_model").exists()
    assert (tmp_path / "export.failed/saved_model/1/saved_model.pb").exists()
    assert contents.check_files(tmp_path / "export")["artifacts"].keys() == {"float32"}


def test_a_network_at_chance_is_delivered_with_a_warning(faces, weights, tmp_path):
    # Whatever the face, the last class.
    constant = [*weights[:-2], np.zeros_like(weights[-2]), np.eye(7, dtype=np.float32)[6]]
    said = []
    _export(tmp_path, faces, constant, formats=["float32"], say=said.append)
    assert said[-1].startswith("warning: the network is no better than chance: it names 14.29%")
    stored = contents.check_files(tmp_path / "export")
    assert f"warning: {stored['warnings'][0]}" == said[-1]
    assert "**Warning:** the network" in (tmp_path / "export/MODEL_CARD.md").read_text()


def test_a_network_that_knows_something_is_not_warned_of(exported):
    assert "warning" not in exported.said
    assert contents.check_files(exported.folder)["warnings"] == []


def test_weights_of_another_network_write_nothing(faces, weights, tmp_path):
    with pytest.raises(UserError, match="another network"):
        _export(tmp_path, faces, weights[:-2], formats=["keras"])
    assert not (tmp_path / "export").exists()
    assert not (tmp_path / "export.failed").exists()


def test_an_unknown_format_is_named_before_anything_is_done(faces, weights, tmp_path):
    with pytest.raises(UserError, match=r"unknown format 'onnx'; choose from keras, "):
        _export(tmp_path, faces, weights, formats=["int8", "onnx"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(exported, faces, weights, tmp_path):
    np.savez(tmp_path / "given.npz", *weights, **faces._asdict())
    code = WRITE.format(
        convolutions=notebook_cnn.CONVOLUTIONS,
        dense_units=notebook_cnn.DENSE_UNITS,
        given=str(tmp_path / "given.npz"),
    )
    folders = [tmp_path / "written", tmp_path / "scratch"]
    for folder in folders:
        folder.mkdir()
    command = [sys.executable, "-c", code, *map(str, folders)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    ours, theirs = _hashes(folders[0]), _hashes(exported.folder)
    for artifact in artifacts.ARTIFACTS.values():
        assert any(name.startswith(artifact.path) for name in ours)
    # TensorFlow puts a random id into it.
    del ours["saved_model/1/fingerprint.pb"]
    assert {name for name in ours if ours[name] != theirs[name]} == set()


def test_the_manifest_tells_what_was_used(faces, weights, tmp_path):
    _export(
        tmp_path,
        faces,
        weights,
        formats=["dynamic_range"],
        config={"data": "/home/me/fer2013.zip", "cache_dir": "/home/me/cache", "fingerprint": "f"},
        max_accuracy_drop=50.0,
        epoch=7,
        data={"source": "others", "fingerprint": "o"},
    )
    stored = json.loads((tmp_path / "export/manifest.json").read_text())
    assert stored["artifacts"]["dynamic_range"]["gate"]["accuracy_drop"] == 50.0
    assert stored["weights"] == {"checkpoint": "last", "epoch": 7}
    assert stored["run"] == {"data": "fer2013", "fingerprint": "f"}
    assert stored["calibration"] == {"source": "others", "fingerprint": "o", "split": "train"}
    assert stored["evaluation"]["source"] == "others"
    card = (tmp_path / "export/MODEL_CARD.md").read_text()
    assert "validation images of `others`" in card
    assert "- Epochs: 7\n" in card
    assert "/home/me" not in card
