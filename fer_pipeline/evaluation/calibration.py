"""How far a network's probabilities are from how often it is right.

Guo et al., "On Calibration of Modern Neural Networks" (2017), with its 15 bins.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

BINS = 15


class Bin(NamedTuple):
    """The images whose highest probability is above ``low`` and at most ``high``.

    Attributes:
      low, high: bounds, 0..1.
      count: how many images.
      confidence: the mean of their highest probabilities; None where there is no image.
      accuracy: the share of them whose class of that probability is right; None as well.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


class Calibration(NamedTuple):
    """The expected calibration error, 0..1, and the bins that it is taken over."""

    ece: float
    bins: tuple[Bin, ...]


def measure(probabilities: np.ndarray, labels: np.ndarray) -> Calibration:
    """The expected calibration error of probabilities ``[N, C]`` of images with labels ``[N]``.

    It is the mean over all images of ``|accuracy - confidence|`` of the bin that an image is in.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0.0, 1.0, BINS + 1)
    # A float32 softmax may exceed 1 by its rounding.
    places = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, BINS - 1)
    counts = np.bincount(places, minlength=BINS)
    sums = np.bincount(places, confidence, BINS)
    hits = np.bincount(places, right, BINS)
    bins = tuple(
        Bin(
            float(edges[i]),
            float(edges[i + 1]),
            int(counts[i]),
            float(sums[i] / counts[i]) if counts[i] else None,
            float(hits[i] / counts[i]) if counts[i] else None,
        )
        for i in range(BINS)
    )
    return Calibration(float(np.abs(hits - sums).sum() / len(labels)), bins)


def as_json(calibration: Calibration) -> dict[str, Any]:
    """A calibration in its form in ``metrics.json``."""
    return {"ece": calibration.ece, "bins": [row._asdict() for row in calibration.bins]}
