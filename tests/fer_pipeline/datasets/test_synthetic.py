"""Tests of the synthetic faces, from their pixels alone."""

from __future__ import annotations

import numpy as np
import pytest

from fer_pipeline.classes import CLASS_NAMES, NUM_CLASSES
from fer_pipeline.datasets import synthetic
from fer_pipeline.datasets.splits import Splits, class_counts, fingerprint

_FACES = 210


@pytest.fixture(scope="module")
def default_set() -> Splits:
    return synthetic.load()


@pytest.fixture(scope="module")
def posed() -> dict[str, np.ndarray]:
    """The same people with each expression: class name -> float64 ``[N, 48, 48]``."""
    return {
        name: synthetic.render(np.full(_FACES, index), seed=11)[..., 0].astype(np.float64)
        for index, name in enumerate(CLASS_NAMES)
    }


def _darkened_row(faces: np.ndarray, reference: np.ndarray, columns: list[int]) -> float:
    """Mean row, in the lower face, of what is darker than in ``reference``."""
    darkening = (reference - faces).mean(axis=0)[28:44, columns].mean(axis=1).clip(min=0.0)
    return float(darkening @ np.arange(28, 44) / darkening.sum())


def _change(faces: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Mean absolute difference in grey levels of each pixel: ``[48, 48]``."""
    return np.abs(faces - reference).mean(axis=0)


def _linear_test_accuracy(splits: Splits) -> float:
    """Ridge regression on standardised pixels to one-hot labels, its penalty picked on test.

    Picking on test makes the bound the harder to keep.
    """
    train, test = (s.images.reshape(len(s.labels), -1) / 255.0 for s in (splits.train, splits.test))
    mean, deviation = train.mean(axis=0), train.std(axis=0) + 1e-6
    train, test = (train - mean) / deviation, (test - mean) / deviation
    targets = np.eye(NUM_CLASSES)[splits.train.labels] - 1.0 / NUM_CLASSES
    values, vectors = np.linalg.eigh(train.T @ train)
    projected, seen = vectors.T @ (train.T @ targets), test @ vectors
    scores = (seen @ (projected / (values[:, None] + penalty)) for penalty in (1e3, 3e3, 1e4))
    return max(float((s.argmax(axis=1) == splits.test.labels).mean()) for s in scores)


def test_shapes_types_and_sizes(default_set: Splits):
    for split, size in zip(default_set[:3], (980, 280, 280), strict=True):
        assert split.images.shape == (size, 48, 48, 1)
        assert split.images.dtype == np.uint8
        assert split.labels.shape == (size,)
        assert split.labels.dtype == np.int32
        assert class_counts(split).tolist() == [size // 7] * 7
    assert default_set.selected_on == "validation"


def test_images_use_the_grey_scale(default_set: Splits):
    images = default_set.test.images
    assert images.reshape(len(images), -1).std(axis=1).min() > 8
    assert 70 < images.mean() < 185
    assert images.max() > 240
    assert images.min() < 15


def test_order_is_shuffled(default_set: Splits):
    labels = default_set.train.labels
    assert 0.08 < np.mean(labels[1:] == labels[:-1]) < 0.21
    assert not np.array_equal(default_set.validation.labels, default_set.test.labels)


def test_classes_are_balanced_to_within_one():
    splits = synthetic.load(train=45, validation=10, test=5, seed=3)
    for split, size in zip(splits[:3], (45, 10, 5), strict=True):
        counts = class_counts(split)
        assert counts.sum() == size
        assert np.ptp(counts) <= 1


def test_empty_splits():
    splits = synthetic.load(train=7, validation=0, test=0)
    assert splits.test.images.shape == (0, 48, 48, 1)
    assert synthetic.render(np.array([], int), seed=0).shape == (0, 48, 48, 1)


def test_same_seed_gives_the_same_bytes():
    sizes = {"train": 70, "validation": 21, "test": 14}
    first = fingerprint(synthetic.load(**sizes, seed=5))
    assert fingerprint(synthetic.load(**sizes, seed=5)) == first
    assert fingerprint(synthetic.load(**sizes, seed=6)) != first


def test_splits_share_no_image(default_set: Splits):
    images = np.concatenate([split.images for split in default_set[:3]])
    assert len({image.tobytes() for image in images}) == len(images)


def test_size_of_one_split_leaves_the_others():
    small = synthetic.load(train=7, validation=14, test=21, seed=1)
    large = synthetic.load(train=70, validation=14, test=21, seed=1)
    np.testing.assert_array_equal(small.test.images, large.test.images)
    np.testing.assert_array_equal(small.validation.labels, large.validation.labels)


@pytest.mark.parametrize("kept", [1, 31, 33, 100])
def test_prefix_of_the_labels_gives_a_prefix_of_the_images(kept: int):
    labels = np.arange(130) % NUM_CLASSES
    whole = synthetic.render(labels, seed=9)
    np.testing.assert_array_equal(synthetic.render(labels[:kept], seed=9), whole[:kept])


@pytest.mark.parametrize("chunk", [1, 7, 500])
def test_chunk_size_leaves_no_trace(monkeypatch: pytest.MonkeyPatch, chunk: int):
    labels = np.arange(50) % NUM_CLASSES
    expected = synthetic.render(labels, seed=2)
    monkeypatch.setattr(synthetic, "_CHUNK", chunk)
    np.testing.assert_array_equal(synthetic.render(labels, seed=2), expected)


def test_an_image_depends_on_no_other_label():
    labels = np.zeros(40, int)
    other = labels.copy()
    other[17] = 3
    same = synthetic.render(labels, seed=4) == synthetic.render(other, seed=4)
    unchanged = same.reshape(40, -1).all(axis=1)
    assert np.flatnonzero(~unchanged).tolist() == [17]


@pytest.mark.parametrize(
    "labels",
    [np.array([7]), np.array([-1]), np.array([0.5]), np.zeros((2, 2), int)],
    ids=["too large", "negative", "fractional", "two-dimensional"],
)
def test_render_refuses(labels: np.ndarray):
    with pytest.raises(ValueError, match="labels must"):
        synthetic.render(labels, seed=0)


def test_negative_size_or_seed_is_refused():
    with pytest.raises(ValueError, match="sizes"):
        synthetic.load(test=-1)
    with pytest.raises(ValueError):  # noqa: PT011 (NumPy's own message)
        synthetic.load(train=7, validation=7, test=7, seed=-1)


def test_every_class_has_its_own_action_units():
    assert set(synthetic.ACTION_UNITS) == set(CLASS_NAMES)
    assert len(set(synthetic.ACTION_UNITS.values())) == NUM_CLASSES
    assert synthetic.ACTION_UNITS["neutral"] == ()
    assert synthetic.ACTION_UNITS["happy"] == (6, 12)


def test_identity_is_independent_of_the_expression(posed: dict[str, np.ndarray]):
    for name, faces in posed.items():
        change = _change(faces, posed["neutral"])
        corners = np.concatenate([change[:4, :4], change[:4, -4:], change[-4:, :4]], axis=None)
        assert corners.max() < 1.0, name
        # Other people, by contrast, differ there a great deal.
        strangers = _change(faces, np.roll(faces, 1, axis=0))
        assert strangers[:4, :4].min() > 10.0, name


def test_expression_changes_the_middle_of_the_face(posed: dict[str, np.ndarray]):
    for name in set(CLASS_NAMES) - {"neutral"}:
        change = _change(posed[name], posed["neutral"])
        assert change[8:42, 10:38].mean() > 4.0 * change[:, [0, 1, 2, -3, -2, -1]].mean(), name


def test_mouth_corners_are_higher_in_a_smile_than_in_sadness(posed: dict[str, np.ndarray]):
    corners = [15, 16, 17, 18, 29, 30, 31, 32]
    row = {name: _darkened_row(posed[name], posed["neutral"], corners) for name in ("happy", "sad")}
    assert row["happy"] < row["sad"] - 2.0


def test_jaw_drop_darkens_the_mouth(posed: dict[str, np.ndarray]):
    rows, columns = slice(34, 42), slice(20, 28)
    closed = posed["neutral"][:, rows, columns].mean()
    assert posed["surprise"][:, rows, columns].mean() < closed - 20
    assert posed["fear"][:, rows, columns].mean() < closed - 10


def test_fear_opens_a_wider_mouth_than_surprise(posed: dict[str, np.ndarray]):
    rows, sides = slice(33, 38), [15, 16, 17, 30, 31, 32]
    neutral = posed["neutral"][:, rows][..., sides].mean()
    fear, surprise = (posed[n][:, rows][..., sides].mean() for n in ("fear", "surprise"))
    assert fear < surprise - 3
    assert fear < neutral


def test_inner_brows_rise_in_sadness_and_fall_in_anger(posed: dict[str, np.ndarray]):
    above, below = slice(11, 14), slice(15, 18)
    columns = [18, 19, 20, 27, 28, 29]

    def lowered(name: str) -> float:
        faces = posed[name]
        return faces[:, above][..., columns].mean() - faces[:, below][..., columns].mean()

    assert lowered("angry") > lowered("neutral") + 5
    assert lowered("neutral") > lowered("sad") + 5


def test_nose_bridge_darkens_most_in_disgust(posed: dict[str, np.ndarray]):
    bridge = slice(18, 25), slice(21, 27)
    darker = {
        name: posed["neutral"][:, *bridge].mean() - faces[:, *bridge].mean()
        for name, faces in posed.items()
    }
    assert darker["disgust"] > 2 + max(v for k, v in darker.items() if k != "disgust")


def test_mirrored_faces_keep_their_statistics(default_set: Splits):
    """Training mirrors at random, so no expression may lean to one side."""
    train = default_set.train
    for label in range(NUM_CLASSES):
        mean = train.images[train.labels == label, :, :, 0].mean(axis=0)
        assert np.abs(mean - mean[:, ::-1]).mean() < 6.0


def test_linear_classifier_finds_it_hard_but_not_hopeless(default_set: Splits):
    assert 0.35 < _linear_test_accuracy(default_set) < 0.70
