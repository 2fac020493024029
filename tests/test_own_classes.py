"""Three classes with odd names, from a folder to answers: what each stage makes of them."""

import csv
import dataclasses
import html
import io
import json
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import fer_pipeline
from export import audit
from export.formats import keras_files, metadata, mirror
from export.spec import golden, io_spec
from fer_pipeline import run_dir
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.config import Config
from fer_pipeline.datasets import description as data_description
from fer_pipeline.datasets import splits as splits_lib
from fer_pipeline.datasets import splitting, synthetic
from fer_pipeline.errors import UserError
from fer_pipeline.evaluation import description_figure, description_page, plots
from fer_pipeline.inference import labels, model_loader, results, strangers
from fer_pipeline.models import networks
from fer_pipeline.stages import description, opening

#: In the order in which folders are sorted.
NAMES = ("<a>, $b", "müde 😴", "very | happy")

#: What is drawn in their place.
DRAWN = (0, 3, 6)

SETTINGS = {
    "model": "tiny",
    "epochs": 2,
    "batch_size": 16,
    "learning_rate": 3e-3,
    "normalization_momentum": 0.5,
    "precision": "float32",
    "augment": "none",
}


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """A folder of 24 training and 8 test images of each class."""
    root = tmp_path_factory.mktemp("own") / "faces"
    for seed, (split, count) in enumerate((("train", 72), ("test", 24))):
        labels = np.arange(count) % 3
        images = synthetic.render(np.array(DRAWN)[labels], seed=seed)
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = root / split / NAMES[label] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(path)
    return root


@pytest.fixture(scope="module")
def run(faces):
    """A run of two epochs, exported as two files."""
    return fer_pipeline.train(
        str(faces),
        run=faces.parent / "run",
        formats=["int8", "float32_rgb"],
        verbose=False,
        **SETTINGS,
    )


def written(run, name):
    return json.loads((Path(run.path) / name).read_text("utf-8"))


def test_everything_that_a_run_writes_has_its_classes(run):
    path = Path(run.path)
    assert written(run, "config.json")["classes"] == list(NAMES)
    assert {name: len(n) for name, n in written(run, run_dir.CLASS_COUNTS).items()} == {
        "train": 3,
        "test": 3,
    }
    test = run.metrics["test"]
    assert list(test["per_class"]) == list(NAMES)
    confusion = np.array(test["confusion"])
    assert confusion.shape == (3, 3)
    assert confusion.sum(axis=1).tolist() == [8, 8, 8]
    assert test["balanced_accuracy"] == pytest.approx(np.mean(confusion.diagonal() / 8))
    report = (path / run_dir.REPORT).read_text("utf-8")
    assert all(html.escape(name) in report for name in NAMES)
    assert "<a>, $b" not in report
    assert "Balanced accuracy" in report
    assert (path / run_dir.CONFUSION_MATRIX_FIGURE).stat().st_size > 10_000
    manifest = written(run, "export/manifest.json")
    assert manifest["labels"] == manifest["run"]["classes"] == list(NAMES)
    assert (path / "export/labels.txt").read_text("utf-8") == "".join(f"{n}\n" for n in NAMES)
    card = (path / "export/MODEL_CARD.md").read_text("utf-8")
    assert "Three classes are forced upon every face" in card
    assert r"very \| happy" in card


def test_an_export_is_verified_by_its_own_classes(run):
    found = audit.audit_export(Path(run.export))
    assert {report.name: report.failures for report in found.reports} == {
        "int8": (),
        "float32_rgb": (),
    }
    read = golden.read(Path(run.export, "golden.npz"), 3)
    np.testing.assert_array_equal(read.labels, read.probabilities.argmax(axis=1))


def test_a_file_of_an_export_names_its_classes_wherever_it_lies(run, litert, tmp_path):
    path = Path(run.export, "model_int8.tflite")
    images = golden.read(Path(run.export, "golden.npz"), 3).images[:4]
    expected = litert(path.read_bytes(), images) / 256
    moved = tmp_path / "moved.tflite"
    moved.write_bytes(path.read_bytes())
    for model in (path, moved):
        found = fer_pipeline.predict(images, model=model)
        assert [list(one.probabilities) for one in found] == [list(NAMES)] * 4
        np.testing.assert_allclose([[*one.probabilities.values()] for one in found], expected)
        assert [one.label for one in found] == [NAMES[i] for i in expected.argmax(axis=1)]
    # The flatbuffer ends where the archive with the labels begins.
    with zipfile.ZipFile(moved) as archive:
        start = archive.infolist()[0].header_offset
    moved.write_bytes(path.read_bytes()[:start])
    assert model_loader.class_names(moved) == ("class 0", "class 1", "class 2")
    # As some editors write it.
    (tmp_path / "labels.txt").write_text("\ufeffx\r\ny\r\nz\r\n\r\n", "utf-8")
    assert model_loader.class_names(moved) == ("x", "y", "z")
    assert fer_pipeline.predict(images[:1], model=moved)[0].label in "xyz"
    (tmp_path / "labels.txt").write_text("x\ny\n")
    with pytest.raises(UserError, match=r"\(3,\) an image, where .* -> \(2,\) is wanted"):
        fer_pipeline.predict(images[:1], model=moved)


def test_labels_that_unpack_to_more_than_they_say_are_not_unpacked(tmp_path):
    path = tmp_path / "bomb.tflite"
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("labels.txt", bytes(2**24))
        content = bytearray(path.read_bytes())
        # The size in the directory.
        at = content.rindex(b"PK\1\2") + 24
        content[at : at + 4] = (20).to_bytes(4, "little")
        path.write_bytes(content)
        tracemalloc.start()
        assert labels.find(path) is None
        assert tracemalloc.get_traced_memory()[1] < 2**22
        tracemalloc.stop()
        with pytest.raises(UserError, match=r"holds more than it says|other than DEFLATE"):
            strangers.check_archive(path)


def test_a_run_and_a_file_are_evaluated_on_faces_of_the_same_classes(run, faces):
    own = fer_pipeline.evaluate(run)
    assert own.balanced_accuracy == pytest.approx(run.metrics["test"]["balanced_accuracy"])
    found = fer_pipeline.evaluate(f"{run.export}/model_int8.tflite", str(faces))
    assert list(found.per_class) == list(own.per_class) == list(NAMES)
    for model in (run, f"{run.export}/model_int8.tflite"):
        with pytest.raises(UserError, match="synthetic: has other classes"):
            fer_pipeline.evaluate(model, "synthetic")
    given = fer_pipeline.load_data(str(faces))._replace(classes=NAMES[::-1])
    with pytest.raises(UserError, match="has the same classes in another order"):
        fer_pipeline.evaluate(f"{run.export}/model_int8.tflite", given)


def test_answers_that_nothing_names_are_those_of_the_faces(run, faces, tmp_path):
    path = tmp_path / "bare.tflite"
    content = Path(run.export, "model_int8.tflite").read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        path.write_bytes(content[: archive.infolist()[0].header_offset])
    named = fer_pipeline.evaluate(f"{run.export}/model_int8.tflite", str(faces))
    assert fer_pipeline.evaluate(path, str(faces)) == named
    # The folder of one part, whole.
    assert fer_pipeline.evaluate(path, str(faces / "test"), split="all") == named
    assert fer_pipeline.evaluate(run, str(faces / "test"), split="all").images == 24
    with pytest.raises(UserError, match="split='all': these data have parts"):
        fer_pipeline.evaluate(path, fer_pipeline.load_data(str(faces)), split="all")
    # Seven are FER-2013's in its order, whatever the faces are called.
    assert labels.unnamed(7, "gfedcba") == labels.unnamed(7) == CLASS_NAMES
    # Classes that are really called so are others.
    (tmp_path / "labels.txt").write_text("class 0\nclass 1\nclass 2\n")
    with pytest.raises(UserError, match="not among --classes"):
        fer_pipeline.evaluate(path, str(faces))
    given = fer_pipeline.load_data(str(faces))
    with pytest.raises(UserError, match=r"has other classes \(class 0, class 1, class 2\)"):
        fer_pipeline.evaluate(path, given)


def test_the_files_of_keras_name_their_classes_wherever_they_lie(tmp_path):
    model = networks.build_model("tiny", 3)
    keras_files.write(model, tmp_path, "".join(f"{name}\n" for name in NAMES))
    keras_files.write_archive(model, tmp_path / "m.keras", "".join(f"{name}\n" for name in NAMES))
    for name in ("model.json", "m.keras"):
        assert model_loader.named_classes(tmp_path / name) == NAMES
        found = fer_pipeline.load_model(tmp_path / name)(np.zeros((1, 48, 48, 1), np.uint8))
        assert found.shape == (1, 3)
    # What follows links, or is no text, is not read as names.
    with h5py.File(tmp_path / "model_weights.h5", "a") as file:
        del file["labels.txt"]
        file["labels.txt"] = h5py.ExternalLink("other.h5", "labels.txt")
    assert labels.find(tmp_path / "model.json") is None
    with h5py.File(tmp_path / "model_weights.h5", "a") as file:
        del file["labels.txt"]
        file["labels.txt"] = np.zeros(3)
    assert model_loader.named_classes(tmp_path / "model.json") is None


def test_a_run_is_continued_with_its_classes_alone(run, faces):
    with pytest.raises(UserError, match=r"was started with --classes=\"<a>, \$b\",müde .*, not "):
        fer_pipeline.train(str(faces), run=run.path, verbose=False, classes=NAMES[::-1], **SETTINGS)


@pytest.mark.parametrize(
    ("classes", "change", "said"),
    [
        ("auto", {"classes": ("a", "a", "b")}, "names 'a' twice"),
        ("auto", {"classes": (*NAMES, "d")}, "fewer than two training images of d"),
        ("a,b,c", {}, "--classes=a,b,c: the data have other classes"),
    ],
)
def test_faces_that_are_given_have_to_fit_their_classes(classes, change, said):
    labels = np.arange(6, dtype=np.int32) % 3
    part = splits_lib.Split(np.zeros((6, 48, 48, 1), np.uint8), labels)
    given = splits_lib.Splits(part, part, part, classes=NAMES)._replace(**change)
    with pytest.raises(UserError, match=said):
        opening.check_classes(given, Config(classes=classes))


def test_answers_are_written_with_their_classes():
    one = results.Prediction.of([0.25, 0.5, 0.25], NAMES, file="a.png")
    nobody = results.Prediction.of_nobody("b.png")
    rows = list(csv.DictReader(io.StringIO(results.writer("csv", NAMES)([nobody, one]))))
    assert [rows[1][name] for name in ("label", *NAMES)] == [NAMES[1], "0.25", "0.5", "0.25"]
    lines = results.writer("table", NAMES, top=2, everything=True)([nobody, one]).splitlines()
    assert lines[0].split()[:2] == ["file", "class"]
    assert all(name in lines[0] for name in NAMES)
    assert f"{NAMES[0]} 25.0 %" in lines[2]
    assert len(dataclasses.asdict(one)["probabilities"]) == 3


def test_a_class_that_is_called_as_a_column_of_the_csv_has_another():
    clashing = results.writer("csv", ("label", "p(label)"))([]).strip().split(",")
    assert clashing[-2:] == ["p(p(label))", "p(label)"]
    names = ("left", "right", "label")
    one = results.Prediction.of([0.25, 0.5, 0.25], names, file="a.png", box=(1, 2, 3, 4))
    [row] = csv.DictReader(io.StringIO(results.writer("csv", names)([one])))
    assert (row["left"], row["label"]) == ("1", "right")
    assert (row["p(left)"], row["right"], row["p(label)"]) == ("0.25", "0.5", "0.25")


def test_what_an_export_promises_counts_its_classes():
    assert io_spec.parse_labels(io_spec.format_labels(NAMES)) == NAMES
    assert io_spec.get_io_spec("int8", num_classes=3)["outputs"][0]["shape"] == [1, 3]
    signatures = io_spec.get_io_spec("saved_model", num_classes=3)["signatures"]
    assert signatures["serve_encoded"]["outputs"][0]["shape"] == [None, 3]
    # Half a 256th for each of three.
    assert "these three, each rounded, sum to 1 within 0.006." in io_spec.format_postprocessing(3)
    assert "these seven, each rounded, sum to 1 within 0.014." in io_spec.format_postprocessing()
    # A mirrored file rounds twice.
    assert "sum to 1 within 0.028." in io_spec.format_postprocessing(mirror=True)
    assert metadata._what(NAMES).endswith("<a>, $b, müde 😴 or very | happy.")
    many = [str(i) for i in range(1000)]
    assert metadata._what(many) == "Names the class of a face, one of 1,000."


def test_a_mirrored_network_of_three_classes_averages_both_sides():
    import tensorflow as tf

    images = np.random.default_rng(0).random((1, 48, 48, 1)).astype(np.float32)
    found = mirror.averaged(lambda image: image[:, 0, :3, 0])(tf.constant(images))
    sides = images[0, 0, :3, 0], images[0, 0, ::-1, 0][:3]
    np.testing.assert_allclose(found[0], np.mean(sides, axis=0), rtol=1e-6)


@pytest.mark.parametrize("count", [3, 42])
def test_data_of_any_classes_are_described(count):
    names = (*NAMES, "$x_{$", *(f"class {i}" for i in range(count)))[-count:]
    labels = np.arange(4 * count, dtype=np.int32) % count
    images = np.random.default_rng(0).integers(0, 256, (4 * count, 48, 48, 1)).astype(np.uint8)
    groups = np.repeat(np.array([splits_lib.TRAIN, splits_lib.TEST], np.int8), 2 * count)
    faces = splits_lib.Faces(images, labels, groups, classes=names)
    found = data_description.describe("synthetic", faces, splitting.positions("x", faces))
    figure = description_figure.draw(found)
    bars, *means = figure.axes
    assert len(means) == min(count, 40)
    assert bars.get_xlabel() == ("" if count == 3 else "the first 40 of 42 classes")
    assert not any(text.get_parse_math() for text in bars.get_xticklabels())
    answers = np.eye(count, dtype=np.float32)[labels[::-1]]
    doubts = description.doubted(found, answers, np.flatnonzero(groups), [])
    page = description_page.build(found, lambda places: ["name"] * len(places), doubts)
    assert page.count("<tr>") < 250
    assert names[-1] in page
    assert "training: 2 of each class" in page


@pytest.mark.parametrize(
    ("names", "read"),
    [
        (("B", "a\u0308"), ("B", "a\u0308")),
        (("b", "\u00c4"), ("b", "\u00c4")),
        (("b", "c"), ("\u00e4", "b")),
        (("b", "\u00e4", "\u00c4"), ("\u00e4", "b")),
        (None, ("\u00e4", "b")),
    ],
)
def test_data_are_read_as_a_model_names_them(monkeypatch, names, read):
    def fake(source, classes=("\u00e4", "b"), **options):
        return splits_lib.Faces(None, None, None, classes=classes)

    monkeypatch.setattr(description.datasets, "read", fake)
    assert description.read_as_named("faces", names, "fail").classes == read


def test_figures_of_many_classes_leave_names_out():
    names = [f"$class_{i}" for i in range(60)]
    matrix = plots.confusion_matrix(np.eye(60, dtype=int), names, title="many")
    assert not matrix.axes[0].texts
    part = splits_lib.Split(np.zeros((60, 48, 48, 1), np.uint8), np.arange(60, dtype=np.int32))
    bars = plots.counts(splits_lib.Splits(part, part, part, classes=tuple(names)))
    assert bars.axes[0].get_xlabel().startswith("60 classes")
    assert len(plots.samples(part, names[:3], columns=1).axes) == 3
