"""Copies of chosen images, in memory that TensorFlow takes over as it is."""

from __future__ import annotations

import math

import numpy as np

#: TensorFlow takes an array over without copying it if it begins at a multiple of so many bytes
#: (``EIGEN_MAX_ALIGN_BYTES``).
_ALIGNMENT = 64


def take(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A copy of the rows, aligned so that TensorFlow takes it over without copying it again.

    Args:
      images: uint8 ``[N, H, W, C]``: an array, a memmap, or what gives arrays when it is indexed.
      rows: int64 ``[B]``, each at least 0 and less than N.

    Returns:
      A new uint8 array ``[B, H, W, C]``. Sources that are no C-contiguous uint8 array are indexed.
    """
    # ``np.take`` would copy the whole of any other array first, and convert to uint8 silently.
    plain = isinstance(images, np.ndarray) and images.flags.c_contiguous
    if not plain or images.dtype != np.uint8:
        return images[rows]
    shape = (len(rows), *images.shape[1:])
    size = math.prod(shape)
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    taken = memory[start : start + size].reshape(shape)
    # Any other mode than "raise" writes straight to where it shall be.
    return np.take(images, rows, axis=0, out=taken, mode="clip")
