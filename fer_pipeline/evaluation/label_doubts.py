"""Labels that a model's held-out probabilities speak against: confident learning.

Source: Northcutt, Jiang, Chuang, "Confident learning: estimating uncertainty in dataset labels",
Journal of Artificial Intelligence Research 70, 2021. Probabilities of images that the model was
trained on must not be passed: it knows their labels by heart.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Doubts(NamedTuple):
    """Images whose label a model doubts, the greatest doubts first.

    Attributes:
      places: int64 ``[K]``, which of the images.
      suggested: int64 ``[K]``, the class that each is confidently counted to.
      margins: float64 ``[K]``, probability of the suggested class less that of the label.
      thresholds: float64 ``[C]``, mean probability of a class on the images of that label; infinite
        for a class without images, which is never suggested.
      joint: int64 ``[C, C]``, the confident joint: images by label (row) and by the class that they
        are confidently counted to (column). Images that reach no threshold are not counted.
    """

    places: np.ndarray
    suggested: np.ndarray
    margins: np.ndarray
    thresholds: np.ndarray
    joint: np.ndarray


def find(probabilities: np.ndarray, labels: np.ndarray) -> Doubts:
    """Finds the images off the diagonal of the confident joint.

    An image with label i is counted to the class j of the largest probability among those that
    reach their class's threshold: p(j; x) >= t_j, where t_j is the mean of p(j; x) over all images
    with label j (equations 1 and 2 there). It is doubtful where j is not i.

    Args:
      probabilities: float ``[N, C]``, held out.
      labels: int ``[N]``, given.
    """
    count = probabilities.shape[1]
    p = np.asarray(probabilities, np.float64)
    rows = np.arange(len(labels))
    thresholds = np.full(count, np.inf)
    for label in np.unique(labels):
        thresholds[label] = p[labels == label, label].mean()
    confident = np.where(p >= thresholds, p, -1.0)
    counted = confident.argmax(axis=1)
    certain = confident.max(axis=1) >= 0
    joint = np.zeros((count, count), np.int64)
    np.add.at(joint, (labels[certain], counted[certain]), 1)
    margins = p[rows, counted] - p[rows, labels]
    doubtful = np.flatnonzero(certain & (counted != labels))
    order = doubtful[np.argsort(-margins[doubtful], kind="stable")]
    return Doubts(order, counted[order], margins[order], thresholds, joint)
