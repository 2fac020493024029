"""Targets and losses against the formulas in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fer_pipeline.training import distillation


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def linear_network(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((48, 48, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(7, activation="softmax"),
        ]
    )


@pytest.fixture(scope="module")
def logits():
    return np.random.default_rng(0).normal(0, 3, (5, 7)).astype(np.float32)


def test_soften_divides_the_logits(logits):
    found = distillation.soften(softmax(logits), 2.5)
    np.testing.assert_allclose(found, softmax(logits / 2.5), rtol=1e-5)


def test_soften_bears_a_probability_of_zero():
    found = distillation.soften(np.array([[1.0, 0, 0, 0, 0, 0, 0]], np.float32), 2.0)
    assert np.isfinite(found).all()
    assert found[0, 0] > 0.999


def test_targets_are_the_mean_over_teachers_and_mirror_images(monkeypatch):
    monkeypatch.setattr(distillation, "_BATCH", 4)
    teachers = [linear_network(1), linear_network(2)]
    images = np.random.default_rng(1).integers(0, 256, (9, 48, 48, 1)).astype(np.uint8)
    found = distillation.teacher_targets(teachers, images, temperature=2.0)
    expected = np.zeros((9, 7))
    for teacher in teachers:
        kernel, bias = teacher.get_weights()
        for view in (images, images[:, :, ::-1]):
            expected += softmax((view.reshape(9, -1) / 255.0 @ kernel + bias) / 2.0) / 4
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("smoothing", "temperature", "share", "distilled"),
    [(0.0, 1.0, 0.5, False), (0.1, 1.0, 0.5, False), (0.1, 2.0, 0.7, True), (0.0, 3.0, 1.0, True)],
)
def test_the_loss_and_its_gradient_are_those_of_the_formula(
    logits, smoothing, temperature, share, distilled
):
    labels = np.array([0, 3, 6, 2, 2], np.int32)
    targets = softmax(np.random.default_rng(2).normal(0, 1, (5, 7))).astype(np.float32)
    loss = distillation.objective(label_smoothing=smoothing, temperature=temperature, distill=share)
    given = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(given)
        probabilities = keras.activations.softmax(given)
        losses = loss(tf.constant(labels), probabilities, targets if distilled else None)
    smooth = (1 - smoothing) * np.eye(7)[labels] + smoothing / 7
    expected = -(smooth * np.log(softmax(logits))).sum(axis=1)
    gradient = softmax(logits) - smooth
    if distilled:
        soft = -(targets * np.log(softmax(logits / temperature))).sum(axis=1)
        expected = share * temperature**2 * soft + (1 - share) * expected
        pull = softmax(logits / temperature) - targets
        gradient = share * temperature * pull + (1 - share) * gradient
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(losses, given), gradient, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("voted", [False, True])
def test_class_weights_and_votes_change_the_part_of_the_labels_alone(logits, voted, dtype):
    labels = np.array([0, 3, 6, 2, 2], np.int32)
    weights = np.arange(1, 8, dtype=np.float32) / 4
    rng = np.random.default_rng(3)
    targets, votes = (softmax(rng.normal(0, 1, (5, 7))).astype(np.float32) for _ in range(2))
    loss = distillation.objective(
        label_smoothing=0.1, temperature=2.0, distill=0.25, class_weights=weights
    )
    probabilities = keras.activations.softmax(tf.constant(logits, dtype))
    found = loss(tf.constant(labels), probabilities, targets, votes if voted else None)
    truth = 0.9 * (votes if voted else np.eye(7)[labels]) + 0.1 / 7
    hard = -(truth * np.log(softmax(logits))).sum(axis=1) * weights[labels]
    soft = -(targets * np.log(softmax(logits / 2))).sum(axis=1)
    assert found.dtype == dtype
    rtol = 2e-2 if dtype == "float16" else 1e-5
    np.testing.assert_allclose(found, 0.25 * 4 * soft + 0.75 * hard, rtol=rtol)
