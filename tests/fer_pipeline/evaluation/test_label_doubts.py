"""The confident joint of an example that is computed by hand."""

import numpy as np

from fer_pipeline.evaluation import label_doubts

LABELS = np.array([0, 0, 0, 1, 1])
PROBABILITIES = np.array(
    [
        [0.9, 0.1, 0.0],
        [0.7, 0.3, 0.0],
        [0.2, 0.8, 0.0],  # Reaches the threshold of 1 alone.
        [0.5, 0.5, 0.0],  # Reaches neither.
        [0.3, 0.7, 0.0],
    ]
)


def test_thresholds_joint_and_doubts():
    found = label_doubts.find(PROBABILITIES, LABELS)
    # Means of 0.9, 0.7, 0.2 and of 0.5, 0.7; nothing is labelled 2.
    np.testing.assert_allclose(found.thresholds, [0.6, 0.6, np.inf])
    assert found.joint.tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert found.places.tolist() == [2]
    assert found.suggested.tolist() == [1]
    np.testing.assert_allclose(found.margins, [0.6])


def test_of_several_confident_classes_the_most_probable_counts_and_margins_rank():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), 200)
    labels = rng.integers(0, 4, 200)
    found = label_doubts.find(probabilities, labels)
    means = [probabilities[labels == c, c].mean() for c in range(4)]
    expected = {}
    for i, row in enumerate(probabilities):
        confident = [(p, c) for c, p in enumerate(row) if p >= means[c]]
        if confident and max(confident)[1] != labels[i]:
            expected[i] = max(confident)[1]
    assert dict(zip(found.places.tolist(), found.suggested.tolist(), strict=True)) == expected
    margins = [probabilities[i, c] - probabilities[i, labels[i]] for i, c in expected.items()]
    np.testing.assert_allclose(found.margins, sorted(margins, reverse=True))
    assert found.joint.sum() - np.trace(found.joint) == len(expected)
