"""Boxes in a picture: what two share, and which are of the same face."""

from __future__ import annotations

import numpy as np


def overlaps(box: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a box shares with others.

    Args:
      box: ``[4]``, left, top, right, bottom.
      others: ``[N, 4]``.

    Returns:
      Intersection over union ``[N]``, and intersection over the smaller of the two ``[N]``. Both
      are 0 where a box is empty.
    """
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
    area = np.prod(box[2:] - box[:2])
    tiny = np.finfo(np.float32).tiny
    union = shared / np.maximum(area + areas - shared, tiny)
    return union, shared / np.maximum(np.minimum(area, areas), tiny)


def group_same(
    boxes: np.ndarray, scores: np.ndarray, *, union: float, inside: float
) -> list[np.ndarray]:
    """Groups boxes by face: each with the surest box that it shares enough with.

    Args:
      boxes: ``[N, 4]``, left, top, right, bottom.
      scores: ``[N]``.
      union: boxes are of one face if they share more than this, intersection over union.
      inside: and if the smaller one lies in the other with more than this part.

    Returns:
      Indices, the surest first in every group and of all groups.
    """
    left = np.argsort(-scores, kind="stable")
    groups = []
    while left.size:
        shares = overlaps(boxes[left[0]], boxes[left])
        same = (shares[0] > union) | (shares[1] > inside)
        same[0] = True  # An empty box shares nothing with itself.
        groups.append(left[same])
        left = left[~same]
    return groups
