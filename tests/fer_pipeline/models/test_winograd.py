"""Winograd's convolutions against the definition."""

import numpy as np
import pytest
import tensorflow as tf

from fer_pipeline.models import winograd


@pytest.mark.parametrize(("tile", "taps"), [(1, 1), (2, 3), (3, 3), (4, 3), (2, 5)])
def test_transforms_filter_as_the_definition_does(tile, taps):
    rng = np.random.default_rng(0)
    signal, kernel = rng.normal(size=tile + taps - 1), rng.normal(size=taps)
    found = winograd.transforms(tile, taps)
    outputs = found.outputs @ ((found.kernel @ kernel) * (found.inputs @ signal))
    np.testing.assert_allclose(outputs, np.correlate(signal, kernel, "valid"), atol=1e-13)


def test_two_outputs_of_three_taps_take_four_multiplications():
    assert [matrix.shape for matrix in winograd.transforms(2, 3)] == [(2, 4), (4, 4), (4, 3)]


def test_too_large_a_tile_is_refused():
    with pytest.raises(ValueError, match=r"F\(5, 3\) needs 6 points, there are 5"):
        winograd.transforms(5, 3)


@pytest.mark.parametrize(
    ("rows", "tile", "taps"), [(6, 3, 3), (12, 4, 3), (6, 2, 3), (3, 3, 3), (4, 2, 1)]
)
def test_convolution_and_its_gradients_are_tensorflows(rows, tile, taps):
    rng = np.random.default_rng(1)
    inputs = tf.constant(rng.normal(size=(5, rows, rows, 3)), tf.float64)
    kernel = tf.constant(rng.normal(size=(taps, taps, 3, 4)), tf.float64)
    upstream = tf.constant(rng.normal(size=(5, rows, rows, 4)), tf.float64)
    found = []
    for convolution in (
        lambda x, k: winograd.convolution(x, k, tile=tile),
        lambda x, k: tf.nn.conv2d(x, k, strides=1, padding="SAME"),
    ):
        with tf.GradientTape() as tape:
            tape.watch([inputs, kernel])
            outputs = convolution(inputs, kernel)
        found.append([outputs, *tape.gradient(outputs, [inputs, kernel], upstream)])
    for ours, theirs in zip(*found, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("rows", "channels", "tile"), [(12, 128, 4), (6, 512, 3)])
def test_rounding_in_float32_is_a_few_parts_in_a_million(rows, channels, tile):
    rng = np.random.default_rng(2)
    inputs = rng.normal(size=(4, rows, rows, channels))
    kernel = rng.normal(size=(3, 3, channels, 64))
    exact = tf.nn.conv2d(tf.constant(inputs), tf.constant(kernel), strides=1, padding="SAME")
    exact = exact.numpy()
    single = [tf.constant(array, tf.float32) for array in (inputs, kernel)]
    error = np.abs(winograd.convolution(*single, tile=tile) - exact).max()
    assert 0 < error < 1e-5 * np.abs(exact).max()


def test_the_number_of_images_need_not_be_known():
    @tf.function(input_signature=[tf.TensorSpec([None, 6, 6, 2])])
    def compiled(inputs):
        outputs = winograd.convolution(inputs, tf.ones([3, 3, 2, 1]), tile=3)
        assert outputs.shape == [None, 6, 6, 1]
        return outputs

    for images in (1, 3):
        counted = compiled(tf.ones([images, 6, 6, 2]))
        np.testing.assert_allclose(counted[:, 2, 2, 0], 18.0, rtol=1e-5)
        np.testing.assert_allclose(counted[:, 0, 0, 0], 8.0, rtol=1e-5)
