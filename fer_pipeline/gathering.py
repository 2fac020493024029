"""Images by their positions, some of them mirrored, in as few passes over memory as can be."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from fer_pipeline import augment

#: The largest data set, in bytes, that is kept with its mirror images beside it: twice FER-2013.
#: The table of both takes twice as much again.
_MAX_MIRRORED = 2**27

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


def take_mirrored(images: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A function ``(rows, mask) -> take(images, rows)``, mirrored where the bool ``[B]`` mask is.

    Images in memory that are not too many are mirrored once for all, at the first call, into a
    table of both, twice their size: to choose between an image and its mirror image is then a
    matter of the row, and costs half of mirroring what was taken.
    """

    @functools.cache
    def table() -> np.ndarray:
        both = np.empty((2, *images.shape), images.dtype)
        both[0], both[1] = images, images[:, :, ::-1]
        return both.reshape(-1, *images.shape[1:])

    def choose(rows: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return take(table(), rows + len(images) * mask)

    def flip(rows: np.ndarray, mask: np.ndarray) -> np.ndarray:
        taken = take(images, rows)
        augment.flip_horizontally(taken, mask)
        return taken

    in_memory = isinstance(images, np.ndarray) and not isinstance(images, np.memmap)
    return choose if in_memory and images.nbytes <= _MAX_MIRRORED else flip
