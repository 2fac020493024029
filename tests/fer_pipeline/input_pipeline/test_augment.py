"""Order, mirror mask and mirroring against NumPy's plain forms."""

import numpy as np
import pytest

from fer_pipeline.input_pipeline import augment


def some(shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((9, 48, 48, 1), np.uint8),
        ((5, 3, 16, 1), np.uint8),
        ((5, 3, 8, 1), np.uint8),
        ((5, 4, 10, 1), np.uint8),
        ((5, 4, 16, 3), np.uint8),
        ((5, 4, 16, 1), np.float32),
        ((0, 48, 48, 1), np.uint8),
    ],
)
def test_masked_images_are_mirrored_and_no_others(shape, dtype):
    images = some(shape, dtype)
    before = images.copy()
    mask = np.arange(len(images)) % 3 == 1
    augment.flip_horizontally(images, mask)
    for image, original, mirrored in zip(images, before, mask, strict=True):
        expected = np.stack([np.fliplr(channel) for channel in np.moveaxis(original, -1, 0)], -1)
        np.testing.assert_array_equal(image, expected if mirrored else original)


def test_images_that_are_not_contiguous_are_mirrored_in_place():
    parent = some((6, 48, 48, 2))
    before = parent.copy()
    augment.flip_horizontally(parent[..., :1], np.ones(6, bool))
    np.testing.assert_array_equal(parent[..., 0], before[:, :, ::-1, 0])
    np.testing.assert_array_equal(parent[..., 1], before[..., 1])


def test_nothing_is_mirrored_without_a_mask():
    images = some((4, 48, 48, 1))
    before = images.copy()
    augment.flip_horizontally(images, np.zeros(4, bool))
    np.testing.assert_array_equal(images, before)


def test_order_is_a_permutation_that_seed_and_epoch_determine():
    order = augment.epoch_order(1000, seed=3, epoch=4)
    np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    np.testing.assert_array_equal(order, augment.epoch_order(1000, seed=3, epoch=4))
    for seed, epoch in ((3, 5), (4, 4), (4, 3), (0, 0)):
        other = augment.epoch_order(1000, seed=seed, epoch=epoch)
        # Two independent permutations share one fixed point on average.
        assert np.count_nonzero(order == other) < 10


def test_mask_is_fair_and_seed_and_epoch_determine_it():
    mask = augment.flip_mask(10_000, seed=3, epoch=4)
    assert mask.dtype == bool
    # Four standard deviations of a binomial distribution.
    assert abs(np.count_nonzero(mask) - 5000) < 200
    np.testing.assert_array_equal(mask, augment.flip_mask(10_000, seed=3, epoch=4))
    for seed, epoch in ((3, 5), (4, 4), (4, 3)):
        other = augment.flip_mask(10_000, seed=seed, epoch=epoch)
        assert abs(np.count_nonzero(mask == other) - 5000) < 200


def test_an_image_is_mirrored_in_about_half_of_the_epochs():
    masks = np.stack([augment.flip_mask(50, seed=0, epoch=epoch) for epoch in range(200)])
    # Four standard deviations, for each of the images.
    assert np.abs(masks.sum(axis=0) - 100).max() < 40
