"""Images of the same photograph."""

import numpy as np
from PIL import Image, ImageDraw

from fer_pipeline.datasets import near_duplicates, splitting
from fer_pipeline.datasets.splits import LazyImages


def photographs(count, seed=0):
    """Smooth pictures that have nothing in common."""
    small = np.random.default_rng(seed).integers(30, 200, (count, 6, 6), np.uint8)
    large = [np.asarray(Image.fromarray(one).resize((48, 48), Image.BICUBIC)) for one in small]
    return np.stack(large)[..., np.newaxis]


def shown_again(image):
    """The same photograph: moved by a pixel, brighter, noisy, and written over."""
    picture = Image.fromarray(np.roll(image[..., 0], 1, axis=1))
    ImageDraw.Draw(picture).text((2, 37), "c", fill=220)
    return [
        np.roll(image, 1, axis=0),
        (image * 0.8 + 40).astype(np.uint8),
        (image + np.random.default_rng(1).integers(0, 9, image.shape)).astype(np.uint8),
        np.asarray(picture)[..., np.newaxis],
    ]


def test_a_photograph_that_is_shown_again_is_recognised_and_no_other():
    images = photographs(100)
    images = np.concatenate([images, shown_again(images[7]), images[[3, 3]]])
    hashes = splitting.pixel_hashes(images)
    found = near_duplicates.group(images, hashes)
    groups = {tuple(np.flatnonzero(found == one)) for one in np.unique(found)}
    expected = {(7, 100, 101, 102, 103), (3, 104, 105)}
    assert {one for one in groups if len(one) > 1} == expected
    for members in expected:
        assert found[members[0]] == hashes[list(members)].min()


def test_groups_depend_neither_on_the_order_nor_on_where_the_images_are():
    images = photographs(60)
    images = np.concatenate([images, shown_again(images[0]), shown_again(images[9])])
    hashes = splitting.pixel_hashes(images)
    found = near_duplicates.group(images, hashes)
    order = np.random.default_rng(0).permutation(len(images))
    again = near_duplicates.group(images[order], hashes[order])
    np.testing.assert_array_equal(again, found[order])
    lazy = LazyImages(lambda at: images[at], np.arange(len(images)))
    np.testing.assert_array_equal(near_duplicates.group(lazy, hashes), found)


def test_what_all_pictures_have_in_common_makes_them_no_copies():
    face = photographs(1).astype(int)
    noise = np.random.default_rng(0).integers(-9, 10, (50, 48, 48, 1))
    images = np.clip(face + noise, 0, 255).astype(np.uint8)
    images[40] = images[2]
    hashes = splitting.pixel_hashes(images)
    np.testing.assert_array_equal(near_duplicates.group(images, hashes), hashes)


def test_constant_images_are_alike_only_if_they_are_equal():
    images = np.full((40, 48, 48, 1), 7, np.uint8)
    images[:36] = photographs(36)
    images[38:] = 200
    found = near_duplicates.group(images, splitting.pixel_hashes(images))
    assert len(np.unique(found)) == 38
    assert found[36] == found[37] != found[38] == found[39]


def test_the_cut_keeps_a_photograph_on_one_side():
    images = photographs(210)
    copies = np.concatenate([shown_again(image) for image in images[:14]])
    faces = splitting.Faces(
        np.concatenate([images, copies, images[:7]]),
        np.concatenate([np.arange(210), np.repeat(np.arange(14), 4), np.arange(7)]).astype(np.int32)
        % 7,
        np.r_[np.full(266, splitting.TRAIN), np.full(7, splitting.VALIDATION)].astype(np.int8),
    )
    splits = splitting.split("data", faces, validation_fraction=0.5)
    sides = {
        image.tobytes(): side
        for side in ("train", "validation")
        for image in getattr(splits, side).images
    }
    assert len(set(sides.values())) == 2
    for image in images[:14]:
        assert {sides[copy.tobytes()] for copy in shown_again(image)} == {sides[image.tobytes()]}
