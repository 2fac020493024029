"""An artifact's probabilities beside those of the float32 reference model."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fer_pipeline.agreement import allowed

#: The share of images that ``p99_difference`` is about.
_NEARLY_ALL = 0.99


class Comparison(NamedTuple):
    """What two sets of probabilities have in common.

    Attributes:
      images: how many were compared.
      accuracy: share of images whose first class is the label, 0..1.
      accuracy_drop: the reference model's accuracy less this one, in percentage points.
      agreement: share of images whose first class is the reference model's, 0..1.
      ties: images whose highest probability is that of several classes; the first counts.
      max_difference: of any probability.
      p99_difference: of any probability of 99 % of the images, those that are nearest; of few
        images as many are left out as ``agreement.allowed`` says, but never all.
      mean_difference: of all probabilities.
    """

    images: int
    accuracy: float
    accuracy_drop: float
    agreement: float
    ties: int
    max_difference: float
    p99_difference: float
    mean_difference: float

    @property
    def disagreements(self) -> int:
        """Images whose first class is another than the reference model's."""
        return round((1 - self.agreement) * self.images)


def compare(
    probabilities: np.ndarray, reference_model: np.ndarray, labels: np.ndarray
) -> Comparison:
    """Compares two sets of probabilities, float32 ``[N, C]``, N at least 1; labels ``[N]``."""
    count = len(labels)
    ours, theirs = probabilities.argmax(axis=1), reference_model.argmax(axis=1)
    # Counted, not averaged: a difference of equal accuracies is exactly 0.
    right, reference_right = np.sum(ours == labels), np.sum(theirs == labels)
    difference = np.abs(probabilities.astype(np.float64) - reference_model)
    by_image = np.sort(difference.max(axis=1))
    left_out = min(allowed(count, _NEARLY_ALL), count - 1)
    highest = probabilities.max(axis=1, keepdims=True)
    return Comparison(
        images=count,
        accuracy=float(right / count),
        accuracy_drop=float(100 * (reference_right - right) / count),
        agreement=float(np.mean(ours == theirs)),
        ties=int(np.sum((probabilities == highest).sum(axis=1) > 1)),
        max_difference=float(by_image[-1]),
        p99_difference=float(by_image[-1 - left_out]),
        mean_difference=float(difference.mean()),
    )
