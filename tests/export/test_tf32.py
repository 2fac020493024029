"""A GPU that multiplies in TF32 has no part in an export: emulated, with 10 bits of mantissa."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context

from export.formats import inference_model
from export.spec.artifacts import ARTIFACTS
from fer_pipeline.inference import keras_loader

#: Of the probabilities of the float32 files, in their gates.
LIMIT = 1e-4


def placed_on_the_cpu():
    """Whether somebody has asked for the CPU; without it TensorFlow takes a GPU."""
    return "CPU" in (context.context().device_name or "")


def rounded(values):
    """Float32 with 10 bits of mantissa in place of 23, rounded to nearest."""
    bits = tf.bitcast(tf.cast(values, tf.float32), tf.int32)
    return tf.bitcast((bits + (1 << 12)) & ~((1 << 13) - 1), tf.float32)


@pytest.fixture
def with_tf32(monkeypatch):
    """Has Keras' convolutions and products round their operands wherever a GPU would compute.

    Functions run eagerly: a traced one is placed when it is called, where nothing could look.
    """
    convolve, multiply = keras.layers.Conv2D.convolution_op, keras.src.ops.matmul

    def convolution_op(self, inputs, kernel):
        if placed_on_the_cpu():
            return convolve(self, inputs, kernel)
        return convolve(self, rounded(inputs), rounded(tf.convert_to_tensor(kernel)))

    def matmul(one, other):
        if placed_on_the_cpu():
            return multiply(one, other)
        return multiply(rounded(one), rounded(tf.convert_to_tensor(other)))

    monkeypatch.setattr(keras.layers.Conv2D, "convolution_op", convolution_op)
    monkeypatch.setattr(keras.src.ops, "matmul", matmul)
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def test_the_rounding_is_that_of_ten_bits():
    values = np.array([1.0, 1 + 2.0**-10, 1 + 2.0**-12, 1 + 3 * 2.0**-12, -np.pi], np.float32)
    expected = np.array([1.0, 1 + 2.0**-10, 1.0, 1 + 2.0**-10, -3.140625])
    np.testing.assert_allclose(rounded(tf.constant(values)).numpy(), expected, rtol=0, atol=0)


def test_tf32_alone_would_miss_the_gate(with_tf32, monkeypatch, weights, faces, reference_model):
    """As an export does whose reference model a GPU computes."""
    monkeypatch.setattr(keras_loader, "DEVICE", None)
    model = inference_model.inference_model(weights)
    found = keras_loader.predict_probabilities(model, faces.images)
    assert np.abs(found - reference_model).max() > LIMIT


def test_the_twin_and_the_keras_files_are_computed_in_full(
    with_tf32, weights, faces, reference_model, exported
):
    model = inference_model.inference_model(weights)
    np.testing.assert_allclose(
        keras_loader.predict_probabilities(model, faces.images),
        reference_model,
        rtol=0,
        atol=LIMIT / 10,
    )
    for name in ("keras", "keras_v3"):
        loaded = keras_loader.load(exported.folder / ARTIFACTS[name].path)
        found = keras_loader.predict_probabilities(loaded, faces.images[:20])
        np.testing.assert_allclose(found, reference_model[:20], rtol=0, atol=LIMIT / 10)
