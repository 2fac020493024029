import numpy as np
import pytest

from export.spec.comparison import compare


def _rows(*rows):
    return np.array(rows, np.float32)


def test_counts_by_hand():
    reference_model = _rows([0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.6, 0.4, 0.0])
    ours = _rows([0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.4, 0.2, 0.4], [0.4, 0.6, 0.0])
    found = compare(ours, reference_model, np.array([0, 1, 2, 1]))
    assert found.images == 4
    # Right: 0, 1 and 3; the third is a tie whose first class is wrong.
    # The reference model: 0, 1 and 2.
    assert found.accuracy == 0.75
    assert found.accuracy_drop == 0.0
    assert found.agreement == 0.5
    assert found.disagreements == 2
    assert found.ties == 1
    assert found.max_difference == pytest.approx(0.2)
    # Of four images one may differ by more.
    assert found.p99_difference == pytest.approx(0.1)
    assert found.mean_difference == pytest.approx((0.2 + 0.2 + 0.4) / 12)


def test_the_drop_is_in_percentage_points():
    reference_model, ours = np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32)[[0, 1, 2, 0]]
    assert compare(ours, reference_model, np.arange(4)).accuracy_drop == 25.0


def test_of_many_images_one_in_a_hundred_is_left_out():
    reference_model = np.zeros((3000, 7), np.float32)
    ours = reference_model.copy()
    # The differences 0.001, 0.002, ... 0.031 of 31 images.
    ours[np.arange(31) * 90, 3] = np.arange(1, 32) / 1000
    found = compare(ours, reference_model, np.zeros(3000, int))
    assert found.max_difference == pytest.approx(0.031)
    # 30 of 3,000 are left out.
    assert found.p99_difference == pytest.approx(0.001)


def test_one_image_is_never_left_out():
    found = compare(_rows([0.5, 0.5]), _rows([0.9, 0.1]), np.array([0]))
    assert found.p99_difference == found.max_difference == pytest.approx(0.4)
