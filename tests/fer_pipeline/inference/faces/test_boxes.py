"""What boxes share, and which are of one face."""

import numpy as np

from fer_pipeline.inference.faces import boxes


def test_shares_are_those_of_areas():
    box = np.array([0, 0, 10, 10.0])
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [2, 2, 4, 4], [20, 0, 30, 10], [3, 3, 3, 3]])
    union, inside = boxes.overlaps(box, others)
    np.testing.assert_allclose(union, [1, 50 / 150, 4 / 100, 0, 0])
    np.testing.assert_allclose(inside, [1, 0.5, 1, 0, 0])


def test_boxes_of_one_face_are_grouped_with_the_surest():
    given = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60], [4, 4, 6, 6], [7, 7, 7, 7]])
    scores = np.array([0.6, 0.9, 0.7, 0.5, 0.4])
    groups = boxes.group_same(given, scores, union=0.3, inside=0.7)
    assert [group.tolist() for group in groups] == [[1, 0, 3], [2], [4]]
    assert boxes.group_same(np.zeros((0, 4)), np.zeros(0), union=0.3, inside=0.7) == []
