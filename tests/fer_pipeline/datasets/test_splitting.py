"""Which images are for training, validation and test."""

import numpy as np
import pytest

from fer_pipeline.datasets import splits as splits_lib
from fer_pipeline.datasets import splitting
from fer_pipeline.datasets.splits import (
    PRIVATE_TEST,
    PUBLIC_TEST,
    TEST,
    TRAIN,
    VALIDATION,
    Split,
    Splits,
    class_table,
    fingerprint,
)
from fer_pipeline.errors import UserError


def faces_of(*groups: int, copies: int = 1) -> splits_lib.Faces:
    """``copies`` images of each class in each group, no two alike."""
    labels = np.tile(np.repeat(np.arange(7, dtype=np.int32), copies), len(groups))
    images = np.zeros((len(labels), 48, 48, 1), np.uint8)
    images.reshape(len(labels), -1)[:, :4] = (
        np.arange(len(labels), dtype="<u4").view(np.uint8).reshape(-1, 4)
    )
    return splits_lib.Faces(images, labels, np.repeat(np.array(groups, np.int8), 7 * copies))


def positions(split: Split) -> np.ndarray:
    """Where the images of a split stand among ``faces_of``."""
    return split.images.reshape(-1, 48 * 48)[:, :4].copy().view("<u4")[:, 0]


@pytest.mark.parametrize(
    ("groups", "validation", "test", "selected_on"),
    [
        ((TRAIN, TEST), {TEST}, {TEST}, "test"),
        ((TRAIN, PUBLIC_TEST), {PUBLIC_TEST}, {PUBLIC_TEST}, "test"),
        ((TRAIN, PRIVATE_TEST), {PRIVATE_TEST}, {PRIVATE_TEST}, "test"),
        ((TRAIN, PUBLIC_TEST, TEST), {PUBLIC_TEST, TEST}, {PUBLIC_TEST, TEST}, "test"),
        ((TRAIN, VALIDATION), {VALIDATION}, {VALIDATION}, "test"),
        ((TRAIN, VALIDATION, TEST), {VALIDATION}, {TEST}, "validation"),
        ((TRAIN, PUBLIC_TEST, PRIVATE_TEST), {PUBLIC_TEST}, {PRIVATE_TEST}, "validation"),
        (
            (TRAIN, PUBLIC_TEST, TEST, PRIVATE_TEST),
            {PUBLIC_TEST},
            {TEST, PRIVATE_TEST},
            "validation",
        ),
        (
            (TRAIN, VALIDATION, PUBLIC_TEST, PRIVATE_TEST),
            {VALIDATION},
            {PUBLIC_TEST, PRIVATE_TEST},
            "validation",
        ),
    ],
)
def test_the_rule(groups, validation, test, selected_on):
    faces = faces_of(*groups)
    found = splitting.split("data", faces)
    for split, expected in zip(found, ({TRAIN}, validation, test), strict=False):
        assert positions(split).tolist() == [i for i, g in enumerate(faces.groups) if g in expected]
    assert found.selected_on == selected_on


@pytest.mark.parametrize(
    ("groups", "test", "selected_on"),
    [
        ((TRAIN, TEST), {TEST}, "validation"),
        ((TRAIN, PUBLIC_TEST, PRIVATE_TEST), {PUBLIC_TEST, PRIVATE_TEST}, "validation"),
        ((TRAIN, VALIDATION, TEST), {TEST}, "validation"),
        ((TRAIN, VALIDATION), {VALIDATION}, "validation"),
        ((TRAIN,), None, "test"),
    ],
)
def test_the_rule_with_a_validation_fraction(groups, test, selected_on):
    faces = faces_of(*groups, copies=10)
    found = splitting.split("data", faces, validation_fraction=0.3)
    training = np.flatnonzero(faces.groups == TRAIN)
    together = np.concatenate([positions(found.train), positions(found.validation)])
    assert sorted(together) == training.tolist()
    for split, count in ((found.train, 7), (found.validation, 3)):
        assert np.bincount(split.labels).tolist() == [count] * 7
        np.testing.assert_array_equal(split.labels, faces.labels[positions(split)])
        assert (np.diff(positions(split).astype(int)) > 0).all()
    if test is None:
        assert found.test is found.validation
    else:
        assert positions(found.test).tolist() == [
            i for i, g in enumerate(faces.groups) if g in test
        ]
    assert found.selected_on == selected_on


def test_nothing_to_test_on_is_refused():
    faces = faces_of(TRAIN)
    with pytest.raises(UserError, match=r"^data: .*add a test/ folder or pass --validation_fract"):
        splitting.split("data", faces)


def test_a_class_without_training_images_is_refused():
    faces = faces_of(TRAIN, TEST)
    groups = np.where(faces.labels == 1, TEST, faces.groups)
    with pytest.raises(UserError, match=r"^data: no training image of disgust;"):
        splitting.split("data", faces._replace(groups=groups))


def test_the_cut_is_stratified_and_keeps_identical_images_together():
    rng = np.random.default_rng(0)
    labels = rng.choice(7, size=3000, p=[0.14, 0.02, 0.14, 0.25, 0.17, 0.17, 0.11])
    hashes = rng.integers(0, 2500, size=3000).astype(np.uint64)
    cut = splitting.cut_validation(labels, hashes, 0.1, seed=0)
    assert not set(hashes[cut]) & set(hashes[~cut])
    assert len(np.unique(hashes)) < 2000  # Or nothing would be identical.
    for label in range(7):
        own = labels == label
        # Copies under other labels come along.
        assert 0.05 < cut[own].mean() < 0.2


def test_the_cut_depends_on_the_seed_and_not_on_the_order():
    faces = faces_of(TRAIN, copies=40)
    hashes = splitting.pixel_hashes(faces.images)
    cut = splitting.cut_validation(faces.labels, hashes, 0.1, seed=0)
    again = splitting.cut_validation(faces.labels, hashes, 0.1, seed=0)
    other = splitting.cut_validation(faces.labels, hashes, 0.1, seed=1)
    np.testing.assert_array_equal(cut, again)
    assert (cut != other).any()
    assert cut.sum() == other.sum() == 28
    shuffled = np.random.default_rng(0).permutation(len(cut))
    cut_shuffled = splitting.cut_validation(faces.labels[shuffled], hashes[shuffled], 0.1, seed=0)
    np.testing.assert_array_equal(cut_shuffled, cut[shuffled])


def test_the_cut_leaves_every_class_something_to_train_on():
    labels = np.array([0, 0, 1, 1, 2])
    hashes = np.array([10, 11, 12, 12, 13], np.uint64)
    cut = splitting.cut_validation(labels, hashes, 0.99, seed=0)
    # Class 1 is one picture twice, class 2 a single one.
    assert cut[:2].sum() == 1
    assert not cut[2:].any()


def test_a_class_whose_pictures_are_another_classes_too_keeps_one_for_training():
    # Every picture of class 1 is one of class 0 as well, whose number decides where they go.
    labels = np.array([0] * 40 + [1, 1, 1])
    hashes = np.array([*range(40), 3, 17, 17], np.uint64)
    for seed in range(200):
        cut = splitting.cut_validation(labels, hashes, 0.5, seed=seed)
        assert not cut[labels == 1].all()
        assert cut.sum() > 15
        assert not set(hashes[cut]) & set(hashes[~cut])


@pytest.mark.parametrize("fraction", [None, 0.3])
@pytest.mark.parametrize("group", [TEST, VALIDATION])
def test_a_class_that_is_missing_where_it_is_measured_is_refused(group, fraction):
    faces = faces_of(TRAIN, group, copies=10)
    kept = (faces.labels != 3) | (faces.groups == TRAIN)
    faces = faces._replace(
        images=faces.images[kept], labels=faces.labels[kept], groups=faces.groups[kept]
    )
    with pytest.raises(UserError, match=r"^data: no (validation|test) image of happy; every class"):
        splitting.split("data", faces, validation_fraction=fraction)


def test_equal_pixels_and_they_alone_have_equal_hashes():
    images = np.random.default_rng(0).integers(0, 256, (6, 48, 48, 1), np.uint8)
    images[4] = images[1]
    images[5] = images[2]
    images[5, 47, 47, 0] ^= 1
    hashes = splitting.pixel_hashes(images)
    assert hashes.shape == (6,)
    assert hashes[4] == hashes[1]
    assert len(set(hashes.tolist())) == 5


def test_splits_hold_the_images_and_labels_of_their_positions():
    faces = faces_of(TRAIN, VALIDATION, TEST, copies=3)
    splits = splitting.split("data", faces)
    for split, part in zip(splits, (slice(0, 21), slice(21, 42), slice(42, 63)), strict=False):
        assert np.shares_memory(split.images, faces.images)
        np.testing.assert_array_equal(split.images, faces.images[part])
        np.testing.assert_array_equal(split.labels, faces.labels[part])


def test_a_test_set_that_serves_as_both_is_one_array():
    splits = splitting.split("data", faces_of(TRAIN, TEST))
    assert splits.test.images is splits.validation.images


def test_the_class_table_is_aligned():
    empty = np.zeros((0, 48, 48, 1), np.uint8)
    train, held_out = np.repeat(np.arange(7), [9, 1, 2, 1200, 4, 5, 6]), np.arange(7)
    splits = Splits(Split(empty, train), Split(empty, held_out), Split(empty, held_out[1:]))
    table = class_table(splits)
    assert table.splitlines() == [
        "class     train  validation  test",
        "angry         9           1     0",
        "disgust       1           1     1",
        "fear          2           1     1",
        "happy     1,200           1     1",
        "neutral       4           1     1",
        "sad           5           1     1",
        "surprise      6           1     1",
        "all       1,227           7     6",
    ]
    same = class_table(splits._replace(selected_on="test")).splitlines()
    assert same[0] == "class     train  validation = test"
    assert same[-1] == "all       1,227                  6"


def test_the_fingerprint_does_not_depend_on_how_images_are_held(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5000, 48, 48, 1), np.uint8)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    labels = np.zeros(5000, np.int32)
    prints = {
        fingerprint(Splits(Split(held, labels), Split(held[:9], labels[:9]), Split(held, labels)))
        for held in (images, mapped)
    }
    assert len(prints) == 1
    images[4500, 3, 3] ^= 1
    changed = Splits(Split(images, labels), Split(images[:9], labels[:9]), Split(images, labels))
    assert fingerprint(changed) not in prints
