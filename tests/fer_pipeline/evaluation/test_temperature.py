"""A temperature against a search by grid, and against Keras where it is folded in."""

import json

import keras
import numpy as np
import pytest

from fer_pipeline import run_dir
from fer_pipeline.errors import UserError
from fer_pipeline.evaluation import temperature
from fer_pipeline.models import compact_cnn, networks

RECORD = {
    "value": 2.0,
    "fitted_on": "validation",
    "ece_before": 0.1,
    "ece_after": 0.02,
    "accuracy_before": 0.7,
    "accuracy_after": 0.7,
}


MANY = np.arange(70) % 7


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_it_is_the_best_of_a_fine_grid(true):
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 4, (1500, 7))
    labels = (softmax(logits / true).cumsum(axis=1) > rng.random((1500, 1))).argmax(axis=1)
    found = temperature.fit(softmax(logits).astype(np.float32), labels)

    grid = np.exp(np.linspace(np.log(0.1), np.log(10), 601))
    losses = [-np.log(softmax(logits / t)[np.arange(1500), labels]).mean() for t in grid]
    assert found == pytest.approx(grid[np.argmin(losses)], rel=5e-3)
    # 1,500 images tell it to some per cent.
    assert found == pytest.approx(true, rel=0.12)


@pytest.mark.parametrize(
    ("probabilities", "labels"),
    [
        # All right: the surer the better. All wrong: the less sure the better.
        (np.full((70, 7), 0.05) + 0.65 * np.eye(7)[MANY], MANY),
        (np.full((70, 7), 0.05) + 0.65 * np.eye(7)[MANY], (MANY + 1) % 7),
        (np.full((70, 7), np.nan), MANY),
        (np.zeros((0, 7)), np.arange(0)),
    ],
)
def test_images_that_tell_none_give_none(probabilities, labels):
    assert temperature.fit(probabilities, labels) is None


def test_a_probability_of_zero_does_no_harm():
    probabilities = np.tile(np.eye(7)[0], (70, 1)).astype(np.float32)
    assert temperature.fit(probabilities, MANY) is None
    assert temperature.fit(np.eye(7)[[0] * 75], np.arange(75) // 50) is None


def test_few_images_tell_no_temperature():
    probabilities = np.full((50, 7), 0.05) + 0.65 * np.eye(7)[MANY[:50]]
    labels = np.where(np.arange(50) < 20, MANY[:50], (MANY[:50] + 1) % 7)
    # 0.4 of the answers are right, and 4 / 6 the odds at the best temperature of one in ten each.
    best = np.log(0.7 / 0.05) / np.log(0.4 / 0.1)
    assert temperature.fit(probabilities, labels) == pytest.approx(best, rel=1e-4)
    assert temperature.fit(probabilities[:49], labels[:49]) is None
    few, many = (temperature.describe(None, images) for images in (49, 50))
    assert few.endswith("to fit a temperature takes 50 validation images, and there are 49")
    assert many.endswith("the validation images tell no temperature")


def test_folded_in_it_divides_the_logits(monkeypatch):
    monkeypatch.setitem(compact_cnn.WIDTHS, "tiny", (4, 4, 8))
    keras.utils.set_random_seed(3)
    model = networks.build_model("tiny")
    model.layers[-1].set_weights([np.random.default_rng(0).normal(size=(8, 7)), np.arange(7.0)])
    images = np.random.default_rng(0).integers(0, 256, (40, 48, 48, 1)).astype(np.float32)
    before = model.predict_on_batch(images)
    model.set_weights(temperature.fold(model.get_weights(), 1.7))
    after = model.predict_on_batch(images)
    np.testing.assert_allclose(after, softmax(np.log(before) / 1.7), atol=1e-5)
    np.testing.assert_array_equal(after.argmax(axis=1), before.argmax(axis=1))
    weights = model.get_weights()
    for one, other in zip(temperature.fold(weights, None), weights, strict=True):
        np.testing.assert_array_equal(one, other)


def write(path, **content):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def test_a_run_has_the_temperature_of_its_export_or_else_of_its_metrics(tmp_path):
    metrics = {"epochs": 3, "checkpoint": "last", "epoch": 3, "temperature": RECORD}
    assert temperature.recorded(tmp_path, "last", 3) is None
    write(tmp_path / run_dir.METRICS, **metrics)
    assert temperature.recorded(tmp_path, "last", 3) == RECORD
    # Of other weights nothing is known.
    assert temperature.recorded(tmp_path, "last", 4) is None
    assert temperature.recorded(tmp_path, "best", 3) is None
    manifest, about = tmp_path / "export/manifest.json", {"checkpoint": "last", "epoch": 3}
    write(manifest, weights=about, temperature=RECORD | {"value": 3.0})
    assert temperature.recorded(tmp_path, "last", 3)["value"] == 3.0
    # Exported without one.
    write(manifest, weights=about)
    assert temperature.recorded(tmp_path, "last", 3) is None
    write(manifest, weights=about | {"epoch": 2})
    assert temperature.recorded(tmp_path, "last", 3) == RECORD


@pytest.mark.parametrize("value", [0.0, float("nan"), "2", None, 1e9])
def test_a_temperature_that_is_none_is_refused(tmp_path, value):
    metrics = {"epochs": 3, "checkpoint": "last", "epoch": 3}
    write(tmp_path / run_dir.METRICS, **metrics, temperature=RECORD | {"value": value})
    with pytest.raises(UserError, match=r"metrics\.json: its temperature is none"):
        temperature.recorded(tmp_path, "last", 3)
