"""What is drawn, and what the device makes of it, against plain loops in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from fer_pipeline import augmentation
from fer_pipeline.input_pipeline import augment_on_device, augmentation_draws

ALL = "flip,shift:3,rotate:10,zoom:0.1,cutout:10"


def faces(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 48, 48, 1)).astype(np.uint8)


def draw(text, count=500, strengths=None, **options):
    strengths = np.ones(count) if strengths is None else strengths
    options = {"seed": 3, "epoch": 1} | options
    return augmentation_draws.draw(augmentation.parse(text), strengths, **options)


def sampled(image, row, column):
    """A bilinear sample, edges repeated."""
    row, column = np.clip(row, 0, 47), np.clip(column, 0, 47)
    top, left = int(row), int(column)
    below, right = min(top + 1, 47), min(left + 1, 47)
    v, h = row - top, column - left
    upper = (1 - h) * image[top, left] + h * image[top, right]
    lower = (1 - h) * image[below, left] + h * image[below, right]
    return (1 - v) * upper + v * lower


def transformed(image, given):
    """One image by loops."""
    a, b, c, d, e, f, box_row, box_column, half = given.astype(np.float64)
    result = np.empty((48, 48))
    for i in range(48):
        for j in range(48):
            y, x = i - 23.5, j - 23.5
            result[i, j] = sampled(image, a * y + b * x + c + 23.5, d * y + e * x + f + 23.5)
            if abs(i + 0.5 - box_row) < half and abs(j + 0.5 - box_column) < half:
                result[i, j] = 127.5
    return result


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_device_interpolates_as_a_loop_does(jit_compile):
    images, draws = faces(6), draw(ALL, 6)
    found = tf.function(augment_on_device.apply, jit_compile=jit_compile)(images, draws).numpy()
    assert found.dtype == np.float32
    for image, given, ours in zip(images, draws, found, strict=True):
        expected = transformed(image[..., 0].astype(np.float64), given)
        # A pixel at which float32 rounds across a whole coordinate is as near.
        np.testing.assert_allclose(ours[..., 0], expected, atol=0.01)


def test_whole_shifts_move_pixels_and_repeat_the_edges():
    images = faces(200)
    draws = draw("shift:3", 200)
    found = augment_on_device.apply(tf.constant(images), tf.constant(draws)).numpy()
    seen = set()
    for image, given, ours in zip(images, draws, found, strict=True):
        down, right = int(given[2]), int(given[5])
        seen.add((down, right))
        padded = np.pad(image[..., 0], 3, mode="edge")
        expected = padded[3 + down : 51 + down, 3 + right : 51 + right]
        np.testing.assert_array_equal(ours[..., 0], expected)
    assert {shift for shift, _ in seen} == {shift for _, shift in seen} == set(range(-3, 4))


def test_a_strength_of_zero_leaves_every_pixel():
    images = faces(50)
    draws = draw(ALL, strengths=np.zeros(50))
    found = augment_on_device.apply(tf.constant(images), tf.constant(draws)).numpy()
    np.testing.assert_allclose(found, images, atol=1e-3)


def test_the_draws_reach_their_limits_and_no_further():
    draws = draw(ALL, 20_000)
    zoom = 1 / np.hypot(draws[:, 0], draws[:, 3])
    angle = np.rad2deg(np.arctan2(draws[:, 3], draws[:, 0]))
    for values, limit in ((zoom - 1, 0.1), (angle, 10), (draws[:, [2, 5]], 3)):
        assert 0.99 * limit < np.abs(values).max() <= limit * 1.0001
        assert abs(values.mean()) < 0.05 * limit
    assert set(np.unique(draws[:, 6:8])) == set(range(48))
    assert (draws[:, 8] == 5).all()


def test_the_draws_are_a_function_of_seed_and_epoch():
    np.testing.assert_array_equal(draw(ALL), draw(ALL))
    assert (draw(ALL) != draw(ALL, epoch=2)).any()
    assert (draw(ALL) != draw(ALL, seed=4)).any()
    # Whatever is drawn, its stream is the same: one part more changes no other.
    np.testing.assert_array_equal(draw("shift:3")[:, [2, 5]], draw("shift:3,cutout:9")[:, [2, 5]])


def test_it_fades_out_over_the_last_tenth():
    found = np.concatenate(
        [augmentation_draws.strengths(500 * epoch, 500, 1000) for epoch in (0, 1)]
    )
    np.testing.assert_array_equal(found[:900], 1)
    np.testing.assert_allclose(found[900:], np.arange(100, 0, -1) / 100, rtol=1e-9)
