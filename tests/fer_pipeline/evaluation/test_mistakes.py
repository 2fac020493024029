"""Which wrong faces are kept."""

import numpy as np
import pytest

from fer_pipeline.datasets.splits import LazyImages, Split
from fer_pipeline.errors import UserError
from fer_pipeline.evaluation import mistakes


def test_the_most_certain_wrong_faces_come_first_and_no_others_are_read(tmp_path):
    images = (np.arange(6)[:, None, None, None] * np.ones((48, 48, 1))).astype(np.uint8)
    asked = []
    lazy = LazyImages(lambda rows: asked.extend(rows.tolist()) or images[rows], np.arange(6))
    labels = np.array([0, 1, 2, 3, 4, 5], np.int32)
    probabilities = np.zeros((6, 7), np.float32)
    # Right, wrong with 0.5, wrong with 0.75, right, wrong with 0.75, wrong with 1.
    for row, (named, sure) in enumerate([(0, 1), (2, 0.5), (0, 0.75), (3, 1), (5, 0.75), (6, 1)]):
        probabilities[row, named] = sure
    found = mistakes.find(Split(lazy, labels), probabilities, count=3)
    assert found.positions.tolist() == [5, 2, 4]
    assert asked == [5, 2, 4]
    assert found.images[:, 0, 0, 0].tolist() == [5, 2, 4]
    assert found.labels.tolist() == [5, 2, 4]
    mistakes.save(found, tmp_path / "wrong.npz")
    for ours, kept in zip(found, mistakes.load(tmp_path / "wrong.npz"), strict=True):
        np.testing.assert_array_equal(ours, kept)
    none = mistakes.find(Split(images, labels), np.eye(7, dtype=np.float32)[labels])
    assert none.images.shape == (0, 48, 48, 1)
    mistakes.save(none, tmp_path / "none.npz")
    assert len(mistakes.load(tmp_path / "none.npz").labels) == 0


def test_another_file_is_named(tmp_path):
    np.savez(tmp_path / "other.npz", positions=np.zeros(1))
    with pytest.raises(UserError, match=r"other\.npz: not readable"):
        mistakes.load(tmp_path / "other.npz")
