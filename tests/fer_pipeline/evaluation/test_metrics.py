"""Scores against values worked out by hand and against Keras' loss."""

import keras
import numpy as np
import pytest

from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.datasets.splits import Split
from fer_pipeline.evaluation import metrics
from fer_pipeline.models.notebook_cnn import build_model


def one_hot(classes, sure=0.4):
    """Probabilities that favour the given classes."""
    probabilities = np.full((len(classes), 7), (1 - sure) / 6, np.float32)
    probabilities[np.arange(len(classes)), classes] = sure
    return probabilities


def predictions(probabilities, labels):
    """What a model with these probabilities answers."""
    losses = -np.log(probabilities[np.arange(len(labels)), labels])
    return metrics.Predictions(probabilities, losses)


def test_counts_worked_out_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 3], np.int32)
    result = metrics.score(predictions(one_hot([0, 0, 1, 1, 3, 3]), labels), labels)
    assert result.accuracy == pytest.approx(4 / 6)
    assert result.confusion[0].tolist() == [2, 1, 0, 0, 0, 0, 0]
    assert result.confusion[1].tolist() == [0, 1, 0, 1, 0, 0, 0]
    angry = result.per_class["angry"]
    assert (angry.precision, angry.recall, angry.support) == (1.0, pytest.approx(2 / 3), 3)
    assert angry.f1 == pytest.approx(0.8)
    assert result.per_class["happy"].precision == pytest.approx(0.5)
    # Classes that neither occur nor are predicted have no ratio, and count as 0.
    assert result.per_class["surprise"] == metrics.ClassReport(0.0, 0.0, 0.0, 0)
    f1 = [0.8, 0.5, 0, 2 / 3, 0, 0, 0]
    assert result.macro_f1 == pytest.approx(np.mean(f1))


def test_loss_is_of_the_logits_however_small_a_probability_is():
    """By hand in float64, and by Keras' own evaluate; 1e-7 and 1e-38 are where others cut it."""
    model = build_model()
    rng = np.random.default_rng(0)
    kernel = model.layers[-1].kernel
    kernel.assign(kernel * 3000.0)
    images = rng.integers(0, 256, (20, 48, 48, 1)).astype(np.uint8)
    labels = rng.integers(0, 7, 20).astype(np.int32)
    features = keras.Model(model.inputs, model.layers[-2].output)
    logits = features.predict_on_batch(images.astype(np.float32)).astype(float) @ kernel.numpy()
    largest = logits.max(axis=1)
    normaliser = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
    expected = np.mean(normaliser - logits[np.arange(20), labels])
    assert expected > 100
    found = metrics.score(metrics.predict(model, Split(images, labels)), labels).loss
    assert found == pytest.approx(expected, rel=1e-4)
    model.compile(loss="sparse_categorical_crossentropy")
    assert found == pytest.approx(model.evaluate(images, labels, verbose=0), rel=1e-4)


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
    found = metrics.predict(model, split)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
    np.testing.assert_allclose(found.losses, -np.log(expected[:, 0]), atol=1e-5)


def test_report_names_every_class_with_its_support():
    labels = np.arange(7, dtype=np.int32).repeat(3)
    result = metrics.score(predictions(one_hot(labels), labels), labels)
    lines = metrics.format_report(result).splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(CLASS_NAMES)
    assert all(line.split()[1:] == ["1.000", "1.000", "1.000", "3"] for line in lines[1:])


def test_figures_without_the_images_that_training_has_seen():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 48, 48, 1), np.uint8)
    labels = np.array([0, 1, 2, 3, 4, 5], np.int32)
    probabilities = np.eye(7, dtype=np.float32)[[0, 1, 2, 0, 0, 5]]
    predictions = metrics.Predictions(probabilities, np.arange(6, dtype=np.float32))
    train = Split(images[[0, 3, 3]], labels[:3])
    asked = Split(images, labels)
    found = metrics.without_duplicates(predictions, asked, train)
    # Images 1, 2, 4 and 5 are left, and 4 is wrong.
    assert (found["images"], found["accuracy"], found["loss"]) == (4, 0.75, 3.0)
    assert (
        metrics.without_duplicates(predictions, Split(images, labels), Split(images, labels))
        is None
    )
