"""What goes into the package, made of the export of the tiny network."""

import json
import shutil

import h5py
import numpy as np
import pytest

from export import audit
from export.delivery import contents, pretrained
from export.formats import keras_files
from export.spec import golden
from fer_pipeline import run_dir
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.errors import UserError
from fer_pipeline.evaluation import metrics
from fer_pipeline.inference import integrity, model_loader
from fer_pipeline.inference import pretrained as package
from fer_pipeline.models import networks
from fer_pipeline.stages import teachers
from fer_pipeline.training import distillation


def split_metrics(probabilities, labels):
    losses = -np.log(probabilities[np.arange(len(labels)), labels])
    return metrics.as_json(metrics.score(metrics.Predictions(probabilities, losses), labels))


@pytest.fixture(scope="module")
def run(compact_export, compact, certain, tmp_path_factory):
    """The run of the export, with a ``metrics.json`` about its weights."""
    run = tmp_path_factory.mktemp("finished")
    shutil.copytree(compact_export, run / "export")
    manifest = json.loads((run / "export/manifest.json").read_text())
    probabilities = compact.predict(certain.images.astype(np.float32), verbose=0)
    found = split_metrics(probabilities, certain.labels)
    new = split_metrics(probabilities[:100], certain.labels[:100])
    about = {"epochs": 4, "epoch": manifest["weights"]["epoch"], "checkpoint": "last"}
    splits = {"train": found, "validation": found, "test": found | {"without_duplicates": new}}
    about |= {"model_selected_on": "validation", "temperature": manifest["temperature"]}
    (run / "metrics.json").write_text(json.dumps(about | splits))
    return run


@pytest.fixture(scope="module")
def packed(run, tmp_path_factory):
    """The folder, and what was said of it."""
    target, said = tmp_path_factory.mktemp("package") / "pretrained", []
    pretrained.pack(run, target, say=said.append)
    return target, said


def test_the_folder_is_an_export_that_an_audit_passes(packed, run):
    target, said = packed
    assert sorted(path.name for path in target.iterdir()) == [
        "MODEL_CARD.md",
        "golden.npz",
        "labels.txt",
        "manifest.json",
        "manifest.sha256",
        "model_float16.tflite",
        "model_int8.tflite",
        "model_weights.h5",
    ]
    for name in ("model_int8.tflite", "golden.npz"):
        assert (target / name).read_bytes() == (run / "export" / name).read_bytes()
    reports = audit.audit_export(target).reports
    assert [(report.name, report.failures) for report in reports] == [("float16", ()), ("int8", ())]
    assert list(target.parent.iterdir()) == [target]
    assert said[-1].startswith(f"{target}: ")


def test_the_weights_are_float16_and_keras_loads_them(packed, compact):
    target, _ = packed
    kinds = set()
    with h5py.File(target / "model_weights.h5") as file:
        file.visititems(lambda _, item: kinds.add(getattr(item, "dtype", None)))
    assert kinds == {None, np.dtype(np.float16)}
    model = networks.build_model("tiny")
    model.load_weights(target / "model_weights.h5")
    for ours, theirs in zip(model.get_weights(), compact.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs.astype(np.float16).astype(np.float32))
    faces = golden.read(target / "golden.npz")
    found = model.predict(faces.images.astype(np.float32), verbose=0)
    about = contents.check_files(target)["pretrained"]
    expected = np.abs(found - faces.plain).max()
    assert about["golden_max_difference"] == pytest.approx(expected, abs=1e-5)
    assert (about["network"], about["dtype"]) == ("tiny", "float16")


def test_predict_opens_its_files_and_notices_a_changed_byte(packed, tmp_path, certain):
    target = shutil.copytree(packed[0], tmp_path / "pretrained")
    model = model_loader.open_model(target / "model_int8.tflite")
    assert model(certain.images[:3]).shape == (3, 7)
    content = bytearray((target / "model_weights.h5").read_bytes())
    content[len(content) // 2] ^= 1
    (target / "model_weights.h5").write_bytes(content)
    with pytest.raises(UserError, match=r"model_weights\.h5: its SHA-256"):
        contents.check_files(target)


def test_the_folder_teaches_whatever_network_it_holds(packed, compact, certain, monkeypatch):
    monkeypatch.setattr(package, "FOLDER", packed[0])
    images, names = certain.images[:5], teachers.names("pretrained")
    teachers.check(names)
    found = teachers.targets_of_runs(names, images, temperature=2.0)
    views = (images.astype(np.float32)[:, :, ::step] for step in (1, -1))
    softened = [distillation.soften(compact.predict(view, verbose=0), 2.0) for view in views]
    # Stored as float16.
    np.testing.assert_allclose(found, np.mean(softened, axis=0), atol=2e-3)


def test_a_run_is_not_continued_with_another_pretrained_model(
    packed, compact, tmp_path, monkeypatch, rewrite_manifest
):
    target = shutil.copytree(packed[0], tmp_path / "pretrained")
    monkeypatch.setattr(package, "FOLDER", target)
    before = teachers.digests(["pretrained"])
    weights = compact.get_weights()
    weights[-1] = weights[-1] + np.float32(1)
    other = networks.build_model("tiny")
    other.set_weights(weights)
    keras_files.write_weights(other, target / "model_weights.h5", dtype=np.float16)
    with pytest.raises(UserError, match=r"model_weights\.h5: not the file that its export's"):
        teachers.digests(["pretrained"])
    listed = integrity.sha256(target / "model_weights.h5")

    def update(stored):
        stored["files"]["model_weights.h5"]["sha256"] = listed

    rewrite_manifest(target, update)
    now = teachers.digests(["pretrained"])
    with pytest.raises(UserError, match="other teachers, or they have been trained further"):
        run_dir.check_same_config(tmp_path, {"teachers": before}, {"teachers": now})


def test_a_folder_that_does_not_name_its_network_teaches_nobody(
    packed, tmp_path, monkeypatch, rewrite_manifest
):
    target = shutil.copytree(packed[0], tmp_path / "pretrained")
    monkeypatch.setattr(package, "FOLDER", target)
    rewrite_manifest(target, lambda stored: stored["pretrained"].update(network="other"))
    with pytest.raises(UserError, match="does not say which network"):
        teachers.check(["pretrained"])
    rewrite_manifest(target, lambda stored: stored["pretrained"].update(network="compact"))
    with pytest.raises(UserError, match=r"model_weights\.h5: damaged or not a model"):
        teachers.digests(["pretrained"])
    (target / "model_weights.h5").unlink()
    with pytest.raises(UserError, match="holds no pretrained model; name a run with --teacher"):
        teachers.check(["pretrained"])


def test_the_card_has_the_figures_by_class_with_and_without_duplicates(packed):
    card = (packed[0] / "MODEL_CARD.md").read_text()
    tables = card.split("### The float32 network, by class, on the test images")
    assert len(tables) == 3
    for table in tables[1:]:
        assert all(f"| {name} |" in table for name in CLASS_NAMES)
    assert "| test, without those that are training images | 100 |" in card
    assert "calibration error |" in card
    assert "a temperature of 1.250" in card
    assert "Article 5(1)(f)" in card
    assert 'networks.build_model("tiny")' in card


def changed(run, tmp_path, change):
    copy = shutil.copytree(run, tmp_path / "run")
    change(copy)
    return copy


def about_others(run):
    path = run / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"epoch": 9}))


def without_keras(run, rewrite):
    def drop(stored):
        del stored["artifacts"]["keras"], stored["files"]["model.json"]
        del stored["files"]["model_weights.h5"]

    for name in ("model.json", "model_weights.h5"):
        (run / "export" / name).unlink()
    rewrite(run / "export", drop)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda run, _: shutil.rmtree(run / "export"), "export: not there; export the run first"),
        (lambda run, _: (run / "export/labels.txt").write_text("happy\n"), r"labels\.txt: is "),
        (lambda run, _: about_others(run), r"metrics\.json: is not about the exported weights"),
        (without_keras, "has no verified keras; export the run again with --formats="),
    ],
)
def test_a_run_that_cannot_be_packed_is_one_line(run, tmp_path, rewrite_manifest, change, said):
    copy = changed(run, tmp_path, lambda copy: change(copy, rewrite_manifest))
    with pytest.raises(UserError, match=said):
        pretrained.pack(copy, tmp_path / "pretrained")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_one_that_is_too_large_leaves_the_old_one(run, packed, tmp_path, monkeypatch):
    target = shutil.copytree(packed[0], tmp_path / "pretrained")
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    monkeypatch.setattr(pretrained, "MAX_SIZE", 100_000)
    with pytest.raises(UserError, match=r"takes \d{3},\d{3} bytes as a pretrained model, and 100"):
        pretrained.pack(run, target)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert list(tmp_path.iterdir()) == [target]


def test_other_files_are_not_replaced(run, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other files than a pretrained model"):
        pretrained.pack(run, tmp_path)
    with pytest.raises(UserError, match="missing is no directory; make it first"):
        pretrained.pack(run, tmp_path / "missing/pretrained")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
