"""Resizing with NumPy, against TensorFlow's."""

import numpy as np
import pytest
import tensorflow as tf

from fer_pipeline import images, resizing

SIZES = [(96, 96), (144, 200), (47, 49), (1, 1), (2, 300), (500, 37), (480, 641), (48, 20)]


@pytest.mark.parametrize("size", SIZES)
def test_levels_are_tensorflows(size):
    levels = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    expected = images.resize(tf.constant(levels[..., np.newaxis])).numpy()[..., 0]
    found = resizing.resize(levels, 48)
    assert found.dtype == np.uint8
    # Equal wherever products and sums are rounded one by one; some processors fuse them.
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3
