"""The calibration error by a plain loop, and its diagram read back from its artists."""

import numpy as np
import pytest

from fer_pipeline.evaluation import calibration, reliability


def drawn(count=400, seed=0):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(7, 0.3), count)
    return probabilities, rng.integers(0, 7, count)


def by_hand(probabilities, labels):
    """Guo et al.'s formula, image by image."""
    total = 0.0
    for m in range(15):
        inside = [
            (row.max(), row.argmax() == label)
            for row, label in zip(probabilities, labels, strict=True)
            if m / 15 < row.max() <= (m + 1) / 15
        ]
        if inside:
            confidence, right = np.mean(inside, axis=0)
            total += len(inside) / len(labels) * abs(right - confidence)
    return total


def test_the_error_is_the_papers():
    probabilities, labels = drawn()
    found = calibration.measure(probabilities, labels)
    assert found.ece == pytest.approx(by_hand(probabilities, labels), abs=1e-12)
    assert sum(row.count for row in found.bins) == 400
    assert [row.low for row in found.bins] == pytest.approx([m / 15 for m in range(15)])


def test_bins_worked_out_by_hand():
    # Two of three that are 0.5 sure are right, and the one that is certain is not.
    probabilities = np.zeros((4, 7))
    probabilities[:3, :2] = 0.5
    probabilities[3, 6] = 1.0
    found = calibration.measure(probabilities, np.array([0, 0, 1, 0]))
    assert found.bins[7] == (pytest.approx(7 / 15), pytest.approx(8 / 15), 3, 0.5, 2 / 3)
    assert found.bins[14][2:] == (1, 1.0, 0.0)
    assert found.bins[0][2:] == (0, None, None)
    assert found.ece == pytest.approx((3 * (2 / 3 - 0.5) + 1) / 4)


def test_the_diagram_shows_accuracy_and_the_gap():
    probabilities, labels = drawn()
    found = calibration.measure(probabilities, labels)
    upper, lower = reliability.diagram(found).axes
    filled = [row for row in found.bins if row.count]
    right, over, under = upper.containers
    assert [bar.get_height() for bar in right] == [row.accuracy for row in filled]
    gaps = np.array([row.confidence - row.accuracy for row in filled])
    assert [bar.get_height() for bar in over] == pytest.approx(np.maximum(gaps, 0))
    assert [bar.get_height() for bar in under] == pytest.approx(np.maximum(-gaps, 0))
    assert [bar.get_height() for bar in lower.containers[0]] == [row.count for row in filled]
    titles = [axis.get_title() for axis in reliability.diagram(found, found).axes[:2]]
    assert titles[0] == f"as it was trained: calibration error {found.ece:.1%}"
    assert titles[1].startswith("with its temperature: ")
