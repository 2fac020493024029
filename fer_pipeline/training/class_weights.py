"""Weights of the classes in the loss, against classes that have few training images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: Share of a class that every further image of it repeats, Cui et al.'s beta. The effective number
#: of images ends at 1 / (1 - beta) = 1,000: classes beyond it weigh the same.
_BETA = 0.999


def balanced(counts: np.ndarray) -> np.ndarray:
    """``N / (C * n_c)``, scikit-learn's ``class_weight="balanced"``, of ``n_c`` images ``[C]``."""
    return counts.sum() / (len(counts) * counts)


def effective(counts: np.ndarray) -> np.ndarray:
    """``(1 - beta) / (1 - beta^n_c)``, up to a factor, of ``n_c`` images ``[C]``.

    Cui et al., "Class-balanced loss based on effective number of samples" (2019).
    """
    return 1.0 / -np.expm1(counts * np.log(_BETA))


_KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "balanced": balanced,
    "effective": effective,
}


def make(kind: str, counts: np.ndarray) -> np.ndarray | None:
    """Makes the weights of the classes.

    The mean weight of an image is 1, so that the learning rate keeps its meaning.

    Args:
      kind: ``"none"``, ``"balanced"`` or ``"effective"``.
      counts: training images of every class, int ``[C]``.

    Returns:
      float32 ``[C]``; None for ``"none"``. A class without an image has the weight 0.
    """
    if kind == "none":
        return None
    counts = np.asarray(counts, np.float64)
    present = counts > 0
    weights = np.zeros(len(counts))
    weights[present] = _KINDS[kind](counts[present])
    return (weights * counts.sum() / (weights * counts).sum()).astype(np.float32)
