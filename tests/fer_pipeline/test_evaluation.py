"""Scores against values worked out by hand and against Keras' loss."""

import keras
import numpy as np
import pytest

from fer_pipeline import evaluation
from fer_pipeline.datasets.splits import Split
from fer_pipeline.expressions import CLASS_NAMES


def one_hot(classes, sure=0.4):
    """Probabilities that favour the given classes."""
    probabilities = np.full((len(classes), 7), (1 - sure) / 6, np.float32)
    probabilities[np.arange(len(classes)), classes] = sure
    return probabilities


def test_counts_worked_out_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 3], np.int32)
    result = evaluation.score(one_hot([0, 0, 1, 1, 3, 3]), labels)
    assert result.accuracy == pytest.approx(4 / 6)
    assert result.confusion[0].tolist() == [2, 1, 0, 0, 0, 0, 0]
    assert result.confusion[1].tolist() == [0, 1, 0, 1, 0, 0, 0]
    angry = result.per_class["angry"]
    assert (angry.precision, angry.recall, angry.support) == (1.0, pytest.approx(2 / 3), 3)
    assert angry.f1 == pytest.approx(0.8)
    assert result.per_class["happy"].precision == pytest.approx(0.5)
    # Classes that neither occur nor are predicted have no ratio, and count as 0.
    assert result.per_class["surprise"] == evaluation.ClassReport(0.0, 0.0, 0.0, 0)
    f1 = [0.8, 0.5, 0, 2 / 3, 0, 0, 0]
    assert result.macro_f1 == pytest.approx(np.mean(f1))


def test_loss_is_keras_cross_entropy_in_nats():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(7), 50).astype(np.float32)
    probabilities[0] = [0, 1, 0, 0, 0, 0, 0]
    labels = rng.integers(0, 7, 50).astype(np.int32)
    labels[0] = 0
    expected = keras.losses.sparse_categorical_crossentropy(labels, probabilities)
    assert evaluation.score(probabilities, labels).loss == pytest.approx(np.mean(expected), 1e-5)


def test_predict_covers_every_image_in_order():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (300, 48, 48, 1)).astype(np.uint8)
    model = keras.Sequential(
        [
            keras.Input((48, 48, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(7, activation="softmax"),
        ]
    )
    split = Split(images, np.zeros(300, np.int32))
    expected = model.predict_on_batch(images.astype(np.float32))
    np.testing.assert_allclose(evaluation.predict(model, split), expected, atol=1e-6)


def test_report_names_every_class_with_its_support():
    labels = np.arange(7, dtype=np.int32).repeat(3)
    lines = evaluation.format_report(evaluation.score(one_hot(labels), labels)).splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(CLASS_NAMES)
    assert all(line.split()[1:] == ["1.000", "1.000", "1.000", "3"] for line in lines[1:])
