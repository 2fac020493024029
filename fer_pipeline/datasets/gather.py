"""Gathers images into memory that TensorFlow uses without another copy."""

from __future__ import annotations

import math

import numpy as np

#: TensorFlow uses an array without copying it if its address is a multiple of this many bytes
#: (``EIGEN_MAX_ALIGN_BYTES``).
_ALIGNMENT = 64


def take(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Copies rows, aligned so that TensorFlow does not copy them again.

    Args:
      images: uint8 ``[N, H, W, C]``: an array, a memmap, or ``LazyImages``.
      rows: int64 ``[B]``, each at least 0 and less than N.

    Returns:
      A new uint8 array ``[B, H, W, C]``. Anything but a C-contiguous uint8 array is indexed
        instead, and the result may not be aligned.
    """
    # For any other array ``np.take`` copies all of it first, and converts to uint8 silently.
    plain = isinstance(images, np.ndarray) and images.flags.c_contiguous
    if not plain or images.dtype != np.uint8:
        return images[rows]
    shape = (len(rows), *images.shape[1:])
    size = math.prod(shape)
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    taken = memory[start : start + size].reshape(shape)
    # Mode "raise" would write to a buffer first.
    return np.take(images, rows, axis=0, out=taken, mode="clip")
