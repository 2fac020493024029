"""What counts as near enough to the float32 twin; a student and its teacher, start to end."""

import dataclasses

import keras
import numpy as np
import PIL.Image
import pytest
from matplotlib.image import imread

from fer_pipeline import datasets, run_dir
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.config import Config
from fer_pipeline.datasets.splits import Split, Splits
from fer_pipeline.datasets.synthetic import render
from fer_pipeline.errors import UserError
from fer_pipeline.evaluation import calibration, metrics, temperature
from fer_pipeline.inference import model_loader
from fer_pipeline.models import compact_cnn, networks
from fer_pipeline.stages import run, teachers
from fer_pipeline.training import checkpoints, distillation


def network(bias):
    """Always the same answer, whatever the face."""
    model = keras.Sequential(
        [keras.Input((48, 48, 1)), keras.layers.Flatten(), keras.layers.Dense(7, "softmax")]
    )
    model.layers[-1].set_weights([np.zeros((2304, 7)), np.array(bias, float)])
    return model


def test_a_twin_that_answers_otherwise_is_refused(tmp_path):
    split = Split(np.zeros((30, 48, 48, 1), np.uint8), np.zeros(30, np.int32))
    opened = run.Run(
        tmp_path, Splits(split, split, split), Config(precision="mixed_float16"), {}, None
    )
    trained = network([1, 0, 0, 0, 0, 0, 0])
    near = run.compare_with_reference(opened, trained, network([0.9, 0, 0, 0, 0, 0, 0]))
    assert near["agreement"] == 1.0
    e, f = np.exp(1.0), np.exp(0.9)
    assert near["max_probability_difference"] == pytest.approx(e / (e + 6) - f / (f + 6), rel=1e-4)
    with pytest.raises(UserError, match=r"agree on 0\.00% of 30 images.*--precision=float32"):
        run.compare_with_reference(opened, trained, network([0, 1, 0, 0, 0, 0, 0]))


def test_the_twin_is_compared_over_the_whole_split(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "_REFERENCE_IMAGES", 3)
    images = np.arange(101, dtype=np.uint8)[:, None, None, None] * np.ones((48, 48, 1), np.uint8)
    split = Split(images, np.zeros(101, np.int32))
    seen = []
    monkeypatch.setattr(
        "fer_pipeline.evaluation.metrics.predict",
        lambda model, few: (
            seen.append(few.images[:, 0, 0, 0].tolist())
            or metrics.Predictions(np.eye(7)[[0, 0, 0]], np.zeros(3))
        ),
    )
    opened = run.Run(tmp_path, Splits(split, split, split), Config(precision="float32"), {}, None)
    run.compare_with_reference(opened, None, None)
    assert seen == [[0, 50, 100]] * 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """28 training and 14 test faces in class folders."""
    root = tmp_path_factory.mktemp("faces")
    for part, count in (("train", 28), ("test", 14)):
        labels = np.arange(count) % 7
        for i, (label, image) in enumerate(zip(labels, render(labels, seed=count), strict=True)):
            path = root / part / CLASS_NAMES[label] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(image[..., 0]).save(path)
    return root


def assert_calibrated(path, test, as_trained):
    """``metrics.json`` and the run as a model are of the network at temperature 2."""
    found = run_dir.read_metrics(path)
    probabilities = model_loader.open_model(path)(test.images)
    raw = as_trained.predict(test.images.astype(np.float32), verbose=0)
    powers = np.sqrt(raw)
    np.testing.assert_allclose(probabilities, powers / powers.sum(axis=1, keepdims=True), atol=1e-5)
    losses = -np.log(probabilities[np.arange(len(test.labels)), test.labels])
    assert found["test"]["loss"] == pytest.approx(losses.mean(), rel=1e-4)
    ece = calibration.measure(probabilities, test.labels).ece
    assert found["test"]["calibration"]["ece"] == pytest.approx(ece, abs=1e-5)
    kept = found["temperature"]
    assert (kept["value"], kept["fitted_on"], found["calibrate"]) == (2.0, "test", True)
    assert kept["ece_after"] == found["test"]["calibration"]["ece"]
    assert kept["ece_before"] == pytest.approx(calibration.measure(raw, test.labels).ece, abs=1e-5)
    assert kept["accuracy_before"] == kept["accuracy_after"] == found["test"]["accuracy"]
    assert imread(path / run_dir.RELIABILITY_FIGURE).std() > 0


def test_a_student_learns_what_its_teacher_says(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(compact_cnn.WIDTHS, "tiny", (4, 4, 8))
    # 14 faces tell none.
    monkeypatch.setattr(temperature, "fit", lambda probabilities, labels: 2.0)
    config = Config(
        data=str(folder),
        run_dir=str(tmp_path / "teacher"),
        model="tiny",
        recipe="tuned",
        batch_size=16,
        epochs=1,
        precision="float32",
    )
    teacher = run.run_training(config, None)
    config = dataclasses.replace(config, run_dir=str(tmp_path / "student"), teacher=str(teacher))
    student = run.run_training(config, None)

    weights = checkpoints.load_weights(teacher)
    assert run_dir.read_config(student)["teachers"] == [teachers.digest(weights)]
    found = np.load(student / run_dir.TARGETS)
    network = networks.build_model("tiny")
    network.set_weights(weights)
    images = datasets.load(str(folder)).splits.train.images
    expected = distillation.teacher_targets([network], images, temperature=2.0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(UserError, match=r"--temperature=2\.0, not 3\.0"):
        run.run_training(dataclasses.replace(config, temperature=3.0), None)
    assert_calibrated(teacher, datasets.load(str(folder)).splits.test, network)
    # Nothing is trained anew for other probabilities.
    run.run_training(dataclasses.replace(config, calibrate=False), None)
    assert "temperature" not in run_dir.read_metrics(student)
    trained_on = checkpoints.load_end(student).weights
    assert any((one != other).any() for one, other in zip(trained_on, weights, strict=True))
