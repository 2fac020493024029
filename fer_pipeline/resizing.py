"""Antialiased bilinear resizing with NumPy, level for level as TensorFlow resizes.

``tf.image.resize(..., antialias=True)`` resized the training images. The same float32 operations in
the same order give the same levels, without importing TensorFlow.
"""

from __future__ import annotations

import functools

import numpy as np

#: Source rows and columns whose weights are kept: those of the last sizes that were seen.
_KEPT = 64


def resize(levels: np.ndarray, size: int) -> np.ndarray:
    """Resizes grey levels, uint8 ``[H, W]``, to uint8 ``[size, size]``.

    Every axis is scaled on its own. Levels are rounded half to even and lie in 0..255.
    """
    rows = _scaled(levels, size)
    # Memory order of the result stays that of the picture.
    scaled = np.ascontiguousarray(_scaled(np.ascontiguousarray(rows.T), size).T)
    return np.rint(scaled).clip(0, 255).astype(np.uint8)


def _scaled(values: np.ndarray, size: int) -> np.ndarray:
    """Scales the first axis: any ``[N, M]`` -> float32 ``[size, M]``."""
    starts, weights = _spans(len(values), size)
    found = np.zeros((size, values.shape[1]), np.float32)
    # One source row for each result row at a time, so that sums are made in TensorFlow's order.
    for i in range(weights.shape[1]):
        # Past the end of a span the weight is 0 and the row does not matter.
        source = np.minimum(starts + i, len(values) - 1)
        found += weights[:, i, np.newaxis] * values[source]
    return found


@functools.lru_cache(_KEPT)
def _spans(length: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Which source rows make up a result row, and their weights.

    The kernel is a triangle of radius 1, widened by the scale where the picture gets smaller
    (TensorFlow's ``ScaleAndTranslate``).

    Returns:
      First source row of every result row, int64 ``[size]``; float32 weights ``[size, span]``, 0
      where a span is shorter.
    """
    one = np.float32(1)
    scale = one / (np.float32(size) / np.float32(length))
    radius = max(scale, one)
    half = np.float32(0.5)
    centres = (np.arange(size, dtype=np.float32) + half) * scale
    starts = np.ceil(centres - radius - half).clip(0, length - 1).astype(np.int64)
    ends = np.floor(centres + radius - half).clip(0, length - 1).astype(np.int64) + 1
    source = starts[:, np.newaxis] + np.arange((ends - starts).max())
    distance = np.abs((source.astype(np.float32) + half - centres[:, np.newaxis]) * (one / radius))
    weights = np.where(source < ends[:, np.newaxis], np.maximum(one - distance, 0), 0)
    weights = weights.astype(np.float32)
    total = np.zeros(size, np.float32)
    for column in weights.T:
        total += column
    return starts, weights * (one / total)[:, np.newaxis]
